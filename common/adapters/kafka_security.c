#include "common/adapters/kafka_security.h"

#include "common/base/str.h"

enum { TEXT_BYTES = 256 };

struct setting {
    const char *name;
    const char *value;
    bool secret;
};

static enum err_code set(rd_kafka_conf_t *conf, const struct setting *setting, struct err *err) {
    char text[TEXT_BYTES];

    if (setting->value == NULL || setting->value[0] == '\0' ||
        rd_kafka_conf_set(conf, setting->name, setting->value, text, sizeof(text)) ==
            RD_KAFKA_CONF_OK) {
        return ERR_OK;
    }
    /* librdkafka repeats the value that it does not like. */
    return setting->secret ? err_set(err, ERR_INVALID, "kafka: %s is refused", setting->name)
                           : err_set(err, ERR_INVALID, "kafka: %s", text);
}

static enum err_code set_all(rd_kafka_conf_t *conf, const struct setting *settings, size_t count,
                             struct err *err) {
    enum err_code code = ERR_OK;

    for (size_t i = 0; code == ERR_OK && i < count; i++) {
        code = set(conf, &settings[i], err);
    }
    return code;
}

enum err_code kafka_security_set(rd_kafka_conf_t *conf, const struct kafka_settings *settings,
                                 struct err *err) {
    if (settings == NULL) {
        return ERR_OK;
    }
    const struct str protocol = str_from(settings->security_protocol);
    const bool sasl = str_starts_with(protocol, STR("sasl"));
    const bool ssl = str_eq(protocol, STR("ssl")) || str_eq(protocol, STR("sasl_ssl"));
    const struct setting common[] = {
        {"security.protocol", settings->security_protocol, false},
    };
    const struct setting for_sasl[] = {
        {"sasl.mechanism", settings->sasl_mechanism, false},
        {"sasl.username", settings->sasl_username, false},
        {"sasl.password", settings->sasl_password, true},
    };
    const struct setting for_ssl[] = {
        {"ssl.ca.location", settings->ssl_ca_path, false},
        {"ssl.certificate.location", settings->ssl_certificate_path, false},
        {"ssl.key.location", settings->ssl_key_path, false},
        {"ssl.key.password", settings->ssl_key_password, true},
        {"ssl.endpoint.identification.algorithm", settings->ssl_endpoint_identification, false},
    };

    enum err_code code = set_all(conf, common, ARRAY_LEN(common), err);
    if (code == ERR_OK && sasl) {
        code = set_all(conf, for_sasl, ARRAY_LEN(for_sasl), err);
    }
    if (code == ERR_OK && ssl) {
        code = set_all(conf, for_ssl, ARRAY_LEN(for_ssl), err);
    }
    return code;
}
