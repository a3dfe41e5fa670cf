/* How a process proves to Kafka who it is, and Kafka to it. */
#ifndef DAYBOOK_CONFIG_KAFKA_SETTINGS_H
#define DAYBOOK_CONFIG_KAFKA_SETTINGS_H

#include "common/config/config_row.h"

/* "": not told, librdkafka's default. */
struct kafka_settings {
    const char *security_protocol;
    const char *sasl_mechanism;
    const char *sasl_username;
    const char *sasl_password;
    const char *ssl_ca_path;
    const char *ssl_certificate_path;
    const char *ssl_key_path;
    const char *ssl_key_password;
    const char *ssl_endpoint_identification;
};

#define KAFKA_AT(base, field) ((base) + offsetof(struct kafka_settings, field))

/* Rows of a process's table of keys; its struct holds the settings at the offset `base`. */
#define KAFKA_CONFIG_KEYS(base)                                                                    \
    CONFIG_ROW_WORD("DAYBOOK_KAFKA_SECURITY_PROTOCOL", KAFKA_AT(base, security_protocol),          \
                    "plaintext", "plaintext ssl sasl_plaintext sasl_ssl",                          \
                    "how the brokers are spoken to"),                                              \
        CONFIG_ROW_WORD("DAYBOOK_KAFKA_SASL_MECHANISM", KAFKA_AT(base, sasl_mechanism), "PLAIN",   \
                        "PLAIN SCRAM-SHA-256 SCRAM-SHA-512",                                       \
                        "for sasl_…: how the password is proven"),                                 \
        CONFIG_ROW_TEXT("DAYBOOK_KAFKA_SASL_USERNAME", KAFKA_AT(base, sasl_username), 255,         \
                        "for sasl_…: the user"),                                                   \
        CONFIG_ROW_SECRET("DAYBOOK_KAFKA_SASL_PASSWORD", KAFKA_AT(base, sasl_password), 1024,      \
                          "for sasl_…: the password"),                                             \
        CONFIG_ROW_TEXT("DAYBOOK_KAFKA_SSL_CA_PATH", KAFKA_AT(base, ssl_ca_path), 1024,            \
                        "for …ssl: PEM file of the CA that vouches for the brokers; empty: the " \
                        "system's"),                                                               \
        CONFIG_ROW_TEXT("DAYBOOK_KAFKA_SSL_CERTIFICATE_PATH",                                      \
                        KAFKA_AT(base, ssl_certificate_path), 1024,                                \
                        "for …ssl: PEM file of our certificate, where brokers ask for one"),       \
        CONFIG_ROW_TEXT("DAYBOOK_KAFKA_SSL_KEY_PATH", KAFKA_AT(base, ssl_key_path), 1024,          \
                        "for …ssl: PEM file of its key"),                                          \
        CONFIG_ROW_SECRET("DAYBOOK_KAFKA_SSL_KEY_PASSWORD", KAFKA_AT(base, ssl_key_password),      \
                          1024, "for …ssl: the key's password"),                                   \
        CONFIG_ROW_WORD("DAYBOOK_KAFKA_SSL_ENDPOINT_IDENTIFICATION",                               \
                        KAFKA_AT(base, ssl_endpoint_identification), "https", "https none",        \
                        "for …ssl: none: a broker's certificate need not name its host")

#endif
