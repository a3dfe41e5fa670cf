#include "query-api/watch.h"

#include <assert.h>

#include "common/base/clock.h"
#include "common/base/mem.h"

enum {
    LOOK_FIRST_US = 1000, /* while somebody came in the last LOOK_SLOWER_US */
    LOOK_PER_WATCHED_US =
        60, /* later with each that waits: where many do, the processors are busy */
    LOOK_LATER_US = 5000,
    LOOK_SLOWER_US = 500000,
    LOOK_FAILED_US = 25000,
    /* A place where n wait is not looked through again before n times this has passed: so a busy
     * log with many that wait takes a part of the processor, not all of it. */
    PER_WATCHED_US = 30,
};

struct place {
    struct watch *watch;
    struct watched *first;
    size_t count;
    bool known;
    bool changed; /* and not looked through yet */
    bool asked;   /* its mark is on its way */
    bool failed;  /* it could not be read: whoever waits must look when it can */
    uint64_t mark;
    int64_t not_before_us;
};

struct watch {
    struct loop *loop;
    struct key_view keys;
    watch_look_fn *look;
    struct place *places;
    int32_t place_count;
    size_t count;
    int64_t newest_us; /* when the last one came */
    uint64_t timer;
    bool failed; /* the last mark could not be read */
};

static void look_through(struct place *place) {
    struct watched *next = NULL;

    place->changed = false;
    place->not_before_us = clock_monotonic_us() + (int64_t)place->count * PER_WATCHED_US;
    for (struct watched *at = place->first; at != NULL; at = next) {
        next = at->next;
        place->watch->look(at);
    }
}

static void look_through_if_changed(struct place *place) {
    if (place->changed && clock_monotonic_us() >= place->not_before_us) {
        look_through(place);
    }
}

static void fail(struct place *place) {
    place->watch->failed = true;
    place->known = false;
    place->failed = true;
    place->changed = true;
}

static void on_mark(void *arg, enum err_code code, uint64_t mark) {
    struct place *place = arg;

    place->asked = false;
    if (code != ERR_OK) {
        fail(place);
    } else {
        /* One that is not known was asked for before those who wait looked. */
        place->changed = place->changed || place->failed || (place->known && place->mark != mark);
        place->known = true;
        place->failed = false;
        place->mark = mark;
    }
    look_through_if_changed(place);
}

static void ask(struct place *place) {
    const struct watch *watch = place->watch;

    if (place->asked) {
        return;
    }
    const int32_t index = (int32_t)(place - watch->places);
    const enum err_code code = watch->keys.mark(watch->keys.self, index, on_mark, place);
    place->asked = code == ERR_OK;
    if (code != ERR_OK) {
        fail(place);
    }
}

static void arm(struct watch *watch);

static void on_timer(void *arg) {
    struct watch *watch = arg;

    watch->timer = 0;
    watch->failed = false;
    for (int32_t i = 0; i < watch->place_count; i++) {
        struct place *place = &watch->places[i];
        if (place->count > 0) {
            ask(place);
            look_through_if_changed(place);
        }
    }
    arm(watch);
}

static int64_t interval_us(const struct watch *watch) {
    const int64_t fresh_us = LOOK_FIRST_US + (int64_t)watch->count * LOOK_PER_WATCHED_US;
    const bool is_fresh = clock_monotonic_us() - watch->newest_us < LOOK_SLOWER_US;

    return watch->failed                          ? LOOK_FAILED_US
           : is_fresh && fresh_us < LOOK_LATER_US ? fresh_us
                                                  : LOOK_LATER_US;
}

static void arm(struct watch *watch) {
    if (watch->timer == 0 && watch->count > 0) {
        watch->timer = loop_after(watch->loop, interval_us(watch), on_timer, watch);
        assert(watch->timer != 0);
    }
}

void watch_add(struct watch *watch, struct watched *watched, struct str id) {
    watched->place = watch->keys.place(watch->keys.self, id);
    assert(!watched->on && watched->place < watch->place_count);
    struct place *place = &watch->places[watched->place];
    watched->on = true;
    watched->previous = NULL;
    watched->next = place->first;
    if (place->first != NULL) {
        place->first->previous = watched;
    }
    place->first = watched;
    place->count++;
    watch->count++;
    watch->newest_us = clock_monotonic_us();
    if (!place->known) {
        ask(place);
    }
    arm(watch);
}

void watch_remove(struct watch *watch, struct watched *watched) {
    struct place *place = &watch->places[watched->place];

    if (!watched->on) {
        return;
    }
    watched->on = false;
    if (watched->previous != NULL) {
        watched->previous->next = watched->next;
    } else {
        place->first = watched->next;
    }
    if (watched->next != NULL) {
        watched->next->previous = watched->previous;
    }
    place->count--;
    watch->count--;
    if (place->count == 0) {
        place->known = false; /* from now on nobody follows it */
        place->changed = false;
        place->failed = false;
    }
}

struct watch *watch_new(struct loop *loop, const struct key_view *keys, watch_look_fn *look) {
    struct watch *watch = mem_zalloc(sizeof(*watch));

    watch->loop = loop;
    watch->keys = *keys;
    watch->look = look;
    watch->place_count = keys->place_count;
    watch->places = mem_array((size_t)keys->place_count, sizeof(watch->places[0]));
    for (int32_t i = 0; i < watch->place_count; i++) {
        watch->places[i].watch = watch;
    }
    return watch;
}

void watch_free(struct watch *watch) {
    if (watch != NULL) {
        mem_free(watch->places);
        mem_free(watch);
    }
}
