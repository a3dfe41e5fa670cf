/*
 * The key view: an account as it stands now, by its id, from a key-value read model. Fast, and
 * forgetful: a key that is missing does not mean that the account does not exist.
 *
 * A key view belongs to one event loop. It never blocks; its answers come later, on the same loop.
 */
#ifndef DAYBOOK_PORTS_KEY_VIEW_H
#define DAYBOOK_PORTS_KEY_VIEW_H

#include <stdint.h>

#include "common/base/err.h"
#include "common/base/str.h"
#include "common/domain/account.h"

/* An account at one version. */
struct account_view {
    int64_t version;
    int64_t status; /* enum account_status */
    int64_t balance_minor;
    int64_t opened_at_us;
    int64_t updated_at_us;
    char currency[ACCOUNT_CURRENCY_BYTES];
    char owner[ACCOUNT_OWNER_BYTES]; /* "": none */
};

/* ACCOUNT_NONE for anything but "open" and "closed". */
static inline enum account_status account_view_status(struct str name) {
    return str_eq(name, STR("open"))     ? ACCOUNT_OPEN
           : str_eq(name, STR("closed")) ? ACCOUNT_CLOSED
                                         : ACCOUNT_NONE;
}

/*
 * ERR_OK: `account`, borrowed for the call. ERR_NOT_FOUND: no such key. ERR_TIMEOUT,
 * ERR_UNAVAILABLE: no answer, ask elsewhere. ERR_CORRUPT: what is stored makes no sense. `account`
 * is NULL but for ERR_OK.
 */
typedef void key_view_fn(void *arg, enum err_code code, const struct account_view *account);

/* As above, but for ERR_NOT_FOUND and ERR_CORRUPT. */
typedef void key_mark_fn(void *arg, enum err_code code, uint64_t mark);

struct key_view {
    void *self;
    int32_t place_count; /* 1 … */
    /*
     * ERR_OK: `done` will be called exactly once, later (never inside this call), within the view's
     * time limit. Otherwise it won't: ERR_UNAVAILABLE: not connected; ERR_LIMIT: too many requests
     * in flight. `id` is borrowed for the call.
     */
    enum err_code (*account)(void *self, struct str id, key_view_fn *done, void *arg);
    /* Each account lies in one place, by its id alone. */
    int32_t (*place)(void *self, struct str id);
    /*
     * Every place has a mark, which changes in the same step as any account there. Who asks for the
     * mark and then for an account misses nothing: what the account does not show yet changes the
     * mark. Returns as above.
     */
    enum err_code (*mark)(void *self, int32_t place, key_mark_fn *done, void *arg);
};

#endif
