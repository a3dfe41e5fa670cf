#include "query-api/params.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>

#include "common/base/clock.h"
#include "common/http/problem.h"

enum { NAMES_BYTES = 256, SHOWN_BYTES = 64 };
#define DAY_US INT64_C(86400000000)

enum form {
    FORM_NUMBER,  /* int64_t, min to max */
    FORM_LIMIT,   /* size_t, min to max */
    FORM_TIME,    /* int64_t */
    FORM_PAST,    /* the same, not in the future */
    FORM_DAY,     /* int64_t: its beginning */
    FORM_DAY_END, /* int64_t */
    FORM_WORD,    /* struct str: one of the words */
    FORM_NAME,    /* struct str */
    FORM_TEXT,    /* struct str: anything */
};

struct spec {
    enum param param;
    const char *name;
    enum form form;
    size_t member; /* of struct params */
    int64_t min, max;
    const char *words; /* with spaces between them */
};

#define TO(member) offsetof(struct params, member)

static const struct spec specs[] = {
    {PARAM_MIN_VERSION, "min_version", FORM_NUMBER, TO(min_version), 1, INT64_MAX, NULL},
    {PARAM_TIMEOUT_MS, "timeout_ms", FORM_NUMBER, TO(timeout_ms), 0, PARAMS_TIMEOUT_MS_MAX, NULL},
    {PARAM_VERSION, "version", FORM_NUMBER, TO(version), 1, INT64_MAX, NULL},
    {PARAM_AT, "at", FORM_PAST, TO(at_us), 0, 0, NULL},
    {PARAM_KIND, "kind", FORM_WORD, TO(kind), 0, 0, "opened deposit withdrawal closed"},
    {PARAM_STATUS, "status", FORM_WORD, TO(status), 0, 0, "open closed"},
    {PARAM_CURRENCY, "currency", FORM_NAME, TO(currency), 0, 0, NULL},
    {PARAM_ORDER, "order", FORM_WORD, TO(order), 0, 0, "id balance"},
    {PARAM_AGGREGATE_TYPE, "aggregate_type", FORM_NAME, TO(aggregate_type), 0, 0, NULL},
    {PARAM_TYPE, "type", FORM_NAME, TO(type), 0, 0, NULL},
    {PARAM_FROM, "from", FORM_TIME, TO(from_us), 0, 0, NULL},
    {PARAM_TO, "to", FORM_TIME, TO(to_us), 0, 0, NULL},
    {PARAM_FROM_DAY, "from", FORM_DAY, TO(from_us), 0, 0, NULL},
    {PARAM_TO_DAY, "to", FORM_DAY_END, TO(to_us), 0, 0, NULL},
    {PARAM_FROM_POSITION, "from_position", FORM_NUMBER, TO(from_position), 1, INT64_MAX, NULL},
    {PARAM_FROM_VERSION, "from_version", FORM_NUMBER, TO(from_version), 1, INT64_MAX, NULL},
    {PARAM_DIRECTION, "direction", FORM_WORD, TO(direction), 0, 0, "forwards backwards"},
    {PARAM_LIMIT, "limit", FORM_LIMIT, TO(limit), 1, PARAMS_LIMIT_MAX, NULL},
    {PARAM_LOG_LIMIT, "limit", FORM_LIMIT, TO(limit), 1, PARAMS_LOG_LIMIT_MAX, NULL},
    {PARAM_CURSOR, "cursor", FORM_TEXT, TO(cursor), 0, 0, NULL},
};

static bool refuse(struct http_request *request, const char *code, const char *title,
                   const char *parameter, const char *detail) {
    const struct str members = arena_printf(&request->arena, "\"parameter\":\"%s\"", parameter);

    (void)problem_respond_with(request, 400, code, title, members, "%s", detail);
    return false;
}

static bool refuse_unknown(struct http_request *request, struct str name, unsigned allowed) {
    char names[NAMES_BYTES] = "";
    size_t len = 0;
    const struct str shown = str_of(name.ptr, name.len < SHOWN_BYTES ? name.len : SHOWN_BYTES);

    for (size_t i = 0; i < ARRAY_LEN(specs); i++) {
        if ((allowed & specs[i].param) != 0 && len < sizeof(names)) {
            const int written = snprintf(names + len, sizeof(names) - len, "%s%s",
                                         len > 0 ? ", " : "", specs[i].name);
            len += written > 0 ? (size_t)written : 0;
        }
    }
    if (allowed == 0) {
        (void)problem_respond(request, 400, "unknown_parameter", "Unknown parameter",
                              "the parameter \"%.*s\" is unknown; this path takes none",
                              STR_ARG(shown));
    } else {
        (void)problem_respond(request, 400, "unknown_parameter", "Unknown parameter",
                              "the parameter \"%.*s\" is unknown; this path takes %s",
                              STR_ARG(shown), names);
    }
    return false;
}

