/* The log view in memory, for tests: one log that any thread may append to and disturb, and a face
 * towards each loop. Answers come on the loop, never inside the call. */
#ifndef DAYBOOK_ADAPTERS_LOG_MEM_H
#define DAYBOOK_ADAPTERS_LOG_MEM_H

#include "common/ports/log_view.h"
#include "common/runtime/loop.h"

enum log_mem_mood {
    LOG_MEM_WELL,
    LOG_MEM_DOWN,  /* refuses calls: ERR_UNAVAILABLE */
    LOG_MEM_FULL,  /* refuses calls: ERR_LIMIT */
    LOG_MEM_FAILS, /* takes calls, then answers ERR_TIMEOUT */
};

struct log_mem;
struct log_mem_client;

struct log_mem *log_mem_new(void);
void log_mem_free(struct log_mem *log); /* after its clients */

/* Copies the event; its position is the next one, or the given one if that is larger. Settled at
 * once unless it lies beyond log_mem_hold's. */
void log_mem_append(struct log_mem *log, const struct recorded_event *event);
/* From now on nothing beyond this position is settled; INT64_MAX: all is. */
void log_mem_hold(struct log_mem *log, int64_t settled_max);
void log_mem_set_mood(struct log_mem *log, enum log_mem_mood mood);
size_t log_mem_calls(struct log_mem *log);

struct log_mem_client *log_mem_client_new(struct log_mem *log, struct loop *loop);
void log_mem_client_free(struct log_mem_client *client); /* after the loop has stopped */
struct log_view log_mem_view(struct log_mem_client *client);

#endif
