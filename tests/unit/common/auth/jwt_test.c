/* Tokens, with keys made anew for each test. */
#include "common/auth/jwt.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "../../../support/token.h"

enum { NOW = 1800000000 };
#define RS "{\"alg\":\"RS256\",\"kid\":\"r\"}"
#define HS "{\"alg\":\"HS256\",\"kid\":\"h\"}"
#define CLAIMS \
    "\"sub\":\"alice\",\"aud\":\"daybook\",\"iss\":\"https://id\",\"scope\":\"read write\""
#define GOOD "{" CLAIMS ",\"exp\":1800000100}"

static struct {
    struct token_maker *maker;
    struct jwt_keys *keys;
} fixture;

static const struct jwt_rules rules = {"https://id", "daybook", 30};

static void set_up(void) {
    struct err err;

    fixture.maker = token_maker_new();
    cr_assert_eq(jwt_keys_parse(str_from(token_key_set(fixture.maker)), &fixture.keys, &err),
                 ERR_OK, "%s", err.message);
}

static void tear_down(void) {
    jwt_keys_free(fixture.keys);
    token_maker_free(fixture.maker);
}

TestSuite(jwt, .init = set_up, .fini = tear_down, .timeout = 60);

static enum auth_verdict verdict(const char *token) {
    struct auth_subject subject = {.name = "untouched"};
    const enum auth_verdict verdict =
        jwt_verify(fixture.keys, &rules, str_from(token), NOW, &subject);

    cr_assert_str_eq(subject.name, verdict == AUTH_OK ? "alice" : "untouched");
    return verdict;
}

static enum auth_verdict claims(const char *text) {
    return verdict(token_hs256(fixture.maker, HS, text));
}

Test(jwt, both_algorithms_are_accepted) {
    struct auth_subject subject;

    cr_assert_eq(verdict(token_hs256(fixture.maker, HS, GOOD)), AUTH_OK);
    cr_assert_eq(verdict(token_rs256(fixture.maker, RS, GOOD)), AUTH_OK);
    cr_assert_eq(verdict(token_rs256(fixture.maker, "{\"typ\":\"JWT\",\"alg\":\"RS256\"}", GOOD)),
                 AUTH_OK, "without kid each key is tried");
    cr_assert_eq(jwt_verify(fixture.keys, &rules, str_from(token_hs256(fixture.maker, HS, GOOD)),
                            NOW, &subject),
                 AUTH_OK);
    cr_assert_eq(subject.scopes, AUTH_READ | AUTH_WRITE);
}

/* RFC 7515 appendix A.1. */
Test(jwt, a_signature_of_the_standard_holds) {
    const struct str set =
        STR("{\"keys\":[{\"kty\":\"oct\",\"alg\":\"HS256\",\"k\":\"AyM1SysPpbyDfgZld3umj1qzKObwVMko"
            "qQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow\"}]}");
    const struct str text =
        STR("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjE"
            "zMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ");
    static const unsigned char signature[] = {116, 24,  223, 180, 151, 153, 224, 37,  79,  250, 96,
                                              125, 216, 173, 187, 186, 22,  212, 37,  77,  105, 214,
                                              191, 240, 91,  88,  5,   88,  83,  132, 141, 121};
    struct jwt_keys *keys;
    struct err err;

    cr_assert_eq(jwt_keys_parse(set, &keys, &err), ERR_OK, "%s", err.message);
    cr_assert(jwt_keys_verify(keys, JWT_HS256, (struct str){0}, text,
                              str_of((const char *)signature, sizeof(signature))));
    cr_assert_not(jwt_keys_verify(keys, JWT_RS256, (struct str){0}, text,
                                  str_of((const char *)signature, sizeof(signature))));
    jwt_keys_free(keys);
}

