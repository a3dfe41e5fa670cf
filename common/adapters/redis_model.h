/*
 * How read models stand in Redis. All keys of a partition share its hash tag, so that one script
 * may change them together, also on Redis Cluster.
 *
 *   {pN}:checkpoint:<projection>         "<next> <version> <model> <epoch>" of the live model
 *   {pN}:checkpoint:<projection>#build   the same of the one that is being rebuilt
 *   {pN}:<prefix><M>:<stream>            a row as a string, or the stream's newest rows as a list
 *   {pN}:parked:<projection><M>          hash: stream → its first parked event
 *   {pN}:parked:<projection><M>:<stream> list of its parked events
 *   {pN}:void:<projection>               hash: <stream>/<first version> → last version
 *   daybook:models:<projection>          the last number given to a model
 *   daybook:partitions                   the partition count that keys are made with
 *
 * <M> is the model's number: nothing for 0, #1, #2, … for the rebuilt ones. Which one is live
 * stands in the checkpoint, so that one write switches a partition's writers; readers follow within
 * milliseconds.
 * A row is one element, by itself or in a list: its cells with tabs between them, the version
 * first, then the columns in their order, the stream left out. One string is read with one GET, at
 * less than half of what a hash of seven fields costs the server, and the client as much again.
 */
#ifndef DAYBOOK_ADAPTERS_REDIS_MODEL_H
#define DAYBOOK_ADAPTERS_REDIS_MODEL_H

#include "common/ports/projection_sink.h"

enum { REDIS_MODEL_SUFFIX_BYTES = 24 };

struct redis_model_suffix {
    char text[REDIS_MODEL_SUFFIX_BYTES];
};
struct redis_model_suffix redis_model_suffix(int64_t model);

void redis_model_put_checkpoint(struct buf *out, const struct sink_checkpoint *at);
/* False when it is none. */
MUST_CHECK bool redis_model_parse_checkpoint(struct str text, struct sink_checkpoint *out);

/* {pN}:<prefix><M>:<stream id> */
void redis_model_put_key(struct buf *out, int32_t partition, const struct model_table *table,
                         int64_t model, struct str stream_id);
/* A row as an element. A cell that isn't set says so. */
void redis_model_put_element(struct buf *out, const struct row *row);
/* A row that isn't whole changes the element that is there: what the server's Lua is to look for
 * (patterns: Lua 5.1's manual, 5.4.1), and what it puts in its place. It may have as many gaps
 * between cells that are set as a replacement has captures, nine. */
MUST_CHECK bool redis_model_is_whole(const struct row *row);
void redis_model_put_pattern(struct buf *out, const struct row *row);
void redis_model_put_replacement(struct buf *out, const struct row *row);
/* The row's texts live as long as the element and `scratch`. */
MUST_CHECK bool redis_model_parse_element(struct str text, const struct model_table *table,
                                          struct arena *scratch, struct row *out);

/* For who knows the columns without a table: takes the first piece off the element, which is NULL
 * behind the last one; false: there is none… */
MUST_CHECK bool redis_model_cut_piece(struct str *element, struct str *piece);
/* … and copies it as the text that it stands for, "" when it isn't set. False: it doesn't fit. */
MUST_CHECK bool redis_model_copy_piece(char *out, size_t out_bytes, struct str piece);

/* A parked event as an element of its list, and back: offset, version, type, id, time, reason. */
void redis_model_put_parked(struct buf *out, const struct parked_event *event);
MUST_CHECK bool redis_model_parse_parked(struct str text, struct parked_event *out);

#endif
