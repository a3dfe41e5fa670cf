/*
 * A host name to an address without blocking the caller's loop: glibc's getaddrinfo_a does the
 * waiting on a thread of its own, we look whether it has finished.
 */
#ifndef DAYBOOK_ADAPTERS_HOST_LOOKUP_H
#define DAYBOOK_ADAPTERS_HOST_LOOKUP_H

#include <netinet/in.h>
#include <stddef.h>

#include "common/base/err.h"

enum { HOST_LOOKUP_TEXT_BYTES = INET6_ADDRSTRLEN };

struct host_lookup; /* one lookup under way */

enum host_lookup_state { HOST_LOOKUP_PENDING, HOST_LOOKUP_DONE, HOST_LOOKUP_FAILED };

/* `host` is copied. Never NULL. */
struct host_lookup *host_lookup_new(const char *host);
/* A lookup that can't be cancelled any more is left to itself. */
void host_lookup_free(struct host_lookup *lookup);

/* DONE: one of its addresses as text, the same one for the same `turn`, another one for the next
 * turn where there are several (a server may listen on one of them only). FAILED: `err` says why.
 * An address as host is DONE at once. */
enum host_lookup_state host_lookup_poll(struct host_lookup *lookup, size_t turn,
                                        char out[HOST_LOOKUP_TEXT_BYTES], struct err *err);

#endif