static bool read_number(struct http_request *request, const struct spec *spec, struct str value,
                        int64_t *out) {
    char detail[NAMES_BYTES];

    if (str_to_i64(value, out) && *out >= spec->min && *out <= spec->max) {
        return true;
    }
    (void)snprintf(detail, sizeof(detail), "%s must be a whole number from %" PRId64 " to %" PRId64,
                   spec->name, spec->min, spec->max);
    return refuse(request, "parameter_invalid", "Parameter out of range", spec->name, detail);
}

static bool read_time(struct http_request *request, const struct spec *spec, struct str value,
                      int64_t *out) {
    char detail[NAMES_BYTES];

    if (clock_parse_rfc3339(value, out)) {
        return true;
    }
    (void)snprintf(detail, sizeof(detail),
                   "%s must be an RFC 3339 date-time such as 2026-01-31T12:00:00Z (a \"+\" in "
                   "an offset is written %%2B)",
                   spec->name);
    return refuse(request, "parameter_invalid", "Parameter ill-formed", spec->name, detail);
}

static bool read_past(struct http_request *request, const struct spec *spec, struct str value,
                      int64_t now_us, int64_t *out) {
    if (!read_time(request, spec, value, out)) {
        return false;
    }
    if (*out > now_us) {
        return refuse(request, "time_in_future", "Time in the future", "at",
                      "at lies in the future: what will be is not known");
    }
    return true;
}

/* The beginning of the day, or the end. */
static bool read_day(struct http_request *request, const struct spec *spec, struct str value,
                     bool end, int64_t *out) {
    char text[CLOCK_RFC3339_BYTES];
    char detail[NAMES_BYTES];

    (void)snprintf(text, sizeof(text), "%.10sT00:00:00Z", value.len == 10 ? value.ptr : "-");
    if (clock_parse_rfc3339(str_from(text), out)) {
        *out += end ? DAY_US : 0;
        return true;
    }
    (void)snprintf(detail, sizeof(detail), "%s must be a day such as 2026-01-31", spec->name);
    return refuse(request, "parameter_invalid", "Parameter ill-formed", spec->name, detail);
}

static bool read_word(struct http_request *request, const struct spec *spec, struct str value,
                      struct str *out) {
    struct str words = str_from(spec->words);
    char detail[NAMES_BYTES];

    while (words.len > 0) {
        const char *space = memchr(words.ptr, ' ', words.len);
        const size_t len = space != NULL ? (size_t)(space - words.ptr) : words.len;
        if (str_eq(value, str_of(words.ptr, len))) {
            *out = str_of(words.ptr, len);
            return true;
        }
        const size_t skip = space != NULL ? len + 1 : len;
        words = str_of(words.ptr + skip, words.len - skip);
    }
    (void)snprintf(detail, sizeof(detail), "%s must be one of: %s", spec->name, spec->words);
    return refuse(request, "parameter_invalid", "Parameter unknown", spec->name, detail);
}

/* What names are made of: letters, digits, "_", "-" and ".". */
static bool read_name(struct http_request *request, const struct spec *spec, struct str value,
                      struct str *out) {
    bool fits = value.len > 0 && value.len <= PARAMS_NAME_BYTES_MAX;
    char detail[NAMES_BYTES];

    for (size_t i = 0; fits && i < value.len; i++) {
        const char c = value.ptr[i];
        fits = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               c == '_' || c == '-' || c == '.';
    }
    *out = value;
    (void)snprintf(detail, sizeof(detail), "%s must be a name of 1 to %d letters and digits",
                   spec->name, PARAMS_NAME_BYTES_MAX);
    return fits || refuse(request, "parameter_invalid", "Parameter ill-formed", spec->name, detail);
}

static bool read_one(struct http_request *request, const struct spec *spec, struct str value,
                     int64_t now_us, struct params *params) {
    void *out = (char *)params + spec->member;
    int64_t number = 0;

    switch (spec->form) {
    case FORM_NUMBER:
        return read_number(request, spec, value, out);
    case FORM_LIMIT:
        if (!read_number(request, spec, value, &number)) {
            return false;
        }
        *(size_t *)out = (size_t)number;
        return true;
    case FORM_TIME:
        return read_time(request, spec, value, out);
    case FORM_PAST:
        return read_past(request, spec, value, now_us, out);
    case FORM_DAY:
    case FORM_DAY_END:
        return read_day(request, spec, value, spec->form == FORM_DAY_END, out);
    case FORM_WORD:
        return read_word(request, spec, value, out);
    case FORM_NAME:
        return read_name(request, spec, value, out);
    case FORM_TEXT:
        *(struct str *)out = value;
        return true;
    }
    return false;
}

