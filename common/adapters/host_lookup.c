#include "common/adapters/host_lookup.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>

#include "common/base/mem.h"

struct host_lookup {
    struct gaicb request;
    struct addrinfo hints;
    char *host;
    bool started;
    int start_error;
};

static bool is_address(const char *host) {
    struct in6_addr ignored;

    return inet_pton(AF_INET, host, &ignored) == 1 || inet_pton(AF_INET6, host, &ignored) == 1;
}

struct host_lookup *host_lookup_new(const char *host) {
    struct host_lookup *lookup = mem_zalloc(sizeof(*lookup));
    struct gaicb *list[1] = {&lookup->request};

    lookup->host = mem_strdup(host);
    lookup->hints.ai_family = AF_UNSPEC;
    lookup->hints.ai_socktype = SOCK_STREAM;
    lookup->request.ar_name = lookup->host;
    lookup->request.ar_request = &lookup->hints;
    if (!is_address(host)) {
        lookup->start_error = getaddrinfo_a(GAI_NOWAIT, list, 1, NULL);
        lookup->started = lookup->start_error == 0;
    }
    return lookup;
}

void host_lookup_free(struct host_lookup *lookup) {
    if (lookup == NULL) {
        return;
    }
    if (lookup->started && gai_error(&lookup->request) == EAI_INPROGRESS &&
        gai_cancel(&lookup->request) != EAI_CANCELED) {
        /* The resolver's thread still writes into it: its memory must stay. */
        return;
    }
    if (lookup->request.ar_result != NULL) {
        freeaddrinfo(lookup->request.ar_result);
    }
    mem_free(lookup->host);
    mem_free(lookup);
}

static bool address_text(const struct addrinfo *info, char out[HOST_LOOKUP_TEXT_BYTES]) {
    union {
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } at = {0};

    if (info->ai_addrlen > sizeof(at)) {
        return false;
    }
    memcpy(&at, info->ai_addr, info->ai_addrlen);
    const void *address =
        info->ai_family == AF_INET ? (const void *)&at.v4.sin_addr : (const void *)&at.v6.sin6_addr;
    return inet_ntop(info->ai_family, address, out, HOST_LOOKUP_TEXT_BYTES) != NULL;
}

enum host_lookup_state host_lookup_poll(struct host_lookup *lookup, size_t turn,
                                        char out[HOST_LOOKUP_TEXT_BYTES], struct err *err) {
    size_t count = 0;

    if (!lookup->started && lookup->start_error == 0) {
        return str_copy(out, HOST_LOOKUP_TEXT_BYTES, str_from(lookup->host)) ? HOST_LOOKUP_DONE
                                                                             : HOST_LOOKUP_FAILED;
    }
    const int state = lookup->start_error != 0 ? lookup->start_error : gai_error(&lookup->request);
    if (state == EAI_INPROGRESS) {
        return HOST_LOOKUP_PENDING;
    }
    const struct addrinfo *first = state == 0 ? lookup->request.ar_result : NULL;
    for (const struct addrinfo *info = first; info != NULL; info = info->ai_next) {
        count++;
    }
    const struct addrinfo *chosen = first;
    for (size_t i = count > 0 ? turn % count : 0; i > 0; i--) {
        chosen = chosen->ai_next;
    }
    if (chosen != NULL && address_text(chosen, out)) {
        return HOST_LOOKUP_DONE;
    }
    (void)err_set(err, ERR_UNAVAILABLE, "%s: %s", lookup->host,
                  state != 0 ? gai_strerror(state) : "no address");
    return HOST_LOOKUP_FAILED;
}