Test(jwt, an_algorithm_is_never_the_tokens_choice) {
    const char *pem = token_public_pem(fixture.maker);

    cr_assert_eq(verdict(token_of("{\"alg\":\"none\"}", GOOD, "")), AUTH_INVALID);
    cr_assert_eq(verdict(token_of("{\"alg\":\"None\"}", GOOD, "")), AUTH_INVALID);
    cr_assert_eq(verdict(token_of("{}", GOOD, "")), AUTH_INVALID);
    cr_assert_eq(verdict(token_of(HS, GOOD, "")), AUTH_INVALID);
    /* The public key, which everybody has, taken for a secret. */
    cr_assert_eq(verdict(token_hmac(pem, strlen(pem), "{\"alg\":\"HS256\",\"kid\":\"r\"}", GOOD)),
                 AUTH_INVALID);
    cr_assert_eq(verdict(token_hmac(pem, strlen(pem), "{\"alg\":\"HS256\"}", GOOD)), AUTH_INVALID);
    cr_assert_eq(verdict(token_hmac(pem, strlen(pem), RS, GOOD)), AUTH_INVALID);
    cr_assert_eq(verdict(token_hs256(fixture.maker, "{\"alg\":\"HS384\"}", GOOD)), AUTH_INVALID);
    cr_assert_eq(verdict(token_hs256(fixture.maker, "{\"alg\":\"hs256\"}", GOOD)), AUTH_INVALID);
}

Test(jwt, a_header_that_asks_for_more_is_refused) {
    cr_assert_eq(verdict(token_hs256(fixture.maker, "{\"alg\":\"HS256\",\"kid\":\"r\"}", GOOD)),
                 AUTH_INVALID, "the key that it names is another");
    cr_assert_eq(verdict(token_hs256(fixture.maker, "{\"alg\":\"HS256\",\"kid\":7}", GOOD)),
                 AUTH_INVALID);
    cr_assert_eq(
        verdict(token_hs256(fixture.maker, "{\"alg\":\"HS256\",\"crit\":[\"b64\"]}", GOOD)),
        AUTH_INVALID);
    cr_assert_eq(verdict(token_hs256(fixture.maker, "{\"alg\":\"HS256\",\"alg\":\"HS256\"}", GOOD)),
                 AUTH_INVALID);
    cr_assert_eq(verdict(token_hs256(fixture.maker, "[]", GOOD)), AUTH_INVALID);
}

Test(jwt, times_are_kept_with_some_leeway) {
    cr_assert_eq(claims("{" CLAIMS ",\"exp\":1799999971}"), AUTH_OK);
    cr_assert_eq(claims("{" CLAIMS ",\"exp\":1799999970}"), AUTH_EXPIRED);
    cr_assert_eq(claims("{" CLAIMS ",\"exp\":1800000000.5}"), AUTH_OK);
    cr_assert_eq(claims("{" CLAIMS "}"), AUTH_INVALID, "exp must be there");
    cr_assert_eq(claims("{" CLAIMS ",\"exp\":\"1800000100\"}"), AUTH_INVALID);
    cr_assert_eq(claims("{" CLAIMS ",\"exp\":1e300}"), AUTH_INVALID);
    cr_assert_eq(claims("{" CLAIMS ",\"exp\":-1}"), AUTH_INVALID);
    cr_assert_eq(claims("{" CLAIMS ",\"exp\":1800000100,\"nbf\":1800000030}"), AUTH_OK);
    cr_assert_eq(claims("{" CLAIMS ",\"exp\":1800000100,\"nbf\":1800000031}"), AUTH_INVALID);
    cr_assert_eq(claims("{" CLAIMS ",\"exp\":1800000100,\"nbf\":null}"), AUTH_INVALID);
}

Test(jwt, it_must_be_for_us_from_the_right_issuer_and_of_somebody) {
    static const char *const wrong[] = {
        "{\"sub\":\"alice\",\"iss\":\"https://id\",\"exp\":1800000100}",
        "{\"sub\":\"alice\",\"aud\":\"other\",\"iss\":\"https://id\",\"exp\":1800000100}",
        "{\"sub\":\"alice\",\"aud\":[\"other\"],\"iss\":\"https://id\",\"exp\":1800000100}",
        "{\"sub\":\"alice\",\"aud\":{\"daybook\":1},\"iss\":\"https://id\",\"exp\":1800000100}",
        "{\"sub\":\"alice\",\"aud\":\"daybook\",\"exp\":1800000100}",
        "{\"sub\":\"alice\",\"aud\":\"daybook\",\"iss\":\"https://evil\",\"exp\":1800000100}",
        "{\"aud\":\"daybook\",\"iss\":\"https://id\",\"exp\":1800000100}",
        "{\"sub\":\"\",\"aud\":\"daybook\",\"iss\":\"https://id\",\"exp\":1800000100}",
        "{\"sub\":\"a\\nb\",\"aud\":\"daybook\",\"iss\":\"https://id\",\"exp\":1800000100}",
        "{\"sub\":7,\"aud\":\"daybook\",\"iss\":\"https://id\",\"exp\":1800000100}",
    };

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        cr_assert_eq(claims(wrong[i]), AUTH_INVALID, "%s", wrong[i]);
    }
    cr_assert_eq(claims("{\"sub\":\"alice\",\"aud\":[\"x\",\"daybook\"],\"iss\":\"https://id\","
                        "\"exp\":1800000100}"),
                 AUTH_OK);
}

