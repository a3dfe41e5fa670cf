#include "common/adapters/otlp_curl.h"

#include <curl/curl.h>
#include <stdio.h>

#include "common/base/key_values.h"
#include "common/base/mem.h"

enum { URL_BYTES = 1024 + 16, ANSWER_BYTES_MAX = 64 * 1024, RETRY_AFTER_MAX_S = 60 };

struct otlp_curl {
    struct span_exporter base;
    CURL *curl;
    struct curl_slist *headers;
    char url[URL_BYTES];
    char error[CURL_ERROR_SIZE];
    size_t answer_bytes;
    bool (*give_up)(void *arg); /* during send */
    void *give_up_arg;
};

static struct otlp_curl *self_of(struct span_exporter *exporter) {
    return (struct otlp_curl *)(void *)exporter;
}

/* What a collector says is not looked at, and not endless. */
static size_t on_answer(char *bytes, size_t size, size_t count, void *arg) {
    struct otlp_curl *self = arg;

    (void)bytes;
    self->answer_bytes += size * count;
    return self->answer_bytes <= ANSWER_BYTES_MAX ? size * count : 0;
}

static int on_progress(void *arg, curl_off_t down_total, curl_off_t down, curl_off_t up_total,
                       curl_off_t up) {
    const struct otlp_curl *self = arg;

    (void)down_total;
    (void)down;
    (void)up_total;
    (void)up;
    return self->give_up(self->give_up_arg) ? 1 : 0;
}

/* The specification's list of what may be tried again. */
static enum err_code judge(struct otlp_curl *self, long status, int64_t *retry_after_ms,
                           struct err *err) {
    curl_off_t wait_s = 0;

    if (status >= 200 && status < 300) {
        return ERR_OK;
    }
    if (status == 429 || status == 502 || status == 503 || status == 504) {
        (void)curl_easy_getinfo(self->curl, CURLINFO_RETRY_AFTER, &wait_s);
        *retry_after_ms = (wait_s < RETRY_AFTER_MAX_S ? wait_s : RETRY_AFTER_MAX_S) * 1000;
        return err_set(err, ERR_UNAVAILABLE, "the collector answers %ld", status);
    }
    return err_set(err, ERR_INVALID, "the collector answers %ld", status);
}

static enum err_code exporter_send(struct span_exporter *exporter, struct str json,
                                   int64_t timeout_ms, bool (*give_up)(void *arg), void *arg,
                                   int64_t *retry_after_ms, struct err *err) {
    struct otlp_curl *self = self_of(exporter);
    long status = 0;

    self->give_up = give_up;
    self->give_up_arg = arg;
    self->answer_bytes = 0;
    self->error[0] = '\0';
    *retry_after_ms = 0;
    (void)curl_easy_setopt(self->curl, CURLOPT_POSTFIELDS, json.ptr);
    (void)curl_easy_setopt(self->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)json.len);
    (void)curl_easy_setopt(self->curl, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
    const CURLcode code = curl_easy_perform(self->curl);
    if (code != CURLE_OK) {
        return err_set(err, ERR_UNAVAILABLE, "the collector can't be reached: %s",
                       self->error[0] != '\0' ? self->error : curl_easy_strerror(code));
    }
    (void)curl_easy_getinfo(self->curl, CURLINFO_RESPONSE_CODE, &status);
    return judge(self, status, retry_after_ms, err);
}

static void exporter_free(struct span_exporter *exporter) {
    struct otlp_curl *self = self_of(exporter);

    curl_easy_cleanup(self->curl);
    curl_slist_free_all(self->headers);
    curl_global_cleanup();
    mem_free(self);
}

static const struct span_exporter_ops exporter_ops = {exporter_send, exporter_free};

/* --- making it --- */

static bool is_header_safe(struct str text) {
    for (size_t i = 0; i < text.len; i++) {
        if ((unsigned char)text.ptr[i] < ' ' || text.ptr[i] == 0x7f) {
            return false;
        }
    }
    return true;
}

static void add_header(struct otlp_curl *self, const char *line) {
    struct curl_slist *longer = curl_slist_append(self->headers, line);

    self->headers = longer != NULL ? longer : self->headers;
}

