/*
 * Reads beside their baselines, all on one machine with the same Redis:
 *
 *   a  redis-benchmark -t get -c 50 -P 1, over 10,000 keys: what Redis does for clients of its own
 *   b  webdis: the same values over HTTP, 64 keep-alive connections
 *   c  GET /accounts/{id}/balance of 10,000 accounts, 64 keep-alive connections
 *   d  libmicrohttpd answering a constant, 64 connections: the floor under c
 *   w  read your write on the idle stack: POST a deposit, then GET the balance with min_version
 *      from its answer; one client, and 32. Counted from sending the POST to the GET's answer,
 *      after a hundred by each client that are not counted
 *
 * a to d are measured in turns, several rounds; medians count. BENCH_ROUNDS (3), BENCH_SECONDS (4)
 * of each measurement, BENCH_PARTS: only these, by letter (abcdw), BENCH_WRITES (40) of each of w's
 * 32 clients.
 */
#include <arpa/inet.h>
#include <inttypes.h>
#include <microhttpd.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "tests/bench/bench_process.h"
#include "tests/bench/bench_report.h"
#include "tests/bench/load.h"

enum {
    ACCOUNTS = 10000,
    CONNECTIONS = 64,
    WRITES_ALONE = 400,
    WRITES_EACH = 200,
    WARM_UP = 100, /* of each client's writes: not counted, JVM and tables are cold at first */
    CLIENTS = 32,
    VISIBLE_WAIT_S = 60,
};

/* As large as an answer of c. */
static const char constant[] =
    "{\"id\":\"bench-1234567-1234\",\"balance\":\"0.00\",\"currency\":\"USD\",\"version\":1}\n";

struct bench {
    struct bench_report report;
    uint16_t command_port, query_port, redis_port, webdis_port, constant_port;
    const char *redis_password;
    char accounts[32];
    double seconds;
    pid_t webdis, constant, query;
    struct load_result *result;
};

_Noreturn static void give_up(const char *what, const char *why) {
    (void)fprintf(stderr, "bench: %s: %s\n", what, why);
    exit(1);
}

static bool wanted(char part) {
    const char *parts = getenv("BENCH_PARTS");

    return parts == NULL || strchr(parts, part) != NULL;
}

/* The port at the end of "http://127.0.0.1:1234". */
static uint16_t port_of(const char *variable) {
    const char *colon = strrchr(bench_env(variable), ':');

    return (uint16_t)strtol(colon + 1, NULL, 10);
}

/* -1: nobody listens. */
static int try_connect(uint16_t port) {
    const int on = 1;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)inet_pton(AF_INET, "127.0.0.1", &at.sin_addr);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&at, sizeof(at)) != 0) {
        (void)close(fd);
        return -1;
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return fd;
}

static int connect_to(uint16_t port) {
    const int fd = try_connect(port);

    if (fd < 0) {
        give_up("a connection", "refused");
    }
    return fd;
}

static void wait_for(uint16_t port, const char *what) {
    const int64_t limit_us = clock_monotonic_us() + 5000000;
    int fd = -1;

    while ((fd = try_connect(port)) < 0) {
        if (clock_monotonic_us() > limit_us) {
            give_up(what, "does not listen");
        }
        (void)usleep(10000);
    }
    (void)close(fd);
}

/* --- a: redis-benchmark --- */

/* redis://:password@127.0.0.1:port/0 */
static void find_redis(struct bench *bench) {
    static char password[128];
    unsigned port = 0;

    if (sscanf(bench_env("DAYBOOK_TEST_REDIS_URL"), "redis://:%127[^@]@127.0.0.1:%u", password,
               &port) != 2) {
        give_up("DAYBOOK_TEST_REDIS_URL", "not as expected");
    }
    bench->redis_password = password;
    bench->redis_port = (uint16_t)port;
}

/* Requests per second. The keys go into a database of their own. */
static double run_redis_benchmark(const struct bench *bench, const char *test, long requests) {
    char command[512];
    char line[512];
    double rate = 0;

    (void)setenv("REDISCLI_AUTH", bench->redis_password, 1);
    (void)snprintf(command, sizeof(command),
                   "redis-benchmark -h 127.0.0.1 -p %u -a \"$REDISCLI_AUTH\" --dbnum 1 -t %s -c 50"
                   " -P 1 -r %d -d %zu -n %ld --csv 2>/dev/null",
                   bench->redis_port, test, ACCOUNTS, sizeof(constant) - 1, requests);
    FILE *pipe = popen(command, "r");
    while (pipe != NULL && fgets(line, sizeof(line), pipe) != NULL) {
        (void)sscanf(line, "\"%*[A-Z]\",\"%lf\"", &rate);
    }
    if (pipe == NULL || pclose(pipe) != 0 || rate <= 0) {
        give_up("redis-benchmark", "no result");
    }
    return rate;
}

