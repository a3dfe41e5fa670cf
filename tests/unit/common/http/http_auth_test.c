/* Routes and scopes over real sockets. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../../support/token.h"
#include "common/http/http_server.h"
#include "socket_client.h"

static struct {
    struct http_server *server;
    struct metrics *metrics;
    struct health *health;
    struct auth *auth;
    struct auth_settings settings;
    char path[64];
    int handled;
} fixture;

static enum http_result answer(void *context, struct http_request *request) {
    (void)context;
    fixture.handled++;
    http_respond(request, 200, "text/plain", request->subject);
    return HTTP_DONE;
}

static const struct http_route routes[] = {
    {HTTP_GET, "/things/{id}", answer, NULL, NULL},
    {HTTP_POST, "/things", answer, NULL, NULL},
    {HTTP_GET, "/openapi.json", answer, NULL, NULL},
};

static void write_keys(void) {
    static const char *const scopes[] = {"read", "write", "admin"};
    const int fd = mkstemp(fixture.path);
    FILE *file = fdopen(fd, "w");

    cr_assert_not_null(file);
    for (size_t i = 0; i < ARRAY_LEN(scopes); i++) {
        (void)fprintf(file, "the-%s %s %s\n", scopes[i], scopes[i], api_key_hash(scopes[i]));
    }
    cr_assert_eq(fclose(file), 0);
}

static void set_up(void) {
    struct http_server_options options = http_server_defaults();
    struct err err = {0};

    (void)snprintf(fixture.path, sizeof(fixture.path), "/tmp/daybook-keys-XXXXXX");
    write_keys();
    fixture.metrics = metrics_new();
    fixture.health = health_new("test");
    fixture.settings = (struct auth_settings){.mode = "auto",
                                              .api_keys_path = fixture.path,
                                              .jwt_keys_path = "",
                                              .jwt_issuer = "",
                                              .jwt_audience = "daybook"};
    cr_assert_eq(
        auth_start(&fixture.settings, "127.0.0.1", NULL, fixture.metrics, &fixture.auth, &err),
        ERR_OK, "%s", err.message);
    options.routes = routes;
    options.route_count = ARRAY_LEN(routes);
    options.metrics = fixture.metrics;
    options.health = fixture.health;
    options.auth = fixture.auth;
    cr_assert_eq(http_server_new(&options, &fixture.server, &err), ERR_OK, "%s", err.message);
    cr_assert_eq(http_server_start(fixture.server, &err), ERR_OK, "%s", err.message);
}

static void tear_down(void) {
    cr_assert_eq(http_server_stop(fixture.server, 5000), 0);
    http_server_free(fixture.server);
    auth_stop(fixture.auth);
    metrics_free(fixture.metrics);
    health_free(fixture.health);
    (void)unlink(fixture.path);
}

TestSuite(http_auth, .init = set_up, .fini = tear_down, .timeout = 30);

/* "GET /path", the key ("": none) and a part of the answer. */
static void expect(const char *request, const char *key, const char *part) {
    char text[512];
    const int fd = socket_connect(http_server_port(fixture.server));

    (void)snprintf(text, sizeof(text), "%s" HOST "%s%s%sContent-Length: 0\r\n\r\n", request,
                   key[0] != '\0' ? "Authorization: Bearer " : "", key,
                   key[0] != '\0' ? "\r\n" : "");
    socket_say(fd, text);
    const char *heard = socket_hear(fd);
    cr_assert_not_null(strstr(heard, part), "%s with \"%s\": %s", request, key, heard);
    (void)close(fd);
}

Test(http_auth, each_route_has_its_scope) {
    expect("GET /things/1", "read", "\r\n\r\nthe-read");
    expect("GET /things/1", "write", "\"code\":\"scope_missing\"");
    expect("GET /things/1", "admin", "HTTP/1.1 403");
    expect("POST /things", "write", "\r\n\r\nthe-write");
    expect("POST /things", "read", "error=\"insufficient_scope\", scope=\"write\"");
    expect("GET /metrics", "admin", "daybook_http_requests_total");
    expect("GET /metrics", "read", "HTTP/1.1 403");
    expect("GET /metrics", "", "HTTP/1.1 401");
}

Test(http_auth, nobody_is_refused_before_the_handler) {
    expect("GET /things/1", "", "WWW-Authenticate: Bearer realm=\"daybook\"\r\n");
    expect("GET /things/1", "", "\"code\":\"credentials_missing\"");
    expect("GET /things/1", "unknown", "\"code\":\"credentials_invalid\"");
    expect("GET /things/1", "unknown", "error=\"invalid_token\"");
    expect("GET /things/1", "read\r\nAuthorization: Bearer read", "HTTP/1.1 401");
    cr_assert_eq(fixture.handled, 0);
    cr_assert_eq(metric_counter_value(metrics_counter(
                     fixture.metrics, "daybook_http_credentials_total", "outcome=\"missing\"", "")),
                 2);
}

Test(http_auth, probes_and_the_contract_are_open) {
    expect("GET /health", "", "HTTP/1.1 200");
    expect("GET /ready", "", "HTTP/1.1 200");
    expect("GET /openapi.json", "", "HTTP/1.1 200");
    expect("GET /nowhere", "", "HTTP/1.1 404");
}
