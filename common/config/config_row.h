/* One row of a table of keys, for settings that several processes share. */
#ifndef DAYBOOK_CONFIG_CONFIG_ROW_H
#define DAYBOOK_CONFIG_CONFIG_ROW_H

#include "common/config/config.h"

#define CONFIG_ROW(name, kind, offset, standard, min, max, accept, secret, unit, help) \
    { name, kind, offset, standard, min, max, accept, secret, unit, help }
/* The usual kinds, with what they don't need left out. */
#define CONFIG_ROW_TEXT(name, offset, bytes_max, help) \
    CONFIG_ROW(name, CONFIG_STRING, offset, "", 0, bytes_max, NULL, false, "", help)
#define CONFIG_ROW_SECRET(name, offset, bytes_max, help) \
    CONFIG_ROW(name, CONFIG_STRING, offset, "", 0, bytes_max, NULL, true, "", help)
#define CONFIG_ROW_URL(name, offset, help) \
    CONFIG_ROW(name, CONFIG_URL, offset, "", 0, 1024, NULL, false, "", help)
#define CONFIG_ROW_WORD(name, offset, standard, accept, help) \
    CONFIG_ROW(name, CONFIG_STRING, offset, standard, 1, 32, accept, false, "", help)
#define CONFIG_ROW_FLAG(name, offset, standard, help) \
    CONFIG_ROW(name, CONFIG_BOOL, offset, standard, 0, 0, NULL, false, "", help)
#define CONFIG_ROW_INT(name, offset, standard, min, max, unit, help) \
    CONFIG_ROW(name, CONFIG_INT, offset, standard, min, max, NULL, false, unit, help)

#endif
