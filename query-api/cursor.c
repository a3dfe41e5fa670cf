#include "query-api/cursor.h"

#include <endian.h>
#include <string.h>

#include "common/base/hash.h"

enum {
    CHECK_BYTES = 4,
    RAW_BYTES_MAX = CURSOR_PLACE_BYTES_MAX + CHECK_BYTES,
    TEXT_BYTES_MAX = (RAW_BYTES_MAX + 2) / 3 * 4,
};

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static uint32_t check_of(const struct cursor_kind *kind, struct str place) {
    uint64_t hash = hash_fnv1a(HASH_FNV1A_START, str_from(kind->purpose));

    /* The separator keeps ("a", "bc") and ("ab", "c") apart; ids hold no NUL. */
    hash = hash_fnv1a(hash, str_of("", 1));
    hash = hash_fnv1a(hash, kind->scope);
    hash = hash_fnv1a(hash, str_of("", 1));
    hash = hash_fnv1a(hash, place);
    return (uint32_t)(hash ^ (hash >> 32));
}

static size_t base64_encode(char *out, const uint8_t *in, size_t len) {
    size_t written = 0;
    uint32_t bits = 0;
    unsigned held = 0;

    for (size_t i = 0; i < len; i++) {
        bits = (bits << 8) | in[i];
        held += 8;
        while (held >= 6) {
            held -= 6;
            out[written++] = alphabet[(bits >> held) & 63];
        }
    }
    if (held > 0) {
        out[written++] = alphabet[(bits << (6 - held)) & 63];
    }
    return written;
}

/* False for a foreign character, or for left-over bits that are not zero: each cursor has one
 * spelling. */
static bool base64_decode(uint8_t out[RAW_BYTES_MAX], struct str in, size_t *len) {
    uint32_t bits = 0;
    unsigned held = 0;

    *len = 0;
    if (in.len > TEXT_BYTES_MAX) {
        return false;
    }
    for (size_t i = 0; i < in.len; i++) {
        const char *at = in.ptr[i] != '\0' ? strchr(alphabet, in.ptr[i]) : NULL;
        if (at == NULL) {
            return false;
        }
        bits = (bits << 6) | (uint32_t)(at - alphabet);
        held += 6;
        if (held >= 8) {
            held -= 8;
            if (*len == RAW_BYTES_MAX) {
                return false;
            }
            out[(*len)++] = (uint8_t)(bits >> held);
        }
    }
    return held < 6 && (bits & ((1u << held) - 1)) == 0;
}

struct str cursor_encode(struct arena *arena, const struct cursor_kind *kind, struct str place) {
    const uint32_t check = htobe32(check_of(kind, place));
    uint8_t raw[RAW_BYTES_MAX];
    char text[TEXT_BYTES_MAX];

    if (place.len > CURSOR_PLACE_BYTES_MAX) {
        return (struct str){0};
    }
    memcpy(raw, &check, CHECK_BYTES);
    if (place.len > 0) {
        memcpy(raw + CHECK_BYTES, place.ptr, place.len);
    }
    return arena_str(arena, str_of(text, base64_encode(text, raw, CHECK_BYTES + place.len)));
}

bool cursor_decode(struct str text, const struct cursor_kind *kind,
                   char place[CURSOR_PLACE_BYTES_MAX], size_t *place_len) {
    uint8_t raw[RAW_BYTES_MAX];
    size_t len = 0;
    uint32_t check = 0;

    if (!base64_decode(raw, text, &len) || len < CHECK_BYTES) {
        return false;
    }
    memcpy(&check, raw, CHECK_BYTES);
    *place_len = len - CHECK_BYTES;
    memcpy(place, raw + CHECK_BYTES, *place_len);
    return be32toh(check) == check_of(kind, str_of(place, *place_len));
}

struct str cursor_encode_number(struct arena *arena, const struct cursor_kind *kind,
                                int64_t number) {
    const uint64_t raw = htobe64((uint64_t)number);

    return cursor_encode(arena, kind, str_of((const char *)&raw, sizeof(raw)));
}

bool cursor_decode_number(struct str text, const struct cursor_kind *kind, int64_t *number) {
    char place[CURSOR_PLACE_BYTES_MAX];
    size_t len = 0;
    uint64_t raw = 0;

    if (!cursor_decode(text, kind, place, &len) || len != sizeof(raw)) {
        return false;
    }
    memcpy(&raw, place, sizeof(raw));
    *number = (int64_t)be64toh(raw);
    return *number > 0;
}
