#include "http_client.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>

struct grown {
    char *ptr;
    size_t len;
};

static _Thread_local CURL *kept;

static size_t grow(char *bytes, size_t size, size_t count, void *arg) {
    struct grown *grown = arg;
    const size_t len = size * count;
    char *bigger = realloc(grown->ptr, grown->len + len + 1);

    if (bigger == NULL) {
        return 0;
    }
    grown->ptr = bigger;
    memcpy(grown->ptr + grown->len, bytes, len);
    grown->len += len;
    grown->ptr[grown->len] = '\0';
    return len;
}

struct http_answer http_call(const struct http_call *call) {
    struct http_answer answer = {0};
    struct grown body = {calloc(1, 1), 0};
    struct grown head = {calloc(1, 1), 0};
    struct curl_slist *headers = curl_slist_append(NULL, "Expect:");
    long status = 0;

    if (kept == NULL) {
        kept = curl_easy_init();
    }
    curl_easy_reset(kept);
    for (size_t i = 0; i < HTTP_CLIENT_HEADERS_MAX && call->headers[i] != NULL; i++) {
        headers = curl_slist_append(headers, call->headers[i]);
    }
    curl_easy_setopt(kept, CURLOPT_URL, call->url);
    curl_easy_setopt(kept, CURLOPT_PATH_AS_IS, 1L);
    if (call->body != NULL) {
        const size_t len = call->body_len > 0 ? call->body_len : strlen(call->body);
        curl_easy_setopt(kept, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)len);
        curl_easy_setopt(kept, CURLOPT_POSTFIELDS, call->body);
    }
    curl_easy_setopt(kept, CURLOPT_CUSTOMREQUEST, call->method);
    if (strcmp(call->method, "HEAD") == 0) {
        curl_easy_setopt(kept, CURLOPT_NOBODY, 1L);
    }
    curl_easy_setopt(kept, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(kept, CURLOPT_WRITEFUNCTION, grow);
    curl_easy_setopt(kept, CURLOPT_WRITEDATA, &body);
    curl_easy_setopt(kept, CURLOPT_HEADERFUNCTION, grow);
    curl_easy_setopt(kept, CURLOPT_HEADERDATA, &head);
    curl_easy_setopt(kept, CURLOPT_TIMEOUT_MS, call->timeout_ms > 0 ? call->timeout_ms : 20000L);
    curl_easy_setopt(kept, CURLOPT_FRESH_CONNECT, call->own_connection ? 1L : 0L);
    curl_easy_setopt(kept, CURLOPT_FORBID_REUSE, call->own_connection ? 1L : 0L);
    curl_easy_setopt(kept, CURLOPT_NOSIGNAL, 1L);
    if (curl_easy_perform(kept) == CURLE_OK) {
        curl_easy_getinfo(kept, CURLINFO_RESPONSE_CODE, &status);
        curl_easy_getinfo(kept, CURLINFO_TOTAL_TIME, &answer.seconds);
    }
    curl_slist_free_all(headers);
    answer.status = (int)status;
    answer.body = body.ptr;
    answer.head = head.ptr;
    answer.json = json_loadb(body.ptr, body.len, JSON_REJECT_DUPLICATES, NULL);
    return answer;
}

void http_client_close(void) {
    curl_easy_cleanup(kept);
    kept = NULL;
}

struct http_answer http_get(const char *url) {
    return http_call(&(struct http_call){.method = "GET", .url = url});
}

struct http_answer http_post(const char *url, const char *json) {
    return http_call(&(struct http_call){
        .method = "POST", .url = url, .body = json, .headers = {"Content-Type: application/json"}});
}

void http_answer_release(struct http_answer *answer) {
    free(answer->body);
    free(answer->head);
    json_decref(answer->json);
    *answer = (struct http_answer){0};
}

const char *http_answer_header(const struct http_answer *answer, const char *name) {
    static _Thread_local char value[512];
    const size_t name_len = strlen(name);

    value[0] = '\0';
    for (const char *line = answer->head; line != NULL && *line != '\0';) {
        const char *end = strstr(line, "\r\n");
        if (end == NULL) {
            break;
        }
        if (strncasecmp(line, name, name_len) == 0 && line[name_len] == ':') {
            const char *text = line + name_len + 1;
            while (*text == ' ') {
                text++;
            }
            const size_t len = (size_t)(end - text);
            if (len < sizeof(value)) {
                memcpy(value, text, len);
                value[len] = '\0';
            }
        }
        line = end + 2;
    }
    return value;
}

const char *http_answer_text(const struct http_answer *answer, const char *member) {
    const char *text = json_string_value(json_object_get(answer->json, member));

    return text != NULL ? text : "";
}

long long http_answer_number(const struct http_answer *answer, const char *member) {
    return json_integer_value(json_object_get(answer->json, member));
}
