/* daybook-relay status: how slot and topic stand, as text. */
#ifndef DAYBOOK_COMMAND_API_RELAY_STATUS_H
#define DAYBOOK_COMMAND_API_RELAY_STATUS_H

#include <stdio.h>

#include "common/ports/relay_status.h"

/* True when all is well: the slot is there and held, the topic is there. */
bool relay_status_print(const struct relay_status *status, const char *slot, const char *topic,
                        FILE *out);

#endif
