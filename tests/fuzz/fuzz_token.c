/*
 * Credentials and the files that they are checked with. The input's first byte says what the rest
 * is. What must hold:
 *  't'  a token as it came: accepted only when its signature is the HMAC of its first two parts
 *  'c'  header and claims, a line each, which are then signed rightly: what is accepted has a
 *       subject that an event may carry, a header with HS256 and no crit, and a time to end
 *  'k'  a key set, 'a' API keys, 'l' a list of key=value: read or refused, within their bounds
 */
#include <jansson.h>
#include <openssl/hmac.h>
#include <string.h>

#include "common/auth/api_keys.h"
#include "common/auth/jwt.h"
#include "common/base/base64url.h"
#include "common/base/key_values.h"
#include "tests/fuzz/expect.h"

enum { NOW = 1800000000, PART_BYTES = 1500, TOKEN_BYTES = 4096, HASH_BYTES = 32 };

static const char secret[] = "0123456789abcdef0123456789abcdef";
static const char secret_set[] = "{\"keys\":[{\"kty\":\"oct\",\"alg\":\"HS256\",\"k\":"
                                 "\"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY\"}]}";
static const struct jwt_rules rules = {"", "daybook", 30};

static const struct jwt_keys *the_keys(void) {
    static struct jwt_keys *keys;
    struct err err = {0};

    if (keys == NULL) {
        EXPECT(jwt_keys_parse(str_from(secret_set), &keys, &err) == ERR_OK, "%s", err.message);
    }
    return keys;
}

static void sign(const char *text, size_t len, unsigned char out[HASH_BYTES]) {
    unsigned out_len = 0;

    EXPECT(HMAC(EVP_sha256(), secret, (int)sizeof(secret) - 1, (const unsigned char *)text, len,
                out, &out_len) != NULL,
           "HMAC");
}

static size_t encode(const void *bytes, size_t len, char *out) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const unsigned char *in = bytes;
    unsigned bits = 0;
    unsigned held = 0;
    size_t written = 0;

    for (size_t i = 0; i < len; i++) {
        bits = (bits << 8 | in[i]) & 0xffff;
        for (held += 8; held >= 6; held -= 6) {
            out[written++] = digits[bits >> (held - 6) & 63];
        }
    }
    if (held > 0) {
        out[written++] = digits[bits << (6 - held) & 63];
    }
    return written;
}

static void check_subject(const struct auth_subject *subject) {
    const struct str name = str_from(subject->name);

    EXPECT(name.len > 0 && name.len < AUTH_SUBJECT_BYTES && str_is_utf8(name), "subject");
    for (size_t i = 0; i < name.len; i++) {
        EXPECT((unsigned char)name.ptr[i] >= ' ' && name.ptr[i] != 0x7f, "subject");
    }
    EXPECT((subject->scopes & ~(unsigned)(AUTH_READ | AUTH_WRITE | AUTH_ADMIN)) == 0, "scopes");
}

/* --- a token as it came --- */

static void fuzz_raw(struct str token) {
    struct auth_subject subject = {.scopes = 0};
    unsigned char expected[HASH_BYTES];
    uint8_t signature[HASH_BYTES];
    size_t len = 0;

    if (jwt_verify(the_keys(), &rules, token, NOW, &subject) == AUTH_INVALID) {
        return;
    }
    const char *dot = memrchr(token.ptr, '.', token.len);
    EXPECT(dot != NULL, "no signature");
    const size_t signed_len = (size_t)(dot - token.ptr);
    sign(token.ptr, signed_len, expected);
    EXPECT(base64url_decode(str_of(dot + 1, token.len - signed_len - 1), signature,
                            sizeof(signature), &len) &&
               len == sizeof(signature) && memcmp(signature, expected, len) == 0,
           "a signature that is none");
}

/* --- claims that are signed --- */

static void check_accepted(struct str header_text, struct str claims_text) {
    json_t *header = json_loadb(header_text.ptr, header_text.len, JSON_REJECT_DUPLICATES, NULL);
    json_t *claims = json_loadb(claims_text.ptr, claims_text.len, JSON_REJECT_DUPLICATES, NULL);
    const char *algorithm = json_string_value(json_object_get(header, "alg"));
    const double expires = json_number_value(json_object_get(claims, "exp"));

    EXPECT(algorithm != NULL && strcmp(algorithm, "HS256") == 0, "algorithm");
    EXPECT(json_object_get(header, "crit") == NULL, "crit");
    EXPECT(expires > NOW - 30, "exp %f", expires);
    json_decref(header);
    json_decref(claims);
}

static void fuzz_claims(struct str text) {
    static char token[TOKEN_BYTES];
    struct auth_subject subject = {.scopes = 0};
    unsigned char signature[HASH_BYTES];
    const char *end = memchr(text.ptr, '\n', text.len);

    if (end == NULL || text.len > PART_BYTES) {
        return;
    }
    const struct str header = str_of(text.ptr, (size_t)(end - text.ptr));
    const struct str claims = str_of(end + 1, text.len - header.len - 1);
    size_t len = encode(header.ptr, header.len, token);
    token[len++] = '.';
    len += encode(claims.ptr, claims.len, token + len);
    sign(token, len, signature);
    token[len++] = '.';
    len += encode(signature, sizeof(signature), token + len);
    if (jwt_verify(the_keys(), &rules, str_of(token, len), NOW, &subject) == AUTH_OK) {
        check_subject(&subject);
        check_accepted(header, claims);
    }
}

/* --- files --- */

static void fuzz_key_set(struct str text) {
    struct jwt_keys *keys = NULL;
    struct err err = {0};

    if (jwt_keys_parse(text, &keys, &err) == ERR_OK) {
        EXPECT(jwt_keys_count(keys) >= 1 && jwt_keys_count(keys) <= JWT_KEYS_MAX, "count");
        EXPECT(!jwt_keys_verify(keys, JWT_HS256, (struct str){0}, text, STR("x")), "verified");
        EXPECT(!jwt_keys_verify(keys, JWT_RS256, (struct str){0}, text, STR("x")), "verified");
        jwt_keys_free(keys);
    }
}

static void fuzz_api_keys(struct str text) {
    struct auth_subject subject = {.scopes = 0};
    struct api_keys *keys = NULL;
    struct err err = {0};

    if (api_keys_parse(text, &keys, &err) == ERR_OK) {
        EXPECT(api_keys_count(keys) <= API_KEYS_MAX, "count");
        if (api_keys_find(keys, STR("secret"), &subject)) {
            check_subject(&subject);
            EXPECT(subject.scopes != 0, "no scope");
        }
        api_keys_free(keys);
    }
}

static void fuzz_list(struct str list) {
    struct key_value pair;
    const size_t begin = list.len;
    size_t count = 0;

    while (key_values_next(&list, &pair) == 1) {
        EXPECT(pair.key.len > 0 && pair.value_len < sizeof(pair.value), "pair");
        EXPECT(strlen(pair.value) == pair.value_len, "a NUL in a value");
        EXPECT(++count <= begin, "endless");
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
    const struct str rest = str_of((const char *)bytes + (len > 0), len > 0 ? len - 1 : 0);

    switch (len > 0 ? bytes[0] : '\0') {
    case 't':
        fuzz_raw(rest);
        break;
    case 'c':
        fuzz_claims(rest);
        break;
    case 'k':
        fuzz_key_set(rest);
        break;
    case 'a':
        fuzz_api_keys(rest);
        break;
    case 'l':
        fuzz_list(rest);
        break;
    default:
        break;
    }
    return 0;
}