/* --- b: webdis --- */

static void start_webdis(struct bench *bench) {
    static const char path[] = "build/bench/webdis.json";
    const char *const argv[] = {"webdis", path, NULL};
    const char *const none[] = {NULL};
    FILE *file = fopen(path, "we");

    if (file == NULL) {
        give_up("webdis", path);
    }
    (void)fprintf(file,
                  "{\"redis_host\":\"127.0.0.1\",\"redis_port\":%u,\"redis_auth\":\"%s\","
                  "\"http_host\":\"127.0.0.1\",\"http_port\":%u,\"threads\":2,\"daemonize\":false,"
                  "\"database\":1,\"verbosity\":1,\"logfile\":\"build/bench/webdis.log\"}\n",
                  bench->redis_port, bench->redis_password, bench->webdis_port);
    (void)fclose(file);
    bench->webdis = bench_start(argv, none, "build/bench/webdis.out");
    if (bench->webdis == 0) {
        give_up("webdis", "can't be started");
    }
    wait_for(bench->webdis_port, "webdis");
}

/* --- d: libmicrohttpd, in a process of its own --- */

static enum MHD_Result answer_constant(void *arg, struct MHD_Connection *connection,
                                       const char *url, const char *method, const char *version,
                                       const char *upload, size_t *upload_bytes, void **context) {
    static int seen;

    (void)url;
    (void)method;
    (void)version;
    (void)upload;
    (void)upload_bytes;
    if (*context == NULL) {
        *context = &seen; /* an answer in the first call would close the connection */
        return MHD_YES;
    }
    return MHD_queue_response(connection, MHD_HTTP_OK, arg);
}

_Noreturn static void serve_constant(uint16_t port) {
    union {
        const char *in;
        void *out;
    } body = {.in = constant};
    struct MHD_Response *response =
        MHD_create_response_from_buffer(sizeof(constant) - 1, body.out, MHD_RESPMEM_PERSISTENT);
    (void)MHD_add_response_header(response, "Content-Type", "application/json");
    struct MHD_Daemon *daemon = MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD, port, NULL, NULL,
                                                 answer_constant, response, MHD_OPTION_END);
    while (daemon != NULL) {
        (void)pause();
    }
    _exit(1);
}

/* --- GET with many connections --- */

static struct load_options gets(const struct bench *bench, uint16_t port) {
    return (struct load_options){.host = "127.0.0.1",
                                 .port = port,
                                 .kind = LOAD_GET,
                                 .accounts = bench->accounts,
                                 .path_begin = "/accounts/",
                                 .path_end = "/balance",
                                 .account_count = ACCOUNTS,
                                 .connections = CONNECTIONS,
                                 .seconds = bench->seconds,
                                 .warm_up_seconds = 0.5};
}

static double run_gets(struct bench *bench, const struct load_options *options, const char *what) {
    const struct load_result *r = bench->result;

    if (!load_run(options, bench->result)) {
        give_up(what, "the load could not be sent");
    }
    if (r->other > 0 || r->broken > 0 || r->unavailable > 0 || r->ok == 0) {
        (void)fprintf(stderr, "bench: %s: %" PRIu64 " ok, %" PRIu64 " other, %" PRIu64 " broken\n",
                      what, r->ok, r->other + r->unavailable, r->broken);
        exit(1);
    }
    return (double)r->ok / r->seconds;
}

static double p(const struct bench *bench, double part) {
    return (double)histogram_at(&bench->result->latency_us, part);
}

static void run_round(struct bench *bench) {
    struct bench_report *report = &bench->report;
    struct load_options options = gets(bench, bench->query_port);

    if (wanted('a')) {
        bench_sample(report, "a_redis_benchmark_get", "/s",
                     run_redis_benchmark(bench, "get", (long)(bench->seconds * 100000)));
    }
    if (wanted('c')) {
        const double cpu = bench_cpu_seconds(bench->query, false);
        bench_sample(report, "c_get_balance", "/s", run_gets(bench, &options, "c"));
        bench_sample(report, "c_p50", "µs", p(bench, .5));
        bench_sample(report, "c_p99", "µs", p(bench, .99));
        bench_sample(report, "c_cpu_query_api", "µs/get",
                     (bench_cpu_seconds(bench->query, false) - cpu) * 1e6 /
                         ((double)bench->result->ok * (bench->seconds + .5) / bench->seconds));
    }
    if (wanted('b')) {
        options = gets(bench, bench->webdis_port);
        options.accounts = "";
        options.path_begin = "/GET/bench:";
        options.path_end = "";
        bench_sample(report, "b_webdis", "/s", run_gets(bench, &options, "b"));
        bench_sample(report, "b_p50", "µs", p(bench, .5));
        bench_sample(report, "b_p99", "µs", p(bench, .99));
    }
    if (wanted('d')) {
        options = gets(bench, bench->constant_port);
        bench_sample(report, "d_libmicrohttpd_constant", "/s", run_gets(bench, &options, "d"));
    }
}

