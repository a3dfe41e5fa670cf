#include "common/adapters/redis_model.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct redis_model_suffix redis_model_suffix(int64_t model) {
    struct redis_model_suffix suffix = {""};

    if (model > 0) {
        (void)snprintf(suffix.text, sizeof(suffix.text), "#%" PRId64, model);
    }
    return suffix;
}

/* A piece that stands for no value. */
static const struct str unset = {"\\0", 2};

/* Cuts the next piece off `text` at `separator`. */
static struct str cut(struct str *text, char separator) {
    const char *end = text->len > 0 ? memchr(text->ptr, separator, text->len) : NULL;
    const size_t len = end != NULL ? (size_t)(end - text->ptr) : text->len;
    const struct str piece = str_of(text->ptr, len);
    const size_t skip = end != NULL ? len + 1 : len;

    *text = str_of(text->ptr + skip, text->len - skip);
    return piece;
}

void redis_model_put_checkpoint(struct buf *out, const struct sink_checkpoint *at) {
    buf_printf(out, "%" PRId64 " %" PRId64 " %" PRId64 " %" PRId64, at->next, at->version,
               at->model, at->epoch);
}

bool redis_model_parse_checkpoint(struct str text, struct sink_checkpoint *out) {
    *out = (struct sink_checkpoint){.version = 1};
    if (!str_to_i64(cut(&text, ' '), &out->next) || out->next < 0) {
        return false;
    }
    /* The first projectors wrote the offset alone. */
    return text.len == 0 || (str_to_i64(cut(&text, ' '), &out->version) &&
                             str_to_i64(cut(&text, ' '), &out->model) &&
                             str_to_i64(cut(&text, ' '), &out->epoch) && text.len == 0);
}

void redis_model_put_key(struct buf *out, int32_t partition, const struct model_table *table,
                         int64_t model, struct str stream_id) {
    const struct redis_model_suffix suffix = redis_model_suffix(model);

    buf_put_text(out, "{p");
    buf_put_i64(out, partition);
    buf_put_text(out, "}:");
    buf_put_text(out, table->redis_prefix);
    buf_put_text(out, suffix.text);
    buf_put_char(out, ':');
    buf_put_str(out, stream_id);
}

static bool parse_cell(enum column_kind kind, struct str text, struct cell *out) {
    *out = (struct cell){.set = true};
    switch (kind) {
    case COLUMN_TEXT:
        out->text = text;
        return true;
    case COLUMN_UUID:
        return uuid_parse(text, &out->uuid);
    case COLUMN_I64:
    case COLUMN_TIME:
    case COLUMN_DATE:
        break;
    }
    return str_to_i64(text, &out->number);
}

/* At most twice as long as the text. */
static char *escape(char *at, struct str text) {
    for (size_t i = 0; i < text.len; i++) {
        const char c = text.ptr[i];
        if (c == '\t' || c == '\\') {
            *at++ = '\\';
            *at++ = c == '\t' ? 't' : c;
        } else {
            *at++ = c;
        }
    }
    return at;
}

static void put_escaped(struct buf *out, struct str text) {
    char *const begin = buf_room(out, 2 * text.len);

    if (begin != NULL) {
        buf_wrote(out, (size_t)(escape(begin, text) - begin));
    }
}

/* False when it takes more than `most` bytes; the text's own length is always enough. */
static bool unescape(char *out, size_t most, struct str text, size_t *len) {
    *len = 0;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (c == '\\' && i + 1 < text.len) {
            i++;
            c = text.ptr[i] == 't' ? '\t' : text.ptr[i];
        }
        if (*len == most) {
            return false;
        }
        out[(*len)++] = c;
    }
    return true;
}

static bool is_escaped(struct str piece) {
    return piece.len > 0 && memchr(piece.ptr, '\\', piece.len) != NULL;
}

static char *put_number(char *at, int64_t number) {
    char digits[STR_I64_BYTES];
    const struct str text = str_of_i64(digits, number);

    memcpy(at, text.ptr, text.len);
    return at + text.len;
}

static char *put_piece(char *at, enum column_kind kind, const struct cell *cell) {
    char uuid[UUID_TEXT_BYTES];

    if (!cell->set) {
        memcpy(at, "\\0", 2);
        return at + 2;
    }
    switch (kind) {
    case COLUMN_TEXT:
        return escape(at, cell->text);
    case COLUMN_UUID:
        uuid_format(uuid, &cell->uuid);
        memcpy(at, uuid, UUID_TEXT_BYTES - 1);
        return at + UUID_TEXT_BYTES - 1;
    case COLUMN_I64:
    case COLUMN_TIME:
    case COLUMN_DATE:
        break;
    }
    return put_number(at, cell->number);
}

/* Room for the pieces of a row: a byte of a text takes two at most, for no byte is both escaped and
 * doubled. */
static char *room_for(struct buf *out, const struct row *row) {
    enum { PIECE_BYTES = 37 }; /* of one that is no text, with the separator */
    const struct model_table *table = row->table;
    size_t most = table->column_count * PIECE_BYTES;

    for (size_t i = 1; i < table->column_count; i++) {
        most += table->columns[i].kind == COLUMN_TEXT && row->cells[i].set
                    ? 2 * row->cells[i].text.len
                    : 0;
    }
    return buf_room(out, most);
}

/* Those of a row behind its version. */
static bool is_piece(const struct model_table *table, size_t column) {
    return column != 0 && (int)column != table->version_column;
}

