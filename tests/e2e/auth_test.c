/* Who may do what, at processes of the test's own that are told of keys. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../support/command.h"
#include "../support/crowd.h"
#include "../support/environment.h"
#include "../support/event_log.h"
#include "../support/http_client.h"
#include "../support/replica.h"
#include "../support/shell.h"
#include "../support/token.h"

enum { CLIENTS = 8 };

static struct {
    struct replica api;
    struct token_maker *maker;
    char directory[64], api_path[96], jwt_path[96];
} fixture;

/* The keys "k-reader" and "k-admin", and `writer` with the scope write. */
static void write_api_keys(const char *writer) {
    char text[1024];
    int len = snprintf(text, sizeof(text), "reader read %s\n", api_key_hash("k-reader"));

    len += snprintf(text + len, sizeof(text) - (size_t)len, "operator admin %s\n",
                    api_key_hash("k-admin"));
    (void)snprintf(text + len, sizeof(text) - (size_t)len, "billing write %s\n",
                   api_key_hash(writer));
    replace_key_file(fixture.api_path, text);
}

static void start(const char *address) {
    char api[160];
    char jwt[160];
    char listen[64];

    (void)snprintf(api, sizeof(api), "DAYBOOK_AUTH_API_KEYS_PATH=%s", fixture.api_path);
    (void)snprintf(jwt, sizeof(jwt), "DAYBOOK_AUTH_JWT_KEYS_PATH=%s", fixture.jwt_path);
    (void)snprintf(listen, sizeof(listen), "DAYBOOK_HTTP_ADDRESS=%s", address);
    replica_start(&fixture.api, &(struct replica_options){
                                    .settings = {api, jwt, listen,
                                                 "DAYBOOK_AUTH_JWT_ISSUER=https://id.example"}});
}

static void set_up(void) {
    (void)snprintf(fixture.directory, sizeof(fixture.directory), "/tmp/daybook-e2e-XXXXXX");
    cr_assert_not_null(mkdtemp(fixture.directory));
    (void)snprintf(fixture.api_path, sizeof(fixture.api_path), "%s/api", fixture.directory);
    (void)snprintf(fixture.jwt_path, sizeof(fixture.jwt_path), "%s/jwt", fixture.directory);
    fixture.maker = token_maker_new();
    write_api_keys("k-writer");
    replace_key_file(fixture.jwt_path, token_key_set(fixture.maker));
}

static void tear_down(void) {
    if (fixture.api.pid != 0) {
        replica_stop(&fixture.api);
    }
    token_maker_free(fixture.maker);
    (void)unlink(fixture.api_path);
    (void)unlink(fixture.jwt_path);
    (void)rmdir(fixture.directory);
}

TestSuite(auth_e2e, .init = set_up, .fini = tear_down, .timeout = 120);

/* `token` NULL: no header. The caller releases it. */
static struct http_answer call(const char *method, const char *path, const char *token,
                               const char *actor, const char *body) {
    char url[256];
    char authorization[4096];
    char who[160];
    struct http_call call = {.method = method, .url = url, .body = body};
    size_t headers = 0;

    (void)snprintf(url, sizeof(url), "%s%s", fixture.api.base, path);
    if (body != NULL) {
        call.headers[headers++] = "Content-Type: application/json";
    }
    if (token != NULL) {
        (void)snprintf(authorization, sizeof(authorization), "Authorization: Bearer %s", token);
        call.headers[headers++] = authorization;
    }
    if (actor != NULL) {
        (void)snprintf(who, sizeof(who), "X-Actor: %s", actor);
        call.headers[headers++] = who;
    }
    return http_call(&call);
}

static void expect(const char *method, const char *path, const char *token, int status,
                   const char *code) {
    const bool post = strcmp(method, "POST") == 0;
    struct http_answer a = call(method, path, token, NULL, post ? "{}" : NULL);

    cr_assert_eq(a.status, status, "%s %s: %d %s", method, path, a.status, a.body);
    if (code != NULL) {
        cr_assert_str_eq(http_answer_text(&a, "code"), code);
        cr_assert_eq(strncmp(http_answer_header(&a, "WWW-Authenticate"), "Bearer ", 7), 0);
        cr_assert_str_eq(http_answer_header(&a, "Content-Type"), "application/problem+json");
    }
    http_answer_release(&a);
}

static const char *claims(const char *scope, long expires_in_s) {
    static char text[4][256];
    static size_t next;
    char *out = text[next++ % 4];

    (void)snprintf(out, sizeof(text[0]),
                   "{\"iss\":\"https://id.example\",\"aud\":\"daybook\",\"sub\":\"alice@example\","
                   "\"scope\":\"%s\",\"exp\":%ld}",
                   scope, (long)time(NULL) + expires_in_s);
    return out;
}

#define HS "{\"alg\":\"HS256\",\"kid\":\"h\"}"
#define RS "{\"alg\":\"RS256\",\"kid\":\"r\"}"

Test(auth_e2e, scopes_say_who_may_do_what) {
    const struct token_maker *maker = fixture.maker;

    start("0.0.0.0");
    expect("POST", "/accounts", NULL, 401, "credentials_missing");
    expect("POST", "/accounts", "k-unknown", 401, "credentials_invalid");
    expect("POST", "/accounts", "k-reader", 403, "scope_missing");
    expect("POST", "/accounts", "k-writer", 201, NULL);
    expect("POST", "/accounts", token_rs256(maker, RS, claims("write", 60)), 201, NULL);
    expect("POST", "/accounts", token_hs256(maker, HS, claims("read write", 60)), 201, NULL);
    expect("POST", "/accounts", token_hs256(maker, HS, claims("read", 60)), 403, "scope_missing");
    expect("POST", "/accounts", token_hs256(maker, HS, claims("write", -60)), 401, "token_expired");
    expect("POST", "/accounts", token_of("{\"alg\":\"none\"}", claims("write", 60), ""), 401,
           "credentials_invalid");
    expect("GET", "/metrics", "k-admin", 200, NULL);
    expect("GET", "/metrics", "k-writer", 403, "scope_missing");
    expect("GET", "/health", NULL, 200, NULL);
    expect("GET", "/ready", NULL, 200, NULL);
    expect("GET", "/openapi.json", NULL, 200, NULL);
}

