#include "common/ports/event_store.h"

enum err_code event_store_append(struct event_store *store, const struct append_batch *batch,
                                 struct err *err) {
    bool ended = false;
    enum err_code code = store->ops->append_begin(store, batch, err);

    while (code == ERR_OK && !ended) {
        code = store->ops->append_end(store, INT64_MAX, &ended, err);
    }
    return code;
}
