#include "common/adapters/redis_url.h"

#include <string.h>

#include "common/adapters/redis_tls.h"

enum { DEFAULT_PORT = 6379 };

/* The offset of `c`, or text.len. */
static size_t find(struct str text, char c) {
    const char *at = text.len > 0 ? memchr(text.ptr, c, text.len) : NULL;

    return at != NULL ? (size_t)(at - text.ptr) : text.len;
}

static size_t find_last(struct str text, char c) {
    const char *at = text.len > 0 ? memrchr(text.ptr, c, text.len) : NULL;

    return at != NULL ? (size_t)(at - text.ptr) : text.len;
}

static struct str from(struct str text, size_t offset) {
    return offset < text.len ? str_of(text.ptr + offset, text.len - offset) : str_of("", 0);
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    const char lower = (char)(c | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

static bool percent_decode(char out[REDIS_URL_PART_BYTES], struct str text) {
    size_t len = 0;

    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (c == '%') {
            const int high = i + 2 < text.len ? hex_digit(text.ptr[i + 1]) : -1;
            const int low = i + 2 < text.len ? hex_digit(text.ptr[i + 2]) : -1;
            if (high < 0 || low < 0 || (high == 0 && low == 0)) {
                return false;
            }
            c = (char)(high * 16 + low);
            i += 2;
        }
        if (len + 1 >= REDIS_URL_PART_BYTES) {
            return false;
        }
        out[len++] = c;
    }
    out[len] = '\0';
    return true;
}

static enum err_code parse_login(struct str login, struct redis_url *out, struct err *err) {
    const size_t colon = find(login, ':');

    if (!percent_decode(out->user, str_of(login.ptr, colon)) ||
        !percent_decode(out->password, from(login, colon + 1))) {
        return err_set(err, ERR_INVALID, "Redis URL: ill-formed or overlong user or password");
    }
    return ERR_OK;
}

static enum err_code parse_host(struct str text, struct redis_url *out, struct err *err) {
    struct str host = {0};
    struct str port = {0};
    int64_t number = DEFAULT_PORT;

    if (text.len > 0 && text.ptr[0] == '[') {
        const size_t end = find(text, ']');
        if (end == text.len) {
            return err_set(err, ERR_INVALID, "Redis URL: \"[\" without \"]\"");
        }
        host = str_of(text.ptr + 1, end - 1);
        port = from(text, end + 1);
    } else {
        const size_t colon = find(text, ':');
        host = str_of(text.ptr, colon);
        port = from(text, colon);
    }
    if (host.len == 0 || !str_copy(out->host, sizeof(out->host), host)) {
        return err_set(err, ERR_INVALID, "Redis URL: the host is missing or too long");
    }
    if (port.len > 0 && (port.ptr[0] != ':' || !str_to_i64(from(port, 1), &number) || number < 1 ||
                         number > UINT16_MAX)) {
        return err_set(err, ERR_INVALID, "Redis URL: the port must be 1 to 65535");
    }
    out->port = (uint16_t)number;
    return ERR_OK;
}

static enum err_code parse_parameter(struct str text, struct redis_url *out, struct err *err) {
    const size_t equals = find(text, '=');
    const struct str name = str_of(text.ptr, equals);
    char *to = str_eq(name, STR("cacert")) ? out->ca_path
               : str_eq(name, STR("cert")) ? out->certificate_path
               : str_eq(name, STR("key"))  ? out->key_path
                                           : NULL;

    if (to == NULL) {
        return err_set(err, ERR_INVALID, "Redis URL: its parameters are cacert, cert and key");
    }
    return percent_decode(to, from(text, equals + 1))
               ? ERR_OK
               : err_set(err, ERR_INVALID, "Redis URL: an ill-formed or overlong path");
}

static enum err_code parse_parameters(struct str text, struct redis_url *out, struct err *err) {
    enum err_code code = ERR_OK;

    if (text.len > 0 && !out->tls) {
        return err_set(err, ERR_INVALID, "Redis URL: parameters are for rediss://");
    }
    while (code == ERR_OK && text.len > 0) {
        const size_t end = find(text, '&');
        code = parse_parameter(str_of(text.ptr, end), out, err);
        text = from(text, end + 1);
    }
    return code;
}

enum err_code redis_url_parse(struct str url, struct redis_url *out, struct err *err) {
    struct redis_url parsed = {.tls = str_starts_with(url, STR("rediss://"))};

    if (!parsed.tls && !str_starts_with(url, STR("redis://"))) {
        return err_set(err, ERR_INVALID, "Redis URL: it must start with redis:// or rediss://");
    }
    struct str rest = from(url, parsed.tls ? strlen("rediss://") : strlen("redis://"));
    /* A password may have a "?" in it. */
    const size_t login_end = find_last(rest, '@');
    const size_t behind = login_end < rest.len ? login_end : 0;
    const size_t question = behind + find(from(rest, behind), '?');
    enum err_code code = parse_parameters(from(rest, question + 1), &parsed, err);
    rest = str_of(rest.ptr, question);
    const size_t slash = find_last(rest, '/');
    const struct str database = from(rest, slash + 1);
    struct str authority = str_of(rest.ptr, slash);
    const size_t at = find_last(authority, '@');
    if (code == ERR_OK && at < authority.len) {
        code = parse_login(str_of(authority.ptr, at), &parsed, err);
        authority = from(authority, at + 1);
    }
    if (code == ERR_OK) {
        code = parse_host(authority, &parsed, err);
    }
    if (code == ERR_OK && database.len > 0 &&
        (!str_to_i64(database, &parsed.database) || parsed.database < 0 ||
         parsed.database > REDIS_URL_DATABASE_MAX)) {
        code = err_set(err, ERR_INVALID, "Redis URL: the database must be 0 to %d",
                       REDIS_URL_DATABASE_MAX);
    }
    if (code == ERR_OK && parsed.tls && !redis_tls_available()) {
        code = err_set(err, ERR_INVALID,
                       "Redis URL: rediss:// needs hiredis 1.0 or newer, built with TLS; this "
                       "program has an older one");
    }
    if (code == ERR_OK) {
        *out = parsed;
    }
    return code;
}
