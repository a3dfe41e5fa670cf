#include "common/auth/subject.h"

static const struct {
    enum auth_scope scope;
    const char *name;
} scopes[] = {{AUTH_READ, "read"}, {AUTH_WRITE, "write"}, {AUTH_ADMIN, "admin"}};

unsigned auth_scope_parse(struct str word) {
    for (size_t i = 0; i < ARRAY_LEN(scopes); i++) {
        if (str_eq(word, str_from(scopes[i].name))) {
            return scopes[i].scope;
        }
    }
    return 0;
}

const char *auth_scope_name(enum auth_scope scope) {
    for (size_t i = 0; i < ARRAY_LEN(scopes); i++) {
        if (scopes[i].scope == scope) {
            return scopes[i].name;
        }
    }
    return "none";
}
