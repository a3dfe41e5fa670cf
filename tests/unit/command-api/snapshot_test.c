/* Snapshots: through text and back, and what is wrong with one is seen. */
#include <criterion/criterion.h>
#include <string.h>

#include "command-api/snapshot.h"
#include "common/domain/account.h"

static struct stream_state state;
static struct stream_state again;
static struct stream_snapshot snapshot;
static struct buf text;
static struct arena arena;

static void set_up(void) {
    struct account *account = (void *)state.data.bytes;

    arena_init(&arena, 1024, 65536);
    buf_init(&text, 4096);
    memset(&state, 0, sizeof(state));
    account_aggregate.initial(state.data.bytes);
    account->balance_minor = INT64_MAX;
    memcpy(account->owner, "Zo\xc3\xab \"Z\"", 9);
    state.version = 123456;
    state.recorded_at_us = INT64_C(1700000000000001);
    memset(state.event_id.bytes, 7, sizeof(state.event_id.bytes));
    snapshot_write(&account_aggregate, "a-1", &state, &text, &snapshot);
}

static void tear_down(void) {
    arena_release(&arena);
    buf_release(&text);
}

TestSuite(snapshot, .init = set_up, .fini = tear_down);

static enum err_code read_back(void) {
    struct err err = {0};

    return snapshot_read(&account_aggregate, &snapshot, &arena, &again, &err);
}

Test(snapshot, what_is_written_is_read) {
    cr_assert_eq(read_back(), ERR_OK);
    cr_assert_eq(memcmp(again.data.bytes, state.data.bytes, account_aggregate.state_bytes), 0);
    cr_assert_eq(again.version, state.version);
    cr_assert_eq(again.recorded_at_us, state.recorded_at_us);
    cr_assert_arr_eq(again.event_id.bytes, state.event_id.bytes, 16);
}

Test(snapshot, each_damaged_byte_is_seen) {
    for (size_t i = 0; i < text.len; i++) {
        text.ptr[i] ^= 1;
        cr_assert_eq(read_back(), ERR_CORRUPT, "byte %zu", i);
        text.ptr[i] ^= 1;
    }
    cr_assert_eq(read_back(), ERR_OK);
}

Test(snapshot, each_other_column_counts) {
    const struct stream_snapshot good = snapshot;

    snapshot.version++;
    cr_assert_eq(read_back(), ERR_CORRUPT);
    snapshot = good;
    snapshot.recorded_at_us--;
    cr_assert_eq(read_back(), ERR_CORRUPT);
    snapshot = good;
    snapshot.event_id.bytes[15]++;
    cr_assert_eq(read_back(), ERR_CORRUPT);
    snapshot = good;
    snapshot.stream.stream_id = STR("a-2");
    cr_assert_eq(read_back(), ERR_CORRUPT);
    snapshot = good;
    snapshot.checksum++;
    cr_assert_eq(read_back(), ERR_CORRUPT);
}

Test(snapshot, the_layout_follows_the_fields) {
    struct aggregate other = account_aggregate;

    cr_assert_eq(snapshot.layout, snapshot_layout(&account_aggregate));
    other.state_field_count--;
    cr_assert_neq(snapshot_layout(&other), snapshot_layout(&account_aggregate));
}
