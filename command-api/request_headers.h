/* What a command request says in its headers. */
#ifndef DAYBOOK_COMMAND_API_REQUEST_HEADERS_H
#define DAYBOOK_COMMAND_API_REQUEST_HEADERS_H

#include "command-api/command_job.h"
#include "common/http/http_server.h"

/* Fills the job's preconditions, key and metadata. False: the request has its problem response. */
MUST_CHECK bool request_headers_read(struct http_request *request, struct command_job *job);

/* application/json, with charset=utf-8 or none (RFC 8259 section 11). */
bool content_type_is_json(struct str value);
/* The key: a quoted string as in draft-ietf-httpapi-idempotency-key-header-07, or the bare token;
 * 1 … IDEMPOTENCY_KEY_BYTES_MAX visible ASCII characters. False when ill-formed. */
MUST_CHECK bool idempotency_key_parse(struct str value, struct str *key);
/* An entity tag of ours ("5" or 5, as we write it: no leading zero), or *. False when ill-formed.
 * RFC 9110 section 13.1. */
MUST_CHECK bool if_match_parse(struct str value, int64_t *expected_version);
/* For X-Causation-ID and X-Actor: UTF-8 of at most 128 bytes, without control characters. May be
 * empty. */
bool metadata_is_acceptable(struct str value);
/* W3C Trace Context, version 00: 2-32-16-2 lower-case hex digits, ids not all zero. */
bool traceparent_is_valid(struct str value);

#endif
