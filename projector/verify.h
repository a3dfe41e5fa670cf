/*
 * Verification of one store's share of one projection against the fold of the log, beside the live
 * system: every row and key, every parked stream, every checkpoint.
 *
 * Each row is compared at the cut at which it was read (model_scan.h). What the fold has and the
 * scan did not show is looked for by its key. Of tables whose rows never change a digest of 56
 * bytes a row is kept in memory, the rows of the others whole.
 */
#ifndef DAYBOOK_PROJECTOR_VERIFY_H
#define DAYBOOK_PROJECTOR_VERIFY_H

#include <stdio.h>

#include "common/ports/model_scan.h"

struct verify_options {
    const struct projection *projection;
    struct model_scan *scan;     /* borrowed */
    struct event_reader *reader; /* borrowed, open */
    int32_t partitions;
    FILE *out;      /* differences; NULL: none are printed */
    FILE *progress; /* NULL: none */
};

struct verify_result {
    int64_t events, rows, parked, differences;
};

enum { VERIFY_PRINTED_MAX = 20 };

/* ERR_CONFLICT: the model was switched or lost while it was being compared: try again. */
MUST_CHECK enum err_code verify_store(const struct verify_options *options,
                                      struct verify_result *result, struct err *err);

#endif
