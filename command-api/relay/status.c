#include "command-api/relay/status.h"

#include <inttypes.h>

static void print_slot(const struct relay_status *status, const char *slot, FILE *out) {
    if (!status->slot_found) {
        (void)fprintf(
            out, "slot        %s: missing (a relay that starts makes it, and catches up)\n", slot);
        return;
    }
    (void)fprintf(out, "slot        %s, held by %s, wal %s\n", slot,
                  status->active ? status->holder : "nobody", status->wal_status);
    (void)fprintf(out, "log         current %s, confirmed %s, kept from %s\n", status->current_lsn,
                  status->confirmed_lsn, status->restart_lsn);
    (void)fprintf(out, "lag         %" PRId64 " bytes, %.3f s, %" PRId64 " events\n",
                  status->lag_bytes, (double)status->lag_us / 1e6, status->lag_events);
}

static void print_partition(const struct relay_status *status, int32_t p, FILE *out) {
    const struct relay_partition_status *of = &status->of[p];

    if (!of->tail.present) {
        (void)fprintf(out, "%9" PRId32 "  empty, %" PRId64 " behind\n", p, of->behind);
    } else if (!of->known) {
        (void)fprintf(out, "%9" PRId32 "  %10" PRId64 "  an event that the table has not\n", p,
                      of->tail.offset);
    } else {
        (void)fprintf(out,
                      "%9" PRId32 "  %10" PRId64 "  %10" PRId64 "  %8" PRId64 "  %" PRIX64
                      "/%" PRIX64 " %" PRIu32 "  %s version %" PRId64 "\n",
                      p, of->tail.offset, of->position, of->behind, of->tail.commit_lsn >> 32,
                      of->tail.commit_lsn & UINT64_C(0xffffffff), of->tail.seq, of->stream_id,
                      of->version);
    }
}

bool relay_status_print(const struct relay_status *status, const char *slot, const char *topic,
                        FILE *out) {
    print_slot(status, slot, out);
    (void)fprintf(out,
                  "place       incarnation %" PRIu64 "; published for certain: transactions below "
                  "%" PRIu64 "\n",
                  status->incarnation, status->published_below);
    if (!status->topic_found) {
        (void)fprintf(out, "topic       %s: missing (a relay that starts makes it)\n", topic);
        return false;
    }
    (void)fprintf(out, "topic       %s, %" PRId32 " partitions\n", topic, status->partitions);
    (void)fprintf(out, "partition      offset    position    behind  lsn seq  last published\n");
    for (int32_t p = 0; p < status->partitions; p++) {
        print_partition(status, p, out);
    }
    return status->slot_found && status->active;
}
