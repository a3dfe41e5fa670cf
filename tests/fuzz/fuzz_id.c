/*
 * Ids of streams and UUIDs, as clients may send them. What must hold:
 *  1. An id is acceptable exactly when an oracle with a table of its own says so.
 *  2. The API takes an id in a body, in a path as it is, and in a path with every byte escaped,
 *     and each time exactly when it is acceptable and unchanged.
 *  3. A UUID is accepted exactly in its 36-character form; printed it is the same in lower case.
 */
#include <ctype.h>
#include <string.h>

#include "common/base/uuid.h"
#include "common/domain/aggregate.h"
#include "tests/fuzz/expect.h"
#include "tests/fuzz/fake_server.h"

enum { ID_BYTES_MAX = 512, CALL_BYTES_MAX = 8 * ID_BYTES_MAX };

static const struct fake_header headers[] = {{{"Content-Type", 12}, {"application/json", 16}}};

static bool is_acceptable(struct str id) {
    char text[STREAM_ID_BYTES_MAX + 1];

    return id.len > 0 && id.len <= 128 && str_copy(text, sizeof(text), id) && text[0] != '.' &&
           strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~:@") ==
               id.len;
}

static void check_uuid(struct str text) {
    struct uuid uuid;
    char printed[UUID_TEXT_BYTES];
    bool good = text.len == 36;

    for (size_t i = 0; good && i < 36; i++) {
        const char c = text.ptr[i];
        good = i == 8 || i == 13 || i == 18 || i == 23
                   ? c == '-'
                   : c != '\0' && strchr("0123456789abcdefABCDEF", c) != NULL;
    }
    EXPECT(uuid_parse(text, &uuid) == good, "UUID %.*s", STR_ARG(text));
    if (good) {
        uuid_format(printed, &uuid);
        EXPECT(str_eq_nocase(str_from(printed), text), "%s", printed);
        for (size_t i = 0; i < 36; i++) {
            EXPECT(isupper((unsigned char)printed[i]) == 0, "%s", printed);
        }
    }
}

/* The API's judgement of one way to say the id. */
static void check_call(const char *path, const char *body, struct str id) {
    const struct fake_call call = {headers, ARRAY_LEN(headers), str_from(path), str_from(body)};
    const struct fake_result result = fake_server_post(0, &call);
    const bool good = is_acceptable(id);

    EXPECT((result.outcome == FAKE_SUBMITTED) == good, "%s %s", path, body);
    if (good) {
        EXPECT(str_eq(str_from(result.job->command.stream_id), id), "%s became %s", path,
               result.job->command.stream_id);
    }
}

static void put_escaped(struct buf *out, struct str id) {
    for (size_t i = 0; i < id.len; i++) {
        buf_printf(out, "%%%02X", (unsigned)(unsigned char)id.ptr[i]);
    }
}

static void check_api(struct str id) {
    struct buf path;
    struct buf body;
    const bool has_nul = id.len > 0 && memchr(id.ptr, '\0', id.len) != NULL;

    buf_init(&path, CALL_BYTES_MAX);
    buf_init(&body, CALL_BYTES_MAX);
    buf_put_text(&path, "/accounts/");
    put_escaped(&path, id);
    buf_put_text(&path, "/close");
    check_call(path.ptr, "", id); /* a NUL, too, is refused: nothing is cut off at it */
    buf_clear(&path);
    /* As it is, only where nothing in it has a meaning in URLs. */
    if (!has_nul && memchr(id.ptr, '%', id.len) == NULL && memchr(id.ptr, '/', id.len) == NULL) {
        buf_put_text(&path, "/accounts/");
        buf_put_str(&path, id);
        buf_put_text(&path, "/close");
        check_call(path.ptr, "", id);
    }
    if (!has_nul && str_is_utf8(id)) {
        buf_put_text(&body, "{\"id\":");
        buf_put_json_str(&body, id);
        buf_put_char(&body, '}');
        check_call("/accounts", body.ptr, id);
    }
    EXPECT(!buf_failed(&path) && !buf_failed(&body), "the fuzzer's buffers are too small");
    buf_release(&path);
    buf_release(&body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const struct str id = str_of((const char *)data, size);
    struct err err = {0};

    if (size == 0 || size > ID_BYTES_MAX) {
        EXPECT(size > 0 || stream_id_check(id, &err) == ERR_INVALID, "an empty id");
        return 0;
    }
    const enum err_code code = stream_id_check(id, &err);
    EXPECT(code == (is_acceptable(id) ? ERR_OK : ERR_INVALID), "%s", err.message);
    EXPECT(code == ERR_OK || (err.message[0] != '\0' && str_is_utf8(str_from(err.message))),
           "no readable message");
    check_uuid(id);
    check_api(id);
    return 0;
}
