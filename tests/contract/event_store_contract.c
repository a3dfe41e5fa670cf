/* The event store's contract, run against every adapter. */
#include <criterion/criterion.h>
#include <string.h>

#include "../support/environment.h"
#include "common/adapters/event_store_mem.h"
#include "common/adapters/event_store_pg.h"
#include "common/base/clock.h"

enum adapter { MEMORY, POSTGRESQL };

static struct uuid_source uuids;

static struct event_store *make(enum adapter adapter) {
    uuid_source_init(&uuids);
    if (adapter == MEMORY) {
        return event_store_mem_new();
    }
    return event_store_pg_new(&(struct event_store_pg_options){
        .url = stack_environment("DAYBOOK_TEST_COMMAND_URL"),
        .connect_timeout_ms = 5000,
        .statement_timeout_ms = 5000,
    });
}

static struct recorded_event event_of(const char *stream, int64_t version) {
    return (struct recorded_event){
        .event_id = uuid_next(&uuids, clock_wall_us()),
        .aggregate_type = STR("account"),
        .stream_id = str_from(stream),
        .version = version,
        .event_type = STR("MoneyDeposited"),
        .schema_version = 1,
        .payload = STR("{\"text\":\"gr\xc3\xbc\xc3\x9f \\\"x\\\"\"}"),
        .correlation_id = STR("corr"),
        .command = STR("Deposit"),
        .recorded_at_us = INT64_C(1700000000000001) + version,
    };
}

static struct command_outcome outcome_of(const char *stream, const char *key) {
    return (struct command_outcome){
        .stream = {STR("account"), str_from(stream)},
        .key = str_from(key),
        .request_hash = -42,
        .status = 409,
        .version = 7,
        .body = STR("{\"code\":\"x\"}\n"),
        .recorded_at_us = INT64_C(1700000000000001),
    };
}

static enum err_code append(struct event_store *store, const struct recorded_event *events,
                            size_t event_count, const struct command_outcome *outcomes,
                            size_t outcome_count) {
    const struct append_batch batch = {events, event_count, outcomes, outcome_count};
    struct err err = {0};

    return event_store_append(store, &batch, &err);
}

struct seen {
    size_t snapshot_count;
    enum snapshot_fit fit;
    struct stream_snapshot snapshot; /* its state in snapshot_state */
    char snapshot_state[64];
    int64_t versions[16];
    size_t streams[16];
    size_t count;
    struct uuid last_id;
    char payload[128];
    int64_t recorded_at_us;
    size_t actor_len;
};

static enum err_code see(void *arg, size_t stream, const struct recorded_event *event,
                         struct err *err) {
    struct seen *seen = arg;

    (void)err;
    seen->versions[seen->count] = event->version;
    seen->streams[seen->count++] = stream;
    seen->last_id = event->event_id;
    seen->recorded_at_us = event->recorded_at_us;
    seen->actor_len = event->actor.len;
    cr_assert(str_copy(seen->payload, sizeof(seen->payload), event->payload));
    return ERR_OK;
}

static void see_snapshot(void *arg, size_t stream, const struct stream_snapshot *snapshot,
                         enum snapshot_fit fit) {
    struct seen *seen = arg;

    cr_assert_eq(stream, 0);
    cr_assert_eq(seen->count, 0, "before the events");
    seen->snapshot_count++;
    seen->snapshot = *snapshot;
    seen->fit = fit;
    cr_assert(str_copy(seen->snapshot_state, sizeof(seen->snapshot_state), snapshot->state));
}

/* As a service does that knows states of layout 77. */
static struct seen load_from_snapshot(struct event_store *store, const char *stream,
                                      int64_t after) {
    const struct stream_from from = {.stream = {STR("account"), str_from(stream)},
                                     .after_version = after,
                                     .from_snapshot = true,
                                     .layout = 77};
    struct seen seen = {0};
    struct err err = {0};

    cr_assert_eq(store->ops->load(store, &from, 1, see_snapshot, see, &seen, &err), ERR_OK, "%s",
                 err.message);
    return seen;
}

static void save(struct event_store *store, const struct recorded_event *event, int64_t layout,
                 const char *state) {
    const struct stream_snapshot snapshot = {
        .stream = {STR("account"), event->stream_id},
        .version = event->version,
        .event_id = event->event_id,
        .recorded_at_us = event->recorded_at_us,
        .layout = layout,
        .checksum = -5,
        .state = str_from(state),
    };
    struct err err = {0};

    cr_assert_eq(store->ops->save_snapshots(store, &snapshot, 1, &err), ERR_OK, "%s", err.message);
}

