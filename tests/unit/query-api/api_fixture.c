#include "tests/unit/query-api/api_fixture.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

void api_start(struct api *api, size_t waiters_max) {
    api_start_with(api, waiters_max, 0);
}

void api_start_with(struct api *api, size_t waiters_max, size_t streams_max) {
    struct http_server_options options = http_server_defaults();
    struct err err = {0};

    *api = (struct api){0};
    api->store = view_mem_new();
    api->metrics = metrics_new();
    api->health = health_new("query-api");
    api->log = log_mem_new();
    api->queries = (struct queries){&api->reader, &api->log_view, &api->live, 1};
    cr_assert_eq(routes_init(&api->routes, &api->queries, &err), ERR_OK, "%s", err.message);
    options.port = 0;
    options.connections_max = 16384;
    options.routes = api->routes.table;
    options.route_count = api->routes.count;
    options.metrics = api->metrics;
    options.health = api->health;
    cr_assert_eq(http_server_new(&options, &api->server, &err), ERR_OK, "%s", err.message);
    struct loop *loop = http_server_loop(api->server, 0);
    api->client = view_mem_client_new(api->store, loop);
    api->reader = reader_new(&(struct reader_options){
        .loop = loop,
        .keys = view_mem_keys(api->client),
        .rows = view_mem_rows(api->client),
        .waiters_max = waiters_max,
        .metrics = api->metrics,
    });
    api->log_client = log_mem_client_new(api->log, loop);
    api->log_view = log_mem_view(api->log_client);
    api->live = live_new(&(struct live_options){
        .loop = loop,
        .view = api->log_view,
        .streams_max = streams_max > 0 ? streams_max : API_STREAMS_MAX,
        .metrics = api->metrics,
        .heartbeat_us = streams_max > 0 ? 0 : 200000,
        .stall_us = streams_max > 0 ? 0 : 1000000,
    });
    cr_assert_eq(http_server_start(api->server, &err), ERR_OK, "%s", err.message);
    api->serving = true;
}

void api_stop(struct api *api) {
    if (api->serving) {
        cr_expect(loop_post(http_server_loop(api->server, 0), live_drain, api->live));
        cr_expect_eq(http_server_stop(api->server, 5000), 0, "a request was never answered");
    }
    view_mem_client_free(api->client);
    reader_free(api->reader);
    http_server_free(api->server);
    live_free(api->live);
    log_mem_client_free(api->log_client);
    log_mem_free(api->log);
    routes_release(&api->routes);
    view_mem_free(api->store);
    health_free(api->health);
    metrics_free(api->metrics);
}

struct account_view api_account_at(int64_t version) {
    return (struct account_view){
        .version = version,
        .status = ACCOUNT_OPEN,
        .balance_minor = (version - 1) * 10000,
        .opened_at_us = API_OPENED_US,
        .updated_at_us = API_OPENED_US + (version - 1) * 1000000,
        .currency = "USD",
        .owner = "Ada \"L\"",
    };
}

static void add_line(struct api *api, const char *id, int64_t version) {
    struct statement_line line = {
        .version = version,
        .amount_minor = version > 1 ? 10000 : 0,
        .balance_minor = (version - 1) * 10000,
        .recorded_at_us = API_OPENED_US + (version - 1) * 1000000,
        .currency = "USD",
    };

    (void)snprintf(line.kind, sizeof(line.kind), "%s", version > 1 ? "deposit" : "opened");
    line.event_id.bytes[15] = (uint8_t)version;
    view_mem_add_line(api->store, str_from(id), &line);
}

static void add_event(struct api *api, const char *id, int64_t version) {
    char payload[160] = "{\"currency\":\"USD\"}";
    struct recorded_event event = {
        .aggregate_type = STR("account"),
        .stream_id = str_from(id),
        .version = version,
        .event_type = version > 1 ? STR("MoneyDeposited") : STR("AccountCreated"),
        .schema_version = 1,
        .command = version > 1 ? STR("Deposit") : STR("OpenAccount"),
        .recorded_at_us = API_OPENED_US + (version - 1) * 1000000,
    };

    if (version > 1) {
        (void)snprintf(payload, sizeof(payload),
                       "{\"amount_minor\":10000,\n\"balance_minor\":%lld,\"currency\":\"USD\"}",
                       (long long)(version - 1) * 10000);
    }
    event.payload = str_from(payload);
    event.event_id.bytes[15] = (uint8_t)version;
    log_mem_append(api->log, &event);
}

