#include <criterion/criterion.h>
#include <string.h>

#include "given.h"

Test(account, opens_empty) {
    given(&account_aggregate);
    when(opened("EUR"));
    then_accepted("AccountCreated");
    then_balance("0.00");
    then_status("open");
}

Test(account, without_a_currency_it_is_in_dollars) {
    given(&account_aggregate);
    when(opened(""));
    then_accepted("AccountCreated");
    cr_assert_str_eq(((const struct account *)story_state())->currency, "USD");
}

Test(account, currency_and_owner_are_kept) {
    given(&account_aggregate);
    when(opened_by("CHF", "Z\xc3\xbcrich \"7\""));
    then_accepted("AccountCreated");
    then_described("currency", "CHF");
    then_described("owner", "Z\xc3\xbcrich \\\"7\\\"");
    past(deposited("1.00"));
    past(withdrawn("1.00"));
    past(closed());
    then_described("currency", "CHF");
}

Test(account, opening_twice_is_rejected) {
    given(&account_aggregate);
    past(opened("USD"));
    when(opened("USD"));
    then_rejected("account_exists");
}

Test(account, unknown_currency_is_rejected) {
    given(&account_aggregate);
    when(opened("XXX"));
    then_rejected("currency_unknown");
    when(opened("usd"));
    then_rejected("currency_unknown");
}

Test(account, control_characters_in_the_owner_are_rejected) {
    given(&account_aggregate);
    when(opened_by("USD", "A\x01"));
    then_rejected("owner_invalid");
}

Test(account, deposit_adds_to_the_balance) {
    given(&account_aggregate);
    past(opened("USD"));
    past(deposited("100.00"));
    when(deposit("500.00"));
    then_accepted("MoneyDeposited");
    then_balance("600.00");
    const struct money_moved *moved = (const void *)story_decision()->events[0].data.bytes;
    cr_assert_eq(moved->amount_minor, 50000);
    cr_assert_eq(moved->balance_minor, 60000);
}

Test(account, withdrawal_takes_from_the_balance) {
    given(&account_aggregate);
    past(opened("USD"));
    past(deposited("500.00"));
    when(withdraw("150.00"));
    then_accepted("MoneyWithdrawn");
    then_balance("350.00");
}

Test(account, withdrawal_of_everything_is_accepted) {
    given(&account_aggregate);
    past(opened("USD"));
    past(deposited("0.01"));
    when(withdraw("0.01"));
    then_accepted("MoneyWithdrawn");
    then_balance("0.00");
}

Test(account, withdrawal_over_balance_is_rejected) {
    given(&account_aggregate);
    past(opened("USD"));
    past(deposited("100.00"));
    when(withdraw("100.01"));
    then_rejected("insufficient_funds");
    then_balance("100.00");
    cr_assert_not_null(strstr(story_decision()->rejection.detail, "100.01"));
}

Test(account, nothing_can_be_done_to_an_unknown_account) {
    given(&account_aggregate);
    when(deposit("1.00"));
    then_rejected("account_not_found");
    when(withdraw("1.00"));
    then_rejected("account_not_found");
    when(close_account());
    then_rejected("account_not_found");
}

Test(account, closing_needs_an_empty_account) {
    given(&account_aggregate);
    past(opened("USD"));
    past(deposited("1.00"));
    when(close_account());
    then_rejected("balance_not_zero");
    past(withdrawn("1.00"));
    when(close_account());
    then_accepted("AccountClosed");
    then_status("closed");
}

Test(account, closed_account_takes_no_command) {
    given(&account_aggregate);
    past(opened("USD"));
    past(closed());
    when(deposit("1.00"));
    then_rejected("account_closed");
    when(withdraw("1.00"));
    then_rejected("account_closed");
    when(close_account());
    then_rejected("account_closed");
    when(opened("USD"));
    then_rejected("account_exists");
}

