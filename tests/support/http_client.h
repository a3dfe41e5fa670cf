/* A small HTTP client for tests, on libcurl: one request, its whole answer. */
#ifndef DAYBOOK_TESTS_SUPPORT_HTTP_CLIENT_H
#define DAYBOOK_TESTS_SUPPORT_HTTP_CLIENT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

enum { HTTP_CLIENT_HEADERS_MAX = 8 };

struct http_call {
    const char *method;
    const char *url;
    const char *body;                             /* NULL: none */
    size_t body_len;                              /* 0: strlen(body) */
    const char *headers[HTTP_CLIENT_HEADERS_MAX]; /* "Name: value"; NULL ends */
    long timeout_ms;                              /* 0: 20 s */
    bool own_connection; /* a new one, closed afterwards: libcurl repeats a request by itself when
                            a kept connection turns out dead, this one is sent once at most */
};

struct http_answer {
    int status;   /* 0: no answer */
    char *body;   /* NUL-terminated, owned */
    char *head;   /* header lines, owned */
    json_t *json; /* NULL when the body isn't JSON; owned */
    double seconds;
};

/* The connection is kept for the next call of this thread. */
struct http_answer http_call(const struct http_call *call);
/* Closes this thread's connections. */
void http_client_close(void);
/* Shorthands: JSON content type where there is a body. */
struct http_answer http_get(const char *url);
struct http_answer http_post(const char *url, const char *json);
void http_answer_release(struct http_answer *answer);

/* A header's value, copied into a static buffer; "" when absent. */
const char *http_answer_header(const struct http_answer *answer, const char *name);
/* A string member of the JSON body; "" when absent. */
const char *http_answer_text(const struct http_answer *answer, const char *member);
long long http_answer_number(const struct http_answer *answer, const char *member);

#endif
