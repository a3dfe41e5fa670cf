#include "common/adapters/wal_decoder.h"

void wal_decoder_number(struct wal_decoder *self, struct feed_item *item) {
    item->kind = FEED_CHANGE;
    item->change.incarnation = self->incarnation;
    item->change.commit_lsn = self->commit_lsn;
    item->change.seq = self->seq++;
    item->change.committed_at_us = self->committed_at_us;
}

static enum err_code note_relation(struct wal_decoder *self, struct err *err) {
    const struct pgoutput_message *m = &self->decoded;

    if (str_eq(m->name, STR("events")) && str_eq(m->schema, STR("daybook"))) {
        self->relation_id = m->relation_id;
        return event_row_layout(m, &self->layout, err);
    }
    if (m->relation_id == self->relation_id) {
        self->relation_id = 0; /* the table was renamed */
    }
    if (m->relation_id != self->ignored_relation_id) {
        self->ignored_relation_id = m->relation_id;
        log_warn(self->log, log_event("feed.relation_ignored"), log_str("schema", m->schema),
                 log_str("name", m->name),
                 log_cstr("why", "the publication has more than daybook.events"));
    }
    return ERR_OK;
}

static enum err_code note_insert(struct wal_decoder *self, struct feed_item *item,
                                 struct err *err) {
    if (self->decoded.relation_id != self->relation_id || self->relation_id == 0) {
        return ERR_OK;
    }
    const enum err_code code =
        event_row_of_insert(&self->layout, &self->decoded, &item->change.event, err);
    if (code == ERR_OK) {
        wal_decoder_number(self, item);
    }
    return code;
}

enum err_code wal_decoder_take(struct wal_decoder *self, struct str bytes, struct feed_item *item,
                               struct err *err) {
    struct pgoutput_message *m = &self->decoded;
    enum err_code code = pgoutput_decode(bytes, m, err);

    if (code != ERR_OK) {
        return code;
    }
    switch (m->kind) {
    case PGOUTPUT_BEGIN:
        self->commit_lsn = m->commit_lsn;
        self->committed_at_us = m->committed_at_us;
        self->seq = 0;
        break;
    case PGOUTPUT_COMMIT:
        item->kind = FEED_COMMIT;
        item->position = m->end_lsn;
        item->committed_at_us = m->committed_at_us;
        break;
    case PGOUTPUT_RELATION:
        code = note_relation(self, err);
        break;
    case PGOUTPUT_INSERT:
        code = note_insert(self, item, err);
        break;
    case PGOUTPUT_OTHER:
        break;
    }
    return code;
}
