#include "common/runtime/otlp_json.h"

#include <inttypes.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/key_values.h"
#include "common/base/uuid.h"

static void put_text(struct buf *out, const char *separator, struct str key, struct str value) {
    buf_put_text(out, separator);
    buf_put_text(out, "{\"key\":");
    buf_put_json_str(out, key);
    buf_put_text(out, ",\"value\":{\"stringValue\":");
    buf_put_json_str(out, value);
    buf_put_text(out, "}}");
}

static void put_number(struct buf *out, const char *separator, struct str key, int64_t value) {
    buf_put_text(out, separator);
    buf_put_text(out, "{\"key\":");
    buf_put_json_str(out, key);
    buf_printf(out, ",\"value\":{\"intValue\":\"%" PRId64 "\"}}", value);
}

/* --- the resource --- */

static void put_process(struct buf *out) {
    struct utsname host;
    struct uuid_source source;
    char instance[UUID_TEXT_BYTES];

    uuid_source_init(&source);
    const struct uuid id = uuid_next(&source, clock_wall_us());
    uuid_format(instance, &id);
    put_text(out, ",", STR("service.instance.id"), str_from(instance));
    put_text(out, ",", STR("service.namespace"), STR("daybook"));
    if (uname(&host) == 0) {
        put_text(out, ",", STR("host.name"), str_from(host.nodename));
    }
    put_number(out, ",", STR("process.pid"), getpid());
    put_text(out, ",", STR("telemetry.sdk.name"), STR("daybook"));
    put_text(out, ",", STR("telemetry.sdk.language"), STR("c"));
    put_text(out, ",", STR("telemetry.sdk.version"), STR("1"));
}

enum err_code otlp_json_resource(const struct tracing_settings *settings, const char *service,
                                 struct buf *out, struct err *err) {
    const struct str service_name = STR("service.name");
    struct str rest = str_from(settings->resource_attributes);
    struct key_value pair;
    const bool named = settings->service_name[0] != '\0';
    char other_name[KEY_VALUE_BYTES_MAX] = "";
    int more;

    buf_put_char(out, '[');
    while ((more = key_values_next(&rest, &pair)) > 0) {
        if (!str_is_utf8(pair.key) || !str_is_utf8(str_of(pair.value, pair.value_len))) {
            more = -1;
            break;
        }
        if (!str_eq(pair.key, service_name)) {
            put_text(out, "", pair.key, str_of(pair.value, pair.value_len));
            buf_put_char(out, ',');
        } else if (!named) {
            memcpy(other_name, pair.value, pair.value_len + 1);
        }
    }
    if (more < 0) {
        return err_set(err, ERR_INVALID, "OTEL_RESOURCE_ATTRIBUTES: not of the form key=value,…");
    }
    const char *const fallback = other_name[0] != '\0' ? other_name : service;
    put_text(out, "", service_name, str_from(named ? settings->service_name : fallback));
    put_process(out);
    buf_put_char(out, ']');
    return ERR_OK;
}

/* --- spans --- */

static void put_id(struct buf *out, const char *name, const uint8_t *bytes, size_t count) {
    char hex[2 * TRACE_ID_BYTES];

    trace_hex(hex, bytes, count);
    buf_put_text(out, name);
    buf_put_char(out, '"');
    buf_put(out, hex, 2 * count);
    buf_put_char(out, '"');
}

static void put_attributes(struct buf *out, const struct span *span) {
    buf_put_text(out, ",\"attributes\":[");
    for (size_t i = 0; i < span->attribute_count; i++) {
        const struct span_attribute *a = &span->attributes[i];
        const char *separator = i > 0 ? "," : "";
        if (a->is_text) {
            put_text(out, separator, str_from(a->key),
                     str_of(span->text + a->text_at, a->text_len));
        } else {
            put_number(out, separator, str_from(a->key), a->number);
        }
    }
    buf_put_char(out, ']');
}

static void put_span(struct buf *out, const struct span *span) {
    /* A clock that was set back meanwhile must not make a span end before it began. */
    const int64_t end_us = span->end_us > span->start_us ? span->end_us : span->start_us;

    put_id(out, "{\"traceId\":", span->context.trace_id, TRACE_ID_BYTES);
    put_id(out, ",\"spanId\":", span->context.span_id, SPAN_ID_BYTES);
    if (span->has_parent) {
        put_id(out, ",\"parentSpanId\":", span->parent_id, SPAN_ID_BYTES);
    }
    buf_printf(out, ",\"flags\":%d,\"kind\":%d,\"name\":", span->context.sampled ? 1 : 0,
               (int)span->kind);
    buf_put_json_str(out, str_from(span->name));
    buf_printf(out,
               ",\"startTimeUnixNano\":\"%" PRId64 "000\",\"endTimeUnixNano\":\"%" PRId64 "000\"",
               span->start_us, end_us);
    put_attributes(out, span);
    buf_put_text(out, span->failed ? ",\"status\":{\"code\":2}}" : ",\"status\":{}}");
}

void otlp_json_request(struct str resource_attributes, const struct span *spans, size_t count,
                       struct buf *out) {
    buf_put_text(out, "{\"resourceSpans\":[{\"resource\":{\"attributes\":");
    buf_put_str(out, resource_attributes);
    buf_put_text(out, "},\"scopeSpans\":[{\"scope\":{\"name\":\"daybook\"},\"spans\":[");
    for (size_t i = 0; i < count; i++) {
        if (i > 0) {
            buf_put_char(out, ',');
        }
        put_span(out, &spans[i]);
    }
    buf_put_text(out, "]}]}]}\n");
}
