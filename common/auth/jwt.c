#include "common/auth/jwt.h"

#include <jansson.h>

#include "common/base/base64url.h"

enum { HEADER, CLAIMS, SIGNATURE, PARTS };
/* Beyond it a time means nothing: the year 9999. */
#define TIME_MAX_S 253402300799.0

/* False: not exactly three parts. */
static bool split(struct str token, struct str parts[PARTS]) {
    size_t count = 0;
    size_t from = 0;

    for (size_t i = 0; i <= token.len; i++) {
        if (i == token.len || token.ptr[i] == '.') {
            if (count == PARTS) {
                return false;
            }
            parts[count++] = str_of(token.ptr + from, i - from);
            from = i + 1;
        }
    }
    return count == PARTS;
}

bool jwt_looks_like(struct str text) {
    struct str parts[PARTS];

    return split(text, parts);
}

/* The part's JSON object; NULL: it is none. */
static json_t *load(struct str part) {
    uint8_t bytes[JWT_BYTES_MAX];
    size_t len = 0;

    if (!base64url_decode(part, bytes, sizeof(bytes), &len)) {
        return NULL;
    }
    json_t *json = json_loadb((const char *)bytes, len, JSON_REJECT_DUPLICATES, NULL);
    if (!json_is_object(json)) {
        json_decref(json);
        return NULL;
    }
    return json;
}

static struct str text_of(const json_t *value) {
    return json_is_string(value) ? str_of(json_string_value(value), json_string_length(value))
                                 : (struct str){0};
}

/* --- the signature --- */

static bool signature_holds(const struct jwt_keys *keys, struct str token,
                            const struct str parts[PARTS]) {
    uint8_t signature[JWT_BYTES_MAX];
    size_t len = 0;
    bool holds = false;
    json_t *header = load(parts[HEADER]);
    const struct str algorithm = text_of(json_object_get(header, "alg"));
    const json_t *kid = json_object_get(header, "kid");
    const struct str signed_text = str_of(token.ptr, parts[HEADER].len + 1 + parts[CLAIMS].len);
    const bool secret = str_eq(algorithm, STR("HS256"));

    if (header != NULL && (secret || str_eq(algorithm, STR("RS256"))) &&
        (kid == NULL || json_is_string(kid)) && json_object_get(header, "crit") == NULL &&
        base64url_decode(parts[SIGNATURE], signature, sizeof(signature), &len)) {
        holds = jwt_keys_verify(keys, secret ? JWT_HS256 : JWT_RS256, text_of(kid), signed_text,
                                str_of((const char *)signature, len));
    }
    json_decref(header);
    return holds;
}

/* --- the claims --- */

/* False: there, and no sensible time. */
static bool read_time(const json_t *claims, const char *name, bool required, double *out) {
    const json_t *value = json_object_get(claims, name);

    if (value == NULL) {
        return !required;
    }
    *out = json_number_value(value);
    return json_is_number(value) && *out >= 0 && *out <= TIME_MAX_S;
}

static bool has_audience(const json_t *claim, struct str wanted) {
    size_t i;
    const json_t *item;

    json_array_foreach(claim, i, item) {
        if (str_eq(text_of(item), wanted)) {
            return true;
        }
    }
    return json_is_string(claim) && str_eq(text_of(claim), wanted);
}

/* Goes into events and logs as it is. */
static bool read_subject(const json_t *claims, struct auth_subject *out) {
    const struct str name = text_of(json_object_get(claims, "sub"));

    for (size_t i = 0; i < name.len; i++) {
        const unsigned char c = (unsigned char)name.ptr[i];
        if (c < 0x20 || c == 0x7f) {
            return false;
        }
    }
    return name.len > 0 && str_copy(out->name, sizeof(out->name), name);
}

static unsigned read_scopes(const json_t *claims) {
    struct str words = text_of(json_object_get(claims, "scope"));
    unsigned scopes = 0;

    while (words.len > 0) {
        const char *space = memchr(words.ptr, ' ', words.len);
        const size_t len = space != NULL ? (size_t)(space - words.ptr) : words.len;
        scopes |= auth_scope_parse(str_of(words.ptr, len));
        const size_t skip = space != NULL ? len + 1 : len;
        words = str_of(words.ptr + skip, words.len - skip);
    }
    return scopes;
}

static enum auth_verdict judge(const json_t *claims, const struct jwt_rules *rules, int64_t now_s,
                               struct auth_subject *out) {
    const struct str issuer = str_from(rules->issuer);
    const double now = (double)now_s;
    const double leeway = (double)rules->leeway_s;
    struct auth_subject subject = {.scopes = read_scopes(claims)};
    double expires = 0;
    double begins = 0;
    double issued = 0;

    if (!read_time(claims, "exp", true, &expires) || !read_time(claims, "nbf", false, &begins) ||
        !read_time(claims, "iat", false, &issued) || !read_subject(claims, &subject)) {
        return AUTH_INVALID;
    }
    if (issuer.len > 0 && !str_eq(text_of(json_object_get(claims, "iss")), issuer)) {
        return AUTH_INVALID;
    }
    if (!has_audience(json_object_get(claims, "aud"), str_from(rules->audience)) ||
        begins > now + leeway) {
        return AUTH_INVALID;
    }
    if (expires + leeway <= now) {
        return AUTH_EXPIRED;
    }
    *out = subject;
    return AUTH_OK;
}

enum auth_verdict jwt_verify(const struct jwt_keys *keys, const struct jwt_rules *rules,
                             struct str token, int64_t now_s, struct auth_subject *out) {
    struct str parts[PARTS];

    if (token.len > JWT_BYTES_MAX || !split(token, parts) || !signature_holds(keys, token, parts)) {
        return AUTH_INVALID;
    }
    json_t *claims = load(parts[CLAIMS]);
    const enum auth_verdict verdict =
        claims != NULL ? judge(claims, rules, now_s, out) : AUTH_INVALID;
    json_decref(claims);
    return verdict;
}
