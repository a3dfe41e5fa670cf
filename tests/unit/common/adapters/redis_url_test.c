#include "common/adapters/redis_url.h"

#include <criterion/criterion.h>
#include <string.h>

#include "common/adapters/redis_tls.h"

static struct redis_url parse(const char *text) {
    struct redis_url url = {0};
    struct err err = {0};

    cr_assert_eq(redis_url_parse(str_from(text), &url, &err), ERR_OK, "%s: %s", text, err.message);
    return url;
}

Test(redis_url, only_the_host_is_needed) {
    const struct redis_url url = parse("redis://cache");

    cr_expect_str_eq(url.host, "cache");
    cr_expect_eq(url.port, 6379);
    cr_expect_eq(url.database, 0);
    cr_expect_str_empty(url.user);
    cr_expect_str_empty(url.password);
}

Test(redis_url, every_part_is_understood) {
    const struct redis_url url = parse("redis://reader:p%40ss%2Fword%3A@127.0.0.1:16379/3");

    cr_expect_str_eq(url.user, "reader");
    cr_expect_str_eq(url.password, "p@ss/word:");
    cr_expect_str_eq(url.host, "127.0.0.1");
    cr_expect_eq(url.port, 16379);
    cr_expect_eq(url.database, 3);
}

Test(redis_url, a_password_may_come_without_a_user) {
    const struct redis_url url = parse("redis://:secret@h/");

    cr_expect_str_empty(url.user);
    cr_expect_str_eq(url.password, "secret");
    cr_expect_eq(url.database, 0);
}

Test(redis_url, an_ipv6_host_stands_in_brackets) {
    const struct redis_url url = parse("redis://[::1]:7000/1");

    cr_expect_str_eq(url.host, "::1");
    cr_expect_eq(url.port, 7000);
    cr_expect_eq(url.database, 1);
}

Test(redis_url, what_is_none_is_refused_and_no_password_repeated) {
    static const char *const wrong[] = {"",
                                        "http://h",
                                        "redis://",
                                        "redis://:6379",
                                        "redis://h:0",
                                        "redis://h:65536",
                                        "redis://h:x",
                                        "redis://h:",
                                        "redis://h/-1",
                                        "redis://h/x",
                                        "redis://h/99999",
                                        "redis://[::1",
                                        "redis://:hush%2@h",
                                        "redis://:hush%zz@h",
                                        "redis://:hush%00@h"};
    struct redis_url url;

    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct err err = {0};
        cr_expect_eq(redis_url_parse(str_from(wrong[i]), &url, &err), ERR_INVALID, "%s", wrong[i]);
        cr_expect_null(strstr(err.message, "hush"), "%s", wrong[i]);
    }
}

/* Where hiredis can't speak TLS the URL is refused, for that reason. */
Test(redis_url, tls_and_its_files_are_understood) {
    const struct str text = STR("rediss://u:p%40?x@h:7000/2?cacert=/ca.pem&cert=/a%20b&key=/k");
    struct redis_url url = {0};
    struct err err = {0};

    const enum err_code code = redis_url_parse(text, &url, &err);
    if (!redis_tls_available()) {
        cr_assert_eq(code, ERR_INVALID);
        cr_assert_not_null(strstr(err.message, "hiredis 1.0"), "%s", err.message);
        return;
    }
    cr_assert_eq(code, ERR_OK, "%s", err.message);
    cr_expect(url.tls);
    cr_expect_str_eq(url.password, "p@?x");
    cr_expect_str_eq(url.host, "h");
    cr_expect_eq(url.port, 7000);
    cr_expect_eq(url.database, 2);
    cr_expect_str_eq(url.ca_path, "/ca.pem");
    cr_expect_str_eq(url.certificate_path, "/a b");
    cr_expect_str_eq(url.key_path, "/k");
}

Test(redis_url, parameters_are_for_tls_and_known) {
    static const char *const wrong[][2] = {{"redis://h?cacert=/x", "rediss://"},
                                           {"rediss://h?verify=no", "cacert"},
                                           {"rediss://h?cacert=%zz", "ill-formed"}};
    struct redis_url url;
    struct err err = {0};

    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        cr_assert_eq(redis_url_parse(str_from(wrong[i][0]), &url, &err), ERR_INVALID, "%s",
                     wrong[i][0]);
        cr_assert_not_null(strstr(err.message, wrong[i][1]), "%s", err.message);
    }
}