void api_deposit(struct api *api, const char *id, int64_t version, bool in_keys) {
    const struct account_view account = api_account_at(version);

    add_line(api, id, version);
    add_event(api, id, version);
    view_mem_put_row(api->store, str_from(id), &account);
    if (in_keys) {
        view_mem_put_key(api->store, str_from(id), &account);
    }
}

void api_put_account(struct api *api, const char *id, int64_t version) {
    for (int64_t i = 1; i <= version; i++) {
        api_deposit(api, id, i, true);
    }
}

int api_send(struct api *api, const char *method, const char *target, const char *headers) {
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons(http_server_port(api->server))};
    const struct timeval limit = {.tv_sec = 10};
    char request[8192];
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    cr_assert_geq(fd, 0);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    cr_assert_eq(connect(fd, (const struct sockaddr *)&at, sizeof(at)), 0);
    const int len = snprintf(request, sizeof(request),
                             "%s %s HTTP/1.1\r\nHost: test\r\nConnection: close\r\n%s\r\n", method,
                             target, headers);
    cr_assert(len > 0 && (size_t)len < sizeof(request));
    cr_assert_eq(send(fd, request, (size_t)len, MSG_NOSIGNAL), len);
    return fd;
}

void api_receive(int fd, struct answer *answer) {
    static char raw[sizeof(answer->head) + sizeof(answer->body)];
    size_t len = 0;
    ssize_t got = 0;

    *answer = (struct answer){0};
    while (len < sizeof(raw) - 1 && (got = recv(fd, raw + len, sizeof(raw) - 1 - len, 0)) > 0) {
        len += (size_t)got;
    }
    (void)close(fd);
    cr_assert_eq(got, 0, "no answer in time");
    raw[len] = '\0';
    const char *end = strstr(raw, "\r\n\r\n");
    cr_assert_not_null(end, "no complete head");
    const size_t head_len = (size_t)(end - raw) + 2;
    cr_assert_lt(head_len, sizeof(answer->head));
    memcpy(answer->head, raw, head_len);
    answer->body_len = len - head_len - 2;
    cr_assert_lt(answer->body_len, sizeof(answer->body));
    memcpy(answer->body, end + 4, answer->body_len);
    answer->status = (int)strtol(raw + strlen("HTTP/1.1 "), NULL, 10);
}

void api_call(struct api *api, const char *method, const char *target, const char *headers,
              struct answer *answer) {
    api_receive(api_send(api, method, target, headers), answer);
}

void api_get(struct api *api, const char *target, struct answer *answer) {
    api_call(api, "GET", target, "", answer);
}

const char *answer_header(const struct answer *answer, const char *name) {
    static char value[1024];
    const size_t name_len = strlen(name);

    for (const char *line = strstr(answer->head, "\r\n"); line != NULL && line[2] != '\0';
         line = strstr(line + 2, "\r\n")) {
        if (strncasecmp(line + 2, name, name_len) == 0 && line[2 + name_len] == ':') {
            const char *start = line + 2 + name_len + 1;
            start += strspn(start, " ");
            (void)snprintf(value, sizeof(value), "%.*s", (int)strcspn(start, "\r"), start);
            return value;
        }
    }
    return "";
}

json_t *answer_body(const struct answer *answer) {
    json_error_t error;
    json_t *body = json_loadb(answer->body, answer->body_len, JSON_REJECT_DUPLICATES, &error);

    cr_assert_not_null(body, "not JSON: %s: %s", error.text, answer->body);
    return body;
}

void answer_is_problem(const struct answer *answer, int status, const char *code) {
    char type[128];

    cr_expect_eq(answer->status, status, "status %d, not %d: %s", answer->status, status,
                 answer->body);
    cr_expect_str_eq(answer_header(answer, "Content-Type"), "application/problem+json");
    json_t *body = answer_body(answer);
    const char *seen = json_string_value(json_object_get(body, "code"));
    (void)snprintf(type, sizeof(type), "urn:daybook:problem:%s", code);
    cr_expect_str_eq(seen != NULL ? seen : "", code);
    cr_expect_str_eq(json_string_value(json_object_get(body, "type")), type);
    cr_expect_eq(json_integer_value(json_object_get(body, "status")), status);
    cr_expect(json_is_string(json_object_get(body, "title")));
    cr_expect(json_is_string(json_object_get(body, "detail")));
    json_decref(body);
}
