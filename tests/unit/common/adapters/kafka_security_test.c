#include "common/adapters/kafka_security.h"

#include <criterion/criterion.h>
#include <string.h>

static struct kafka_settings settings(const char *protocol) {
    return (struct kafka_settings){.security_protocol = protocol,
                                   .sasl_mechanism = "SCRAM-SHA-512",
                                   .sasl_username = "daybook",
                                   .sasl_password = "secret",
                                   .ssl_ca_path = "/ca.pem",
                                   .ssl_certificate_path = "/cert.pem",
                                   .ssl_key_path = "/key.pem",
                                   .ssl_key_password = "hidden",
                                   .ssl_endpoint_identification = "none"};
}

/* "": not set. Static. */
static const char *value_of(const rd_kafka_conf_t *conf, const char *name) {
    static char value[256];
    size_t size = sizeof(value);

    value[0] = '\0';
    (void)rd_kafka_conf_get(conf, name, value, &size);
    return value;
}

Test(kafka_security, what_is_set_reaches_the_client) {
    const struct kafka_settings all = settings("sasl_ssl");
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    struct err err = {0};

    cr_assert_eq(kafka_security_set(conf, &all, &err), ERR_OK, "%s", err.message);
    cr_expect_str_eq(value_of(conf, "security.protocol"), "sasl_ssl");
    cr_expect_str_eq(value_of(conf, "sasl.mechanism"), "SCRAM-SHA-512");
    cr_expect_str_eq(value_of(conf, "sasl.username"), "daybook");
    cr_expect_str_eq(value_of(conf, "sasl.password"), "secret");
    cr_expect_str_eq(value_of(conf, "ssl.ca.location"), "/ca.pem");
    cr_expect_str_eq(value_of(conf, "ssl.certificate.location"), "/cert.pem");
    cr_expect_str_eq(value_of(conf, "ssl.key.location"), "/key.pem");
    cr_expect_str_eq(value_of(conf, "ssl.key.password"), "hidden");
    cr_expect_str_eq(value_of(conf, "ssl.endpoint.identification.algorithm"), "none");
    rd_kafka_conf_destroy(conf);
}

Test(kafka_security, each_protocol_takes_what_is_for_it) {
    const struct kafka_settings plain = settings("plaintext");
    const struct kafka_settings ssl = settings("ssl");
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    struct err err = {0};

    cr_assert_eq(kafka_security_set(conf, NULL, &err), ERR_OK);
    cr_assert_eq(kafka_security_set(conf, &plain, &err), ERR_OK, "%s", err.message);
    cr_expect_str_eq(value_of(conf, "sasl.username"), "");
    cr_expect_str_eq(value_of(conf, "ssl.ca.location"), "");
    cr_assert_eq(kafka_security_set(conf, &ssl, &err), ERR_OK, "%s", err.message);
    cr_expect_str_eq(value_of(conf, "sasl.username"), "");
    cr_expect_str_eq(value_of(conf, "ssl.ca.location"), "/ca.pem");
    rd_kafka_conf_destroy(conf);
}

Test(kafka_security, what_is_refused_is_named_without_a_secret) {
    struct kafka_settings wrong = settings("sasl_ssl");
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    struct err err = {0};

    wrong.ssl_endpoint_identification = "perhaps";
    cr_assert_eq(kafka_security_set(conf, &wrong, &err), ERR_INVALID);
    cr_assert_not_null(strstr(err.message, "ssl.endpoint.identification.algorithm"), "%s",
                       err.message);
    cr_assert_null(strstr(err.message, "secret"));
    rd_kafka_conf_destroy(conf);
}
