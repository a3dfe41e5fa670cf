/* One row of a table of keys, for settings that several processes share. */
#ifndef DAYBOOK_CONFIG_CONFIG_ROW_H
#define DAYBOOK_CONFIG_CONFIG_ROW_H

#include "common/config/config.h"

#define CONFIG_ROW(name, kind, type, field, standard, min, max, accept, secret, unit, help) \
    { name, kind, offsetof(type, field), standard, min, max, accept, secret, unit, help }
/* The usual kinds, with what they don't need left out. */
#define CONFIG_ROW_TEXT(name, type, field, bytes_max, help) \
    CONFIG_ROW(name, CONFIG_STRING, type, field, "", 0, bytes_max, NULL, false, "", help)
#define CONFIG_ROW_SECRET(name, type, field, bytes_max, help) \
    CONFIG_ROW(name, CONFIG_STRING, type, field, "", 0, bytes_max, NULL, true, "", help)
#define CONFIG_ROW_URL(name, type, field, help) \
    CONFIG_ROW(name, CONFIG_URL, type, field, "", 0, 1024, NULL, false, "", help)
#define CONFIG_ROW_WORD(name, type, field, standard, accept, help) \
    CONFIG_ROW(name, CONFIG_STRING, type, field, standard, 1, 32, accept, false, "", help)
#define CONFIG_ROW_FLAG(name, type, field, standard, help) \
    CONFIG_ROW(name, CONFIG_BOOL, type, field, standard, 0, 0, NULL, false, "", help)
#define CONFIG_ROW_INT(name, type, field, standard, min, max, unit, help) \
    CONFIG_ROW(name, CONFIG_INT, type, field, standard, min, max, NULL, false, unit, help)

#endif
