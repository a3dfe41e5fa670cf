#include "pgoutput_messages.h"

#include <assert.h>
#include <stdio.h>

struct str recorded(const char *hex) {
    static char bytes[8][1024];
    static unsigned turn;
    char *out = bytes[turn++ % 8];
    const size_t len = strlen(hex) / 2;

    assert(len <= sizeof(bytes[0]));
    for (size_t i = 0; i < len; i++) {
        unsigned byte = 0;
        const int read = sscanf(hex + 2 * i, "%2x", &byte);
        assert(read == 1);
        out[i] = (char)byte;
    }
    return str_of(out, len);
}
