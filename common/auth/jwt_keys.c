#include "common/auth/jwt_keys.h"

#include <jansson.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/param_build.h>
#include <openssl/sha.h>

#include "common/base/base64url.h"
#include "common/base/mem.h"

enum {
    KID_BYTES = 256,
    SECRET_BYTES_MIN = 32, /* RFC 7518 section 3.2 */
    SECRET_BYTES_MAX = 512,
    RSA_BYTES_MAX = 1024,
    RSA_BITS_MIN = 2048, /* RFC 7518 section 3.3 */
    EXPONENT_BYTES_MAX = 4,
};

struct jwt_key {
    enum jwt_algorithm algorithm;
    char kid[KID_BYTES];
    uint8_t secret[SECRET_BYTES_MAX]; /* HS256 */
    size_t secret_len;
    EVP_PKEY *public; /* RS256 */
};

struct jwt_keys {
    size_t count;
    struct jwt_key keys[JWT_KEYS_MAX];
};

/* --- reading --- */

static struct str member(const json_t *object, const char *name) {
    const json_t *value = json_object_get(object, name);

    return json_is_string(value) ? str_of(json_string_value(value), json_string_length(value))
                                 : (struct str){0};
}

static enum err_code read_secret(const json_t *json, struct jwt_key *key, struct err *err) {
    if (!base64url_decode(member(json, "k"), key->secret, sizeof(key->secret), &key->secret_len) ||
        key->secret_len < SECRET_BYTES_MIN) {
        return err_set(err, ERR_INVALID, "an HS256 key must have %d to %d bytes, in base64url",
                       SECRET_BYTES_MIN, SECRET_BYTES_MAX);
    }
    return ERR_OK;
}

static EVP_PKEY *make_public(const BIGNUM *n, const BIGNUM *e) {
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
    OSSL_PARAM *params = NULL;
    EVP_PKEY *key = NULL;

    if (build != NULL && context != NULL &&
        OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, n) == 1 &&
        OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, e) == 1) {
        params = OSSL_PARAM_BLD_to_param(build);
    }
    if (params != NULL && EVP_PKEY_fromdata_init(context) == 1 &&
        EVP_PKEY_fromdata(context, &key, EVP_PKEY_PUBLIC_KEY, params) != 1) {
        key = NULL;
    }
    OSSL_PARAM_free(params);
    EVP_PKEY_CTX_free(context);
    OSSL_PARAM_BLD_free(build);
    return key;
}

static enum err_code read_public(const json_t *json, struct jwt_key *key, struct err *err) {
    uint8_t n[RSA_BYTES_MAX];
    uint8_t e[EXPONENT_BYTES_MAX];
    size_t n_len = 0;
    size_t e_len = 0;

    if (!base64url_decode(member(json, "n"), n, sizeof(n), &n_len) ||
        !base64url_decode(member(json, "e"), e, sizeof(e), &e_len)) {
        return err_set(err, ERR_INVALID, "an RS256 key must have n and e, in base64url");
    }
    BIGNUM *modulus = BN_bin2bn(n, (int)n_len, NULL);
    BIGNUM *exponent = BN_bin2bn(e, (int)e_len, NULL);
    enum err_code code = ERR_OK;
    if (modulus == NULL || exponent == NULL || BN_num_bits(modulus) < RSA_BITS_MIN ||
        !BN_is_odd(modulus) || !BN_is_odd(exponent) || BN_is_one(exponent)) {
        code = err_set(err, ERR_INVALID, "an RS256 key must have at least %d bits", RSA_BITS_MIN);
    } else {
        key->public = make_public(modulus, exponent);
        code = key->public != NULL ? ERR_OK : err_set(err, ERR_INVALID, "no RSA key");
    }
    BN_free(modulus);
    BN_free(exponent);
    return code;
}

/* Keys of other kinds, or for other purposes, are none of ours. */
static enum err_code read_key(const json_t *json, struct jwt_keys *keys, struct err *err) {
    struct jwt_key *key = &keys->keys[keys->count];
    const struct str algorithm = member(json, "alg");
    const struct str type = member(json, "kty");
    const struct str use = member(json, "use");
    const bool secret = str_eq(algorithm, STR("HS256"));