Test(account, amounts_are_positive) {
    static const char *const amounts[] = {"0", "-0.01", "-1", "-9223372036854775808"};

    given(&account_aggregate);
    past(opened("USD"));
    past(deposited("5.00"));
    for (size_t i = 0; i < ARRAY_LEN(amounts); i++) {
        when(deposit(amounts[i]));
        then_rejected("amount_not_positive");
        when(withdraw(amounts[i]));
        then_rejected("amount_not_positive");
    }
    then_balance("5.00");
}

Test(account, the_account_is_looked_for_before_the_amount_is) {
    given(&account_aggregate);
    when(deposit("0.001"));
    then_rejected("account_not_found");
    past(opened("USD"));
    past(closed());
    when(withdraw("9223372036854775807"));
    then_rejected("account_closed");
}

Test(account, decimals_follow_the_currency) {
    given(&account_aggregate);
    past(opened("JPY"));
    when(deposit("1.5"));
    then_rejected("amount_too_precise");
    when(deposit("1.0"));
    then_accepted("MoneyDeposited");
    then_balance("1");
    given(&account_aggregate);
    past(opened("KWD"));
    when(deposit("1.005"));
    then_accepted("MoneyDeposited");
    then_balance("1.005");
    when(deposit("1.0005"));
    then_rejected("amount_too_precise");
    when(withdraw("1.0005"));
    then_rejected("amount_too_precise");
    given(&account_aggregate);
    past(opened("CLF"));
    when(deposit("0.0001"));
    then_accepted("MoneyDeposited");
    then_balance("0.0001");
}

Test(account, amounts_have_a_maximum) {
    given(&account_aggregate);
    past(opened("USD"));
    when(deposit("1000000000000.00"));
    then_accepted("MoneyDeposited");
    when(deposit("1000000000000.01"));
    then_rejected("amount_too_large");
    when(deposit("9223372036854775807"));
    then_rejected("amount_too_large");
    when(withdraw("1000000000000.01"));
    then_rejected("amount_too_large");
    when(withdraw("1000000000000.00"));
    then_accepted("MoneyWithdrawn");
    then_balance("0.00");
}

Test(account, balance_has_a_maximum_and_never_overflows) {
    given(&account_aggregate);
    past(opened("USD"));
    for (int i = 0; i < 90; i++) {
        past(deposited("1000000000000.00"));
    }
    when(deposit("1000000000000.00"));
    then_rejected("balance_limit_exceeded");
    when(deposit("71992547409.91"));
    then_accepted("MoneyDeposited");
    then_balance("90071992547409.91");
    when(deposit("0.01"));
    then_rejected("balance_limit_exceeded");
}

/* The kind says what clients may do about it (and which status they see). */
Test(account, rejections_are_of_the_right_kind) {
    given(&account_aggregate);
    when(deposit("1.00"));
    then_rejected_as(REJECTION_NOT_FOUND);
    when(opened("XXX"));
    then_rejected_as(REJECTION_INVALID);
    when(opened_by("USD", "\x7f"));
    then_rejected_as(REJECTION_INVALID);
    past(opened("USD"));
    when(opened("USD"));
    then_rejected_as(REJECTION_CONFLICT);
    when(deposit("0.001"));
    then_rejected_as(REJECTION_INVALID);
    when(deposit("0"));
    then_rejected_as(REJECTION_INVALID);
    when(deposit("1000000000000.01"));
    then_rejected_as(REJECTION_INVALID);
    when(withdraw("0.01"));
    then_rejected_as(REJECTION_CONFLICT);
    past(deposited("0.01"));
    when(close_account());
    then_rejected_as(REJECTION_CONFLICT);
    past(withdrawn("0.01"));
    past(closed());
    when(deposit("1.00"));
    then_rejected_as(REJECTION_CONFLICT);
}

/* --- what a log can't say --- */

