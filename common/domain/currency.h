/* ISO 4217 currencies: alphabetic codes in use and their minor-unit digits. */
#ifndef DAYBOOK_DOMAIN_CURRENCY_H
#define DAYBOOK_DOMAIN_CURRENCY_H

#include <stdint.h>

#include "common/base/str.h"

/* Decimals of a currency (0 … 4); -1 when the code is not one. Upper case only. */
int32_t currency_digits(struct str code);

#endif
