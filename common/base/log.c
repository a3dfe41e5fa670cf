#include "common/base/log.h"

#include <errno.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/mem.h"

enum { LINE_BYTES_MAX = 16 * 1024, VALUE_BYTES_MAX = 2048 };

struct log {
    const char *service;
    enum log_level level;
    int fd;
};

static const char *const level_names[] = {"debug", "info", "warn", "error", "off"};

struct log *log_new(const char *service, enum log_level level, int fd) {
    struct log *log = mem_zalloc(sizeof(*log));

    log->service = service;
    log->level = level;
    log->fd = fd;
    return log;
}

void log_free(struct log *log) {
    mem_free(log);
}

bool log_enabled(const struct log *log, enum log_level level) {
    return log != NULL && level >= log->level && log->level != LOG_LEVEL_OFF;
}

/* Values come from anywhere: what isn't UTF-8 is shown byte by byte as far as it is ASCII. */
static void put_value(struct buf *line, struct str value) {
    char safe[VALUE_BYTES_MAX];
    const bool cut = value.len > VALUE_BYTES_MAX - 4;

    if (!cut && str_is_utf8(value)) {
        buf_put_json_str(line, value);
        return;
    }
    size_t len = cut ? VALUE_BYTES_MAX - 4 : value.len;
    for (size_t i = 0; i < len; i++) {
        const unsigned char c = (unsigned char)value.ptr[i];
        safe[i] = c < 0x80 ? (char)c : '?';
    }
    if (cut) {
        memcpy(safe + len, "...", 3);
        len += 3;
    }
    buf_put_json_str(line, str_of(safe, len));
}

static void put_field(struct buf *line, const struct log_field *field) {
    buf_put_char(line, ',');
    buf_put_json_str(line, str_from(field->name));
    buf_put_char(line, ':');
    switch (field->kind) {
    case LOG_FIELD_I64:
        buf_put_i64(line, field->number);
        break;
    case LOG_FIELD_BOOL:
        buf_put_text(line, field->number ? "true" : "false");
        break;
    case LOG_FIELD_EVENT:
    case LOG_FIELD_STR:
        put_value(line, field->text);
        break;
    case LOG_FIELD_END:
        break;
    }
}

void log_write(struct log *log, enum log_level level, const struct log_field *fields) {
    char time[CLOCK_RFC3339_BYTES];
    struct buf line;

    if (!log_enabled(log, level)) {
        return;
    }
    buf_init(&line, LINE_BYTES_MAX);
    (void)clock_format_rfc3339(time, clock_wall_us());
    buf_printf(&line, "{\"time\":\"%s\",\"level\":\"%s\",\"service\":\"%s\"", time,
               level_names[level], log->service);
    for (const struct log_field *field = fields; field->kind != LOG_FIELD_END; field++) {
        const size_t before = line.len;
        put_field(&line, field);
        if (buf_failed(&line) || line.len > LINE_BYTES_MAX - 64) {
            /* The line keeps what fits; a reader sees that something is missing. */
            line.failed = false;
            line.len = before;
            buf_put_text(&line, ",\"cut\":true");
            break;
        }
    }
    buf_put_text(&line, "}\n");
    ssize_t written;
    do {
        written = write(log->fd, line.ptr, line.len);
    } while (written < 0 && errno == EINTR);
    buf_release(&line);
}

bool log_level_parse(struct str text, enum log_level *out) {
    for (size_t i = 0; i < ARRAY_LEN(level_names); i++) {
        if (str_eq_nocase(text, str_from(level_names[i]))) {
            *out = (enum log_level)i;
            return true;
        }
    }
    return false;
}
