/* TLS and passwords on the way to the servers: what the settings say reaches the client libraries,
 * and what is not vouched for is refused. Servers of the test's own, and the stack's PostgreSQL. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../support/certificates.h"
#include "../support/environment.h"
#include "../support/event_log.h"
#include "../support/replica.h"
#include "../support/shell.h"
#include "common/adapters/redis_link.h"
#include "common/adapters/redis_tls.h"

enum { START_LIMIT_MS = 20000 };

static struct {
    const char *folder;
    int plain_port, tls_port;
    pid_t redis;
    pid_t kafka; /* leads a process group */
    bool ssl_on; /* in the stack's PostgreSQL */
} fixture;

static int port(int base) {
    const char *offset = getenv("DAYBOOK_PORT_OFFSET");

    return base + (offset != NULL ? atoi(offset) : 0); /* the stack's own are near */
}

static bool has_ssl(void *arg) {
    return strcmp(log_text("SELECT setting FROM pg_settings WHERE name = 'ssl'", NULL, NULL),
                  arg) == 0;
}

/* The server makes its own certificate, where it may read it, and takes it without a restart. */
static void turn_ssl_on(void) {
    fixture.ssl_on = true;
    log_execute(
        "COPY (SELECT 1) TO PROGRAM 'openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 "
        "-nodes -days 2 "
        "-subj /CN=db -addext subjectAltName=IP:127.0.0.1 -keyout test.key -out test.crt "
        "2>/dev/null && chmod 600 test.key'");
    log_execute("ALTER SYSTEM SET ssl_cert_file = 'test.crt'");
    log_execute("ALTER SYSTEM SET ssl_key_file = 'test.key'");
    log_execute("ALTER SYSTEM SET ssl = on");
    log_execute("SELECT pg_reload_conf()");
    cr_assert(eventually(has_ssl, (char[]){"on"}, 10000));
}

static void turn_ssl_off(void) {
    fixture.ssl_on = false;
    log_execute("ALTER SYSTEM RESET ssl");
    log_execute("ALTER SYSTEM RESET ssl_cert_file");
    log_execute("ALTER SYSTEM RESET ssl_key_file");
    log_execute("SELECT pg_reload_conf()");
    cr_assert(eventually(has_ssl, (char[]){"off"}, 10000));
    log_execute("COPY (SELECT 1) TO PROGRAM 'rm -f test.key test.crt'");
}

static void make_folder(void) {
    fixture.folder = certificates_make();
}

static void delete_folder(void) {
    if (fixture.redis > 0) {
        (void)kill(fixture.redis, SIGKILL);
        (void)waitpid(fixture.redis, NULL, 0);
        fixture.redis = 0;
    }
    if (fixture.kafka > 0) {
        (void)kill(-fixture.kafka, SIGKILL);
        (void)waitpid(fixture.kafka, NULL, 0);
        fixture.kafka = 0;
    }
    if (fixture.ssl_on) {
        turn_ssl_off();
    }
    certificates_delete();
}

TestSuite(transport, .init = make_folder, .fini = delete_folder, .timeout = 150);

/* --- Redis --- */

static bool listens(void *arg) {
    char output[256];

    return shell(output, sizeof(output), "redis-cli -p %d ping 2>&1 | grep -q .", *(int *)arg) ==
               0 &&
           shell(output, sizeof(output), "redis-cli -p %d ping 2>&1 | grep -qi refused",
                 *(int *)arg) != 0;
}

