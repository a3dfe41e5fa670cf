/* TLS and SASL for a Kafka client in the making. */
#ifndef DAYBOOK_ADAPTERS_KAFKA_SECURITY_H
#define DAYBOOK_ADAPTERS_KAFKA_SECURITY_H

#include <librdkafka/rdkafka.h>

#include "common/base/err.h"
#include "common/config/kafka_settings.h"

/* `settings` NULL: plain text. ERR_INVALID: librdkafka refuses one, or it was built without what is
 * asked for; no secret in the message. */
MUST_CHECK enum err_code kafka_security_set(rd_kafka_conf_t *conf,
                                            const struct kafka_settings *settings, struct err *err);

#endif
