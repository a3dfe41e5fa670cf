/*
 * Long-lived allocations made at start or bounded by a named maximum elsewhere. Running out of
 * memory here leaves nothing sensible to do: the process says so and aborts; the log in PostgreSQL
 * is what survives.
 */
#ifndef DAYBOOK_BASE_MEM_H
#define DAYBOOK_BASE_MEM_H

#include <stddef.h>

#include "common/base/str.h"

void *mem_zalloc(size_t bytes);
void *mem_array(size_t count, size_t size); /* zeroed; overflow aborts */
void *mem_resize(void *old, size_t count, size_t size);
char *mem_strdup(const char *text);
char *mem_strndup(struct str text);
void mem_free(void *ptr);
/* What its owner only reads: a str's own text, rows handed out. */
void mem_free_const(const void *ptr);

#endif
