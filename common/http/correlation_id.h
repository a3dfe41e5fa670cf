/* Which correlation ids of clients are taken as they are; for the others the server makes one. */
#ifndef DAYBOOK_HTTP_CORRELATION_ID_H
#define DAYBOOK_HTTP_CORRELATION_ID_H

#include <stdbool.h>

#include "common/base/str.h"

/* 1 … HTTP_CORRELATION_ID_BYTES_MAX visible ASCII characters: safe in a header, a log line and a
 * record's header. */
bool correlation_id_is_acceptable(struct str value);

#endif
