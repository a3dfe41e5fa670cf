#include "common/adapters/view_mem.h"

#include <assert.h>
#include <pthread.h>

#include "common/base/mem.h"

enum { SILENT_LOOK_US = 1000 };

struct account_record {
    char id[STREAM_ID_BYTES_MAX + 1];
    bool has_key, has_row;
    struct account_view key, row;
};

struct line_record {
    char id[STREAM_ID_BYTES_MAX + 1];
    struct statement_line line;
};

struct view_mem {
    pthread_mutex_t lock;            /* guards all below */
    struct account_record *accounts; /* in byte order of the ids */
    size_t account_count;
    struct line_record *lines; /* in the order added */
    size_t line_count;
    struct activity_line activity[VIEW_MEM_ACTIVITY_MAX]; /* by day and currency */
    size_t activity_count;
    enum view_mem_mood key_mood, row_mood;
    size_t key_calls, row_calls, mark_calls;
    uint64_t mark; /* counts changes of keys */
};

struct call {
    struct call *next;
    char id[STREAM_ID_BYTES_MAX + 1];
    struct row_query query;
    key_view_fn *key_done; /* one of the three */
    key_mark_fn *mark_done;
    row_view_fn *row_done;
    void *arg;
};

struct view_mem_client {
    struct view_mem *store;
    struct loop *loop;
    struct call *oldest; /* taken and not yet answered; the loop's thread only */
    bool scheduled;
};

struct view_mem *view_mem_new(void) {
    struct view_mem *store = mem_zalloc(sizeof(*store));

    pthread_mutex_init(&store->lock, NULL);
    store->accounts = mem_array(VIEW_MEM_ACCOUNTS_MAX, sizeof(store->accounts[0]));
    store->lines = mem_array(VIEW_MEM_LINES_MAX, sizeof(store->lines[0]));
    return store;
}

void view_mem_free(struct view_mem *store) {
    if (store == NULL) {
        return;
    }
    pthread_mutex_destroy(&store->lock);
    mem_free(store->accounts);
    mem_free(store->lines);
    mem_free(store);
}

/* --- filling; the lock is held --- */

static struct account_record *find(struct view_mem *store, struct str id) {
    for (size_t i = 0; i < store->account_count; i++) {
        if (str_eq(str_from(store->accounts[i].id), id)) {
            return &store->accounts[i];
        }
    }
    return NULL;
}

static struct account_record *find_or_add(struct view_mem *store, struct str id) {
    struct account_record *found = find(store, id);
    size_t at = store->account_count;

    if (found != NULL) {
        return found;
    }
    assert(store->account_count < VIEW_MEM_ACCOUNTS_MAX);
    for (; at > 0 && str_cmp(id, str_from(store->accounts[at - 1].id)) < 0; at--) {
        store->accounts[at] = store->accounts[at - 1];
    }
    store->account_count++;
    store->accounts[at] = (struct account_record){0};
    const bool fits = str_copy(store->accounts[at].id, sizeof(store->accounts[at].id), id);
    assert(fits);
    (void)fits;
    return &store->accounts[at];
}

void view_mem_put_key(struct view_mem *store, struct str id, const struct account_view *account) {
    pthread_mutex_lock(&store->lock);
    struct account_record *record = find_or_add(store, id);
    record->key = *account;
    record->has_key = true;
    store->mark++;
    pthread_mutex_unlock(&store->lock);
}

void view_mem_drop_key(struct view_mem *store, struct str id) {
    pthread_mutex_lock(&store->lock);
    find_or_add(store, id)->has_key = false;
    store->mark++;
    pthread_mutex_unlock(&store->lock);
}

void view_mem_put_row(struct view_mem *store, struct str id, const struct account_view *account) {
    pthread_mutex_lock(&store->lock);
    struct account_record *record = find_or_add(store, id);
    record->row = *account;
    record->has_row = true;
    pthread_mutex_unlock(&store->lock);
}

void view_mem_add_line(struct view_mem *store, struct str id, const struct statement_line *line) {
    pthread_mutex_lock(&store->lock);
    assert(store->line_count < VIEW_MEM_LINES_MAX);
    struct line_record *record = &store->lines[store->line_count++];
    const bool fits = str_copy(record->id, sizeof(record->id), id);
    assert(fits);
    (void)fits;
    record->line = *line;
    pthread_mutex_unlock(&store->lock);
}

