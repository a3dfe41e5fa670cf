/*
 * Calendar arithmetic is done here, not by gmtime and timegm: those know no fractions, share static
 * state and take what they are given. Days are counted as in Howard Hinnant, "chrono-Compatible
 * Low-Level Date Algorithms" (days_from_civil, civil_from_days): the year starts in March, so that
 * a leap day is the last day of it.
 */
#include "common/base/clock.h"

#include <assert.h>
#include <time.h>

#define US_PER_SECOND INT64_C(1000000)
#define SECONDS_PER_DAY INT64_C(86400)
#define DAYS_PER_ERA INT64_C(146097)  /* 400 years */
#define DAYS_TO_EPOCH INT64_C(719468) /* from 0000-03-01 to 1970-01-01 */

/* 0001-01-01T00:00:00Z and the last microsecond of 9999. */
#define WALL_US_MIN (INT64_C(-62135596800) * US_PER_SECOND)
#define WALL_US_MAX (INT64_C(253402300800) * US_PER_SECOND - 1)

static int64_t now_us(clockid_t id) {
    struct timespec now;
    int rc = clock_gettime(id, &now);
    assert(rc == 0); /* both clocks exist on every Linux */
    (void)rc;
    return (int64_t)now.tv_sec * US_PER_SECOND + now.tv_nsec / 1000;
}

int64_t clock_wall_us(void) {
    return now_us(CLOCK_REALTIME);
}

int64_t clock_monotonic_us(void) {
    return now_us(CLOCK_MONOTONIC);
}

/* For years 0 to 9999, so that no division meets a negative number. */
static int64_t days_from_civil(int64_t year, int64_t month, int64_t day) {
    year -= month <= 2;
    if (year < 0) { /* January and February of the year 0 */
        return days_from_civil(year + 401, month, day) - DAYS_PER_ERA;
    }
    int64_t era = year / 400;
    int64_t year_of_era = year % 400;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * DAYS_PER_ERA + day_of_era - DAYS_TO_EPOCH;
}

struct civil {
    int64_t year, month, day;
};

static struct civil civil_from_days(int64_t days) {
    days += DAYS_TO_EPOCH;
    int64_t era = days / DAYS_PER_ERA;
    int64_t day_of_era = days % DAYS_PER_ERA;
    int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t month_from_march = (5 * day_of_year + 2) / 153;
    int64_t month = month_from_march + (month_from_march < 10 ? 3 : -9);
    return (struct civil){
        .year = era * 400 + year_of_era + (month <= 2),
        .month = month,
        .day = day_of_year - (153 * month_from_march + 2) / 5 + 1,
    };
}

static char *put_digits(char *out, int64_t value, size_t digits) {
    for (size_t i = digits; i > 0; i--) {
        out[i - 1] = (char)('0' + value % 10);
        value /= 10;
    }
    return out + digits;
}

size_t clock_format_rfc3339(char out[CLOCK_RFC3339_BYTES], int64_t wall_us) {
    assert(wall_us >= WALL_US_MIN && wall_us <= WALL_US_MAX);
    int64_t since_min = wall_us - WALL_US_MIN; /* not negative, so / and % round the right way */
    int64_t us = since_min % US_PER_SECOND;
    int64_t seconds = since_min / US_PER_SECOND;
    int64_t second_of_day = seconds % SECONDS_PER_DAY;
    struct civil date =
        civil_from_days(seconds / SECONDS_PER_DAY + WALL_US_MIN / US_PER_SECOND / SECONDS_PER_DAY);

    char *at = put_digits(out, date.year, 4);
    *at++ = '-';
    at = put_digits(at, date.month, 2);
    *at++ = '-';
    at = put_digits(at, date.day, 2);
    *at++ = 'T';
    at = put_digits(at, second_of_day / 3600, 2);
    *at++ = ':';
    at = put_digits(at, second_of_day / 60 % 60, 2);
    *at++ = ':';
    at = put_digits(at, second_of_day % 60, 2);
    *at++ = '.';
    at = put_digits(at, us, 6);
    *at++ = 'Z';
    *at = '\0';
    return (size_t)(at - out);
}

