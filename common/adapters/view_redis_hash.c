#include "common/adapters/view_redis_hash.h"

#include <assert.h>
#include <string.h>

/* One bulk string of a request (Redis' protocol, RESP2). */
#define BULK(length, text) "$" #length "\r\n" text "\r\n"

enum {
    FIELD_VERSION,
    FIELD_STATUS,
    FIELD_CURRENCY,
    FIELD_OWNER,
    FIELD_BALANCE,
    FIELD_OPENED_AT,
    FIELD_UPDATED_AT,
    FIELDS
};

static const char ask_begin[] = "*9\r\n" BULK(5, "HMGET") "$";
/* In the order of the indices above. */
static const char ask_fields[] = BULK(7, "version") BULK(6, "status") BULK(8, "currency")
    BULK(5, "owner") BULK(13, "balance_minor") BULK(9, "opened_at") BULK(10, "updated_at");

void view_redis_hash_ask(struct buf *out, struct str key) {
    buf_clear(out);
    buf_put(out, ask_begin, sizeof(ask_begin) - 1);
    buf_put_i64(out, (int64_t)key.len);
    buf_put_text(out, "\r\n");
    buf_put_str(out, key);
    buf_put_text(out, "\r\n");
    buf_put(out, ask_fields, sizeof(ask_fields) - 1);
}

static struct str field(const redisReply *reply, size_t index) {
    const redisReply *element = reply->element[index];

    return element->type == REDIS_REPLY_STRING ? str_of(element->str, (size_t)element->len)
                                               : (struct str){0};
}

enum err_code view_redis_hash_read(const redisReply *reply, struct account_view *out) {
    size_t present = 0;

    if (reply->type == REDIS_REPLY_ERROR) {
        return strncmp(reply->str, "WRONGTYPE", 9) == 0 ? ERR_CORRUPT : ERR_UNAVAILABLE;
    }
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != FIELDS) {
        return ERR_CORRUPT;
    }
    for (size_t i = 0; i < FIELDS; i++) {
        present += reply->element[i]->type == REDIS_REPLY_STRING;
    }
    if (present == 0) {
        return ERR_NOT_FOUND;
    }
    out->status = account_view_status(field(reply, FIELD_STATUS));
    const bool whole =
        out->status != ACCOUNT_NONE && str_to_i64(field(reply, FIELD_VERSION), &out->version) &&
        out->version > 0 && str_to_i64(field(reply, FIELD_BALANCE), &out->balance_minor) &&
        str_to_i64(field(reply, FIELD_OPENED_AT), &out->opened_at_us) &&
        str_to_i64(field(reply, FIELD_UPDATED_AT), &out->updated_at_us) &&
        str_copy(out->currency, sizeof(out->currency), field(reply, FIELD_CURRENCY)) &&
        str_copy(out->owner, sizeof(out->owner), field(reply, FIELD_OWNER));
    return whole ? ERR_OK : ERR_CORRUPT;
}