void view_mem_add_activity(struct view_mem *store, const struct activity_line *line) {
    pthread_mutex_lock(&store->lock);
    assert(store->activity_count < VIEW_MEM_ACTIVITY_MAX);
    store->activity[store->activity_count++] = *line;
    pthread_mutex_unlock(&store->lock);
}

void view_mem_set_moods(struct view_mem *store, enum view_mem_mood keys, enum view_mem_mood rows) {
    pthread_mutex_lock(&store->lock);
    store->key_mood = keys;
    store->row_mood = rows;
    pthread_mutex_unlock(&store->lock);
}

size_t view_mem_key_calls(struct view_mem *store) {
    pthread_mutex_lock(&store->lock);
    const size_t calls = store->key_calls;
    pthread_mutex_unlock(&store->lock);
    return calls;
}

size_t view_mem_mark_calls(struct view_mem *store) {
    pthread_mutex_lock(&store->lock);
    const size_t calls = store->mark_calls;
    pthread_mutex_unlock(&store->lock);
    return calls;
}

size_t view_mem_row_calls(struct view_mem *store) {
    pthread_mutex_lock(&store->lock);
    const size_t calls = store->row_calls;
    pthread_mutex_unlock(&store->lock);
    return calls;
}

/* --- reading; the lock is held, `out` is owned by the caller --- */

static enum err_code read_past(const struct view_mem *store, const struct row_query *query,
                               struct row_result *out) {
    const struct statement_line *first = NULL;
    const struct statement_line *then = NULL;

    for (size_t i = 0; i < store->line_count; i++) {
        const struct statement_line *line = &store->lines[i].line;
        if (!str_eq(str_from(store->lines[i].id), query->id)) {
            continue;
        }
        first = first == NULL ? line : first;
        out->head_version = line->version;
        if (query->read == ROW_READ_ACCOUNT_AT_VERSION ? line->version == query->version
                                                       : line->recorded_at_us <= query->at_us) {
            then = line;
        }
    }
    if (first == NULL) {
        return ERR_NOT_FOUND;
    }
    if (then != NULL) {
        out->account = (struct account_view){
            .version = then->version,
            .status = str_eq(str_from(then->kind), STR("closed")) ? ACCOUNT_CLOSED : ACCOUNT_OPEN,
            .balance_minor = then->balance_minor,
            .opened_at_us = first->recorded_at_us,
            .updated_at_us = then->recorded_at_us,
        };
        memcpy(out->account.currency, then->currency, sizeof(then->currency));
        for (size_t i = 0; i < store->account_count; i++) {
            if (store->accounts[i].has_row && str_eq(str_from(store->accounts[i].id), query->id)) {
                memcpy(out->account.owner, store->accounts[i].row.owner,
                       sizeof(out->account.owner));
            }
        }
    }
    return ERR_OK;
}

static bool fits_filters(const struct statement_line *line, const struct row_query *query) {
    const bool until_any = query->to_us == 0 || query->to_us == INT64_MAX;

    return (query->kind.len == 0 || str_eq(str_from(line->kind), query->kind)) &&
           line->recorded_at_us >= query->from_us &&
           (until_any || line->recorded_at_us < query->to_us);
}

static enum err_code read_statement(const struct view_mem *store, const struct row_query *query,
                                    struct row_result *out) {
    struct statement_line *lines = mem_array(query->limit, sizeof(*lines));

    out->lines = lines;
    for (size_t i = store->line_count; i-- > 0;) {
        const struct statement_line *line = &store->lines[i].line;
        if (!str_eq(str_from(store->lines[i].id), query->id)) {
            continue;
        }
        out->head_version = out->head_version == 0 ? line->version : out->head_version;
        if ((query->before_version > 0 && line->version >= query->before_version) ||
            !fits_filters(line, query)) {
            continue;
        }
        if (out->count == query->limit) {
            out->more = true;
            break;
        }
        lines[out->count++] = *line;
    }
    return out->head_version > 0 ? ERR_OK : ERR_NOT_FOUND;
}

/* Less than 0: a comes first. */
static int compare_accounts(const struct account_record *a, const struct account_record *b,
                            bool by_balance) {
    if (by_balance && a->row.balance_minor != b->row.balance_minor) {
        return a->row.balance_minor > b->row.balance_minor ? -1 : 1;
    }
    return str_cmp(str_from(a->id), str_from(b->id));
}

