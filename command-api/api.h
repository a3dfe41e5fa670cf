/*
 * From request to command and back: one route per command of every registered aggregate.
 * Each body is checked whole before anything is queued; what is wrong is named with its field.
 */
#ifndef DAYBOOK_COMMAND_API_API_H
#define DAYBOOK_COMMAND_API_API_H

#include "command-api/shard.h"
#include "common/http/http_server.h"

enum { API_ROUTES_MAX = 48 };

struct api;

struct api_options {
    struct metrics *metrics;
    struct log *log;
    size_t shard_count;
};

struct api *api_new(const struct api_options *options);
void api_free(struct api *api);
/* Routes for http_server_options; they live as long as the api. */
const struct http_route *api_routes(struct api *api, size_t *count);
/* The shards get the commands; to be set before api_attach. Borrowed. */
void api_set_shards(struct api *api, struct shard **shards);
/* What a turn of one of the server's loops brings is handed to the shards together, at its end. To
 * be called before the server starts. */
void api_attach(struct api *api, struct http_server *server, uint32_t threads);

#endif
