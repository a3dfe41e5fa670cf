#include "common/domain/account.h"

#include <string.h>

#include "common/domain/currency.h"

/* --- events --- */

static const struct field created_fields[] = {
    FIELD_OF(struct account_created, currency, "currency", FIELD_TEXT, true),
    FIELD_OF(struct account_created, owner, "owner", FIELD_TEXT, false),
};
static const struct field moved_fields[] = {
    FIELD_OF(struct money_moved, amount_minor, "amount_minor", FIELD_I64, true),
    FIELD_OF(struct money_moved, balance_minor, "balance_minor", FIELD_I64, true),
    FIELD_OF(struct money_moved, currency, "currency", FIELD_TEXT, true),
};
static const struct field closed_fields[] = {
    FIELD_OF(struct account_closed, balance_minor, "balance_minor", FIELD_I64, true),
    FIELD_OF(struct account_closed, currency, "currency", FIELD_TEXT, true),
};

const struct event_type account_event_types[] = {
    [ACCOUNT_CREATED] = {"AccountCreated", 1, created_fields, ARRAY_LEN(created_fields)},
    [MONEY_DEPOSITED] = {"MoneyDeposited", 1, moved_fields, ARRAY_LEN(moved_fields)},
    [MONEY_WITHDRAWN] = {"MoneyWithdrawn", 1, moved_fields, ARRAY_LEN(moved_fields)},
    [ACCOUNT_CLOSED_EVENT] = {"AccountClosed", 1, closed_fields, ARRAY_LEN(closed_fields)},
};

/* --- what commands may do --- */

struct money_text {
    char text[DECIMAL_TEXT_BYTES];
};

static struct money_text money(int64_t minor, const char *currency) {
    struct money_text out = {""};

    (void)decimal_format_minor(out.text, minor, currency_digits(str_from(currency)));
    return out;
}

/* Every command but OpenAccount needs an open account. */
static bool require_open(const struct account *account, const struct command *command,
                         struct decision *out) {
    if (account->status == ACCOUNT_NONE) {
        decision_reject(out, REJECTION_NOT_FOUND, "account_not_found", "Account not found",
                        "there is no account %s", command->stream_id);
        return false;
    }
    if (account->status == ACCOUNT_CLOSED) {
        decision_reject(out, REJECTION_CONFLICT, "account_closed", "Account closed",
                        "account %s is closed", command->stream_id);
        return false;
    }
    return true;
}

/* The amount in minor units of the account's currency. What JSON brings is positive already; the
 * rule is the account's own, so that no other way in can take money by a deposit. */
static bool require_amount(const struct account *account, const struct command *command,
                           struct decision *out, int64_t *minor) {
    const struct move_money *move = (const void *)command->data.bytes;
    const int32_t digits = currency_digits(str_from(account->currency));
    const enum err_code code = decimal_to_minor(&move->amount, digits, minor, NULL);

    if (move->amount.coefficient <= 0) {
        decision_reject(out, REJECTION_INVALID, "amount_not_positive", "Amount not positive",
                        "amount must be greater than zero");
        return false;
    }
    if (code == ERR_INVALID) {
        decision_reject(out, REJECTION_INVALID, "amount_too_precise", "Amount too precise",
                        "amount has %d decimals, %s has %d", (int)move->amount.scale,
                        account->currency, (int)digits);
        return false;
    }
    if (code != ERR_OK || *minor > ACCOUNT_AMOUNT_MINOR_MAX) {
        decision_reject(out, REJECTION_INVALID, "amount_too_large", "Amount too large",
                        "amount may be at most %s %s",
                        money(ACCOUNT_AMOUNT_MINOR_MAX, account->currency).text, account->currency);
        return false;
    }
    return true;
}

static bool has_control_character(const char *text) {
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < 0x20 || *text == 0x7f) {
            return true;
        }
    }
    return false;
}

