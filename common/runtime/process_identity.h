/*
 * Who a process is, as a text that other processes can judge: the running kernel and its process
 * namespace, the process id, and when it was started.
 */
#ifndef DAYBOOK_RUNTIME_PROCESS_IDENTITY_H
#define DAYBOOK_RUNTIME_PROCESS_IDENTITY_H

#include <stdbool.h>

enum { PROCESS_IDENTITY_BYTES = 160 };

/* "<boot id>/<namespace>/<pid>/<start>"; parts that can't be found out are "?". */
void process_identity(char out[PROCESS_IDENTITY_BYTES]);

/* True only when it is certain that this process has ended: it ran under this kernel and namespace
 * and is not there any more. Of another machine's processes nothing is certain. */
bool process_identity_ended(const char *identity);

#endif