/* Nobody but the user daybook may do anything; clients over TLS need a certificate. */
static void start_redis(void) {
    char path[160];

    fixture.plain_port = port(16390);
    fixture.tls_port = port(16391);
    (void)snprintf(path, sizeof(path), "%s/redis.conf", fixture.folder);
    FILE *file = fopen(path, "w");
    cr_assert_not_null(file);
    (void)fprintf(file,
                  "bind 127.0.0.1\nport %d\ntls-port %d\ndir %s\nsave \"\"\nloglevel warning\n"
                  "tls-cert-file %s/server.pem\ntls-key-file %s/server.key\n"
                  "tls-ca-cert-file %s/ca.pem\ntls-auth-clients yes\n"
                  "user default off\nuser daybook on >p@ss/w?rd ~* &* +@all\n",
                  fixture.plain_port, fixture.tls_port, fixture.folder, fixture.folder,
                  fixture.folder, fixture.folder);
    cr_assert_eq(fclose(file), 0);
    fixture.redis = fork();
    if (fixture.redis == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)execlp("redis-server", "redis-server", path, NULL);
        _exit(127);
    }
    cr_assert(eventually(listens, &fixture.plain_port, START_LIMIT_MS));
}

/* What becomes of a connection to that URL; the message in `err`. */
static enum err_code connect_to(const char *url, struct err *err) {
    struct redis_link_options options = {.partitions = 6, .timeout_ms = 3000, .name = "test"};
    struct redis_link link;

    enum err_code code = redis_url_parse(str_from(url), &options.url, err);
    if (code == ERR_OK) {
        redis_link_init(&link, &options);
        code = redis_link_ensure(&link, err);
        redis_link_release(&link);
    }
    return code;
}

/* The query API is ready, or says why not. */
static bool query_api_says(const char *url, const char *text) {
    char output[32768];

    (void)shell(output, sizeof(output),
                "export DAYBOOK_HTTP_PORT=%d DAYBOOK_READ_DATABASE_URL=$DAYBOOK_TEST_QUERY_URL "
                "DAYBOOK_LOG_DATABASE_URL=$DAYBOOK_TEST_LOG_URL; "
                "DAYBOOK_REDIS_URL='%s' $DAYBOOK_BIN_DIR/daybook-query-api 2>&1 & pid=$!; "
                "for i in $(seq 60); do said=$(curl -s -m 2 127.0.0.1:%d/ready); "
                "case $said in *'%s'*) break;; esac; kill -0 $pid 2>/dev/null || break; sleep 0.1; "
                "done; echo \"$said\"; kill $pid; wait $pid",
                port(16392), url, port(16392), text);
    return strstr(output, text) != NULL;
}

Test(transport, redis_knows_users_by_their_passwords) {
    char url[256];
    struct err err = {0};

    start_redis();
    (void)snprintf(url, sizeof(url), "redis://daybook:p%%40ss%%2Fw?rd@127.0.0.1:%d",
                   fixture.plain_port);
    cr_assert_eq(connect_to(url, &err), ERR_OK, "%s", err.message);
    cr_assert(query_api_says(url, "\"status\":\"ready\""));
    (void)snprintf(url, sizeof(url), "redis://daybook:wrong@127.0.0.1:%d", fixture.plain_port);
    cr_assert_eq(connect_to(url, &err), ERR_UNAVAILABLE);
    cr_assert_not_null(strstr(err.message, "WRONGPASS"), "%s", err.message);
    (void)snprintf(url, sizeof(url), "redis://127.0.0.1:%d", fixture.plain_port);
    cr_assert_eq(connect_to(url, &err), ERR_UNAVAILABLE);
    cr_assert_not_null(strstr(err.message, "NOAUTH"), "%s", err.message);
}

static const char *tls_url(const char *host, const char *ca, bool certificate) {
    static char url[1024];
    char own[256] = "";

    if (certificate) {
        (void)snprintf(own, sizeof(own), "&cert=%s/client.pem&key=%s/client.key", fixture.folder,
                       fixture.folder);
    }
    (void)snprintf(url, sizeof(url), "rediss://daybook:p%%40ss%%2Fw?rd@%s:%d/0?cacert=%s/%s.pem%s",
                   host, fixture.tls_port, fixture.folder, ca, own);
    return url;
}

