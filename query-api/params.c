#include "query-api/params.h"

#include <inttypes.h>
#include <stdio.h>

#include "common/base/clock.h"
#include "common/http/problem.h"

enum { NAMES_BYTES = 128, SHOWN_BYTES = 64 };

/* What all numbers have in common; `at` and `cursor` are not numbers: max 0. */
struct spec {
    enum param param;
    const char *name;
    int64_t min, max;
};

static const struct spec specs[] = {
    {PARAM_MIN_VERSION, "min_version", 1, INT64_MAX},
    {PARAM_TIMEOUT_MS, "timeout_ms", 0, PARAMS_TIMEOUT_MS_MAX},
    {PARAM_VERSION, "version", 1, INT64_MAX},
    {PARAM_AT, "at", 0, 0},
    {PARAM_LIMIT, "limit", 1, PARAMS_LIMIT_MAX},
    {PARAM_CURSOR, "cursor", 0, 0},
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
        if ((allowed & specs[i].param) != 0) {
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

static bool read_time(struct http_request *request, struct str value, int64_t now_us,
                      int64_t *out) {
    if (!clock_parse_rfc3339(value, out)) {
        return refuse(request, "parameter_invalid", "Parameter ill-formed", "at",
                      "at must be an RFC 3339 date-time such as 2026-01-31T12:00:00Z (a \"+\" in "
                      "an offset is written %2B)");
    }
    if (*out > now_us) {
        return refuse(request, "time_in_future", "Time in the future", "at",
                      "at lies in the future: what will be is not known");
    }
    return true;
}

static bool read_one(struct http_request *request, const struct spec *spec, struct str value,
                     int64_t now_us, struct params *out) {
    int64_t number = 0;

    switch (spec->param) {
    case PARAM_MIN_VERSION:
        return read_number(request, spec, value, &out->min_version);
    case PARAM_TIMEOUT_MS:
        return read_number(request, spec, value, &out->timeout_ms);
    case PARAM_VERSION:
        return read_number(request, spec, value, &out->version);
    case PARAM_LIMIT:
        if (!read_number(request, spec, value, &number)) {
            return false;
        }
        out->limit = (size_t)number;
        return true;
    case PARAM_AT:
        return read_time(request, value, now_us, &out->at_us);
    case PARAM_CURSOR:
        out->cursor = value;
        return true;
    default:
        return false;
    }
}

static const struct spec *find(struct str name, unsigned allowed) {
    for (size_t i = 0; i < ARRAY_LEN(specs); i++) {
        if ((allowed & specs[i].param) != 0 && str_eq(name, str_from(specs[i].name))) {
            return &specs[i];
        }
    }
    return NULL;
}

bool params_read(struct http_request *request, unsigned allowed, int64_t now_us,
                 struct params *out) {
    const unsigned past = PARAM_VERSION | PARAM_AT;

    *out = (struct params){.timeout_ms = PARAMS_TIMEOUT_MS_DEFAULT, .limit = PARAMS_LIMIT_DEFAULT};
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
    if ((out->given & past) == past) {
        return refuse(request, "parameters_conflict", "Parameters conflict", "at",
                      "version and at each name a moment of the past: give one of them");
    }
    if ((out->given & past) != 0 && (out->given & PARAM_MIN_VERSION) != 0) {
        return refuse(request, "parameters_conflict", "Parameters conflict", "min_version",
                      "min_version asks for the present, version and at for the past: give one");
    }
    return true;
}