static enum err_code add_headers(struct otlp_curl *self, const struct tracing_settings *settings,
                                 struct err *err) {
    const bool own = settings->traces_headers[0] != '\0';
    struct str rest = str_from(own ? settings->traces_headers : settings->headers);
    char line[2 * KEY_VALUE_BYTES_MAX];
    struct key_value pair;
    int more;

    add_header(self, "Content-Type: application/json");
    add_header(self, "Expect:"); /* no waiting for 100 Continue */
    while ((more = key_values_next(&rest, &pair)) > 0) {
        const int len = snprintf(line, sizeof(line), "%.*s: %s", STR_ARG(pair.key), pair.value);
        if (len < 0 || (size_t)len >= sizeof(line) || !is_header_safe(str_from(line))) {
            more = -1;
            break;
        }
        add_header(self, line);
    }
    return more == 0 ? ERR_OK
                     : err_set(err, ERR_INVALID,
                               "OTEL_EXPORTER_OTLP_HEADERS: not of the form key=value,…");
}

static enum err_code set_url(struct otlp_curl *self, const struct tracing_settings *settings,
                             struct err *err) {
    const struct str base = str_from(settings->endpoint);
    const bool whole = settings->traces_endpoint[0] != '\0';
    const bool slash = base.len > 0 && base.ptr[base.len - 1] == '/';

    (void)snprintf(self->url, sizeof(self->url), "%s%s",
                   whole ? settings->traces_endpoint : settings->endpoint,
                   whole   ? ""
                   : slash ? "v1/traces"
                           : "/v1/traces");
    const struct str url = str_from(self->url);
    return str_starts_with(url, STR("http://")) || str_starts_with(url, STR("https://"))
               ? ERR_OK
               : err_set(err, ERR_INVALID,
                         "OTEL_EXPORTER_OTLP_ENDPOINT: must start with http:// or https://");
}

static void set_options(struct otlp_curl *self, const struct tracing_settings *settings) {
    CURL *curl = self->curl;

    (void)curl_easy_setopt(curl, CURLOPT_URL, self->url);
    (void)curl_easy_setopt(curl, CURLOPT_POST, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_HTTPHEADER, self->headers);
    (void)curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    (void)curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, self->error);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_answer);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEDATA, self);
    (void)curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    (void)curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    (void)curl_easy_setopt(curl, CURLOPT_XFERINFODATA, self);
    (void)curl_easy_setopt(curl, CURLOPT_USERAGENT, "OTel-OTLP-Exporter-Daybook");
    if (settings->certificate[0] != '\0') {
        (void)curl_easy_setopt(curl, CURLOPT_CAINFO, settings->certificate);
    }
}

static bool is_wanted(const struct tracing_settings *settings) {
    return !settings->sdk_disabled && str_eq(str_from(settings->exporter), STR("otlp")) &&
           (settings->endpoint[0] != '\0' || settings->traces_endpoint[0] != '\0');
}

enum err_code otlp_tracer_start(const struct tracing_settings *settings, const char *service,
                                struct log *log, struct metrics *metrics, struct tracer **out,
                                struct err *err) {
    if (!is_wanted(settings)) {
        return ERR_OK;
    }
    struct otlp_curl *self = mem_zalloc(sizeof(*self));

    self->base.ops = &exporter_ops;
    (void)curl_global_init(CURL_GLOBAL_DEFAULT);
    self->curl = curl_easy_init();
    enum err_code code = self->curl != NULL ? ERR_OK : err_set(err, ERR_INTERNAL, "libcurl");
    if (code == ERR_OK) {
        code = set_url(self, settings, err);
    }
    if (code == ERR_OK) {
        code = add_headers(self, settings, err);
    }
    if (code != ERR_OK) {
        exporter_free(&self->base);
        return code;
    }
    set_options(self, settings);
    code = tracer_start(&(struct tracer_options){.settings = settings,
                                                 .service = service,
                                                 .exporter = &self->base,
                                                 .log = log,
                                                 .metrics = metrics},
                        out, err);
    if (code == ERR_OK) {
        log_info(log, log_event("traces.on"), log_cstr("sampler", settings->sampler));
    }
    return code;
}
