/*
 * The paths that the query API answers. The command API lists them without a handler, so that a
 * wrong method on either side of the gateway gets 405 with every method that the path has. A test
 * holds this table against the query API's routes.
 */
#ifndef DAYBOOK_HTTP_READ_PATHS_H
#define DAYBOOK_HTTP_READ_PATHS_H

#include <stddef.h>

extern const char *const http_read_paths[];
extern const size_t http_read_path_count;

#endif
