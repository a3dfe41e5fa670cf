/* Time. Wall-clock times are microseconds since 1970-01-01T00:00:00Z; durations come from the
 * monotonic clock. */
#ifndef DAYBOOK_BASE_CLOCK_H
#define DAYBOOK_BASE_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/str.h"

int64_t clock_wall_us(void);
int64_t clock_monotonic_us(void);

enum { CLOCK_RFC3339_BYTES = 32 }; /* with the NUL */

/* "2026-01-31T12:00:00.000001Z": UTC, six decimals. Returns the length. Years 1 to 9999. */
size_t clock_format_rfc3339(char out[CLOCK_RFC3339_BYTES], int64_t wall_us);
/* RFC 3339 date-time with any offset, one to nine decimals of a second (cut to six). False when
 * ill-formed. */
MUST_CHECK bool clock_parse_rfc3339(struct str text, int64_t *wall_us);

#endif
