#include "common/http/correlation_id.h"

#include "common/http/http_server.h"

bool correlation_id_is_acceptable(struct str value) {
    for (size_t i = 0; i < value.len; i++) {
        if (value.ptr[i] < 0x21 || value.ptr[i] > 0x7e) {
            return false;
        }
    }
    return value.len > 0 && value.len <= HTTP_CORRELATION_ID_BYTES_MAX;
}
