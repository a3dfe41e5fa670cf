#include "common/adapters/redis_tls.h"

#include <hiredis/hiredis.h>

#ifdef HAVE_REDIS_TLS

#include <arpa/inet.h>
#include <hiredis/hiredis_ssl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

bool redis_tls_available(void) {
    return true;
}

static enum err_code refuse(const char *what, struct err *err) {
    char why[160];

    ERR_error_string_n(ERR_get_error(), why, sizeof(why));
    return err_set(err, ERR_INVALID, "redis: %s: %s", what, why);
}

static enum err_code load_files(SSL_CTX *context, const struct redis_url *url, struct err *err) {
    if (url->ca_path[0] != '\0' ? SSL_CTX_load_verify_file(context, url->ca_path) != 1
                                : SSL_CTX_set_default_verify_paths(context) != 1) {
        return refuse("cacert", err);
    }
    if (url->certificate_path[0] != '\0' &&
        (SSL_CTX_use_certificate_chain_file(context, url->certificate_path) != 1 ||
         SSL_CTX_use_PrivateKey_file(
             context, url->key_path[0] != '\0' ? url->key_path : url->certificate_path,
             SSL_FILETYPE_PEM) != 1)) {
        return refuse("cert and key", err);
    }
    return ERR_OK;
}

/* The name that the certificate must have; an address is no name for SNI. */
static bool set_host(SSL *ssl, const char *host) {
    unsigned char address[sizeof(struct in6_addr)];

    if (inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1) {
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1;
    }
    return SSL_set1_host(ssl, host) == 1 && SSL_set_tlsext_host_name(ssl, host) == 1;
}

enum err_code redis_tls_start(struct redisContext *redis, const struct redis_url *url,
                              struct err *err) {
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    SSL *ssl = NULL;

    if (context == NULL || SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) != 1) {
        SSL_CTX_free(context);
        return refuse("TLS", err);
    }
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    enum err_code code = load_files(context, url, err);
    if (code == ERR_OK) {
        ssl = SSL_new(context);
        if (ssl == NULL || !set_host(ssl, url->host)) {
            code = refuse("TLS", err);
        }
    }
    SSL_CTX_free(context); /* the connection keeps it */
    if (code != ERR_OK) {
        SSL_free(ssl);
        return code;
    }
    /* Takes the connection, also when it fails. */
    if (redisInitiateSSL(redis, ssl) != REDIS_OK) {
        return err_set(err, ERR_UNAVAILABLE, "TLS: %s",
                       redis->errstr[0] != '\0' ? redis->errstr : "the handshake failed");
    }
    return ERR_OK;
}

#else

bool redis_tls_available(void) {
    return false;
}

enum err_code redis_tls_start(struct redisContext *redis, const struct redis_url *url,
                              struct err *err) {
    (void)redis;
    (void)url;
    return err_set(err, ERR_INVALID, "redis: built without TLS");
}

#endif
