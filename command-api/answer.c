#include "command-api/answer.h"

#include <inttypes.h>
#include <stdio.h>

#include "common/http/problem.h"

enum { BODY_BYTES_MAX = 4096 };

static void set_body(struct command_job *job, struct buf *body) {
    const struct str kept = arena_str(job->arena, buf_str(body));

    job->body = kept.ptr != NULL && !buf_failed(body) ? kept : STR("{}\n");
    buf_release(body);
}

static void answer_problem(struct command_job *job, enum command_result result, int status,
                           const char *code, const char *title, struct str detail, int64_t version,
                           bool with_version) {
    char members[64] = "";
    struct buf body;

    if (with_version) {
        (void)snprintf(members, sizeof(members), "\"version\":%" PRId64, version);
    }
    buf_init(&body, BODY_BYTES_MAX);
    problem_render(&body, status, code, title, detail, str_from(members), job->correlation_id);
    job->status = status;
    job->result = result;
    job->is_problem = true;
    job->version = version;
    set_body(job, &body);
}

void answer_accepted(struct command_job *job, const struct stream_state *state) {
    struct buf body;

    buf_init(&body, BODY_BYTES_MAX);
    buf_put_text(&body, "{\"id\":");
    buf_put_json_str(&body, str_from(job->command.stream_id));
    buf_printf(&body, ",\"version\":%" PRId64 ",", state->version);
    job->aggregate->describe(state->data.bytes, &body);
    buf_put_text(&body, "}\n");
    job->status = job->command.type->action == NULL ? 201 : 200;
    job->result = COMMAND_ACCEPTED;
    job->is_problem = false;
    job->version = state->version;
    set_body(job, &body);
}

void answer_rejected(struct command_job *job, const struct rejection *rejection, int64_t version) {
    int status = 422;

    switch (rejection->kind) {
    case REJECTION_NOT_FOUND:
        status = 404;
        break;
    case REJECTION_CONFLICT:
        status = 409;
        break;
    case REJECTION_INVALID:
    case REJECTION_NONE:
        break;
    }
    job->rejection_code = rejection->code;
    answer_problem(job, COMMAND_REJECTED, status, rejection->code, rejection->title,
                   str_from(rejection->detail), version, version > 0);
}

void answer_precondition_failed(struct command_job *job, int64_t version) {
    char detail[128];

    if (version == 0) {
        (void)snprintf(detail, sizeof(detail), "the stream does not exist");
    } else {
        (void)snprintf(detail, sizeof(detail), "the stream is at version %" PRId64, version);
    }
    answer_problem(job, COMMAND_PRECONDITION_FAILED, 412, "precondition_failed",
                   "Precondition failed", str_from(detail), version, true);
}

void answer_replayed(struct command_job *job, const struct command_outcome *outcome) {
    if (outcome->request_hash != job->request_hash) {
        answer_problem(job, COMMAND_KEY_REUSED, 422, "idempotency_key_reused",
                       "Idempotency key used before",
                       STR("this Idempotency-Key was used with another request on this stream"),
                       outcome->version, false);
        return;
    }
    const struct str kept = arena_str(job->arena, outcome->body);
    job->status = outcome->status;
    job->result = COMMAND_REPLAYED;
    job->is_problem = outcome->status >= 400;
    job->replayed = true;
    job->version = outcome->version;
    job->body = kept.ptr != NULL ? kept : STR("{}\n");
}

void answer_like(struct command_job *job, const struct command_job *first) {
    if (first->status >= 500 || first->result == COMMAND_CONFLICT) {
        /* The first one failed without an effect and nothing was kept: so it is with this one. */
        job->status = first->status;
        job->result = first->result;
        job->is_problem = first->is_problem;
        job->version = first->version;
        job->body = first->body.ptr != NULL ? arena_str(job->arena, first->body) : STR("{}\n");
        return;
    }
    const struct command_outcome outcome = {.request_hash = first->request_hash,
                                            .status = first->status,
                                            .version = first->version,
                                            .body = first->body};
    answer_replayed(job, &outcome);
}

void answer_overloaded(struct command_job *job) {
    answer_problem(job, COMMAND_OVERLOADED, 503, "overloaded", "Overloaded",
                   STR("too many commands are waiting; nothing was done; try again"), 0, false);
}

void answer_failed(struct command_job *job, enum err_code code, int64_t version) {
    if (code == ERR_CONFLICT) {
        answer_problem(job, COMMAND_CONFLICT, 409, "version_conflict", "Version conflict",
                       STR("other writers were first each time; try again"), version, true);
    } else if (code == ERR_OUTCOME_UNKNOWN) {
        answer_problem(job, COMMAND_UNKNOWN, 503, "outcome_unknown", "Outcome unknown",
                       job->idempotency_key.len > 0
                           ? STR("the event store did not confirm; repeat the request with the "
                                 "same Idempotency-Key to get the true answer")
                           : STR("the event store did not confirm; read the stream's version "
                                 "before repeating, or use an Idempotency-Key"),
                       0, false);
    } else if (err_retriable(code)) {
        answer_problem(
            job, COMMAND_UNAVAILABLE, 503, "event_store_unavailable", "Event store unavailable",
            STR("the event store can't be reached; nothing was done; try again"), 0, false);
    } else {
        answer_internal(job);
    }
}

void answer_internal(struct command_job *job) {
    answer_problem(job, COMMAND_DEFECT, 500, "internal", "Internal error",
                   STR("nothing was done; the log has the details under the correlation id"), 0,
                   false);
}