/* The first one that fits behind `after` (NULL: at all). */
static const struct account_record *next_account(const struct view_mem *store,
                                                 const struct row_query *query,
                                                 const struct account_record *after) {
    const bool by_balance = query->read == ROW_READ_ACCOUNTS_BY_BALANCE;
    const struct account_record *found = NULL;

    for (size_t i = 0; i < store->account_count; i++) {
        const struct account_record *record = &store->accounts[i];
        const struct str currency = str_from(query->currency);
        if (record->has_row &&
            (query->status.len == 0 ||
             str_eq(query->status, str_from(account_status_name(record->row.status)))) &&
            (currency.len == 0 || str_eq(currency, str_from(record->row.currency))) &&
            (after == NULL || compare_accounts(record, after, by_balance) > 0) &&
            (found == NULL || compare_accounts(record, found, by_balance) < 0)) {
            found = record;
        }
    }
    return found;
}

static enum err_code read_accounts(const struct view_mem *store, const struct row_query *query,
                                   struct row_result *out) {
    struct account_line *lines = mem_array(query->limit, sizeof(*lines));
    struct account_record start = {.row = {.balance_minor = query->balance_minor}};
    const bool copied = str_copy(start.id, sizeof(start.id), query->id);
    const struct account_record *record = NULL;

    assert(copied);
    (void)copied;
    out->accounts = lines;
    record = next_account(store, query, query->id.len > 0 ? &start : NULL);
    for (; record != NULL && out->count < query->limit; out->count++) {
        struct account_line *line = &lines[out->count];
        memcpy(line->id, record->id, sizeof(line->id));
        line->account = record->row;
        record = next_account(store, query, record);
    }
    out->more = record != NULL;
    return ERR_OK;
}

static enum err_code read_activity(const struct view_mem *store, const struct row_query *query,
                                   struct row_result *out) {
    struct activity_line *lines = mem_array(store->activity_count + 1, sizeof(*lines));

    out->activity = lines;
    for (size_t i = 0; i < store->activity_count; i++) {
        const struct activity_line *line = &store->activity[i];
        out->updated_at_us = line->day_us;
        if (line->day_us >= query->from_us && line->day_us < query->to_us) {
            if (out->count == query->limit) {
                out->more = true;
                break;
            }
            lines[out->count++] = *line;
        }
    }
    return ERR_OK;
}

static enum err_code read_rows(struct view_mem *store, const struct row_query *query,
                               struct row_result *out) {
    const struct account_record *record = NULL;

    switch (query->read) {
    case ROW_READ_ACCOUNT:
        record = find(store, query->id);
        if (record == NULL || !record->has_row) {
            return ERR_NOT_FOUND;
        }
        out->account = record->row;
        out->head_version = record->row.version;
        return ERR_OK;
    case ROW_READ_ACCOUNT_AT_VERSION:
    case ROW_READ_ACCOUNT_AT_TIME:
        return read_past(store, query, out);
    case ROW_READ_STATEMENT:
        return read_statement(store, query, out);
    case ROW_READ_ACCOUNTS:
    case ROW_READ_ACCOUNTS_BY_BALANCE:
        return read_accounts(store, query, out);
    case ROW_READ_ACTIVITY:
        return read_activity(store, query, out);
    default:
        assert(false);
        return ERR_INTERNAL;
    }
}

/* --- answering --- */

static void answer_key(struct view_mem *store, const struct call *call) {
    struct account_view account = {0};
    enum err_code code = ERR_TIMEOUT;

    pthread_mutex_lock(&store->lock);
    if (store->key_mood == VIEW_MEM_WELL) {
        const struct account_record *record = find(store, str_from(call->id));
        code = record != NULL && record->has_key ? ERR_OK : ERR_NOT_FOUND;
        account = code == ERR_OK ? record->key : account;
    }
    pthread_mutex_unlock(&store->lock);
    call->key_done(call->arg, code, code == ERR_OK ? &account : NULL);
}

static void answer_mark(struct view_mem *store, const struct call *call) {
    pthread_mutex_lock(&store->lock);
    const enum err_code code = store->key_mood == VIEW_MEM_WELL ? ERR_OK : ERR_TIMEOUT;
    const uint64_t mark = store->mark;
    pthread_mutex_unlock(&store->lock);
    call->mark_done(call->arg, code, mark);
}

static void answer_rows(struct view_mem *store, const struct call *call) {
    struct row_result result = {.code = ERR_TIMEOUT};

    pthread_mutex_lock(&store->lock);
    if (store->row_mood == VIEW_MEM_WELL) {
        result.code = read_rows(store, &call->query, &result);
    }
    pthread_mutex_unlock(&store->lock);
    call->row_done(call->arg, &result);
    row_result_release(&result);
}

