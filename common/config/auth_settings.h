/* What a process can be told about who may call it. */
#ifndef DAYBOOK_CONFIG_AUTH_SETTINGS_H
#define DAYBOOK_CONFIG_AUTH_SETTINGS_H

#include "common/config/config_row.h"

struct auth_settings {
    const char *mode; /* "auto", "off" */
    const char *api_keys_path;
    const char *jwt_keys_path;
    const char *jwt_issuer;   /* "": any whose key is in the file */
    const char *jwt_audience; /* what a token's aud must contain */
    int64_t jwt_leeway_s;
};

#define AUTH_AT(base, field) ((base) + offsetof(struct auth_settings, field))

/* Rows of a process's table of keys; its struct holds the settings at the offset `base`. */
#define AUTH_CONFIG_KEYS(base)                                                                  \
    CONFIG_ROW_WORD("DAYBOOK_AUTH", AUTH_AT(base, mode), "auto", "auto off",                    \
                    "auto: whoever calls must be known once a file of keys is named, and one "  \
                    "must be unless the address is loopback; off: anybody may call"),           \
        CONFIG_ROW_TEXT("DAYBOOK_AUTH_API_KEYS_PATH", AUTH_AT(base, api_keys_path), 1024,       \
                        "file of API keys: name, scopes and sha256:<hex> of the key a line; "   \
                        "read again when it changes"),                                          \
        CONFIG_ROW_TEXT("DAYBOOK_AUTH_JWT_KEYS_PATH", AUTH_AT(base, jwt_keys_path), 1024,       \
                        "file of keys for JWTs: a JSON Web Key Set with HS256 and RS256 keys; " \
                        "read again when it changes"),                                          \
        CONFIG_ROW_TEXT("DAYBOOK_AUTH_JWT_ISSUER", AUTH_AT(base, jwt_issuer), 255,              \
                        "what a token's iss must be; empty: it is not looked at"),              \
        CONFIG_ROW("DAYBOOK_AUTH_JWT_AUDIENCE", CONFIG_STRING, AUTH_AT(base, jwt_audience),     \
                   "daybook", 1, 255, NULL, false, "", "what a token's aud must contain"),      \
        CONFIG_ROW_INT("DAYBOOK_AUTH_JWT_LEEWAY_S", AUTH_AT(base, jwt_leeway_s), "30", 0, 600,  \
                       "s", "for clocks that differ: added to a token's time at both ends")

#endif
