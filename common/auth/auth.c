/*
 * Invariants
 *  1. The lock guards api_keys and jwt_keys: callers read under it, the watcher only swaps under
 * it.
 *  2. Files are read and parsed by the watcher's thread (and by auth_start before there is one),
 *     without the lock.
 */
#include "common/auth/auth.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/auth/api_keys.h"
#include "common/auth/jwt.h"
#include "common/base/clock.h"
#include "common/base/mem.h"

enum { FILE_BYTES_MAX = 1024 * 1024, LOOK_MS = 1000 };

/* A file as it was when it was last read, or last tried. */
struct key_file {
    const char *path; /* "": none */
    struct timespec changed_at;
    ino_t inode;
    off_t bytes;
};

struct auth {
    const struct auth_settings *settings;
    struct log *log;
    struct key_file api_file;
    struct key_file jwt_file;
    pthread_rwlock_t lock;
    struct api_keys *api_keys; /* NULL: none */
    struct jwt_keys *jwt_keys;

    pthread_t watcher;
    bool watching;
    pthread_mutex_t mutex; /* guards stopping */
    pthread_cond_t changed;
    bool stopping;

    struct metric_counter *reloads;
    struct metric_counter *failures;
};

/* --- files --- */

static enum err_code read_file(const char *path, struct buf *out, struct err *err) {
    char bytes[4096];
    ssize_t got;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0) {
        return err_set(err, ERR_INVALID, "%s: %s", path, strerror(errno));
    }
    while ((got = read(fd, bytes, sizeof(bytes))) > 0 && !buf_failed(out)) {
        buf_put(out, bytes, (size_t)got);
    }
    const int error = errno;
    (void)close(fd);
    if (got < 0) {
        return err_set(err, ERR_INVALID, "%s: %s", path, strerror(error));
    }
    return buf_failed(out) ? err_set(err, ERR_LIMIT, "%s: over %d bytes", path, FILE_BYTES_MAX)
                           : ERR_OK;
}

/* Has it changed since the last call? A file that isn't there is as it was: whoever replaces it may
 * be about to. */
static bool note_change(struct key_file *file) {
    struct stat now;

    if (file->path[0] == '\0' || stat(file->path, &now) != 0) {
        return false;
    }
    const bool changed = now.st_mtim.tv_sec != file->changed_at.tv_sec ||
                         now.st_mtim.tv_nsec != file->changed_at.tv_nsec ||
                         now.st_ino != file->inode || now.st_size != file->bytes;
    file->changed_at = now.st_mtim;
    file->inode = now.st_ino;
    file->bytes = now.st_size;
    return changed;
}

static enum err_code load_api_keys(struct auth *auth, size_t *count, struct err *err) {
    struct api_keys *keys = NULL;
    struct buf text;

    buf_init(&text, FILE_BYTES_MAX);
    enum err_code code = read_file(auth->api_file.path, &text, err);
    if (code == ERR_OK) {
        code = api_keys_parse(buf_str(&text), &keys, err);
        code = code == ERR_OK ? code : err_prefix(err, "%s", auth->api_file.path);
    }
    buf_release(&text);
    if (code == ERR_OK) {
        *count = api_keys_count(keys);
        (void)pthread_rwlock_wrlock(&auth->lock);
        struct api_keys *before = auth->api_keys;
        auth->api_keys = keys;
        (void)pthread_rwlock_unlock(&auth->lock);
        api_keys_free(before);
    }
    return code;
}

static enum err_code load_jwt_keys(struct auth *auth, size_t *count, struct err *err) {
    struct jwt_keys *keys = NULL;
    struct buf text;

    buf_init(&text, FILE_BYTES_MAX);
    enum err_code code = read_file(auth->jwt_file.path, &text, err);
    if (code == ERR_OK) {
        code = jwt_keys_parse(buf_str(&text), &keys, err);
        code = code == ERR_OK ? code : err_prefix(err, "%s", auth->jwt_file.path);
    }
    buf_release(&text);
    if (code == ERR_OK) {
        *count = jwt_keys_count(keys);
        (void)pthread_rwlock_wrlock(&auth->lock);
        struct jwt_keys *before = auth->jwt_keys;
        auth->jwt_keys = keys;
        (void)pthread_rwlock_unlock(&auth->lock);
        jwt_keys_free(before);
    }
    return code;
}

/* --- watching --- */

typedef enum err_code load_fn(struct auth *auth, size_t *count, struct err *err);

static void look(struct auth *auth, struct key_file *file, load_fn *load) {
    struct err err = {0};
    size_t count = 0;

    if (!note_change(file)) {
        return;
    }
    if (load(auth, &count, &err) == ERR_OK) {
        metric_add(auth->reloads, 1);
        log_info(auth->log, log_event("auth.keys_read"), log_cstr("path", file->path),
                 log_i64("keys", (int64_t)count));
    } else {
        metric_add(auth->failures, 1);
        log_error(auth->log, log_event("auth.keys_kept"), log_err(&err));
    }
}

static bool wait_for_stop(struct auth *auth) {
    const int64_t until_us = clock_monotonic_us() + LOOK_MS * INT64_C(1000);
    const struct timespec at = {until_us / 1000000, (until_us % 1000000) * 1000};
    int waited = 0;

    (void)pthread_mutex_lock(&auth->mutex);
    while (!auth->stopping && waited == 0) {
        waited = pthread_cond_timedwait(&auth->changed, &auth->mutex, &at);
    }
    const bool stopping = auth->stopping;
    (void)pthread_mutex_unlock(&auth->mutex);
    return stopping;
}