/* --- w: read your write --- */

struct client {
    struct bench *bench;
    int number;
    int writes;
    struct histogram total_us, read_us;
    pthread_t thread;
};

/* Sends and waits for the whole answer, which must be a 200. */
static void call(int fd, const char *request, size_t len, char answer[4096]) {
    size_t filled = 0;
    size_t wanted_bytes = SIZE_MAX;

    if (send(fd, request, len, MSG_NOSIGNAL) != (ssize_t)len) {
        give_up("read your write", "can't send");
    }
    while (filled < wanted_bytes) {
        const ssize_t got = recv(fd, answer + filled, 4095 - filled, 0);
        if (got <= 0) {
            give_up("read your write", "connection lost");
        }
        filled += (size_t)got;
        answer[filled] = '\0';
        const char *end = strstr(answer, "\r\n\r\n");
        const char *length = strstr(answer, "Content-Length: ");
        if (end != NULL && length != NULL) {
            wanted_bytes = (size_t)(end + 4 - answer) + strtoul(length + 16, NULL, 10);
        }
    }
    if (strncmp(answer, "HTTP/1.1 200", 12) != 0) {
        give_up("read your write", answer);
    }
}

static void *write_and_read(void *arg) {
    static const char body[] = "{\"amount\":\"1.00\"}";
    struct client *client = arg;
    const struct bench *bench = client->bench;
    const int to_write = connect_to(bench->command_port);
    const int to_read = connect_to(bench->query_port);
    char request[512];
    char answer[4096];

    for (int i = 0; i < client->writes; i++) {
        const int account = (client->number * 997 + i * 31) % ACCOUNTS;
        int len = snprintf(request, sizeof(request),
                           "POST /accounts/%s%d/deposit HTTP/1.1\r\nHost: bench\r\nContent-Type: "
                           "application/json\r\nContent-Length: %zu\r\n\r\n%s",
                           bench->accounts, account, sizeof(body) - 1, body);
        const int64_t begun_us = clock_monotonic_us();
        call(to_write, request, (size_t)len, answer);
        const int64_t written_us = clock_monotonic_us();
        const char *version = strstr(answer, "\"version\":");
        len = snprintf(request, sizeof(request),
                       "GET /accounts/%s%d/balance?min_version=%ld&timeout_ms=10000 HTTP/1.1\r\n"
                       "Host: bench\r\n\r\n",
                       bench->accounts, account,
                       version != NULL ? strtol(version + 10, NULL, 10) : 0);
        call(to_read, request, (size_t)len, answer);
        if (i < WARM_UP) {
            continue;
        }
        histogram_add(&client->total_us, clock_monotonic_us() - begun_us);
        histogram_add(&client->read_us, clock_monotonic_us() - written_us);
    }
    (void)close(to_write);
    (void)close(to_read);
    return NULL;
}

static void run_writes(struct bench *bench, int clients, int writes, const char *const names[3]) {
    struct client *all = calloc((size_t)clients, sizeof(*all));

    if (all == NULL) {
        give_up("read your write", "no memory");
    }
    for (int i = 0; i < clients; i++) {
        all[i].bench = bench;
        all[i].number = i;
        all[i].writes = writes;
        if (pthread_create(&all[i].thread, NULL, write_and_read, &all[i]) != 0) {
            give_up("read your write", "no thread");
        }
    }
    for (int i = 0; i < clients; i++) {
        (void)pthread_join(all[i].thread, NULL);
        if (i > 0) {
            histogram_merge(&all[0].total_us, &all[i].total_us);
            histogram_merge(&all[0].read_us, &all[i].read_us);
        }
    }
    bench_sample(&bench->report, names[0], "µs", (double)histogram_at(&all[0].total_us, .5));
    bench_sample(&bench->report, names[1], "µs", (double)histogram_at(&all[0].total_us, .99));
    bench_sample(&bench->report, names[2], "µs", (double)histogram_at(&all[0].read_us, .5));
    free(all);
}

static void run_read_your_write(struct bench *bench) {
    run_writes(bench, 1, WRITES_ALONE,
               (const char *const[]){"w_1_client_p50", "w_1_client_p99", "w_1_client_get_p50"});
    run_writes(
        bench, CLIENTS, (int)bench_env_number("BENCH_WRITES", WRITES_EACH),
        (const char *const[]){"w_32_clients_p50", "w_32_clients_p99", "w_32_clients_get_p50"});
}

/* --- all of it --- */

