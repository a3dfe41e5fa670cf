/*
 * Logging: one JSON object a line, written whole with one write(2), safe from any thread.
 *
 *   log_info(log, log_event("relay.attached"), log_cstr("slot", slot), log_i64("lsn", lsn));
 *
 * gives
 * {"time":"2026-01-31T12:00:00.000001Z","level":"info","service":"relay","event":"relay.attached","slot":…}.
 * Field names are literals of ours; values are escaped. Never pass a secret.
 */
#ifndef DAYBOOK_BASE_LOG_H
#define DAYBOOK_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/base/str.h"

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR, LOG_LEVEL_OFF };

enum log_field_kind {
    LOG_FIELD_END,
    LOG_FIELD_EVENT,
    LOG_FIELD_STR,
    LOG_FIELD_I64,
    LOG_FIELD_BOOL
};

struct log_field {
    enum log_field_kind kind;
    const char *name;
    struct str text;
    int64_t number;
};

struct log; /* opaque; made by main, passed to whoever logs; a NULL log swallows everything */

/* `service` is borrowed for the log's life. Writes to `fd` (2 as a rule), which stays the caller's.
 */
struct log *log_new(const char *service, enum log_level level, int fd);
void log_free(struct log *log);

bool log_enabled(const struct log *log, enum log_level level);
void log_write(struct log *log, enum log_level level,
               const struct log_field *fields); /* ends with LOG_FIELD_END */

MUST_CHECK bool log_level_parse(struct str text,
                                enum log_level *out); /* debug info warn error off */

static inline struct log_field log_event(const char *name) {
    return (struct log_field){LOG_FIELD_EVENT, "event", str_from(name), 0};
}
static inline struct log_field log_str(const char *name, struct str value) {
    return (struct log_field){LOG_FIELD_STR, name, value, 0};
}
static inline struct log_field log_cstr(const char *name, const char *value) {
    return (struct log_field){LOG_FIELD_STR, name, str_from(value), 0};
}
static inline struct log_field log_i64(const char *name, int64_t value) {
    return (struct log_field){LOG_FIELD_I64, name, {0}, value};
}
static inline struct log_field log_bool(const char *name, bool value) {
    return (struct log_field){LOG_FIELD_BOOL, name, {0}, value};
}
/* The message of an error under the name "error". */
static inline struct log_field log_err(const struct err *err) {
    return (struct log_field){LOG_FIELD_STR, "error", str_from(err ? err->message : NULL), 0};
}

#define LOG_FIELDS(...) ((const struct log_field[]){__VA_ARGS__, {LOG_FIELD_END, 0, {0, 0}, 0}})
#define log_debug(log, ...) log_write((log), LOG_LEVEL_DEBUG, LOG_FIELDS(__VA_ARGS__))
#define log_info(log, ...) log_write((log), LOG_LEVEL_INFO, LOG_FIELDS(__VA_ARGS__))
#define log_warn(log, ...) log_write((log), LOG_LEVEL_WARN, LOG_FIELDS(__VA_ARGS__))
#define log_error(log, ...) log_write((log), LOG_LEVEL_ERROR, LOG_FIELDS(__VA_ARGS__))

#endif