static void *watch(void *arg) {
    struct auth *auth = arg;

    while (!wait_for_stop(auth)) {
        look(auth, &auth->api_file, load_api_keys);
        look(auth, &auth->jwt_file, load_jwt_keys);
    }
    return NULL;
}

/* --- life --- */

static bool is_loopback(const char *address) {
    return str_starts_with(str_from(address), STR("127."));
}

static enum err_code load_all(struct auth *auth, struct err *err) {
    size_t count = 0;
    enum err_code code = ERR_OK;

    (void)note_change(&auth->api_file);
    (void)note_change(&auth->jwt_file);
    if (auth->api_file.path[0] != '\0') {
        code = load_api_keys(auth, &count, err);
    }
    if (code == ERR_OK && auth->jwt_file.path[0] != '\0') {
        code = load_jwt_keys(auth, &count, err);
    }
    return code;
}

static struct auth *make(const struct auth_settings *settings, struct log *log,
                         struct metrics *metrics) {
    struct auth *auth = mem_zalloc(sizeof(*auth));
    pthread_condattr_t monotonic;

    auth->settings = settings;
    auth->log = log;
    auth->api_file.path = settings->api_keys_path;
    auth->jwt_file.path = settings->jwt_keys_path;
    (void)pthread_rwlock_init(&auth->lock, NULL);
    (void)pthread_mutex_init(&auth->mutex, NULL);
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&auth->changed, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
    auth->reloads =
        metrics_counter(metrics, "daybook_auth_reloads_total", "", "Files of keys read again.");
    auth->failures = metrics_counter(metrics, "daybook_auth_reload_failures_total", "",
                                     "Changed files of keys that were not taken.");
    return auth;
}

enum err_code auth_start(const struct auth_settings *settings, const char *address, struct log *log,
                         struct metrics *metrics, struct auth **out, struct err *err) {
    const bool off = str_eq(str_from(settings->mode), STR("off"));
    const bool named = settings->api_keys_path[0] != '\0' || settings->jwt_keys_path[0] != '\0';

    if (off && named) {
        return err_set(err, ERR_INVALID,
                       "DAYBOOK_AUTH=off lets anybody call, but a file of keys is named: take one "
                       "of them away");
    }
    if (off && !is_loopback(address)) {
        log_warn(log, log_event("auth.off"), log_cstr("address", address));
    }
    if (off || (!named && is_loopback(address))) {
        return ERR_OK;
    }
    if (!named) {
        return err_set(err, ERR_INVALID,
                       "%s is not loopback, so callers must be known: set "
                       "DAYBOOK_AUTH_API_KEYS_PATH or DAYBOOK_AUTH_JWT_KEYS_PATH, or "
                       "DAYBOOK_AUTH=off where the network is closed",
                       address);
    }
    struct auth *auth = make(settings, log, metrics);
    enum err_code code = load_all(auth, err);
    if (code == ERR_OK && pthread_create(&auth->watcher, NULL, watch, auth) != 0) {
        code = err_set(err, ERR_INTERNAL, "the thread that watches the keys can't be started");
    }
    auth->watching = code == ERR_OK;
    if (code != ERR_OK) {
        auth_stop(auth);
        return code;
    }
    *out = auth;
    return ERR_OK;
}

void auth_stop(struct auth *auth) {
    if (auth == NULL) {
        return;
    }
    if (auth->watching) {
        (void)pthread_mutex_lock(&auth->mutex);
        auth->stopping = true;
        (void)pthread_cond_broadcast(&auth->changed);
        (void)pthread_mutex_unlock(&auth->mutex);
        (void)pthread_join(auth->watcher, NULL);
    }
    api_keys_free(auth->api_keys);
    jwt_keys_free(auth->jwt_keys);
    (void)pthread_cond_destroy(&auth->changed);
    (void)pthread_mutex_destroy(&auth->mutex);
    (void)pthread_rwlock_destroy(&auth->lock);
    mem_free(auth);
}

/* --- checking --- */

/* RFC 6750 section 2.1. False: another scheme, or no token. */
static bool read_bearer(struct str value, struct str *token) {
    const struct str scheme = STR("Bearer ");

    if (value.len <= scheme.len || !str_eq_nocase(str_of(value.ptr, scheme.len), scheme)) {
        return false;
    }
    *token = str_trim(str_of(value.ptr + scheme.len, value.len - scheme.len));
    return token->len > 0 && token->len <= JWT_BYTES_MAX;
}

enum auth_verdict auth_check(struct auth *auth, struct str authorization, int64_t now_s,
                             struct auth_subject *out) {
    const struct jwt_rules rules = {auth->settings->jwt_issuer, auth->settings->jwt_audience,
                                    auth->settings->jwt_leeway_s};
    const struct str value = str_trim(authorization);
    enum auth_verdict verdict = AUTH_INVALID;
    struct str token = {0};

    if (value.len == 0) {
        return AUTH_MISSING;
    }
    if (!read_bearer(value, &token)) {
        return AUTH_INVALID;
    }
    (void)pthread_rwlock_rdlock(&auth->lock);
    if (auth->jwt_keys != NULL && jwt_looks_like(token)) {
        verdict = jwt_verify(auth->jwt_keys, &rules, token, now_s, out);
    } else if (auth->api_keys != NULL) {
        verdict = api_keys_find(auth->api_keys, token, out) ? AUTH_OK : AUTH_INVALID;
    }
    (void)pthread_rwlock_unlock(&auth->lock);
    return verdict;
}
