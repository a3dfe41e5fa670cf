/* The routes that every process has: /health, /ready, /metrics. */
#ifndef DAYBOOK_HTTP_HTTP_BUILTIN_H
#define DAYBOOK_HTTP_HTTP_BUILTIN_H

#include "common/http/http_server.h"

enum { HTTP_BUILTIN_ROUTES = 3 };

void http_builtin_routes(struct health *health, struct metrics *metrics,
                         struct http_route out[HTTP_BUILTIN_ROUTES]);

#endif
