/* A rebuild of all that is held at a known point, so that a test can do to it what it has in mind:
 * by a lock in the read models' database, which a session of the test's own has. */
#ifndef DAYBOOK_TESTS_SUPPORT_HELD_REBUILD_H
#define DAYBOOK_TESTS_SUPPORT_HELD_REBUILD_H

enum held_at {
    HELD_WITH_PLACES,  /* in all stores; it reads the log, but nothing of it is written */
    HELD_AT_SWITCHING, /* the accounts in PostgreSQL, whole; Redis may have switched */
};

struct held_rebuild;

/* From now on; others who need the lock wait too. */
struct held_rebuild *rebuild_hold(enum held_at point);
/* Waits until a rebuild stands there; the test fails when none does. */
void rebuild_await_held(const struct held_rebuild *held);
/* Lets it go on, and frees. */
void rebuild_let_go(struct held_rebuild *held);

#endif
