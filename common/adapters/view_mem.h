/*
 * Both views in memory, for tests: one store that any thread may fill and disturb, and a face
 * towards each loop. Answers come on the loop, never inside the call, as the ports promise.
 */
#ifndef DAYBOOK_ADAPTERS_VIEW_MEM_H
#define DAYBOOK_ADAPTERS_VIEW_MEM_H

#include "common/ports/row_view.h"
#include "common/runtime/loop.h"

enum { VIEW_MEM_ACCOUNTS_MAX = 4096, VIEW_MEM_LINES_MAX = 65536, VIEW_MEM_ACTIVITY_MAX = 64 };

/* How a half of the store behaves. */
enum view_mem_mood {
    VIEW_MEM_WELL,
    VIEW_MEM_DOWN,   /* refuses calls: ERR_UNAVAILABLE */
    VIEW_MEM_FULL,   /* refuses calls: ERR_LIMIT */
    VIEW_MEM_FAILS,  /* takes calls, then answers ERR_TIMEOUT */
    VIEW_MEM_SILENT, /* takes calls and answers when the mood changes, as it then is */
};

struct view_mem;
struct view_mem_client;

struct view_mem *view_mem_new(void);
void view_mem_free(struct view_mem *store); /* after its clients */

/* Shows an account under its key, replacing what was there. */
void view_mem_put_key(struct view_mem *store, struct str id, const struct account_view *account);
void view_mem_drop_key(struct view_mem *store, struct str id);
/* The same for the row of accounts. */
void view_mem_put_row(struct view_mem *store, struct str id, const struct account_view *account);
/* Appends to the account's statement; versions must rise by one. */
void view_mem_add_line(struct view_mem *store, struct str id, const struct statement_line *line);

/* In the order of days and currencies. */
void view_mem_add_activity(struct view_mem *store, const struct activity_line *line);

void view_mem_set_moods(struct view_mem *store, enum view_mem_mood keys, enum view_mem_mood rows);
/* How many calls each half has taken so far. */
size_t view_mem_key_calls(struct view_mem *store);
size_t view_mem_mark_calls(struct view_mem *store);
size_t view_mem_row_calls(struct view_mem *store);

struct view_mem_client *view_mem_client_new(struct view_mem *store, struct loop *loop);
void view_mem_client_free(struct view_mem_client *client); /* after the loop has stopped */
struct key_view view_mem_keys(struct view_mem_client *client);
struct row_view view_mem_rows(struct view_mem_client *client);

#endif
