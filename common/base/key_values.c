#include "common/base/key_values.h"

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    const char lower = (char)(c | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

static bool decode(struct str text, struct key_value *out) {
    out->value_len = 0;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (c == '%') {
            const int high = i + 2 < text.len ? hex_digit(text.ptr[i + 1]) : -1;
            const int low = i + 2 < text.len ? hex_digit(text.ptr[i + 2]) : -1;
            if (high < 0 || low < 0) {
                return false;
            }
            c = (char)(high * 16 + low);
            i += 2;
        }
        if (c == '\0' || out->value_len + 1 >= sizeof(out->value)) {
            return false;
        }
        out->value[out->value_len++] = c;
    }
    out->value[out->value_len] = '\0';
    return true;
}

static struct str cut_entry(struct str *list) {
    const char *comma = memchr(list->ptr, ',', list->len);
    const size_t len = comma != NULL ? (size_t)(comma - list->ptr) : list->len;
    const struct str entry = str_trim(str_of(list->ptr, len));
    const size_t skip = comma != NULL ? len + 1 : len;

    *list = str_of(list->ptr + skip, list->len - skip);
    return entry;
}

int key_values_next(struct str *list, struct key_value *out) {
    struct str entry = {0};

    while (entry.len == 0) {
        if (list->len == 0) {
            return 0;
        }
        entry = cut_entry(list);
    }
    const char *equals = memchr(entry.ptr, '=', entry.len);
    if (equals == NULL) {
        return -1;
    }
    const size_t key_len = (size_t)(equals - entry.ptr);
    out->key = str_trim(str_of(entry.ptr, key_len));
    const struct str value = str_trim(str_of(equals + 1, entry.len - key_len - 1));
    return out->key.len > 0 && decode(value, out) ? 1 : -1;
}