/* Takes exactly `digits` digits from the front of `text`. */
static bool take_digits(struct str *text, size_t digits, int64_t *value) {
    if (text->len < digits) {
        return false;
    }
    *value = 0;
    for (size_t i = 0; i < digits; i++) {
        char c = text->ptr[i];
        if (c < '0' || c > '9') {
            return false;
        }
        *value = *value * 10 + (c - '0');
    }
    text->ptr += digits;
    text->len -= digits;
    return true;
}

static bool take_char(struct str *text, char lower, char upper) {
    if (text->len == 0 || (text->ptr[0] != lower && text->ptr[0] != upper)) {
        return false;
    }
    text->ptr++;
    text->len--;
    return true;
}

static bool is_leap(int64_t year) {
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static bool take_date(struct str *text, int64_t *days) {
    static const int8_t month_days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int64_t year, month, day;
    if (!take_digits(text, 4, &year) || !take_char(text, '-', '-') ||
        !take_digits(text, 2, &month) || !take_char(text, '-', '-') ||
        !take_digits(text, 2, &day)) {
        return false;
    }
    if (month < 1 || month > 12 || day < 1) {
        return false;
    }
    if (day > month_days[month - 1] + (month == 2 && is_leap(year))) {
        return false;
    }
    *days = days_from_civil(year, month, day);
    return true;
}

/* One to nine decimals; those past the sixth are cut. */
static bool take_fraction(struct str *text, int64_t *us) {
    *us = 0;
    if (!take_char(text, '.', '.')) {
        return true;
    }
    int64_t scale = US_PER_SECOND / 10;
    size_t digits = 0;
    int64_t digit;
    while (take_digits(text, 1, &digit)) {
        *us += digit * scale;
        scale /= 10;
        digits++;
    }
    return digits >= 1 && digits <= 9;
}

static bool take_time(struct str *text, int64_t *seconds) {
    int64_t hour, minute, second;
    if (!take_digits(text, 2, &hour) || !take_char(text, ':', ':') ||
        !take_digits(text, 2, &minute) || !take_char(text, ':', ':') ||
        !take_digits(text, 2, &second)) {
        return false;
    }
    /* Leap seconds (60) have no place in a count of microseconds since 1970 and are refused. */
    if (hour > 23 || minute > 59 || second > 59) {
        return false;
    }
    *seconds = hour * 3600 + minute * 60 + second;
    return true;
}

static bool take_offset(struct str *text, int64_t *seconds) {
    *seconds = 0;
    if (take_char(text, 'z', 'Z')) {
        return true;
    }
    bool east = take_char(text, '+', '+');
    if (!east && !take_char(text, '-', '-')) {
        return false;
    }
    int64_t hour, minute;
    if (!take_digits(text, 2, &hour) || !take_char(text, ':', ':') ||
        !take_digits(text, 2, &minute) || hour > 23 || minute > 59) {
        return false;
    }
    *seconds = (east ? 1 : -1) * (hour * 3600 + minute * 60);
    return true;
}

bool clock_parse_rfc3339(struct str text, int64_t *wall_us) {
    int64_t days, seconds, us, offset;
    if (!take_date(&text, &days)) {
        return false;
    }
    /* RFC 3339 section 5.6 allows t and z, and a space for readability. */
    if (!take_char(&text, 't', 'T') && !take_char(&text, ' ', ' ')) {
        return false;
    }
    if (!take_time(&text, &seconds) || !take_fraction(&text, &us) || !take_offset(&text, &offset) ||
        text.len > 0) {
        return false;
    }
    int64_t value = (days * SECONDS_PER_DAY + seconds - offset) * US_PER_SECOND + us;
    /* An offset may carry a time out of the years that can be written again. */
    if (value < WALL_US_MIN || value > WALL_US_MAX) {
        return false;
    }
    *wall_us = value;
    return true;
}