static enum err_code evolved(struct account *account, enum account_event which,
                             int64_t amount_minor, int64_t balance_minor) {
    struct event event = {.type = &account_event_types[which]};
    struct money_moved *moved = (void *)event.data.bytes;
    struct account_created *created = (void *)event.data.bytes;
    struct err err;

    if (which == ACCOUNT_CREATED) {
        *created = (struct account_created){.currency = "USD"};
    } else if (which != ACCOUNT_CLOSED_EVENT) {
        *moved = (struct money_moved){amount_minor, balance_minor, "USD"};
    }
    const struct account before = *account;
    const enum err_code code = account_aggregate.evolve(account, &event, &err);
    cr_assert(code == ERR_OK || memcmp(&before, account, sizeof(before)) == 0,
              "a refused event changed the state");
    return code;
}

Test(account, contradicting_event_is_corrupt) {
    struct account account;

    account_aggregate.initial(&account);
    cr_assert_eq(evolved(&account, MONEY_DEPOSITED, 5, 5), ERR_CORRUPT); /* not created */
    cr_assert_eq(evolved(&account, ACCOUNT_CLOSED_EVENT, 0, 0), ERR_CORRUPT);
    cr_assert_eq(evolved(&account, ACCOUNT_CREATED, 0, 0), ERR_OK);
    cr_assert_eq(evolved(&account, ACCOUNT_CREATED, 0, 0), ERR_CORRUPT); /* twice */
    cr_assert_eq(evolved(&account, MONEY_DEPOSITED, 5, 6), ERR_CORRUPT); /* wrong sum */
    cr_assert_eq(evolved(&account, MONEY_DEPOSITED, 0, 0), ERR_CORRUPT);
    cr_assert_eq(evolved(&account, MONEY_DEPOSITED, -5, -5), ERR_CORRUPT);
    cr_assert_eq(evolved(&account, MONEY_DEPOSITED, INT64_MAX, INT64_MAX), ERR_CORRUPT);
    cr_assert_eq(evolved(&account, MONEY_DEPOSITED, ACCOUNT_AMOUNT_MINOR_MAX + 1,
                         ACCOUNT_AMOUNT_MINOR_MAX + 1),
                 ERR_CORRUPT);
    cr_assert_eq(evolved(&account, MONEY_DEPOSITED, 5, 5), ERR_OK);
    cr_assert_eq(evolved(&account, MONEY_WITHDRAWN, 6, -1), ERR_CORRUPT); /* below zero */
    cr_assert_eq(evolved(&account, MONEY_WITHDRAWN, INT64_MIN, 5), ERR_CORRUPT);
    cr_assert_eq(evolved(&account, ACCOUNT_CLOSED_EVENT, 0, 0), ERR_CORRUPT); /* not empty */
    cr_assert_eq(evolved(&account, MONEY_WITHDRAWN, 5, 0), ERR_OK);
    cr_assert_eq(evolved(&account, ACCOUNT_CLOSED_EVENT, 0, 0), ERR_OK);
    cr_assert_eq(evolved(&account, ACCOUNT_CLOSED_EVENT, 0, 0), ERR_CORRUPT); /* twice */
    cr_assert_eq(evolved(&account, MONEY_DEPOSITED, 5, 5), ERR_CORRUPT);      /* closed */
    cr_assert_eq(evolved(&account, ACCOUNT_CREATED, 0, 0), ERR_CORRUPT);
}

Test(account, balance_over_the_limit_is_corrupt) {
    struct account account = {
        .status = ACCOUNT_OPEN, .balance_minor = ACCOUNT_BALANCE_MINOR_MAX - 1, .currency = "USD"};

    cr_assert_eq(evolved(&account, MONEY_DEPOSITED, 2, ACCOUNT_BALANCE_MINOR_MAX + 1), ERR_CORRUPT);
    cr_assert_eq(evolved(&account, MONEY_DEPOSITED, 1, ACCOUNT_BALANCE_MINOR_MAX), ERR_OK);
}
