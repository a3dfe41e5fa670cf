#include "common/ports/row_view.h"

#include "common/base/mem.h"

void row_result_release(struct row_result *result) {
    mem_free_const(result->lines);
    mem_free_const(result->accounts);
    mem_free_const(result->activity);
    *result = (struct row_result){0};
}