static struct seen load(struct event_store *store, const char *stream, int64_t after) {
    const struct stream_from from = {.stream = {STR("account"), str_from(stream)},
                                     .after_version = after};
    struct seen seen = {0};
    struct err err = {0};

    cr_assert_eq(store->ops->load(store, &from, 1, NULL, see, &seen, &err), ERR_OK, "%s",
                 err.message);
    return seen;
}

static void see_outcome(void *arg, size_t index, const struct command_outcome *outcome) {
    struct command_outcome *copy = arg;

    (void)index;
    *copy = *outcome;
    copy->body = (struct str){outcome->body.len == 13 ? "13 bytes" : NULL, outcome->body.len};
}

#define EACH_ADAPTER(name)                               \
    static void check_##name(struct event_store *store); \
    Test(event_store_contract, name##_memory) {          \
        struct event_store *store = make(MEMORY);        \
        check_##name(store);                             \
        store->ops->free(store);                         \
    }                                                    \
    Test(event_store_contract, name##_postgresql) {      \
        struct event_store *store = make(POSTGRESQL);    \
        check_##name(store);                             \
        store->ops->free(store);                         \
    }                                                    \
    static void check_##name(struct event_store *store)

EACH_ADAPTER(what_was_appended_is_loaded) {
    const char *id = fresh_id("s");
    const struct recorded_event events[] = {event_of(id, 1), event_of(id, 2), event_of(id, 3)};

    cr_assert_eq(append(store, events, 3, NULL, 0), ERR_OK);
    const struct seen all = load(store, id, 0);
    cr_assert_eq(all.count, 3);
    cr_assert_eq(all.versions[0], 1);
    cr_assert_eq(all.versions[2], 3);
    cr_assert_eq(memcmp(&all.last_id, &events[2].event_id, sizeof(all.last_id)), 0);
    cr_assert_str_eq(all.payload, events[2].payload.ptr);
    cr_assert_eq(all.recorded_at_us, events[2].recorded_at_us);
    cr_assert_eq(all.actor_len, 0);
    cr_assert_eq(load(store, id, 2).count, 1);
    cr_assert_eq(load(store, fresh_id("none"), 0).count, 0);
}

EACH_ADAPTER(a_taken_version_is_a_conflict_and_leaves_nothing) {
    const char *id = fresh_id("s");
    const char *other = fresh_id("o");
    const struct recorded_event first = event_of(id, 1);
    const struct recorded_event again[] = {event_of(other, 1), event_of(id, 1)};
    const struct command_outcome outcome = outcome_of(other, "k");

    cr_assert_eq(append(store, &first, 1, NULL, 0), ERR_OK);
    cr_assert_eq(append(store, again, 2, &outcome, 1), ERR_CONFLICT);
    cr_assert_eq(load(store, id, 0).count, 1);
    cr_assert_eq(load(store, other, 0).count, 0);
    cr_assert_eq(append(store, again, 1, &outcome, 1), ERR_OK, "nothing of it had stayed");
}

EACH_ADAPTER(a_key_is_kept_once_with_its_answer) {
    const char *id = fresh_id("s");
    const struct command_outcome outcome = outcome_of(id, "key-1");
    const struct recorded_event event = event_of(id, 1);
    const struct outcome_key key = {outcome.stream, outcome.key};
    const struct outcome_key unknown = {outcome.stream, STR("key-2")};
    struct command_outcome found = {0};
    struct err err = {0};

    cr_assert_eq(append(store, NULL, 0, &outcome, 1), ERR_OK);
    cr_assert_eq(append(store, &event, 1, &outcome, 1), ERR_CONFLICT);
    cr_assert_eq(load(store, id, 0).count, 0);
    cr_assert_eq(store->ops->find_outcomes(store, &key, 1, see_outcome, &found, &err), ERR_OK);
    cr_assert_eq(found.request_hash, -42);
    cr_assert_eq(found.status, 409);
    cr_assert_eq(found.version, 7);
    cr_assert_eq(found.body.len, 13);
    cr_assert_eq(found.recorded_at_us, outcome.recorded_at_us);
    found.status = 0;
    cr_assert_eq(store->ops->find_outcomes(store, &unknown, 1, see_outcome, &found, &err), ERR_OK);
    cr_assert_eq(found.status, 0);
}

