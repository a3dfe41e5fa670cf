/* The memory of requests, and what handlers and whoever holds a request may do with it. */
#include "common/http/http_internal.h"

#include <string.h>

#include "common/base/clock.h"
#include "common/base/mem.h"

enum { FREE_EXCHANGES_MAX = 256, ARENA_BLOCK_BYTES = 4096 };

/* --- their memory --- */

struct exchange *http_exchange_new(struct server_thread *thread) {
    struct exchange *exchange = thread->free_list;
    const struct http_server_options *options = &thread->server->options;

    if (exchange != NULL) {
        thread->free_list = exchange->next;
        thread->free_count--;
        struct arena arena = exchange->public.arena;
        const struct buf body = exchange->body;
        memset(exchange, 0, sizeof(*exchange));
        exchange->public.arena = arena;
        exchange->body = body;
    } else {
        exchange = mem_zalloc(sizeof(*exchange));
        arena_init(&exchange->public.arena, ARENA_BLOCK_BYTES, options->request_arena_bytes_max);
        buf_init(&exchange->body, options->body_bytes_max);
    }
    exchange->thread = thread;
    exchange->public.internal = exchange;
    exchange->public.thread_index = thread->index;
    exchange->public.received_at_us = clock_monotonic_us();
    return exchange;
}

static void exchange_free(struct exchange *exchange) {
    arena_release(&exchange->public.arena);
    buf_release(&exchange->body);
    mem_free(exchange);
}

void http_exchange_recycle(struct exchange *exchange) {
    struct server_thread *thread = exchange->thread;

    if (thread->free_count == FREE_EXCHANGES_MAX) {
        exchange_free(exchange);
        return;
    }
    arena_clear(&exchange->public.arena);
    buf_clear(&exchange->body);
    exchange->next = thread->free_list;
    thread->free_list = exchange;
    thread->free_count++;
}

void http_exchange_free_all(struct server_thread *thread) {
    while (thread->free_list != NULL) {
        struct exchange *next = thread->free_list->next;
        exchange_free(thread->free_list);
        thread->free_list = next;
    }
    thread->free_count = 0;
}

/* --- what handlers use; headers are in http_daemon.c --- */

struct str http_path_param(const struct http_request *request, const char *name) {
    for (size_t i = 0; i < request->path_param_count; i++) {
        if (str_eq(request->path_params[i].name, str_from(name))) {
            return request->path_params[i].value;
        }
    }
    return (struct str){0};
}

bool http_query_param(const struct http_request *request, const char *name, struct str *value) {
    for (size_t i = 0; i < request->query_count; i++) {
        if (str_eq(request->query[i].name, str_from(name))) {
            *value = request->query[i].value;
            return true;
        }
    }
    return false;
}

void http_respond(struct http_request *request, int status, const char *content_type,
                  struct str body) {
    request->response.status = status;
    request->response.content_type = content_type;
    request->response.body = body;
}

void http_respond_header(struct http_request *request, const char *name, struct str value) {
    struct http_response *response = &request->response;

    for (size_t i = 0; i < value.len; i++) {
        if (value.ptr[i] == '\r' || value.ptr[i] == '\n' || value.ptr[i] == '\0') {
            return;
        }
    }
    const struct str kept = arena_str(&request->arena, value);
    if (kept.ptr != NULL && response->header_count < HTTP_RESPONSE_HEADERS_MAX) {
        response->headers[response->header_count++] = (struct http_header){name, kept};
    }
}

void http_complete(struct http_request *request) {
    struct exchange *exchange = request->internal;
    struct server_thread *thread = exchange->thread;
    struct exchange *head = atomic_load(&thread->completions);

    do {
        exchange->next = head;
    } while (!atomic_compare_exchange_weak(&thread->completions, &head, exchange));
    /* Whoever finds the list empty wakes the loop; the rest ride along. */
    if (head == NULL) {
        loop_wake(thread->loop);
    }
}