static void decide_open(const void *state, const struct command *command, struct decision *out) {
    const struct account *account = state;
    const struct open_account *open = (const void *)command->data.bytes;
    const char *currency = open->currency[0] != '\0' ? open->currency : ACCOUNT_CURRENCY_DEFAULT;

    if (account->status != ACCOUNT_NONE) {
        decision_reject(out, REJECTION_CONFLICT, "account_exists", "Account exists",
                        "there is an account %s already", command->stream_id);
        return;
    }
    if (currency_digits(str_from(currency)) < 0) {
        decision_reject(out, REJECTION_INVALID, "currency_unknown", "Unknown currency",
                        "currency must be an ISO 4217 code in capitals, such as USD");
        return;
    }
    if (has_control_character(open->owner)) {
        decision_reject(out, REJECTION_INVALID, "owner_invalid", "Owner not acceptable",
                        "owner may not contain control characters");
        return;
    }
    struct account_created *created =
        decision_emit(out, &account_event_types[ACCOUNT_CREATED], command->time_us);
    memcpy(created->currency, currency, ACCOUNT_CURRENCY_BYTES);
    memcpy(created->owner, open->owner, ACCOUNT_OWNER_BYTES);
}

static void emit_move(const struct account *account, const struct command *command,
                      enum account_event type, int64_t amount_minor, int64_t balance_minor,
                      struct decision *out) {
    struct money_moved *moved = decision_emit(out, &account_event_types[type], command->time_us);

    moved->amount_minor = amount_minor;
    moved->balance_minor = balance_minor;
    memcpy(moved->currency, account->currency, ACCOUNT_CURRENCY_BYTES);
}

static void decide_deposit(const void *state, const struct command *command, struct decision *out) {
    const struct account *account = state;
    int64_t amount = 0;

    if (!require_open(account, command, out) || !require_amount(account, command, out, &amount)) {
        return;
    }
    if (account->balance_minor > ACCOUNT_BALANCE_MINOR_MAX - amount) {
        decision_reject(out, REJECTION_CONFLICT, "balance_limit_exceeded", "Balance limit exceeded",
                        "a balance may be at most %s %s",
                        money(ACCOUNT_BALANCE_MINOR_MAX, account->currency).text,
                        account->currency);
        return;
    }
    emit_move(account, command, MONEY_DEPOSITED, amount, account->balance_minor + amount, out);
}

static void decide_withdraw(const void *state, const struct command *command,
                            struct decision *out) {
    const struct account *account = state;
    int64_t amount = 0;

    if (!require_open(account, command, out) || !require_amount(account, command, out, &amount)) {
        return;
    }
    if (amount > account->balance_minor) {
        decision_reject(out, REJECTION_CONFLICT, "insufficient_funds", "Insufficient funds",
                        "the balance is %s %s, the withdrawal %s %s",
                        money(account->balance_minor, account->currency).text, account->currency,
                        money(amount, account->currency).text, account->currency);
        return;
    }
    emit_move(account, command, MONEY_WITHDRAWN, amount, account->balance_minor - amount, out);
}

static void decide_close(const void *state, const struct command *command, struct decision *out) {
    const struct account *account = state;

    if (!require_open(account, command, out)) {
        return;
    }
    if (account->balance_minor != 0) {
        decision_reject(out, REJECTION_CONFLICT, "balance_not_zero", "Balance not zero",
                        "account %s holds %s %s; withdraw it first", command->stream_id,
                        money(account->balance_minor, account->currency).text, account->currency);
        return;
    }
    struct account_closed *closed =
        decision_emit(out, &account_event_types[ACCOUNT_CLOSED_EVENT], command->time_us);
    memcpy(closed->currency, account->currency, ACCOUNT_CURRENCY_BYTES);
}

static const struct field open_fields[] = {
    FIELD_OF(struct open_account, owner, "owner", FIELD_TEXT, false),
    FIELD_OF(struct open_account, currency, "currency", FIELD_TEXT, false),
};
static const struct field move_fields[] = {
    FIELD_OF(struct move_money, amount, "amount", FIELD_AMOUNT, true),
};

