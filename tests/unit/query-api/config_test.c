#include "query-api/config.h"

#include <criterion/criterion.h>
#include <string.h>

struct setting {
    const char *name;
    const char *value;
};

static const char *lookup(void *arg, const char *name) {
    for (const struct setting *setting = arg; setting->name != NULL; setting++) {
        if (strcmp(setting->name, name) == 0) {
            return setting->value;
        }
    }
    return NULL;
}

Test(query_api_config, needs_the_stores_and_has_defaults_for_the_rest) {
    struct setting settings[] = {{"DAYBOOK_READ_DATABASE_URL", "postgresql://q@localhost/r"},
                                 {"DAYBOOK_LOG_DATABASE_URL", "postgresql://q@localhost/w"},
                                 {"DAYBOOK_REDIS_URL", "redis://localhost"},
                                 {NULL, NULL}};
    struct query_api_config config;
    struct buf problems;

    buf_init(&problems, 4096);
    cr_assert_eq(config_load(&query_api_config_spec, lookup, settings, &config, &problems), ERR_OK,
                 "%.*s", STR_ARG(buf_str(&problems)));
    cr_expect_str_eq(config.http_address, "127.0.0.1");
    cr_expect_eq(config.http_port, 8082);
    cr_expect_eq(config.http_threads, 2);
    cr_expect_eq(config.topic_partitions, 6);
    cr_expect_eq(config.pg_threads, 4);
    cr_expect_eq(config.log_level, LOG_LEVEL_INFO);
    config_release(&query_api_config_spec, &config);
    buf_release(&problems);
}

Test(query_api_config, all_that_is_wrong_is_said_at_once) {
    struct setting settings[] = {
        {"DAYBOOK_REDIS_URL", "http://localhost"}, {"DAYBOOK_TOPIC_PARTITIONS", "0"}, {NULL, NULL}};
    struct query_api_config config;
    struct buf problems;

    buf_init(&problems, 4096);
    cr_assert_eq(config_load(&query_api_config_spec, lookup, settings, &config, &problems),
                 ERR_INVALID);
    cr_expect_not_null(strstr(problems.ptr, "DAYBOOK_READ_DATABASE_URL"));
    cr_expect_not_null(strstr(problems.ptr, "DAYBOOK_REDIS_URL"));
    cr_expect_not_null(strstr(problems.ptr, "DAYBOOK_TOPIC_PARTITIONS"));
    config_release(&query_api_config_spec, &config);
    buf_release(&problems);
}