static bool is_silent(struct view_mem *store, const struct call *call) {
    pthread_mutex_lock(&store->lock);
    const enum view_mem_mood mood = call->row_done == NULL ? store->key_mood : store->row_mood;
    pthread_mutex_unlock(&store->lock);
    return mood == VIEW_MEM_SILENT;
}

static void answer_all(void *arg);

static void schedule(struct view_mem_client *client, int64_t delay_us) {
    if (!client->scheduled) {
        client->scheduled = true;
        const uint64_t timer = loop_after(client->loop, delay_us, answer_all, client);
        assert(timer != 0);
        (void)timer;
    }
}

static void answer_all(void *arg) {
    struct view_mem_client *client = arg;
    struct call *waiting = client->oldest;

    client->scheduled = false;
    client->oldest = NULL;
    while (waiting != NULL) {
        struct call *call = waiting;
        waiting = call->next;
        if (is_silent(client->store, call)) {
            call->next = client->oldest;
            client->oldest = call;
            schedule(client, SILENT_LOOK_US);
            continue;
        }
        if (call->key_done != NULL) {
            answer_key(client->store, call);
        } else if (call->mark_done != NULL) {
            answer_mark(client->store, call);
        } else {
            answer_rows(client->store, call);
        }
        mem_free(call);
    }
}

static enum err_code refusal(enum view_mem_mood mood) {
    switch (mood) {
    case VIEW_MEM_DOWN:
        return ERR_UNAVAILABLE;
    case VIEW_MEM_FULL:
        return ERR_LIMIT;
    case VIEW_MEM_WELL:
    case VIEW_MEM_FAILS:
    case VIEW_MEM_SILENT:
    default:
        return ERR_OK;
    }
}

static enum err_code take(struct view_mem_client *client, struct str id, const struct call *in) {
    struct call *call = mem_zalloc(sizeof(*call));

    *call = *in;
    if (!str_copy(call->id, sizeof(call->id), id)) {
        mem_free(call);
        return ERR_INVALID;
    }
    call->query.id = str_of(call->id, id.len);
    struct call **end = &client->oldest;
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = call;
    schedule(client, 0);
    return ERR_OK;
}

static enum err_code get_account(void *self, struct str id, key_view_fn *done, void *arg) {
    struct view_mem_client *client = self;

    pthread_mutex_lock(&client->store->lock);
    const enum err_code code = refusal(client->store->key_mood);
    client->store->key_calls += code == ERR_OK;
    pthread_mutex_unlock(&client->store->lock);
    return code == ERR_OK ? take(client, id, &(struct call){.key_done = done, .arg = arg}) : code;
}

static int32_t get_place(void *self, struct str id) {
    (void)self;
    (void)id;
    return 0;
}

static enum err_code get_mark(void *self, int32_t place, key_mark_fn *done, void *arg) {
    struct view_mem_client *client = self;

    (void)place;
    pthread_mutex_lock(&client->store->lock);
    const enum err_code code = refusal(client->store->key_mood);
    client->store->mark_calls += code == ERR_OK;
    pthread_mutex_unlock(&client->store->lock);
    return code == ERR_OK
               ? take(client, (struct str){"", 0}, &(struct call){.mark_done = done, .arg = arg})
               : code;
}

static enum err_code get_rows(void *self, const struct row_query *query, row_view_fn *done,
                              void *arg) {
    struct view_mem_client *client = self;

    pthread_mutex_lock(&client->store->lock);
    const enum err_code code = refusal(client->store->row_mood);
    client->store->row_calls += code == ERR_OK;
    pthread_mutex_unlock(&client->store->lock);
    return code == ERR_OK ? take(client, query->id,
                                 &(struct call){.query = *query, .row_done = done, .arg = arg})
                          : code;
}

struct view_mem_client *view_mem_client_new(struct view_mem *store, struct loop *loop) {
    struct view_mem_client *client = mem_zalloc(sizeof(*client));

    client->store = store;
    client->loop = loop;
    return client;
}

void view_mem_client_free(struct view_mem_client *client) {
    if (client == NULL) {
        return;
    }
    while (client->oldest != NULL) {
        struct call *next = client->oldest->next;
        mem_free(client->oldest);
        client->oldest = next;
    }
    mem_free(client);
}

struct key_view view_mem_keys(struct view_mem_client *client) {
    return (struct key_view){.self = client,
                             .place_count = 1,
                             .account = get_account,
                             .place = get_place,
                             .mark = get_mark};
}

struct row_view view_mem_rows(struct view_mem_client *client) {
    return (struct row_view){.self = client, .read = get_rows};
}
