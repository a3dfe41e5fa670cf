#include "common/adapters/log_horizon.h"

#include "common/base/hash.h"

void log_look_set_holders(struct log_look *look, struct str text) {
    look->holder_count = 0;
    look->too_many = false;
    while (text.len > 0) {
        const char *space = memchr(text.ptr, ' ', text.len);
        const size_t len = space != NULL ? (size_t)(space - text.ptr) : text.len;
        const size_t skip = space != NULL ? len + 1 : len;
        if (look->holder_count == LOG_HORIZON_HOLDERS_MAX) {
            look->too_many = true;
            return;
        }
        /* Two that hash alike cost a little time, nothing else. */
        look->holders[look->holder_count++] = hash_fnv1a(HASH_FNV1A_START, str_of(text.ptr, len));
        text = str_of(text.ptr + skip, text.len - skip);
    }
}

void log_horizon_begin(const struct log_horizon *horizon, struct log_look *look) {
    look->begun = horizon->number;
}

static bool shares_a_holder(const struct log_look *a, const struct log_look *b) {
    for (size_t i = 0; i < a->holder_count; i++) {
        for (size_t j = 0; j < b->holder_count; j++) {
            if (a->holders[i] == b->holders[j]) {
                return true;
            }
        }
    }
    return false;
}

static void settle(struct log_horizon *horizon, int64_t position) {
    if (position > horizon->settled) {
        horizon->settled = position;
        horizon->settled_number = ++horizon->number;
    }
}

void log_horizon_advance(struct log_horizon *horizon, const struct log_look *look) {
    if (look->begun >= horizon->settled_number && look->newest < horizon->settled) {
        /* The log has become shorter: another server's, or an older state restored. */
        *horizon = (struct log_horizon){.number = horizon->number + 1};
        horizon->settled_number = horizon->number;
    }
    if (look->too_many) {
        return;
    }
    if (horizon->has_candidate && look->begun >= horizon->candidate_number &&
        !shares_a_holder(&horizon->candidate, look)) {
        settle(horizon, horizon->candidate.newest);
        horizon->has_candidate = false;
    }
    if (look->holder_count == 0) {
        settle(horizon, look->newest);
    } else if (!horizon->has_candidate) {
        horizon->candidate = *look;
        horizon->has_candidate = true;
        horizon->candidate_number = ++horizon->number;
    }
}