EACH_ADAPTER(whether_a_batch_took_effect_can_be_asked) {
    const char *id = fresh_id("s");
    const struct recorded_event done = event_of(id, 1);
    const struct recorded_event never = event_of(id, 1);
    const struct command_outcome outcome = outcome_of(id, "k");
    bool appended = false;
    struct err err = {0};

    cr_assert_eq(append(store, &done, 1, NULL, 0), ERR_OK);
    cr_assert_eq(
        store->ops->was_appended(store, &(struct append_batch){&done, 1, NULL, 0}, &appended, &err),
        ERR_OK);
    cr_assert(appended);
    cr_assert_eq(store->ops->was_appended(store, &(struct append_batch){&never, 1, NULL, 0},
                                          &appended, &err),
                 ERR_OK);
    cr_assert_not(appended);
    cr_assert_eq(store->ops->was_appended(store, &(struct append_batch){NULL, 0, &outcome, 1},
                                          &appended, &err),
                 ERR_OK);
    cr_assert_not(appended);
    cr_assert_eq(append(store, NULL, 0, &outcome, 1), ERR_OK);
    cr_assert_eq(store->ops->was_appended(store, &(struct append_batch){NULL, 0, &outcome, 1},
                                          &appended, &err),
                 ERR_OK);
    cr_assert(appended);
}

static enum err_code end_of(struct event_store *store) {
    bool ended = false;
    struct err err = {0};
    enum err_code code = ERR_OK;

    while (code == ERR_OK && !ended) {
        code = store->ops->append_end(store, INT64_MAX, &ended, &err);
    }
    return code;
}

EACH_ADAPTER(appends_on_their_way_at_once_stand_each_by_itself) {
    const char *taken = fresh_id("t");
    const char *id = fresh_id("s");
    const struct recorded_event first = event_of(taken, 1);
    const struct recorded_event again[] = {event_of(fresh_id("n"), 1), event_of(taken, 1)};
    const struct recorded_event later = event_of(id, 1);
    struct err err = {0};

    cr_assert_eq(append(store, &first, 1, NULL, 0), ERR_OK);
    cr_assert_eq(store->ops->append_begin(store, &(struct append_batch){again, 2, NULL, 0}, &err),
                 ERR_OK);
    cr_assert_eq(store->ops->append_begin(store, &(struct append_batch){&later, 1, NULL, 0}, &err),
                 ERR_OK);
    cr_assert_eq(end_of(store), ERR_CONFLICT);
    cr_assert_eq(end_of(store), ERR_OK);
    cr_assert_eq(load(store, id, 0).count, 1);
    cr_assert_eq(load(store, taken, 0).count, 1);
}

EACH_ADAPTER(appends_take_effect_in_the_order_begun) {
    const char *id = fresh_id("s");
    const struct recorded_event events[] = {event_of(id, 1), event_of(id, 2), event_of(id, 3)};
    struct err err = {0};
    struct seen seen;

    for (size_t i = 0; i < 3; i++) { /* the next is begun before the last has ended */
        cr_assert_eq(
            store->ops->append_begin(store, &(struct append_batch){&events[i], 1, NULL, 0}, &err),
            ERR_OK);
        if (i > 0) {
            cr_assert_eq(end_of(store), ERR_OK);
        }
    }
    cr_assert_eq(end_of(store), ERR_OK);
    seen = load(store, id, 0);
    cr_assert_eq(seen.count, 3);
    cr_assert_eq(seen.versions[2], 3);
}

EACH_ADAPTER(waiting_for_an_append_can_be_bounded) {
    const struct recorded_event event = event_of(fresh_id("s"), 1);
    bool ended = false;
    struct err err = {0};

    cr_assert_eq(store->ops->append_begin(store, &(struct append_batch){&event, 1, NULL, 0}, &err),
                 ERR_OK);
    cr_assert_eq(store->ops->append_end(store, clock_monotonic_us(), &ended, &err), ERR_OK,
                 "not a fate");
    if (!ended) {
        cr_assert_eq(end_of(store), ERR_OK);
    }
    cr_assert_eq(load(store, event.stream_id.ptr, 0).count, 1);
}

EACH_ADAPTER(several_streams_are_loaded_at_once_in_order) {
    const char *a = fresh_id("a");
    const char *b = fresh_id("b");
    const struct recorded_event events[] = {event_of(a, 1), event_of(b, 1), event_of(a, 2)};
    const struct stream_from from[] = {{.stream = {STR("account"), str_from(b)}},
                                       {.stream = {STR("account"), str_from(a)}},
                                       {.stream = {STR("order"), str_from(a)}}};
    struct seen seen = {0};
    struct err err = {0};

    cr_assert_eq(append(store, events, 3, NULL, 0), ERR_OK);
    cr_assert_eq(store->ops->load(store, from, 3, NULL, see, &seen, &err), ERR_OK);
    cr_assert_eq(seen.count, 3);
    cr_assert_eq(seen.streams[0], 0);
    cr_assert_eq(seen.streams[1], 1);
    cr_assert_eq(seen.versions[2], 2);
}

