/*
 * The command API without a network and without shards: its own routes and handlers, called with a
 * request made here; what would go to a shard is kept for inspection.
 */
#ifndef DAYBOOK_TESTS_FUZZ_FAKE_SERVER_H
#define DAYBOOK_TESTS_FUZZ_FAKE_SERVER_H

#include "command-api/command_job.h"
#include "common/http/http_server.h"

enum { FAKE_HEADERS_MAX = 32, FAKE_ROUTES_MAX = 64 };

struct fake_header {
    struct str name;
    struct str value;
};

struct fake_call {
    const struct fake_header *headers; /* borrowed, as are all of these */
    size_t header_count;
    struct str path; /* as it would be sent */
    struct str body;
};

/* An answer, or the job that went to a shard. Valid until the next call with the same `slot`. */
struct fake_result {
    enum fake_outcome { FAKE_NO_ROUTE, FAKE_ANSWERED, FAKE_SUBMITTED } outcome;
    const struct command_job *job;        /* FAKE_SUBMITTED */
    const struct http_response *response; /* FAKE_ANSWERED: checked to be a problem with a 4xx */
};

/* All routes of the command API. */
const struct http_route *fake_server_routes(size_t *count);
/* Routes of the command API that serve POST. */
size_t fake_server_commands(const struct http_route *out[FAKE_ROUTES_MAX]);
/* The command that a route of fake_server_commands is for; NULL when it's unknown to the registry.
 */
const struct command_type *fake_server_command_type(const struct http_route *route);

/* Makes a request and hands it to the route's handler. Two slots, to compare two calls. */
struct fake_result fake_server_post(int slot, const struct fake_call *call);

/* A request with these headers, for functions that only read it. Released by the next one or by
 * fake_server_post on that slot. */
struct http_request *fake_server_request(int slot, const struct fake_call *call);

/* The answer must be a problem that clients can read: its status, its code, valid JSON. */
void fake_server_check_problem(const struct http_request *request);

#endif