/* Opens the accounts and waits until the last one can be read from Redis. */
static void open_accounts(struct bench *bench) {
    struct load_options options = gets(bench, bench->command_port);
    char request[256];
    char answer[4096] = "";

    options.kind = LOAD_OPEN_ACCOUNT;
    options.seconds = 60;
    options.warm_up_seconds = 0;
    (void)run_gets(bench, &options, "opening accounts");
    if (bench->result->ok != ACCOUNTS) {
        give_up("opening accounts", "not all were opened");
    }
    const int fd = connect_to(bench->query_port);
    for (int i = 0; i < ACCOUNTS; i++) {
        const int len = snprintf(request, sizeof(request),
                                 "GET /accounts/%s%d?min_version=1&timeout_ms=10000 HTTP/1.1\r\n"
                                 "Host: bench\r\n\r\n",
                                 bench->accounts, i);
        call(fd, request, (size_t)len, answer);
    }
    if (strstr(answer, "Daybook-Source: redis") == NULL) {
        give_up("opening accounts", "the last one is not in Redis");
    }
    (void)close(fd);
}

/* The same values under plain keys for webdis; redis-benchmark makes its own. */
static void fill_redis(const struct bench *bench) {
    FILE *script = fopen("build/bench/values.redis", "we");
    char command[256];

    if (script == NULL) {
        give_up("values for webdis", "can't be written");
    }
    for (int i = 0; i < ACCOUNTS; i++) {
        (void)fprintf(script,
                      "SET bench:%d '{\"id\":\"%s%d\",\"balance\":\"0.00\",\"currency\":\"USD\","
                      "\"version\":1}'\n",
                      i, bench->accounts, i);
    }
    (void)fclose(script);
    (void)snprintf(command, sizeof(command),
                   "redis-cli -p %u -n 1 <build/bench/values.redis >build/bench/values.out 2>&1",
                   bench->redis_port);
    (void)run_redis_benchmark(bench, "set", 10L * ACCOUNTS);
    if (system(command) != 0) { /* NOLINT(cert-env33-c): a benchmark runs programs */
        give_up("values for webdis", "see build/bench/values.out");
    }
}

static void conclude(struct bench *bench) {
    struct bench_report *report = &bench->report;
    static const char c[] = "c_get_balance";

    bench_ratio(report, "query_vs_webdis", c, "b_webdis", 1.2);
    bench_ratio(report, "query_vs_redis_benchmark", c, "a_redis_benchmark_get", 0.65);
    bench_ratio(report, "query_p99_vs_webdis", "c_p99", "b_p99", -1.0);
    bench_ratio(report, "query_vs_libmicrohttpd_constant", c, "d_libmicrohttpd_constant", 0);
    /* Times, not ratios of two: in units of the time wanted. */
    bench_sample(report, "wanted_p50", "µs", 10000);
    bench_sample(report, "wanted_p99", "µs", 40000);
    bench_ratio(report, "read_your_write_p50_of_10ms", "w_1_client_p50", "wanted_p50", -1.0);
    bench_ratio(report, "read_your_write_p99_of_40ms", "w_1_client_p99", "wanted_p99", -1.0);
    bench_ratio(report, "read_your_write_32_p50_of_10ms", "w_32_clients_p50", "wanted_p50", -1.0);
    bench_ratio(report, "read_your_write_32_p99_of_40ms", "w_32_clients_p99", "wanted_p99", -1.0);
}

int main(void) {
    static struct bench bench;
    const int rounds = (int)bench_env_number("BENCH_ROUNDS", 3);

    bench.report.benchmark = "query";
    (void)snprintf(bench.accounts, sizeof(bench.accounts), "bench-%d-", (int)getpid());
    bench.seconds = bench_env_number("BENCH_SECONDS", 4);
    bench.command_port = port_of("DAYBOOK_TEST_COMMAND_API");
    bench.query_port = port_of("DAYBOOK_TEST_QUERY_API");
    bench.query = (pid_t)strtol(bench_env("BENCH_QUERY_API_PID"), NULL, 10);
    bench.webdis_port = (uint16_t)(bench_env_number("BENCH_PORT", 18181) + 5);
    bench.constant_port = (uint16_t)(bench.webdis_port + 1);
    bench.result = calloc(1, sizeof(*bench.result));
    if (bench.result == NULL) {
        give_up("start", "no memory");
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    find_redis(&bench);
    bench.constant = fork();
    if (bench.constant == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        serve_constant(bench.constant_port);
    }
    wait_for(bench.constant_port, "libmicrohttpd");
    open_accounts(&bench);
    fill_redis(&bench);
    start_webdis(&bench);
    if (wanted('w')) {
        run_read_your_write(&bench);
    }
    for (int i = 0; i < rounds; i++) {
        (void)printf("round %d of %d\n", i + 1, rounds);
        run_round(&bench);
    }
    bench_stop(bench.webdis);
    bench_stop(bench.constant);
    conclude(&bench);
    free(bench.result);
    return bench_report_end(&bench.report) ? 0 : 1;
}