Test(transport, redis_over_tls_is_verified_where_hiredis_can_and_refused_where_not) {
    struct err err = {0};

    start_redis();
    if (!redis_tls_available()) {
        cr_assert_eq(connect_to(tls_url("127.0.0.1", "ca", true), &err), ERR_INVALID);
        cr_assert_not_null(strstr(err.message, "hiredis 1.0"), "%s", err.message);
        cr_assert(query_api_says(tls_url("127.0.0.1", "ca", true), "needs hiredis 1.0"));
        return;
    }
    cr_assert_eq(connect_to(tls_url("127.0.0.1", "ca", true), &err), ERR_OK, "%s", err.message);
    cr_assert(query_api_says(tls_url("127.0.0.1", "ca", true), "\"status\":\"ready\""));
    cr_assert_eq(connect_to(tls_url("127.0.0.1", "other-ca", true), &err), ERR_UNAVAILABLE);
    cr_assert_not_null(strstr(err.message, "TLS"), "%s", err.message);
    cr_assert_eq(connect_to(tls_url("localhost", "ca", true), &err), ERR_UNAVAILABLE,
                 "the certificate has another name");
    cr_assert_eq(connect_to(tls_url("127.0.0.1", "ca", false), &err), ERR_UNAVAILABLE,
                 "the server asks for a certificate");
    cr_assert_eq(connect_to(tls_url("127.0.0.1", "missing", true), &err), ERR_UNAVAILABLE);
    cr_assert_not_null(strstr(err.message, "cacert"), "%s", err.message);
    cr_assert(query_api_says(tls_url("127.0.0.1", "other-ca", true), "certificate verify failed"));
}

/* --- PostgreSQL --- */

/* The certificate as a client is given it. */
static void copy_certificate(void) {
    char path[160];
    const char *text = log_text("SELECT pg_read_file('test.crt')", NULL, NULL);

    (void)snprintf(path, sizeof(path), "%s/db.pem", fixture.folder);
    FILE *file = fopen(path, "w");
    cr_assert_not_null(file);
    cr_assert_geq(fputs(text, file), 0);
    cr_assert_eq(fclose(file), 0);
}

static const char *pg_url(const char *parameters) {
    static char url[1024];

    (void)snprintf(url, sizeof(url), "%s?application_name=daybook-tls&%s",
                   stack_environment("DAYBOOK_TEST_COMMAND_URL"), parameters);
    return url;
}

static bool command_api_says(const char *url, const char *text) {
    char output[32768];

    (void)shell(output, sizeof(output),
                "DAYBOOK_HTTP_PORT=0 DAYBOOK_WRITE_DATABASE_URL='%s' timeout 3 "
                "$DAYBOOK_BIN_DIR/daybook-command-api 2>&1",
                url);
    return strstr(output, text) != NULL;
}

Test(transport, postgresql_is_told_what_the_urls_parameters_say) {
    struct replica replica;
    char parameters[256];

    cr_assert(command_api_says(pg_url("sslmode=require"), "does not support SSL"));
    turn_ssl_on();
    copy_certificate();
    (void)snprintf(parameters, sizeof(parameters), "sslmode=verify-full&sslrootcert=%s/db.pem",
                   fixture.folder);
    replica_start(&replica, &(struct replica_options){.database_url = pg_url(parameters)});
    cr_assert_gt(log_number("SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)"
                            " WHERE application_name = 'daybook-tls' AND ssl",
                            NULL, NULL),
                 0);
    replica_stop(&replica);
    (void)snprintf(parameters, sizeof(parameters),
                   "sslmode=verify-full&sslrootcert=%s/other-ca.pem", fixture.folder);
    cr_assert(command_api_says(pg_url(parameters), "certificate verify failed"));
}

/* --- Kafka --- */

