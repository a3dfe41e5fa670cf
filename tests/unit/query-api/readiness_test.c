#include "query-api/readiness.h"

#include <criterion/criterion.h>
#include <string.h>

static struct health *health;
static struct readiness readiness;
static struct view_state_listener redis;
static struct view_state_listener postgresql;

static void set_up(void) {
    health = health_new("query-api");
    readiness_init(&readiness, health);
    redis = readiness_listen(&readiness, "redis");
    postgresql = readiness_listen(&readiness, "postgresql");
}

static void tear_down(void) {
    readiness_release(&readiness);
    health_free(health);
}

TestSuite(readiness, .init = set_up, .fini = tear_down);

static void tell(const struct view_state_listener *listener, enum view_state state) {
    listener->changed(listener->arg, state, state == VIEW_UP ? "" : "because");
}

static bool shows(const char *text) {
    struct buf out;

    buf_init(&out, 4096);
    health_render(health, &out);
    const bool found = strstr(out.ptr, text) != NULL;
    buf_release(&out);
    return found;
}

Test(readiness, needs_both_stores_once) {
    cr_expect_not(health_ready(health));
    tell(&redis, VIEW_UP);
    cr_expect_not(health_ready(health));
    tell(&postgresql, VIEW_UP);
    cr_expect(health_ready(health));
    cr_expect(shows("\"status\":\"ready\""));
}

Test(readiness, survives_the_loss_of_either_and_says_so) {
    tell(&redis, VIEW_UP);
    tell(&postgresql, VIEW_UP);

    tell(&redis, VIEW_DOWN);
    cr_expect(health_ready(health));
    cr_expect(shows("\"degraded\""));
    cr_expect(shows("because"));
    tell(&redis, VIEW_UP);
    tell(&postgresql, VIEW_DOWN);
    cr_expect(health_ready(health));
    cr_expect(shows("\"degraded\""));
}

Test(readiness, ends_with_the_loss_of_both_and_returns_with_one) {
    tell(&redis, VIEW_UP);
    tell(&postgresql, VIEW_UP);

    tell(&redis, VIEW_DOWN);
    tell(&postgresql, VIEW_DOWN);
    cr_expect_not(health_ready(health));
    tell(&postgresql, VIEW_UP);
    cr_expect(health_ready(health));
}

Test(readiness, a_store_that_is_the_wrong_one_is_never_ready) {
    tell(&postgresql, VIEW_UP);
    tell(&redis, VIEW_WRONG);
    cr_expect_not(health_ready(health));
    cr_expect(shows("because"));
}
