/* Lists of the form "key1=value1,key2=value2", values percent-encoded, as OpenTelemetry's
 * environment variables have them (W3C Baggage without properties). */
#ifndef DAYBOOK_BASE_KEY_VALUES_H
#define DAYBOOK_BASE_KEY_VALUES_H

#include "common/base/str.h"

enum { KEY_VALUE_BYTES_MAX = 1024 };

struct key_value {
    struct str key;                  /* in the list's text */
    char value[KEY_VALUE_BYTES_MAX]; /* decoded, NUL-terminated */
    size_t value_len;
};

/* Cuts the first pair off *list; empty entries are passed over. 1: here it is, 0: there is no more,
 * -1: ill-formed (no "=", an empty key, a broken escape, a NUL, a value over the maximum). */
MUST_CHECK int key_values_next(struct str *list, struct key_value *out);

#endif
