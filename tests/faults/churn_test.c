/*
 * Projectors under constant load while replicas come and go and everything they need fails: at the
 * end each read model equals the fold of the log.
 *
 * DAYBOOK_FAULTS faults; 12 unless set, 105 in `make test-faults`. The seed is printed;
 * DAYBOOK_SEED repeats it.
 */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../support/environment.h"
#include "../support/http_client.h"
#include "../support/shell.h"
#include "rounds.h"

#define GATEWAY "DAYBOOK_TEST_GATEWAY"

enum { REPLICAS_MAX = 5, LOADERS = 2, ACCOUNTS = 40, PORT = 7900 };

/* Longer than the session timeout, so that the others take over. */
#define STOPPED_SECONDS 7.5

static struct {
    pid_t replicas[REPLICAS_MAX];
    double resume_at[REPLICAS_MAX]; /* of a stopped one; 0: runs */
    pid_t loaders[LOADERS];
    int wanted;
    unsigned seed;
} churn;

static const int scales[] = {1, 3, 2, 5, 1};

/* --- load --- */

_Noreturn static void load_for_ever(int loader) {
    char body[128];
    char url[256];
    unsigned turn = 0;

    (void)signal(SIGTERM, SIG_DFL);
    for (int i = 0; i < ACCOUNTS; i++) {
        (void)snprintf(body, sizeof(body), "{\"id\":\"churn-%d-%d\"}", loader, i);
        struct http_answer a = http_post(url_of(GATEWAY, "/accounts"), body);
        http_answer_release(&a);
    }
    for (;;) {
        const struct timespec pause = {.tv_nsec = 2000000};
        (void)snprintf(url, sizeof(url), "%s",
                       url_of(GATEWAY, "/accounts/churn-%d-%u/deposit", loader, turn++ % ACCOUNTS));
        struct http_answer a = http_post(url, "{\"amount\":1}");
        if (a.status == 404) { /* its opening met a fault */
            (void)snprintf(body, sizeof(body), "{\"id\":\"churn-%d-%u\"}", loader,
                           (turn - 1) % ACCOUNTS);
            http_answer_release(&a);
            a = http_post(url_of(GATEWAY, "/accounts"), body);
        }
        http_answer_release(&a);
        (void)nanosleep(&pause, NULL);
    }
}

static void start_load(void) {
    for (int i = 0; i < LOADERS; i++) {
        churn.loaders[i] = fork();
        if (churn.loaders[i] == 0) {
            load_for_ever(i);
        }
    }
}

static void end_load(void) {
    for (int i = 0; i < LOADERS; i++) {
        (void)kill(churn.loaders[i], SIGKILL);
        (void)waitpid(churn.loaders[i], NULL, 0);
    }
}

/* --- replicas --- */

static void end_replica(int i, int how) {
    if (churn.replicas[i] > 0) {
        (void)kill(churn.replicas[i], SIGCONT);
        (void)kill(churn.replicas[i], how);
        (void)waitpid(churn.replicas[i], NULL, 0);
        churn.replicas[i] = 0;
        churn.resume_at[i] = 0;
    }
}

static void set_replicas(int wanted) {
    churn.wanted = wanted;
    for (int i = 0; i < REPLICAS_MAX; i++) {
        if (i < wanted && churn.replicas[i] == 0) {
            churn.replicas[i] = projector_start(NULL, PORT + i, NULL);
        } else if (i >= wanted) {
            end_replica(i, SIGTERM);
        }
    }
}

static void resume_due(bool all) {
    for (int i = 0; i < REPLICAS_MAX; i++) {
        if (churn.resume_at[i] > 0 && (all || now_seconds() >= churn.resume_at[i])) {
            (void)kill(churn.replicas[i], SIGCONT);
            churn.resume_at[i] = 0;
        }
    }
}

/* --- faults --- */

static int a_replica(void) {
    return (int)((unsigned)rand_r(&churn.seed) % (unsigned)churn.wanted);
}

static const char *scale(void) {
    static unsigned turn;

    set_replicas(scales[++turn % (sizeof(scales) / sizeof(scales[0]))]);
    return "scale";
}

static const char *kill_replica(void) {
    const int i = a_replica();

    end_replica(i, SIGKILL);
    churn.replicas[i] = projector_start(NULL, PORT + i, NULL);
    return "kill -9";
}

static const char *stop_replica(void) {
    const int i = a_replica();

    if (churn.resume_at[i] == 0) {
        (void)kill(churn.replicas[i], SIGSTOP);
        churn.resume_at[i] = now_seconds() + STOPPED_SECONDS;
    }
    return "SIGSTOP";
}

static const char *restart_broker(void) {
    cr_assert(stack("kill", "kafka"));
    cr_assert(stack("start", "kafka"));
    return "broker restart";
}

static const char *restart_postgres(void) {
    cr_assert(stack("kill", "postgres"));
    cr_assert(stack("start", "postgres"));
    return "PostgreSQL restart";
}

