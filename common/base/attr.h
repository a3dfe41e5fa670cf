/* Compiler attributes used throughout, each with one meaning. */
#ifndef DAYBOOK_BASE_ATTR_H
#define DAYBOOK_BASE_ATTR_H

/* The caller must look at the result: it says whether the thing was done. */
#define MUST_CHECK __attribute__((warn_unused_result))
/* Arguments `fmt` and `first` are checked as a printf format and its values. */
#define PRINTF_LIKE(fmt, first) __attribute__((format(printf, fmt, first)))
#define NORETURN __attribute__((noreturn))

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

#endif
