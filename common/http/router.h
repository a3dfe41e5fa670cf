/* Matching of method and path against the route table: pure, over bytes from the network. */
#ifndef DAYBOOK_HTTP_ROUTER_H
#define DAYBOOK_HTTP_ROUTER_H

#include "common/http/http_server.h"

enum http_method http_method_parse(struct str name);
const char *http_method_name(enum http_method method);

enum router_verdict {
    ROUTER_FOUND,
    ROUTER_NOT_FOUND,
    ROUTER_METHOD_NOT_ALLOWED, /* the path is known */
    ROUTER_BAD_URL, /* a percent-escape is malformed or hides a NUL; too many parameters */
};

/*
 * Finds the route of `path` (raw, without query) for `method`, filling the request's path
 * parameters (decoded, in its arena). HEAD finds GET. On ROUTER_METHOD_NOT_ALLOWED and for OPTIONS
 * `allow` gets the list for the Allow header.
 */
enum router_verdict router_match(const struct http_route *routes, size_t count,
                                 enum http_method method, struct str path,
                                 struct http_request *request, const struct http_route **found,
                                 struct buf *allow);

/* Splits and decodes a raw query string into the request. False: ROUTER_BAD_URL. */
bool router_parse_query(struct str query, struct http_request *request);

#endif