static const char *restart_redis(void) {
    cr_assert(stack("kill", "redis"));
    cr_assert(stack("start", "redis"));
    return "Redis restart";
}

static const char *empty_redis(void) {
    char output[256];

    cr_assert(stack("kill", "redis"));
    cr_assert_eq(shell(output, sizeof(output), "rm -rf build/%s/redis/appendonlydir",
                       stack_environment("DAYBOOK_TEST_STACK")),
                 0);
    cr_assert(stack("start", "redis"));
    return "Redis restart without its data";
}

static const char *flush_redis(void) {
    (void)redis_command("FLUSHALL");
    return "FLUSHALL";
}

/* Each comes in every round, in another order. */
static const struct {
    const char *(*make)(void);
    double settle_seconds;
} faults[] = {
    {scale, 0.6},          {kill_replica, 0.4},
    {stop_replica, 0.1},   {scale, 0.6},
    {kill_replica, 0.4},   {flush_redis, 0.3},
    {scale, 0.6},          {restart_redis, 0.3},
    {stop_replica, 0.1},   {restart_postgres, 0.3},
    {kill_replica, 0.4},   {empty_redis, 0.3},
    {restart_broker, 0.3}, {scale, 0.6},
};

enum { FAULTS = sizeof(faults) / sizeof(faults[0]) };

static void shuffle(size_t *order) {
    for (size_t i = 0; i < FAULTS; i++) {
        order[i] = i;
    }
    for (size_t i = FAULTS - 1; i > 0; i--) {
        const size_t j = (unsigned)rand_r(&churn.seed) % (i + 1);
        const size_t kept = order[i];
        order[i] = order[j];
        order[j] = kept;
    }
}

static void wait_seconds(double seconds) {
    const double until = now_seconds() + seconds;
    const struct timespec pause = {.tv_nsec = 20000000};

    /* The load goes on meanwhile: this is the time in which it meets the fault. */
    while (now_seconds() < until) {
        resume_due(false);
        (void)nanosleep(&pause, NULL);
    }
}

/* Each partition in each store: is there a checkpoint, and no more than so much left to apply? */
static bool lags_at_most(long long most) {
    resume_due(false);
    if (projector_command("status") != 0) {
        return false;
    }
    for (const char *line = strchr(projector_output(), '\n'); line != NULL && line[1] != '\0';
         line = strchr(line + 1, '\n')) {
        int version = 0;
        long long lag = -1;
        if (sscanf(line + 1, "%*s %*s %*d %d %*d %*d %lld", &version, &lag) != 2 || version == 0 ||
            lag > most) {
            return false;
        }
    }
    return true;
}

static bool served(void *arg) {
    (void)arg;
    return lags_at_most(10000);
}

static bool caught_up(void *arg) {
    (void)arg;
    return lags_at_most(0);
}

static void end_all(void) {
    end_load();
    for (int i = 0; i < REPLICAS_MAX; i++) {
        end_replica(i, SIGTERM);
    }
    (void)stack("start", "projector");
}

TestSuite(churn, .timeout = 1800);

Test(churn, every_row_and_key_equals_the_fold_in_the_end, .fini = end_all) {
    const char *count_text = getenv("DAYBOOK_FAULTS");
    const char *seed_text = getenv("DAYBOOK_SEED");
    const int least = fault_rounds() > 1 ? 105 : 12;
    const int count = count_text != NULL ? (int)strtol(count_text, NULL, 10) : least;
    size_t order[FAULTS];

    churn.seed = seed_text != NULL ? (unsigned)strtoul(seed_text, NULL, 10) : (unsigned)time(NULL);
    (void)printf("churn: seed %u\n", churn.seed);
    cr_assert(stack("stop", "projector"));
    /* Other tests have left rows that no event explains. */
    projector_expect("rebuild all");
    set_replicas(1);
    start_load();
    const double begin = now_seconds();
    for (int i = 0; i < count; i++) {
        if (i % FAULTS == 0) {
            shuffle(order);
        }
        const size_t which = order[i % FAULTS];
        const char *name = faults[which].make();
        (void)printf("churn: %3d  %5.1f s  %s (%d replicas)\n", i + 1, now_seconds() - begin, name,
                     churn.wanted);
        wait_seconds(faults[which].settle_seconds);
    }
    resume_due(true);
    cr_assert(eventually(served, NULL, 60000), "a partition is not served");
    /* First beside the load, which goes on. */
    const int beside = projector_command("verify");
    (void)printf("%s", projector_output());
    cr_expect_eq(beside, 0, "beside the load: %s", projector_output());
    end_load();
    cr_assert(eventually(caught_up, NULL, 60000), "the lag stays");
    const int after = projector_command("verify");
    (void)printf("%s", projector_output());
    cr_assert_eq(after, 0, "differences after %d faults, seed %u: %s", count, churn.seed,
                 projector_output());
    (void)printf("churn: %d faults in %.0f s, no difference\n", count, now_seconds() - begin);
}
