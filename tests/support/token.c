#include "token.h"

#include <criterion/criterion.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TOKEN_BYTES = 8192, TOKENS = 8, SECRET_BYTES = 32 };

struct token_maker {
    EVP_PKEY *key;
    unsigned char secret[SECRET_BYTES];
    char key_set[4096];
    char pem[2048];
};

void base64url_encode(const void *bytes, size_t len, char *out) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const unsigned char *in = bytes;
    unsigned bits = 0;
    unsigned held = 0;

    for (size_t i = 0; i < len; i++) {
        bits = bits << 8 | in[i];
        for (held += 8; held >= 6; held -= 6) {
            *out++ = digits[bits >> (held - 6) & 63];
        }
    }
    if (held > 0) {
        *out++ = digits[bits << (6 - held) & 63];
    }
    *out = '\0';
}

static void number_of(EVP_PKEY *key, const char *name, char *out) {
    unsigned char bytes[512];
    BIGNUM *number = NULL;

    cr_assert_eq(EVP_PKEY_get_bn_param(key, name, &number), 1);
    base64url_encode(bytes, (size_t)BN_bn2bin(number, bytes), out);
    BN_free(number);
}

struct token_maker *token_maker_new(void) {
    struct token_maker *maker = calloc(1, sizeof(*maker));
    char n[1024];
    char e[16];
    char k[64];
    char *pem = NULL;

    maker->key = EVP_RSA_gen(2048);
    cr_assert_not_null(maker->key);
    cr_assert_eq(RAND_bytes(maker->secret, SECRET_BYTES), 1);
    number_of(maker->key, OSSL_PKEY_PARAM_RSA_N, n);
    number_of(maker->key, OSSL_PKEY_PARAM_RSA_E, e);
    base64url_encode(maker->secret, SECRET_BYTES, k);
    (void)snprintf(maker->key_set, sizeof(maker->key_set),
                   "{\"keys\":[{\"kty\":\"RSA\",\"alg\":\"RS256\",\"use\":\"sig\",\"kid\":\"r\","
                   "\"n\":\"%s\",\"e\":\"%s\"},"
                   "{\"kty\":\"oct\",\"alg\":\"HS256\",\"kid\":\"h\",\"k\":\"%s\"}]}",
                   n, e, k);
    BIO *bio = BIO_new(BIO_s_mem());
    cr_assert_eq(PEM_write_bio_PUBKEY(bio, maker->key), 1);
    const long len = BIO_get_mem_data(bio, &pem);
    (void)snprintf(maker->pem, sizeof(maker->pem), "%.*s", (int)len, pem);
    (void)BIO_free(bio);
    return maker;
}

void token_maker_free(struct token_maker *maker) {
    EVP_PKEY_free(maker->key);
    free(maker);
}

const char *token_key_set(const struct token_maker *maker) {
    return maker->key_set;
}

const char *token_public_pem(const struct token_maker *maker) {
    return maker->pem;
}

/* "<header>.<claims>" in a buffer with room for the signature. */
static char *begin(const char *header, const char *claims) {
    static char texts[TOKENS][TOKEN_BYTES];
    static size_t next;
    char *text = texts[next++ % TOKENS];

    cr_assert_lt(strlen(header) + strlen(claims), TOKEN_BYTES / 4);
    base64url_encode(header, strlen(header), text);
    (void)strncat(text, ".", 2);
    base64url_encode(claims, strlen(claims), text + strlen(text));
    return text;
}

static const char *end(char *text, const unsigned char *signature, size_t len) {
    (void)strncat(text, ".", 2);
    base64url_encode(signature, len, text + strlen(text));
    return text;
}

const char *token_of(const char *header, const char *claims, const char *signature) {
    return end(begin(header, claims), (const unsigned char *)signature, strlen(signature));
}

const char *token_hmac(const char *secret, size_t secret_len, const char *header,
                       const char *claims) {
    unsigned char signature[SHA256_DIGEST_LENGTH];
    unsigned len = 0;
    char *text = begin(header, claims);

    cr_assert_not_null(HMAC(EVP_sha256(), secret, (int)secret_len, (const unsigned char *)text,
                            strlen(text), signature, &len));
    return end(text, signature, len);
}

const char *token_hs256(const struct token_maker *maker, const char *header, const char *claims) {
    return token_hmac((const char *)maker->secret, SECRET_BYTES, header, claims);
}

const char *token_rs256(const struct token_maker *maker, const char *header, const char *claims) {
    unsigned char signature[512];
    size_t len = sizeof(signature);
    char *text = begin(header, claims);
    EVP_MD_CTX *context = EVP_MD_CTX_new();

    cr_assert_eq(EVP_DigestSignInit(context, NULL, EVP_sha256(), NULL, maker->key), 1);
    cr_assert_eq(
        EVP_DigestSign(context, signature, &len, (const unsigned char *)text, strlen(text)), 1);
    EVP_MD_CTX_free(context);
    return end(text, signature, len);
}

const char *api_key_hash(const char *key) {
    static char text[80];
    unsigned char hash[SHA256_DIGEST_LENGTH];
    int len = snprintf(text, sizeof(text), "sha256:");

    (void)SHA256((const unsigned char *)key, strlen(key), hash);
    for (size_t i = 0; i < sizeof(hash); i++) {
        len += snprintf(text + len, sizeof(text) - (size_t)len, "%02x", hash[i]);
    }
    return text;
}

void replace_key_file(const char *path, const char *text) {
    char fresh[128];

    (void)snprintf(fresh, sizeof(fresh), "%s.new", path);
    FILE *file = fopen(fresh, "w");
    cr_assert_not_null(file);
    cr_assert_geq(fputs(text, file), 0);
    cr_assert_eq(fclose(file), 0);
    cr_assert_eq(rename(fresh, path), 0);
}
