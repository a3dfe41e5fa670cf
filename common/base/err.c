#include "common/base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Messages end up on log lines and in problem documents, where a line break or a terminal escape
 * would mislead. */
static void flatten(char *text) {
    for (char *c = text; *c; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f) {
            *c = ' ';
        }
    }
}

/*
 * vsnprintf may have cut the text inside a UTF-8 sequence; what remains of that sequence is dropped
 * so that the message stays valid UTF-8 when what was put in was.
 */
static void drop_cut_sequence(char *text) {
    size_t len = strlen(text);
    size_t back = 0;
    while (back < 3 && back < len && ((unsigned char)text[len - 1 - back] & 0xc0) == 0x80) {
        back++;
    }
    if (back == len) {
        return;
    }
    unsigned char lead = (unsigned char)text[len - 1 - back];
    size_t want = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : lead >= 0xc0 ? 1 : 0;
    if (back < want) {
        text[len - 1 - back] = '\0';
    }
}

enum err_code err_set(struct err *err, enum err_code code, const char *format, ...) {
    if (!err) {
        return code;
    }
    /* The arguments may point into err->message itself, so the text is made beside it. */
    char message[ERR_MESSAGE_BYTES];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(message, sizeof message, format, args);
    va_end(args);
    if (n < 0) {
        message[0] = '\0';
    } else if ((size_t)n >= sizeof message) {
        drop_cut_sequence(message);
    }
    flatten(message);
    err->code = code;
    memcpy(err->message, message, strlen(message) + 1);
    return code;
}

enum err_code err_prefix(struct err *err, const char *format, ...) {
    if (!err) {
        return ERR_OK;
    }
    char message[ERR_MESSAGE_BYTES];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(message, sizeof message, format, args);
    va_end(args);
    size_t at = n < 0 ? 0 : (size_t)n < sizeof message ? (size_t)n : sizeof message - 1;
    int rest = snprintf(message + at, sizeof message - at, ": %s", err->message);
    if (rest < 0 || (size_t)rest >= sizeof message - at) {
        drop_cut_sequence(message);
    }
    flatten(message);
    memcpy(err->message, message, strlen(message) + 1);
    return err->code;
}

bool err_retriable(enum err_code code) {
    switch (code) {
    case ERR_CONFLICT:
    case ERR_UNAVAILABLE:
    case ERR_TIMEOUT:
        return true;
    case ERR_OK:
    case ERR_INVALID:
    case ERR_LIMIT:
    case ERR_NOT_FOUND:
    case ERR_FENCED:
    /* Trying again before the outcome is known could do the thing twice. */
    case ERR_OUTCOME_UNKNOWN:
    case ERR_CORRUPT:
    case ERR_CLOSED:
    case ERR_INTERNAL:
        return false;
    }
    return false;
}

const char *err_name(enum err_code code) {
    switch (code) {
    case ERR_OK:
        return "ok";
    case ERR_INVALID:
        return "invalid";
    case ERR_LIMIT:
        return "limit";
    case ERR_NOT_FOUND:
        return "not_found";
    case ERR_CONFLICT:
        return "conflict";
    case ERR_FENCED:
        return "fenced";
    case ERR_UNAVAILABLE:
        return "unavailable";
    case ERR_TIMEOUT:
        return "timeout";
    case ERR_OUTCOME_UNKNOWN:
        return "outcome_unknown";
    case ERR_CORRUPT:
        return "corrupt";
    case ERR_CLOSED:
        return "closed";
    case ERR_INTERNAL:
        return "internal";
    }
    return "unknown";
}
