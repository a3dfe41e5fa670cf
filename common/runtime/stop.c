#include "common/runtime/stop.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/mem.h"

struct stop {
    atomic_bool requested;
    int fd;
    bool handles_signals;
};

/* A signal handler gets no argument: this is how it finds the flag. Set once, by stop_new. */
static struct stop *_Atomic signalled;

void stop_request(struct stop *stop) {
    const int saved = errno;
    const uint64_t one = 1;

    atomic_store(&stop->requested, true);
    if (write(stop->fd, &one, sizeof(one)) < 0) {
        /* The counter is full: it is readable already. */
    }
    errno = saved;
}

static void on_signal(int number) {
    struct stop *stop = atomic_load(&signalled);

    (void)number;
    if (stop != NULL) {
        stop_request(stop);
    }
}

enum err_code stop_new_quiet(struct stop **out, struct err *err) {
    const int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    if (fd < 0) {
        return err_set(err, ERR_INTERNAL, "eventfd: %s", strerror(errno));
    }
    *out = mem_zalloc(sizeof(**out));
    (*out)->fd = fd;
    return ERR_OK;
}

enum err_code stop_new(struct stop **out, struct err *err) {
    const enum err_code code = stop_new_quiet(out, err);
    struct sigaction action;

    if (code != ERR_OK) {
        return code;
    }
    (*out)->handles_signals = true;
    atomic_store(&signalled, *out);
    memset(&action, 0, sizeof(action));
    sigemptyset(&action.sa_mask);
    action.sa_flags = SA_RESTART;
    action.sa_handler = on_signal;
    if (sigaction(SIGTERM, &action, NULL) != 0 || sigaction(SIGINT, &action, NULL) != 0) {
        return err_set(err, ERR_INTERNAL, "sigaction: %s", strerror(errno));
    }
    action.sa_handler = SIG_IGN;
    if (sigaction(SIGPIPE, &action, NULL) != 0) {
        return err_set(err, ERR_INTERNAL, "sigaction: %s", strerror(errno));
    }
    return ERR_OK;
}

void stop_free(struct stop *stop) {
    if (stop == NULL) {
        return;
    }
    if (stop->handles_signals) {
        atomic_store(&signalled, NULL);
    }
    (void)close(stop->fd);
    mem_free(stop);
}

bool stop_requested(const struct stop *stop) {
    return atomic_load(&stop->requested);
}

int stop_fd(const struct stop *stop) {
    return stop->fd;
}

bool stop_wait_ms(struct stop *stop, int64_t ms) {
    const int64_t deadline_us = clock_monotonic_us() + ms * 1000;

    while (!stop_requested(stop)) {
        const int64_t left_us = deadline_us - clock_monotonic_us();
        struct pollfd fd = {.fd = stop->fd, .events = POLLIN};
        if (left_us <= 0) {
            return false;
        }
        (void)poll(&fd, 1, (int)(left_us / 1000) + 1);
    }
    return true;
}
