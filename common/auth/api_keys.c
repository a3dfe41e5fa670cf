#include "common/auth/api_keys.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <stdio.h>

#include "common/base/mem.h"

struct api_key {
    uint8_t hash[SHA256_DIGEST_LENGTH];
    struct auth_subject subject;
};

struct api_keys {
    size_t count;
    struct api_key keys[API_KEYS_MAX];
};

/* --- reading --- */

static struct str cut_line(struct str *text) {
    const char *end = memchr(text->ptr, '\n', text->len);
    const size_t len = end != NULL ? (size_t)(end - text->ptr) : text->len;
    struct str line = str_of(text->ptr, len);
    const size_t skip = end != NULL ? len + 1 : len;

    *text = str_of(text->ptr + skip, text->len - skip);
    if (line.len > 0 && line.ptr[line.len - 1] == '\r') {
        line.len--;
    }
    return str_trim(line);
}

static struct str cut_word(struct str *line) {
    size_t len = 0;

    while (len < line->len && line->ptr[len] != ' ' && line->ptr[len] != '\t') {
        len++;
    }
    const struct str word = str_of(line->ptr, len);
    *line = str_trim(str_of(line->ptr + len, line->len - len));
    return word;
}

static bool parse_name(struct str word, struct auth_subject *out) {
    for (size_t i = 0; i < word.len; i++) {
        if (word.ptr[i] <= ' ' || word.ptr[i] > '~') {
            return false;
        }
    }
    return word.len > 0 && str_copy(out->name, sizeof(out->name), word);
}

static bool parse_scopes(struct str words, struct auth_subject *out) {
    const char *comma;

    out->scopes = 0;
    do {
        comma = words.len > 0 ? memchr(words.ptr, ',', words.len) : NULL;
        const size_t len = comma != NULL ? (size_t)(comma - words.ptr) : words.len;
        const unsigned scope = auth_scope_parse(str_of(words.ptr, len));
        if (scope == 0) {
            return false;
        }
        out->scopes |= scope;
        const size_t skip = comma != NULL ? len + 1 : len;
        words = str_of(words.ptr + skip, words.len - skip);
    } while (comma != NULL);
    return true;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    const char lower = (char)(c | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

static bool parse_hash(struct str word, uint8_t out[SHA256_DIGEST_LENGTH]) {
    const struct str prefix = STR("sha256:");

    if (!str_starts_with(word, prefix) ||
        word.len != prefix.len + (size_t)2 * SHA256_DIGEST_LENGTH) {
        return false;
    }
    for (size_t i = 0; i < SHA256_DIGEST_LENGTH; i++) {
        const int high = hex_digit(word.ptr[prefix.len + 2 * i]);
        const int low = hex_digit(word.ptr[prefix.len + 2 * i + 1]);
        if (high < 0 || low < 0) {
            return false;
        }
        out[i] = (uint8_t)(high * 16 + low);
    }
    return true;
}

static bool has_hash(const struct api_keys *keys, const uint8_t *hash) {
    for (size_t i = 0; i < keys->count; i++) {
        if (memcmp(keys->keys[i].hash, hash, SHA256_DIGEST_LENGTH) == 0) {
            return true;
        }
    }
    return false;
}

static enum err_code parse_line(struct api_keys *keys, struct str line, size_t number,
                                struct err *err) {
    struct api_key key = {.subject = {.scopes = 0}};

    if (!parse_name(cut_word(&line), &key.subject)) {
        return err_set(err, ERR_INVALID,
                       "line %zu: the name must be 1 to 128 visible ASCII characters", number);
    }
    if (!parse_scopes(cut_word(&line), &key.subject)) {
        return err_set(err, ERR_INVALID, "line %zu: the scopes must be of read,write,admin",
                       number);
    }
    if (!parse_hash(line, key.hash)) {
        return err_set(err, ERR_INVALID, "line %zu: the key must be sha256: and 64 digits", number);
    }
    if (has_hash(keys, key.hash)) {
        return err_set(err, ERR_INVALID, "line %zu: this key is there twice", number);
    }
    if (keys->count == API_KEYS_MAX) {
        return err_set(err, ERR_LIMIT, "more than %d keys", API_KEYS_MAX);
    }
    keys->keys[keys->count++] = key;
    return ERR_OK;
}

enum err_code api_keys_parse(struct str text, struct api_keys **out, struct err *err) {
    struct api_keys *keys = mem_zalloc(sizeof(*keys));
    enum err_code code = ERR_OK;

    for (size_t number = 1; code == ERR_OK && text.len > 0; number++) {
        const struct str line = cut_line(&text);
        if (line.len > 0 && line.ptr[0] != '#') {
            code = parse_line(keys, line, number, err);
        }
    }
    if (code != ERR_OK) {
        api_keys_free(keys);
        return code;
    }
    *out = keys;
    return ERR_OK;
}

void api_keys_free(struct api_keys *keys) {
    mem_free(keys);
}

size_t api_keys_count(const struct api_keys *keys) {
    return keys->count;
}

/* --- looking up --- */

bool api_keys_find(const struct api_keys *keys, struct str key, struct auth_subject *out) {
    uint8_t hash[SHA256_DIGEST_LENGTH];
    const struct api_key *found = NULL;

    (void)SHA256((const unsigned char *)key.ptr, key.len, hash);
    for (size_t i = 0; i < keys->count; i++) { /* all of them, whichever it is */
        const bool equal = CRYPTO_memcmp(keys->keys[i].hash, hash, sizeof(hash)) == 0;
        found = equal ? &keys->keys[i] : found;
    }
    if (found == NULL) {
        return false;
    }
    *out = found->subject;
    return true;
}
