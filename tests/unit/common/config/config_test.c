#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/config/config.h"

struct example {
    const char *url;
    const char *mode;
    const char *secret;
    int64_t count;
    bool flag;
    enum log_level level;
};

static const struct config_key keys[] = {
    {"X_URL", CONFIG_URL, offsetof(struct example, url), NULL, 1, 100, "a:// b://", false, "",
     "where"},
    {"X_MODE", CONFIG_STRING, offsetof(struct example, mode), "fast", 1, 10, "fast slow", false, "",
     "how"},
    {"X_SECRET", CONFIG_STRING, offsetof(struct example, secret), "", 0, 100, NULL, true, "",
     "what nobody sees"},
    {"X_COUNT", CONFIG_INT, offsetof(struct example, count), "5", 1, 10, NULL, false, "ms", "many"},
    {"X_FLAG", CONFIG_BOOL, offsetof(struct example, flag), "no", 0, 0, NULL, false, "", "whether"},
    {"X_LEVEL", CONFIG_LEVEL, offsetof(struct example, level), "info", 0, 0, NULL, false, "",
     "loud"},
};
static const struct config_spec spec = {
    "x", "An example.", keys, ARRAY_LEN(keys), sizeof(struct example), NULL, 0};

struct pair {
    const char *name, *value;
};

static const char *lookup(void *arg, const char *name) {
    for (const struct pair *pair = arg; pair->name != NULL; pair++) {
        if (strcmp(pair->name, name) == 0) {
            return pair->value;
        }
    }
    return NULL;
}

Test(config, takes_values_and_defaults) {
    struct pair pairs[] = {{"X_URL", "a://h"}, {"X_COUNT", "7"}, {"X_FLAG", "yes"}, {0, 0}};
    struct example config;
    struct buf problems;

    buf_init(&problems, 4096);
    cr_assert_eq(config_load(&spec, lookup, pairs, &config, &problems), ERR_OK);
    cr_assert_str_eq(config.url, "a://h");
    cr_assert_str_eq(config.mode, "fast");
    cr_assert_eq(config.count, 7);
    cr_assert(config.flag);
    cr_assert_eq(config.level, LOG_LEVEL_INFO);
    config_release(&spec, &config);
    buf_release(&problems);
}

Test(config, says_all_that_is_wrong_at_once) {
    struct pair pairs[] = {{"X_MODE", "middling"},
                           {"X_COUNT", "11"},
                           {"X_FLAG", "maybe"},
                           {"X_LEVEL", "loud"},
                           {0, 0}};
    struct example config;
    struct buf problems;

    buf_init(&problems, 4096);
    cr_assert_eq(config_load(&spec, lookup, pairs, &config, &problems), ERR_INVALID);
    cr_assert_not_null(strstr(problems.ptr, "X_URL: required"));
    cr_assert_not_null(strstr(problems.ptr, "X_MODE: must be one of: fast slow"));
    cr_assert_not_null(strstr(problems.ptr, "X_COUNT: must be 1 to 10 ms, is 11"));
    cr_assert_not_null(strstr(problems.ptr, "X_FLAG: must be true or false"));
    cr_assert_not_null(strstr(problems.ptr, "X_LEVEL: must be one of"));
    config_release(&spec, &config);
    buf_release(&problems);
}

/* Writes `text` to a file of its own and loads with X_URL_FILE naming it; the problems' text is in
 * `said`. */
static enum err_code load_url_from_file(const char *text, const char *direct, char *url, char *said,
                                        size_t bytes) {
    char path[] = "/tmp/daybook-config-XXXXXX";
    const int descriptor = mkstemp(path);
    cr_assert(descriptor >= 0);
    cr_assert_eq(write(descriptor, text, strlen(text)), (ssize_t)strlen(text));
    (void)close(descriptor);
    struct pair pairs[] = {{"X_URL_FILE", path}, {"X_URL", direct}, {0, 0}};
    struct example config;
    struct buf problems;

    buf_init(&problems, 4096);
    const enum err_code code = config_load(&spec, lookup, pairs, &config, &problems);
    (void)snprintf(url, bytes, "%s", config.url);
    (void)snprintf(said, bytes, "%s", problems.len > 0 ? problems.ptr : "");
    config_release(&spec, &config);
    buf_release(&problems);
    (void)unlink(path);
    return code;
}

Test(config, takes_a_text_from_the_file_that_is_named) {
    char url[256];
    char said[256];

    cr_assert_eq(load_url_from_file("a://me:hunter2@host\n", NULL, url, said, sizeof(url)), ERR_OK,
                 "%s", said);
    cr_assert_str_eq(url, "a://me:hunter2@host");
    cr_assert_eq(load_url_from_file("c://host\n", NULL, url, said, sizeof(url)), ERR_INVALID);
    cr_assert_not_null(strstr(said, "X_URL: must start with one of"));
}

Test(config, a_file_that_says_nothing_or_too_much_is_a_problem) {
    char url[256];
    char said[256];
    struct pair pairs[] = {{"X_URL_FILE", "/nonexistent/url"}, {0, 0}};
    struct example config;
    struct buf problems;

    cr_assert_eq(load_url_from_file("\n", NULL, url, said, sizeof(url)), ERR_INVALID);
    cr_assert_not_null(strstr(said, "must hold 1 to 4096 bytes"));
    char *big = malloc(8193);
    memset(big, 'a', 8192);
    big[8192] = '\0';
    cr_assert_eq(load_url_from_file(big, NULL, url, said, sizeof(url)), ERR_INVALID);
    free(big);
    cr_assert_not_null(strstr(said, "must hold 1 to 4096 bytes"));
    cr_assert_eq(load_url_from_file("a://x", "a://y", url, said, sizeof(url)), ERR_INVALID);
    cr_assert_not_null(strstr(said, "X_URL_FILE: X_URL is set, too"));
    buf_init(&problems, 4096);
    cr_assert_eq(config_load(&spec, lookup, pairs, &config, &problems), ERR_INVALID);
    cr_assert_not_null(strstr(problems.ptr, "X_URL_FILE: /nonexistent/url: No such file"));
    config_release(&spec, &config);
    buf_release(&problems);
}

Test(config, never_shows_a_secret) {
    struct pair pairs[] = {{"X_URL", "a://me:hunter2@host/db"}, {"X_SECRET", "hunter3"}, {0, 0}};
    struct example config;
    struct buf problems;
    char text[4096] = "";

    buf_init(&problems, 4096);
    cr_assert_eq(config_load(&spec, lookup, pairs, &config, &problems), ERR_OK);
    FILE *out = fmemopen(text, sizeof(text), "w");
    config_print_effective(&spec, &config, out);
    (void)fclose(out);
    cr_assert_null(strstr(text, "hunter"));
    cr_assert_not_null(strstr(text, "X_URL=a://me:***@host/db"));
    cr_assert_not_null(strstr(text, "X_SECRET=(set)"));
    config_release(&spec, &config);
    buf_release(&problems);
}
