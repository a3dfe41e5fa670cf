#include "common/adapters/view_redis_row.h"

#include <string.h>

#include "common/adapters/redis_model.h"

/* The pieces of an account's element: its columns in their order, the version before all others. */
enum {
    PIECE_VERSION,
    PIECE_STATUS,
    PIECE_CURRENCY,
    PIECE_OWNER,
    PIECE_BALANCE,
    PIECE_OPENED_AT,
    PIECE_UPDATED_AT,
    PIECES
};

void view_redis_row_ask(struct buf *out, struct str key) {
    buf_clear(out);
    buf_put_text(out, "*2\r\n$3\r\nGET\r\n$");
    buf_put_i64(out, (int64_t)key.len);
    buf_put_text(out, "\r\n");
    buf_put_str(out, key);
    buf_put_text(out, "\r\n");
}

static bool read_pieces(struct str text, struct account_view *out) {
    struct str pieces[PIECES];

    for (size_t i = 0; i < PIECES; i++) {
        if (!redis_model_cut_piece(&text, &pieces[i])) {
            return false;
        }
    }
    out->status = account_view_status(pieces[PIECE_STATUS]);
    return text.ptr == NULL && out->status != ACCOUNT_NONE &&
           str_to_i64(pieces[PIECE_VERSION], &out->version) && out->version > 0 &&
           str_to_i64(pieces[PIECE_BALANCE], &out->balance_minor) &&
           str_to_i64(pieces[PIECE_OPENED_AT], &out->opened_at_us) &&
           str_to_i64(pieces[PIECE_UPDATED_AT], &out->updated_at_us) &&
           redis_model_copy_piece(out->currency, sizeof(out->currency), pieces[PIECE_CURRENCY]) &&
           redis_model_copy_piece(out->owner, sizeof(out->owner), pieces[PIECE_OWNER]);
}

enum err_code view_redis_row_read(const redisReply *reply, struct account_view *out) {
    switch (reply->type) {
    case REDIS_REPLY_NIL:
        return ERR_NOT_FOUND;
    case REDIS_REPLY_ERROR:
        return strncmp(reply->str, "WRONGTYPE", 9) == 0 ? ERR_CORRUPT : ERR_UNAVAILABLE;
    case REDIS_REPLY_STRING:
        return read_pieces(str_of(reply->str, reply->len), out) ? ERR_OK : ERR_CORRUPT;
    default:
        return ERR_CORRUPT;
    }
}
