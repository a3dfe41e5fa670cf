/*
 * The account: opened once, money in, money out, closed when empty.
 *
 * Invariants
 *  1. 0 <= balance_minor <= ACCOUNT_BALANCE_MINOR_MAX.
 *  2. balance_minor is the sum of deposits minus the sum of withdrawals.
 *  3. A closed account has balance 0 and takes no further command.
 *  4. The currency never changes; all amounts are in its minor units (ISO 4217).
 *
 *      (nothing) --Open--> open --Deposit/Withdraw--> open --Close, balance 0--> closed
 */
#ifndef DAYBOOK_DOMAIN_ACCOUNT_H
#define DAYBOOK_DOMAIN_ACCOUNT_H

#include "common/domain/aggregate.h"

enum { ACCOUNT_OWNER_BYTES = 201, ACCOUNT_CURRENCY_BYTES = 4 };

/* 2^53 - 1: every reader of JSON, also one with doubles only, sees the exact number (RFC 8259
 * section 6). */
#define ACCOUNT_BALANCE_MINOR_MAX INT64_C(9007199254740991)
#define ACCOUNT_AMOUNT_MINOR_MAX \
    INT64_C(100000000000000) /* one movement: 10^14, a trillion dollars in cents */
#define ACCOUNT_CURRENCY_DEFAULT "USD"

enum account_status { ACCOUNT_NONE = 0, ACCOUNT_OPEN = 1, ACCOUNT_CLOSED = 2 };

struct account {
    int64_t status; /* enum account_status */
    int64_t balance_minor;
    char currency[ACCOUNT_CURRENCY_BYTES];
    char owner[ACCOUNT_OWNER_BYTES];
};

/* Events. Amounts and balances in minor units of the currency; balance_minor is the one after the
 * event, so that a reader needs no history to post it. */
struct account_created {
    char currency[ACCOUNT_CURRENCY_BYTES];
    char owner[ACCOUNT_OWNER_BYTES];
};
struct money_moved { /* MoneyDeposited and MoneyWithdrawn */
    int64_t amount_minor;
    int64_t balance_minor;
    char currency[ACCOUNT_CURRENCY_BYTES];
};
struct account_closed {
    int64_t balance_minor; /* 0 */
    char currency[ACCOUNT_CURRENCY_BYTES];
};

/* Commands. */
struct open_account {
    char owner[ACCOUNT_OWNER_BYTES];
    char currency[ACCOUNT_CURRENCY_BYTES]; /* "" : ACCOUNT_CURRENCY_DEFAULT */
};
struct move_money { /* Deposit and Withdraw */
    struct decimal amount;
};

extern const struct event_type account_event_types[]; /* in this order: */
enum account_event {
    ACCOUNT_CREATED,
    MONEY_DEPOSITED,
    MONEY_WITHDRAWN,
    ACCOUNT_CLOSED_EVENT,
    ACCOUNT_EVENTS
};
enum account_command {
    ACCOUNT_OPEN_COMMAND,
    ACCOUNT_DEPOSIT,
    ACCOUNT_WITHDRAW,
    ACCOUNT_CLOSE,
    ACCOUNT_COMMANDS
};

extern const struct aggregate account_aggregate;

/* "open" or "closed". */
const char *account_status_name(int64_t status);

#endif
