/* What daybook-projector does without a command: it posts events until it is told to stop. */
#ifndef DAYBOOK_PROJECTOR_SERVE_H
#define DAYBOOK_PROJECTOR_SERVE_H

#include "projector/world.h"

/* Returns the process's exit code. */
int serve(const struct world *world);

/* The projections named in `names` (separated by commas; "all"), in the registry's order for all.
 * At most `max`. ERR_INVALID: there is no such. */
MUST_CHECK enum err_code choose_projections(struct str names, const struct projection **out,
                                            size_t max, size_t *count, struct err *err);

#endif