void redis_model_put_element(struct buf *out, const struct row *row) {
    const struct model_table *table = row->table;
    char *const begin = room_for(out, row);

    if (begin == NULL) {
        return;
    }
    char *at = put_number(begin, row->cells[table->version_column].number);
    for (size_t i = 1; i < table->column_count; i++) {
        if (is_piece(table, i)) {
            *at++ = '\t';
            at = put_piece(at, table->columns[i].kind, &row->cells[i]);
        }
    }
    buf_wrote(out, (size_t)(at - begin));
}

bool redis_model_is_whole(const struct row *row) {
    for (size_t i = 1; i < row->table->column_count; i++) {
        if (!row->cells[i].set) {
            return false;
        }
    }
    return true;
}

void redis_model_put_pattern(struct buf *out, const struct row *row) {
    bool keeps = false;

    buf_put_text(out, "^%d+");
    for (size_t i = 1; i < row->table->column_count; i++) {
        if (!is_piece(row->table, i)) {
            continue;
        }
        if (keeps && row->cells[i].set) {
            buf_put_char(out, ')');
        } else if (!keeps && !row->cells[i].set) {
            buf_put_char(out, '(');
        }
        keeps = !row->cells[i].set;
        buf_put_text(out, "\t[^\t]*");
    }
    buf_put_text(out, keeps ? ")$" : "$");
}

/* Doubles the percent signs from `from` on: one alone stands for a capture. */
static char *double_percents(char *from, char *end) {
    size_t count = 0;

    for (const char *at = from; at < end; at++) {
        count += *at == '%';
    }
    char *const last = end + count;
    for (char *at = end, *to = last; to > at;) {
        *--to = *--at;
        if (*at == '%') {
            *--to = '%';
        }
    }
    return last;
}

void redis_model_put_replacement(struct buf *out, const struct row *row) {
    const struct model_table *table = row->table;
    char *const begin = room_for(out, row);
    bool keeps = false;
    char capture = '0';

    if (begin == NULL) {
        return;
    }
    char *at = put_number(begin, row->cells[table->version_column].number);
    for (size_t i = 1; i < table->column_count; i++) {
        if (!is_piece(table, i)) {
            continue;
        }
        if (row->cells[i].set) {
            *at++ = '\t';
            at = double_percents(at, put_piece(at, table->columns[i].kind, &row->cells[i]));
        } else if (!keeps) {
            assert(capture < '9');
            *at++ = '%';
            *at++ = ++capture;
        }
        keeps = !row->cells[i].set;
    }
    buf_wrote(out, (size_t)(at - begin));
}

bool redis_model_cut_piece(struct str *element, struct str *piece) {
    if (element->ptr == NULL) {
        return false;
    }
    const char *tab = element->len > 0 ? memchr(element->ptr, '\t', element->len) : NULL;
    if (tab == NULL) {
        *piece = *element;
        *element = (struct str){0};
        return true;
    }
    const size_t len = (size_t)(tab - element->ptr);
    *piece = str_of(element->ptr, len);
    *element = str_of(tab + 1, element->len - len - 1);
    return true;
}

bool redis_model_copy_piece(char *out, size_t out_bytes, struct str piece) {
    size_t len = 0;

    if (!is_escaped(piece)) {
        return str_copy(out, out_bytes, piece);
    }
    const bool fits = str_eq(piece, unset) || unescape(out, out_bytes - 1, piece, &len);
    out[len] = '\0';
    return fits;
}

bool redis_model_parse_element(struct str text, const struct model_table *table,
                               struct arena *scratch, struct row *out) {
    struct cell *version = &out->cells[table->version_column];

    out->table = table;
    struct str piece = {0};
    if (!redis_model_cut_piece(&text, &piece) || !parse_cell(COLUMN_I64, piece, version)) {
        return false;
    }
    for (size_t i = 1; i < table->column_count; i++) {
        if (!is_piece(table, i)) {
            continue;
        }
        if (!redis_model_cut_piece(&text, &piece)) {
            return false;
        }
        if (str_eq(piece, unset)) {
            out->cells[i] = (struct cell){0};
            continue;
        }
        if (table->columns[i].kind == COLUMN_TEXT && is_escaped(piece)) {
            char *const text_out = arena_alloc(scratch, piece.len);
            size_t len = 0;
            if (text_out == NULL || !unescape(text_out, piece.len, piece, &len)) {
                return false;
            }
            piece = str_of(text_out, len);
        }
        if (!parse_cell(table->columns[i].kind, piece, &out->cells[i])) {
            return false;
        }
    }
    return text.ptr == NULL;
}

void redis_model_put_parked(struct buf *out, const struct parked_event *event) {
    char id[UUID_TEXT_BYTES];

    uuid_format(id, &event->event_id);
    buf_printf(out, "%" PRId64 "\t%" PRId64 "\t", event->offset, event->version);
    put_escaped(out, event->event_type);
    buf_printf(out, "\t%s\t%" PRId64 "\t", id, event->recorded_at_us);
    put_escaped(out, event->reason);
}

bool redis_model_parse_parked(struct str text, struct parked_event *out) {
    const struct str stream_id = out->stream_id;

    *out = (struct parked_event){.stream_id = stream_id};
    if (!str_to_i64(cut(&text, '\t'), &out->offset) ||
        !str_to_i64(cut(&text, '\t'), &out->version)) {
        return false;
    }
    out->event_type = cut(&text, '\t');
    if (!uuid_parse(cut(&text, '\t'), &out->event_id) ||
        !str_to_i64(cut(&text, '\t'), &out->recorded_at_us)) {
        return false;
    }
    out->reason = text;
    return true;
}
