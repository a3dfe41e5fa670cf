/*
 * Who may ask for what: /health, /ready and /openapi.json anybody, /metrics admin, other GETs read,
 * everything else write. Refusals are as RFC 6750 has them.
 */
#include <stdio.h>

#include "common/base/clock.h"
#include "common/http/http_internal.h"
#include "common/http/problem.h"

enum { CHALLENGE_BYTES = 160 };

/* 0: anybody. */
static unsigned scope_of(const struct http_route *route, bool builtin) {
    const struct str path = str_from(route->path);

    if (builtin) {
        return str_eq(path, STR("/metrics")) ? AUTH_ADMIN : 0;
    }
    if (str_eq(path, STR("/openapi.json"))) {
        return 0;
    }
    return route->method == HTTP_GET ? AUTH_READ : AUTH_WRITE;
}

static void refuse(struct http_request *request, enum auth_verdict verdict) {
    switch (verdict) {
    case AUTH_MISSING:
        http_respond_header(request, "WWW-Authenticate", STR("Bearer realm=\"daybook\""));
        (void)problem_respond(request, 401, "credentials_missing", "Credentials missing",
                              "an Authorization header is needed: Bearer and an API key or a JWT");
        return;
    case AUTH_EXPIRED:
        http_respond_header(request, "WWW-Authenticate",
                            STR("Bearer realm=\"daybook\", error=\"invalid_token\", "
                                "error_description=\"expired\""));
        (void)problem_respond(request, 401, "token_expired", "Token expired",
                              "the token's time is over");
        return;
    case AUTH_INVALID:
    case AUTH_OK:
    case AUTH_VERDICTS:
        http_respond_header(request, "WWW-Authenticate",
                            STR("Bearer realm=\"daybook\", error=\"invalid_token\""));
        (void)problem_respond(request, 401, "credentials_invalid", "Credentials not valid",
                              "the API key or token is not known, not valid or not for here");
        return;
    }
}

static void refuse_scope(struct http_request *request, enum auth_scope scope) {
    char challenge[CHALLENGE_BYTES];
    const char *name = auth_scope_name(scope);

    (void)snprintf(challenge, sizeof(challenge),
                   "Bearer realm=\"daybook\", error=\"insufficient_scope\", scope=\"%s\"", name);
    http_respond_header(request, "WWW-Authenticate", str_from(challenge));
    (void)problem_respond(request, 403, "scope_missing", "Scope missing",
                          "these credentials lack the scope %s", name);
}

bool http_auth_permits(struct exchange *exchange, bool builtin) {
    struct http_request *request = &exchange->public;
    struct http_server *server = exchange->thread->server;
    const unsigned scope = scope_of(request->route, builtin);
    struct auth_subject subject = {.scopes = 0};
    enum auth_verdict verdict = AUTH_INVALID;

    if (scope == 0) {
        return true;
    }
    /* Of two headers nobody can say which is meant. */
    if (http_request_header_count(request, "Authorization") <= 1) {
        verdict = auth_check(server->options.auth, http_request_header(request, "Authorization"),
                             clock_wall_us() / 1000000, &subject);
    }
    metric_add(server->auth_outcomes[verdict], 1);
    if (verdict != AUTH_OK) {
        refuse(request, verdict);
        return false;
    }
    if ((subject.scopes & scope) == 0) {
        metric_add(server->scope_missing, 1);
        refuse_scope(request, (enum auth_scope)scope);
        return false;
    }
    request->subject = arena_str(&request->arena, str_from(subject.name));
    if (request->subject.ptr == NULL) {
        (void)problem_respond(request, 503, "overloaded", "Overloaded", "out of memory");
        return false;
    }
    return true;
}