static const struct spec *find(struct str name, unsigned allowed) {
    for (size_t i = 0; i < ARRAY_LEN(specs); i++) {
        if ((allowed & specs[i].param) != 0 && str_eq(name, str_from(specs[i].name))) {
            return &specs[i];
        }
    }
    return NULL;
}

/* Parameters that name the same thing in two ways, or a range without anything in it. */
static bool check_together(struct http_request *request, const struct params *params) {
    const unsigned past = PARAM_VERSION | PARAM_AT;
    const unsigned place = PARAM_FROM_POSITION | PARAM_FROM_VERSION;

    if ((params->given & past) == past) {
        return refuse(request, "parameters_conflict", "Parameters conflict", "at",
                      "version and at each name a moment of the past: give one of them");
    }
    if ((params->given & past) != 0 && (params->given & PARAM_MIN_VERSION) != 0) {
        return refuse(request, "parameters_conflict", "Parameters conflict", "min_version",
                      "min_version asks for the present, version and at for the past: give one");
    }
    if ((params->given & place) != 0 && (params->given & PARAM_CURSOR) != 0) {
        return refuse(request, "parameters_conflict", "Parameters conflict", "cursor",
                      "a cursor says where the page begins: give nothing else that does");
    }
    if (params->from_us >= params->to_us) {
        return refuse(request, "parameters_conflict", "Parameters conflict", "to",
                      "from must be before to");
    }
    return true;
}

/* RFC 7240: Prefer: wait=seconds. What is not understood is passed over. */
static void read_prefer(const struct http_request *request, struct params *out) {
    struct str header = http_request_header(request, "Prefer");
    int64_t wait_s = 0;

    while (header.len > 0) {
        const char *comma = memchr(header.ptr, ',', header.len);
        const size_t len = comma != NULL ? (size_t)(comma - header.ptr) : header.len;
        const char *semicolon = memchr(header.ptr, ';', len);
        const size_t item_len = semicolon != NULL ? (size_t)(semicolon - header.ptr) : len;
        const struct str item = str_trim(str_of(header.ptr, item_len));
        if (item.len > 5 && str_eq_nocase(str_of(item.ptr, 5), STR("wait=")) &&
            str_to_i64(str_trim(str_of(item.ptr + 5, item.len - 5)), &wait_s) && wait_s >= 0) {
            const int64_t max_s = PARAMS_TIMEOUT_MS_MAX / 1000;
            out->prefer_wait_s = wait_s < max_s ? wait_s : max_s;
            out->timeout_ms = out->prefer_wait_s * 1000;
            return;
        }
        const size_t skip = comma != NULL ? len + 1 : len;
        header = str_of(header.ptr + skip, header.len - skip);
    }
}

bool params_read(struct http_request *request, unsigned allowed, int64_t now_us,
                 struct params *out) {
    const bool of_log = (allowed & PARAM_LOG_LIMIT) != 0;

    *out = (struct params){
        .timeout_ms = PARAMS_TIMEOUT_MS_DEFAULT,
        .limit = of_log ? PARAMS_LOG_LIMIT_DEFAULT : PARAMS_LIMIT_DEFAULT,
        .prefer_wait_s = -1,
        .from_us = INT64_MIN,
        .to_us = INT64_MAX,
    };
    for (size_t i = 0; i < request->query_count; i++) {
        const struct http_param *param = &request->query[i];
        const struct spec *spec = find(param->name, allowed);
        if (spec == NULL) {
            return refuse_unknown(request, param->name, allowed);
        }
        if ((out->given & spec->param) != 0) {
            return refuse(request, "parameter_repeated", "Parameter repeated", spec->name,
                          "the parameter may be given once only");
        }
        out->given |= spec->param;
        if (!read_one(request, spec, param->value, now_us, out)) {
            return false;
        }
    }
    out->backwards = str_eq(out->direction, STR("backwards"));
    out->by_balance = str_eq(out->order, STR("balance"));
    if (out->min_version > 0 && (out->given & PARAM_TIMEOUT_MS) == 0) {
        read_prefer(request, out);
    }
    return check_together(request, out);
}