Test(jwt, scopes_are_words) {
    static const struct {
        const char *scope;
        unsigned expected;
    } cases[] = {{"\"admin\"", AUTH_ADMIN},
                 {"\"openid  read email\"", AUTH_READ},
                 {"\"readwrite READ\"", 0},
                 {"[\"read\"]", 0},
                 {"\"\"", 0}};
    char text[256];
    struct auth_subject subject;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        (void)snprintf(
            text, sizeof(text),
            "{\"sub\":\"a\",\"aud\":\"daybook\",\"iss\":\"https://id\",\"exp\":1800000100,"
            "\"scope\":%s}",
            cases[i].scope);
        cr_assert_eq(jwt_verify(fixture.keys, &rules,
                                str_from(token_hs256(fixture.maker, HS, text)), NOW, &subject),
                     AUTH_OK);
        cr_assert_eq(subject.scopes, cases[i].expected, "%s", cases[i].scope);
    }
}

Test(jwt, any_changed_byte_breaks_it) {
    char token[2048];

    (void)snprintf(token, sizeof(token), "%s", token_rs256(fixture.maker, RS, GOOD));
    for (size_t i = 0; token[i] != '\0'; i++) {
        const char was = token[i];
        token[i] = was == 'A' ? 'B' : 'A';
        cr_assert_neq(verdict(token), AUTH_OK, "byte %zu", i);
        token[i] = was;
    }
    cr_assert_eq(verdict(token), AUTH_OK);
    token[strlen(token) - 1] = '\0';
    cr_assert_eq(verdict(token), AUTH_INVALID);
    cr_assert_eq(verdict(""), AUTH_INVALID);
    cr_assert_eq(verdict(".."), AUTH_INVALID);
    cr_assert_eq(verdict("a.b"), AUTH_INVALID);
    cr_assert_eq(verdict("a.b.c.d"), AUTH_INVALID);
}

Test(jwt, key_sets_that_are_weak_or_unclear_are_refused) {
    static const char *const wrong[] = {
        "",
        "{}",
        "{\"keys\":[]}",
        "{\"keys\":{}}",
        "{\"keys\":[7]}",
        "{\"keys\":[{\"kty\":\"oct\",\"k\":\"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T\"}]}",
        "{\"keys\":[{\"kty\":\"oct\",\"alg\":\"HS256\",\"k\":\"c2hvcnQ\"}]}",
        "{\"keys\":[{\"kty\":\"oct\",\"alg\":\"HS256\"}]}",
        "{\"keys\":[{\"kty\":\"RSA\",\"alg\":\"HS256\",\"k\":\"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-Es"
        "tJQLr_T\"}]}",
        "{\"keys\":[{\"kty\":\"oct\",\"alg\":\"RS256\",\"k\":\"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-Es"
        "tJQLr_T\"}]}",
        "{\"keys\":[{\"kty\":\"RSA\",\"alg\":\"RS256\",\"n\":\"AQAB\",\"e\":\"AQAB\"}]}",
        "{\"keys\":[{\"kty\":\"EC\",\"alg\":\"ES256\"}]}",
    };
    struct jwt_keys *keys = NULL;
    struct err err;

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        cr_assert_eq(jwt_keys_parse(str_from(wrong[i]), &keys, &err), ERR_INVALID, "%s", wrong[i]);
    }
    cr_assert_null(keys);
}
