/* What an operator may do to a topic. Each waits until it is done; the test fails when it fails. */
#ifndef DAYBOOK_TESTS_SUPPORT_TOPIC_H
#define DAYBOOK_TESTS_SUPPORT_TOPIC_H

#include <stddef.h>

void topic_delete(const char *topic);
/* Deletes it and makes it at once, empty. */
void topic_make_anew(const char *topic, int partitions);
/* The only setting that is the topic's own from now on. */
void topic_set(const char *topic, const char *name, const char *value);
/* Appends a record that is no event. */
void topic_append_foreign(const char *topic, int partition);
/* Appends a deposit to the stack's topic as the relay does, but of a version and with a payload
 * that it may never have. */
void topic_append_event(const char *stream, int version, const char *payload);
/* Appends the last record of a partition once more. */
void topic_repeat_last(const char *topic, int partition);
/* How many of its partitions this broker leads. */
int topic_led_by(const char *topic, int broker);

#endif
