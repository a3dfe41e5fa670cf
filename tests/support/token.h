/* Tokens and key sets for tests, right ones and wrong ones. All texts are static or the maker's. */
#ifndef DAYBOOK_TESTS_SUPPORT_TOKEN_H
#define DAYBOOK_TESTS_SUPPORT_TOKEN_H

#include <stddef.h>

struct token_maker;

/* With a fresh RSA key of 2048 bits and a secret of 32 bytes. */
struct token_maker *token_maker_new(void);
void token_maker_free(struct token_maker *maker);
/* {"keys":[…]}: the public key as kid "r", the secret as kid "h". */
const char *token_key_set(const struct token_maker *maker);
/* The public key in PEM: what a confused verifier would take for a secret. */
const char *token_public_pem(const struct token_maker *maker);

/* Eight in turn. */
const char *token_hs256(const struct token_maker *maker, const char *header, const char *claims);
const char *token_rs256(const struct token_maker *maker, const char *header, const char *claims);
/* Signed with this secret. */
const char *token_hmac(const char *secret, size_t secret_len, const char *header,
                       const char *claims);
/* Any three parts; the signature as it is. */
const char *token_of(const char *header, const char *claims, const char *signature);

/* Without padding; `out` must be large enough. */
void base64url_encode(const void *bytes, size_t len, char *out);
/* "sha256:<hex>" of an API key; static. */
const char *api_key_hash(const char *key);
/* Writes a file of keys as an operator should: a new one takes the old one's place at once. */
void replace_key_file(const char *path, const char *text);

#endif