EACH_ADAPTER(a_snapshot_that_fits_stands_for_the_events_before_it) {
    const char *id = fresh_id("n");
    const struct recorded_event events[] = {event_of(id, 1), event_of(id, 2), event_of(id, 3)};

    cr_assert_eq(append(store, events, 3, NULL, 0), ERR_OK);
    save(store, &events[1], 77, "{\"x\":2}");
    const struct seen seen = load_from_snapshot(store, id, 0);
    cr_assert_eq(seen.snapshot_count, 1);
    cr_assert_eq(seen.fit, SNAPSHOT_FITS);
    cr_assert_str_eq(seen.snapshot_state, "{\"x\":2}");
    cr_assert_eq(seen.snapshot.version, 2);
    cr_assert_eq(seen.snapshot.checksum, -5);
    cr_assert_eq(seen.snapshot.layout, 77);
    cr_assert_eq(seen.snapshot.recorded_at_us, events[1].recorded_at_us);
    cr_assert_arr_eq(seen.snapshot.event_id.bytes, events[1].event_id.bytes, 16);
    cr_assert_eq(seen.count, 1);
    cr_assert_eq(seen.versions[0], 3);
}

EACH_ADAPTER(a_snapshot_of_the_last_event_leaves_none) {
    const char *id = fresh_id("n");
    const struct recorded_event events[] = {event_of(id, 1), event_of(id, 2)};

    cr_assert_eq(append(store, events, 2, NULL, 0), ERR_OK);
    save(store, &events[1], 77, "{}");
    const struct seen seen = load_from_snapshot(store, id, 0);
    cr_assert_eq(seen.fit, SNAPSHOT_FITS);
    cr_assert_eq(seen.snapshot_count, 1);
    cr_assert_eq(seen.count, 0);
}

EACH_ADAPTER(a_snapshot_of_another_layout_is_shown_and_all_events_follow) {
    const char *id = fresh_id("n");
    const struct recorded_event events[] = {event_of(id, 1), event_of(id, 2)};

    cr_assert_eq(append(store, events, 2, NULL, 0), ERR_OK);
    save(store, &events[1], 76, "{}");
    const struct seen seen = load_from_snapshot(store, id, 0);
    cr_assert_eq(seen.snapshot_count, 1);
    cr_assert_eq(seen.fit, SNAPSHOT_OTHER_LAYOUT);
    cr_assert_str_empty(seen.snapshot_state);
    cr_assert_eq(seen.count, 2);
}

EACH_ADAPTER(a_snapshot_of_an_event_that_the_log_lacks_is_shown_and_all_events_follow) {
    const char *id = fresh_id("n");
    const struct recorded_event events[] = {event_of(id, 1), event_of(id, 2)};
    const struct recorded_event future = event_of(id, 5);
    const struct recorded_event foreign = event_of(id, 2); /* the version is there, not the event */

    cr_assert_eq(append(store, events, 2, NULL, 0), ERR_OK);
    save(store, &future, 77, "{}");
    struct seen seen = load_from_snapshot(store, id, 0);
    cr_assert_eq(seen.fit, SNAPSHOT_OTHER_LOG);
    cr_assert_eq(seen.count, 2);
    save(store, &foreign, 77, "{}");
    seen = load_from_snapshot(store, id, 0);
    cr_assert_eq(seen.snapshot_count, 1);
    cr_assert_eq(seen.snapshot.version, 2, "the former one was replaced");
    cr_assert_eq(seen.fit, SNAPSHOT_OTHER_LOG);
    cr_assert_eq(seen.count, 2);
}

EACH_ADAPTER(a_snapshot_of_a_stream_without_events_is_shown) {
    const char *id = fresh_id("n");
    const struct recorded_event gone = event_of(id, 3);

    save(store, &gone, 77, "{}");
    const struct seen seen = load_from_snapshot(store, id, 0);
    cr_assert_eq(seen.snapshot_count, 1);
    cr_assert_eq(seen.fit, SNAPSHOT_OTHER_LOG);
    cr_assert_eq(seen.count, 0);
}

EACH_ADAPTER(a_snapshot_is_not_shown_to_who_does_not_want_it) {
    const char *id = fresh_id("n");
    const struct recorded_event events[] = {event_of(id, 1), event_of(id, 2)};

    cr_assert_eq(append(store, events, 2, NULL, 0), ERR_OK);
    save(store, &events[1], 77, "{}");
    cr_assert_eq(load(store, id, 0).count, 2);
    cr_assert_eq(load(store, id, 1).count, 1);
}
