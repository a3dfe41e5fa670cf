#include "common/domain/currency.h"

#include <stddef.h>

/* ISO 4217 list one (Maintenance Agency SIX, active codes), in order. Two digits unless listed
 * below.
 */
static const char codes[][4] = {
    "AED", "AFN", "ALL", "AMD", "AOA", "ARS", "AUD", "AWG", "AZN", "BAM", "BBD", "BDT", "BHD",
    "BIF", "BMD", "BND", "BOB", "BRL", "BSD", "BTN", "BWP", "BYN", "BZD", "CAD", "CDF", "CHF",
    "CLF", "CLP", "CNY", "COP", "CRC", "CUP", "CVE", "CZK", "DJF", "DKK", "DOP", "DZD", "EGP",
    "ERN", "ETB", "EUR", "FJD", "FKP", "GBP", "GEL", "GHS", "GIP", "GMD", "GNF", "GTQ", "GYD",
    "HKD", "HNL", "HTG", "HUF", "IDR", "ILS", "INR", "IQD", "IRR", "ISK", "JMD", "JOD", "JPY",
    "KES", "KGS", "KHR", "KMF", "KPW", "KRW", "KWD", "KYD", "KZT", "LAK", "LBP", "LKR", "LRD",
    "LSL", "LYD", "MAD", "MDL", "MGA", "MKD", "MMK", "MNT", "MOP", "MRU", "MUR", "MVR", "MWK",
    "MXN", "MYR", "MZN", "NAD", "NGN", "NIO", "NOK", "NPR", "NZD", "OMR", "PAB", "PEN", "PGK",
    "PHP", "PKR", "PLN", "PYG", "QAR", "RON", "RSD", "RUB", "RWF", "SAR", "SBD", "SCR", "SDG",
    "SEK", "SGD", "SHP", "SLE", "SOS", "SRD", "SSP", "STN", "SVC", "SYP", "SZL", "THB", "TJS",
    "TMT", "TND", "TOP", "TRY", "TTD", "TWD", "TZS", "UAH", "UGX", "USD", "UYU", "UYW", "UZS",
    "VED", "VES", "VND", "VUV", "WST", "XAF", "XCD", "XCG", "XOF", "XPF", "YER", "ZAR", "ZMW",
    "ZWG",
};

struct exception {
    char code[4];
    int32_t digits;
};

static const struct exception exceptions[] = {
    {"BIF", 0}, {"CLP", 0}, {"DJF", 0}, {"GNF", 0}, {"ISK", 0}, {"JPY", 0}, {"KMF", 0},
    {"KRW", 0}, {"PYG", 0}, {"RWF", 0}, {"UGX", 0}, {"VND", 0}, {"VUV", 0}, {"XAF", 0},
    {"XOF", 0}, {"XPF", 0}, {"BHD", 3}, {"IQD", 3}, {"JOD", 3}, {"KWD", 3}, {"LYD", 3},
    {"OMR", 3}, {"TND", 3}, {"CLF", 4}, {"UYW", 4},
};

static uint32_t packed(const char *code) {
    return (uint32_t)(unsigned char)code[0] << 16 | (uint32_t)(unsigned char)code[1] << 8 |
           (unsigned char)code[2];
}

/* By halving: the list is in order. */
static bool is_listed(uint32_t wanted) {
    size_t from = 0;
    size_t to = ARRAY_LEN(codes);

    while (from < to) {
        const size_t middle = from + (to - from) / 2;
        const uint32_t here = packed(codes[middle]);
        if (here == wanted) {
            return true;
        }
        if (here < wanted) {
            from = middle + 1;
        } else {
            to = middle;
        }
    }
    return false;
}

int32_t currency_digits(struct str code) {
    if (code.len != 3) {
        return -1;
    }
    const uint32_t wanted = packed(code.ptr);
    if (!is_listed(wanted)) {
        return -1;
    }
    for (size_t i = 0; i < ARRAY_LEN(exceptions); i++) {
        if (packed(exceptions[i].code) == wanted) {
            return exceptions[i].digits;
        }
    }
    return 2;
}