/* The stack's settings with another listener: TLS, and the passwords of two users. */
static void write_broker_settings(void) {
    char path[160];
    char output[1024];

    cr_assert_eq(shell(output, sizeof(output),
                       "cd %s && cat server.key server.pem >server-all.pem && "
                       "sed -e 's|@KAFKA_PORT@|%d|g' -e 's|@KAFKA_CONTROLLER_PORT@|%d|g' "
                       "-e 's|@STATE@|%s|g' -e 's|BROKER:PLAINTEXT|BROKER:SASL_SSL|' "
                       "$OLDPWD/infra/kafka/server.properties >broker.properties",
                       fixture.folder, port(19094), port(19095), fixture.folder),
                 0, "%s", output);
    (void)snprintf(path, sizeof(path), "%s/broker.properties", fixture.folder);
    FILE *file = fopen(path, "a");
    cr_assert_not_null(file);
    (void)fprintf(file,
                  "sasl.enabled.mechanisms=PLAIN\nsasl.mechanism.inter.broker.protocol=PLAIN\n"
                  "listener.name.broker.plain.sasl.jaas.config="
                  "org.apache.kafka.common.security.plain.PlainLoginModule required "
                  "username=\"broker\" password=\"b\" user_broker=\"b\" user_daybook=\"p@ss\";\n"
                  "ssl.keystore.type=PEM\nssl.keystore.location=%s/server-all.pem\n"
                  "ssl.truststore.type=PEM\nssl.truststore.location=%s/ca.pem\n",
                  fixture.folder, fixture.folder);
    cr_assert_eq(fclose(file), 0);
}

static void start_kafka(void) {
    char line[1024];

    write_broker_settings();
    (void)snprintf(line, sizeof(line),
                   "cp=$(scripts/kafka.sh) && cd %s && "
                   "run() { \"${JAVA_HOME:+$JAVA_HOME/bin/}java\" -Xmx256m -XX:+UseSerialGC "
                   "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp \"$cp\" \"$@\"; } && "
                   "run kafka.tools.StorageTool format --standalone -t 5L6g3nShTweMCtKwwX86sw "
                   "-c broker.properties >format.log 2>&1 && "
                   "run kafka.Kafka broker.properties >kafka.log 2>&1",
                   fixture.folder);
    fixture.kafka = fork();
    if (fixture.kafka == 0) {
        (void)setpgid(0, 0);
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)execlp("bash", "bash", "-c", line, NULL);
        _exit(127);
    }
    (void)setpgid(fixture.kafka, fixture.kafka);
}

/* What the relay hears of the topic before it asks PostgreSQL, which isn't there. */
static bool relay_gets_through(const char *ca, const char *password) {
    char output[2048];

    (void)shell(output, sizeof(output),
                "DAYBOOK_KAFKA_BROKERS=127.0.0.1:%d DAYBOOK_WRITE_DATABASE_URL=postgresql://"
                "127.0.0.1:1/none DAYBOOK_KAFKA_SECURITY_PROTOCOL=sasl_ssl "
                "DAYBOOK_KAFKA_SSL_CA_PATH=%s/%s.pem DAYBOOK_KAFKA_SASL_USERNAME=daybook "
                "DAYBOOK_KAFKA_SASL_PASSWORD='%s' DAYBOOK_CONNECT_TIMEOUT_MS=3000 "
                "$DAYBOOK_BIN_DIR/daybook-relay status 2>&1",
                port(19094), fixture.folder, ca, password);
    return strstr(output, "status: postgresql:") != NULL;
}

static bool is_up(void *arg) {
    (void)arg;
    return relay_gets_through("ca", "p@ss");
}

Test(transport, kafka_is_spoken_to_over_tls_with_a_password) {
    start_kafka();
    cr_assert(eventually(is_up, NULL, 90000));
    cr_assert_not(relay_gets_through("other-ca", "p@ss"), "nobody vouches for the broker");
    cr_assert_not(relay_gets_through("ca", "wrong"));
    cr_assert(relay_gets_through("ca", "p@ss"));
}