static const char *last_actor(const char *id) {
    return log_text("SELECT actor FROM daybook.events WHERE stream_id = $1"
                    " ORDER BY version DESC LIMIT 1",
                    id, NULL);
}

Test(auth_e2e, the_actor_of_an_event_is_who_called) {
    char body[128];
    char path[128];
    const char *id = fresh_id("actor");

    start("127.0.0.1");
    (void)snprintf(body, sizeof(body), "{\"id\":\"%s\"}", id);
    struct http_answer a = call("POST", "/accounts", "k-writer", "mallory", body);
    cr_assert_eq(a.status, 201, "%s", a.body);
    http_answer_release(&a);
    cr_assert_str_eq(last_actor(id), "billing");
    (void)snprintf(path, sizeof(path), "/accounts/%s/deposit", id);
    a = call("POST", path, token_rs256(fixture.maker, RS, claims("write", 60)), NULL,
             "{\"amount\":1}");
    cr_assert_eq(a.status, 200, "%s", a.body);
    http_answer_release(&a);
    cr_assert_str_eq(last_actor(id), "alice@example");
}

/* Callers with a key that stays, while the file changes under them. */
static struct {
    bool stop;
    int status[CLIENTS]; /* the first that was not 201 */
    long done[CLIENTS];
} crowd_saw;

static void go_on_writing(void *context, size_t index) {
    (void)context;
    while (!__atomic_load_n(&crowd_saw.stop, __ATOMIC_RELAXED)) {
        struct http_answer a = call("POST", "/accounts", "k-stays", NULL, "{}");
        if (a.status != 201 && crowd_saw.status[index] == 0) {
            crowd_saw.status[index] = a.status > 0 ? a.status : -1;
        }
        crowd_saw.done[index]++;
        http_answer_release(&a);
    }
}

static bool is_accepted(void *key) {
    struct http_answer a = call("POST", "/accounts", key, NULL, "{}");
    const bool is = a.status == 201;

    http_answer_release(&a);
    return is;
}

static void write_with_staying_key(const char *other) {
    char text[512];
    int len = snprintf(text, sizeof(text), "stays write %s\n", api_key_hash("k-stays"));

    (void)snprintf(text + len, sizeof(text) - (size_t)len, "comes write %s\n", api_key_hash(other));
    replace_key_file(fixture.api_path, text);
}

Test(auth_e2e, a_changed_file_counts_soon_and_no_request_is_lost_over_it) {
    char keys[][16] = {"k-0", "k-1", "k-2"};

    write_with_staying_key("k-first");
    start("127.0.0.1");
    struct crowd *crowd = crowd_start(CLIENTS, go_on_writing, NULL);
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        write_with_staying_key(keys[i]);
        cr_assert(eventually(is_accepted, keys[i], 10000), "%s", keys[i]);
        cr_assert_not(i > 0 && is_accepted(keys[i - 1]), "%s was taken out", keys[i]);
    }
    __atomic_store_n(&crowd_saw.stop, true, __ATOMIC_RELAXED);
    crowd_join(crowd);
    for (size_t i = 0; i < CLIENTS; i++) {
        cr_assert_eq(crowd_saw.status[i], 0, "client %zu: %d", i, crowd_saw.status[i]);
        cr_assert_gt(crowd_saw.done[i], 0);
    }
}

/* What each program says when it would be open to the network without anybody having said so. */
Test(auth_e2e, no_process_listens_beyond_loopback_without_being_told_to) {
    static const char *const programs[][2] = {
        {"daybook-command-api", "DAYBOOK_WRITE_DATABASE_URL=$DAYBOOK_TEST_COMMAND_URL"},
        {"daybook-relay", "DAYBOOK_WRITE_DATABASE_URL=$DAYBOOK_TEST_RELAY_URL"
                          " DAYBOOK_KAFKA_BROKERS=127.0.0.1:1"},
        {"daybook-projector", "DAYBOOK_READ_DATABASE_URL=$DAYBOOK_TEST_PROJECTOR_URL"
                              " DAYBOOK_REDIS_URL=$DAYBOOK_TEST_REDIS_URL"
                              " DAYBOOK_KAFKA_BROKERS=127.0.0.1:1"},
        {"daybook-query-api", "DAYBOOK_READ_DATABASE_URL=$DAYBOOK_TEST_QUERY_URL"
                              " DAYBOOK_LOG_DATABASE_URL=$DAYBOOK_TEST_LOG_URL"
                              " DAYBOOK_REDIS_URL=$DAYBOOK_TEST_REDIS_URL"},
    };
    char output[16384];

    for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]); i++) {
        const int code = shell(output, sizeof(output),
                               "DAYBOOK_HTTP_ADDRESS=0.0.0.0 DAYBOOK_HTTP_PORT=0 %s timeout 20 "
                               "$DAYBOOK_BIN_DIR/%s 2>&1",
                               programs[i][1], programs[i][0]);
        cr_assert(code == 1 || code == 2, "%s: %d: %s", programs[i][0], code, output);
        cr_assert_not_null(strstr(output, "0.0.0.0 is not loopback"), "%s: %s", programs[i][0],
                           output);
        cr_assert_null(strstr(output, "http.listening"), "%s", output);
    }
}