static const struct command_type account_commands[] = {
    [ACCOUNT_OPEN_COMMAND] = {"OpenAccount", NULL, open_fields, ARRAY_LEN(open_fields),
                              decide_open},
    [ACCOUNT_DEPOSIT] = {"Deposit", "deposit", move_fields, ARRAY_LEN(move_fields), decide_deposit},
    [ACCOUNT_WITHDRAW] = {"Withdraw", "withdraw", move_fields, ARRAY_LEN(move_fields),
                          decide_withdraw},
    [ACCOUNT_CLOSE] = {"CloseAccount", "close", NULL, 0, decide_close},
};

/* --- what events do --- */

static enum err_code evolve_moved(struct account *account, const struct money_moved *moved,
                                  int64_t sign, struct err *err) {
    if (account->status != ACCOUNT_OPEN || moved->amount_minor <= 0 ||
        moved->amount_minor > ACCOUNT_AMOUNT_MINOR_MAX) {
        return err_set(err, ERR_CORRUPT, "money moved where it can't have");
    }
    const int64_t balance = account->balance_minor + sign * moved->amount_minor;
    if (balance < 0 || balance > ACCOUNT_BALANCE_MINOR_MAX || balance != moved->balance_minor) {
        return err_set(err, ERR_CORRUPT, "the event's balance isn't the sum of the movements");
    }
    account->balance_minor = balance;
    return ERR_OK;
}

static enum err_code evolve(void *state, const struct event *event, struct err *err) {
    struct account *account = state;
    const void *data = event->data.bytes;

    switch ((enum account_event)(event->type - account_event_types)) {
    case ACCOUNT_CREATED: {
        const struct account_created *created = data;
        if (account->status != ACCOUNT_NONE) {
            return err_set(err, ERR_CORRUPT, "created twice");
        }
        account->status = ACCOUNT_OPEN;
        memcpy(account->currency, created->currency, sizeof(account->currency));
        memcpy(account->owner, created->owner, sizeof(account->owner));
        return ERR_OK;
    }
    case MONEY_DEPOSITED:
        return evolve_moved(account, data, 1, err);
    case MONEY_WITHDRAWN:
        return evolve_moved(account, data, -1, err);
    case ACCOUNT_CLOSED_EVENT:
        if (account->status != ACCOUNT_OPEN || account->balance_minor != 0) {
            return err_set(err, ERR_CORRUPT, "closed where it can't have been");
        }
        account->status = ACCOUNT_CLOSED;
        return ERR_OK;
    case ACCOUNT_EVENTS:
        break;
    }
    return err_set(err, ERR_CORRUPT, "not an event of an account");
}

/* --- the aggregate --- */

static const struct field state_fields[] = {
    FIELD_OF(struct account, status, "status", FIELD_I64, true),
    FIELD_OF(struct account, balance_minor, "balance_minor", FIELD_I64, true),
    FIELD_OF(struct account, currency, "currency", FIELD_TEXT, true),
    FIELD_OF(struct account, owner, "owner", FIELD_TEXT, false),
};

static void initial(void *state) {
    memset(state, 0, sizeof(struct account));
}

const char *account_status_name(int64_t status) {
    return status == ACCOUNT_CLOSED ? "closed" : "open";
}

static void describe(const void *state, struct buf *out) {
    const struct account *account = state;

    buf_printf(out, "\"balance\":\"%s\",\"currency\":\"%s\",\"status\":\"%s\"",
               money(account->balance_minor, account->currency).text, account->currency,
               account_status_name(account->status));
    if (account->owner[0] != '\0') {
        buf_put_text(out, ",\"owner\":");
        buf_put_json_str(out, str_from(account->owner));
    }
}

const struct aggregate account_aggregate = {
    .name = "account",
    .collection = "accounts",
    .state_bytes = sizeof(struct account),
    .state_fields = state_fields,
    .state_field_count = ARRAY_LEN(state_fields),
    .commands = account_commands,
    .command_count = ARRAY_LEN(account_commands),
    .events = account_event_types,
    .event_count = ARRAY_LEN(account_event_types),
    .initial = initial,
    .evolve = evolve,
    .describe = describe,
};
_Static_assert(sizeof(struct account) <= AGGREGATE_STATE_BYTES_MAX, "state fits");
_Static_assert(sizeof(struct account_created) <= EVENT_DATA_BYTES_MAX, "event fits");