    if (!json_is_object(json) || type.len == 0) {
        return err_set(err, ERR_INVALID, "a key without kty");
    }
    if (algorithm.len == 0 && (str_eq(type, STR("oct")) || str_eq(type, STR("RSA")))) {
        return err_set(err, ERR_INVALID, "a key without alg: each must say what it signs with");
    }
    if ((!secret && !str_eq(algorithm, STR("RS256"))) ||
        (use.len > 0 && !str_eq(use, STR("sig")))) {
        return ERR_OK;
    }
    if (!str_eq(type, secret ? STR("oct") : STR("RSA"))) {
        return err_set(err, ERR_INVALID, "a key whose kty and alg don't fit each other");
    }
    if (keys->count == JWT_KEYS_MAX) {
        return err_set(err, ERR_LIMIT, "more than %d keys", JWT_KEYS_MAX);
    }
    if (!str_copy(key->kid, sizeof(key->kid), member(json, "kid"))) {
        return err_set(err, ERR_INVALID, "a kid over %d bytes", KID_BYTES - 1);
    }
    key->algorithm = secret ? JWT_HS256 : JWT_RS256;
    const enum err_code code = secret ? read_secret(json, key, err) : read_public(json, key, err);
    keys->count += code == ERR_OK;
    return code;
}

enum err_code jwt_keys_parse(struct str text, struct jwt_keys **out, struct err *err) {
    json_t *set = json_loadb(text.ptr, text.len, JSON_REJECT_DUPLICATES, NULL);
    const json_t *list = json_object_get(set, "keys");
    struct jwt_keys *keys = mem_zalloc(sizeof(*keys));
    enum err_code code = ERR_OK;
    size_t i;
    const json_t *item;

    if (!json_is_array(list)) {
        code = err_set(err, ERR_INVALID, "not a JSON Web Key Set: {\"keys\":[…]}");
    }
    json_array_foreach(list, i, item) {
        if (code == ERR_OK) {
            code = read_key(item, keys, err);
        }
    }
    if (code == ERR_OK && keys->count == 0) {
        code = err_set(err, ERR_INVALID, "no key for HS256 or RS256");
    }
    json_decref(set);
    if (code != ERR_OK) {
        jwt_keys_free(keys);
        return code;
    }
    *out = keys;
    return ERR_OK;
}

void jwt_keys_free(struct jwt_keys *keys) {
    if (keys == NULL) {
        return;
    }
    for (size_t i = 0; i < JWT_KEYS_MAX; i++) { /* also one that was given up half-read */
        EVP_PKEY_free(keys->keys[i].public);
    }
    OPENSSL_cleanse(keys, sizeof(*keys));
    mem_free(keys);
}

size_t jwt_keys_count(const struct jwt_keys *keys) {
    return keys->count;
}

/* --- verifying --- */

static bool verify_secret(const struct jwt_key *key, struct str text, struct str signature) {
    unsigned char expected[SHA256_DIGEST_LENGTH];
    unsigned len = 0;

    return signature.len == sizeof(expected) &&
           HMAC(EVP_sha256(), key->secret, (int)key->secret_len, (const unsigned char *)text.ptr,
                text.len, expected, &len) != NULL &&
           CRYPTO_memcmp(expected, signature.ptr, sizeof(expected)) == 0;
}

static bool verify_public(const struct jwt_key *key, struct str text, struct str signature) {
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    const bool valid =
        context != NULL &&
        EVP_DigestVerifyInit(context, NULL, EVP_sha256(), NULL, key->public) == 1 &&
        EVP_DigestVerify(context, (const unsigned char *)signature.ptr, signature.len,
                         (const unsigned char *)text.ptr, text.len) == 1;

    EVP_MD_CTX_free(context);
    return valid;
}

bool jwt_keys_verify(const struct jwt_keys *keys, enum jwt_algorithm algorithm, struct str kid,
                     struct str signed_text, struct str signature) {
    for (size_t i = 0; i < keys->count; i++) {
        const struct jwt_key *key = &keys->keys[i];
        const bool asked = key->algorithm == algorithm &&
                           (kid.len == 0 || key->kid[0] == '\0' || str_eq(kid, str_from(key->kid)));
        if (asked && (algorithm == JWT_HS256 ? verify_secret(key, signed_text, signature)
                                             : verify_public(key, signed_text, signature))) {
            return true;
        }
    }
    return false;
}
