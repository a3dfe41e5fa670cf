/*
 * Who calls: API keys and JWTs from files, which are looked at once a second and read again when
 * they have changed. A changed file that can't be read or is wrong changes nothing: the keys before
 * stay, and the log says so. Requests go on meanwhile.
 */
#ifndef DAYBOOK_AUTH_AUTH_H
#define DAYBOOK_AUTH_AUTH_H

#include <stdint.h>

#include "common/auth/subject.h"
#include "common/base/err.h"
#include "common/base/log.h"
#include "common/config/auth_settings.h"
#include "common/runtime/metrics.h"

struct auth;

/*
 * As the settings want it for a server at `address`. *out stays NULL when anybody may call: they
 * say so, or they name no file and the address is loopback. ERR_INVALID: a file is wrong, or
 * anybody could call from elsewhere and nobody has said that they may. `settings`: borrowed.
 */
MUST_CHECK enum err_code auth_start(const struct auth_settings *settings, const char *address,
                                    struct log *log, struct metrics *metrics, struct auth **out,
                                    struct err *err);
/* NULL is fine. */
void auth_stop(struct auth *auth);

/* The value of one Authorization header ("" when there is none), on the wall clock's second. Any
 * thread. */
MUST_CHECK enum auth_verdict auth_check(struct auth *auth, struct str authorization, int64_t now_s,
                                        struct auth_subject *out);

#endif
