#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
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

Test(account, contradicting_event_is_corrupt) {
    struct account state;
    struct event event = {.type = &account_event_types[MONEY_DEPOSITED]};
    struct money_moved *moved = (void *)event.data.bytes;
    struct event created = {.type = &account_event_types[ACCOUNT_CREATED]};
    struct err err;

    account_aggregate.initial(&state);
    *moved = (struct money_moved){.amount_minor = 5, .balance_minor = 5, .currency = "USD"};
    cr_assert_eq(account_aggregate.evolve(&state, &event, &err), ERR_CORRUPT); /* not created */
    memcpy(((struct account_created *)(void *)created.data.bytes)->currency, "USD", 4);
    cr_assert_eq(account_aggregate.evolve(&state, &created, &err), ERR_OK);
    cr_assert_eq(account_aggregate.evolve(&state, &created, &err), ERR_CORRUPT); /* twice */
    moved->balance_minor = 6;
    cr_assert_eq(account_aggregate.evolve(&state, &event, &err), ERR_CORRUPT); /* wrong sum */
    moved->balance_minor = 5;
    cr_assert_eq(account_aggregate.evolve(&state, &event, &err), ERR_OK);
}

static uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Whatever is asked, in whatever order: the balance is what went in less what went out, and never
 * below zero. (That events survive their codec and are accepted by the state, each `when` checks.)
 */
Test(account, random_commands_keep_the_invariants) {
    for (uint64_t seed = 1; seed <= 200; seed++) {
        uint64_t random = seed * UINT64_C(0x9e3779b97f4a7c15);
        int64_t in = 0;
        int64_t out = 0;
        given(&account_aggregate);
        for (int i = 0; i < 100; i++) {
            char amount[32];
            const uint64_t pick = next_random(&random) % 20;
            (void)snprintf(amount, sizeof(amount), "%" PRIu64 ".%02" PRIu64,
                           next_random(&random) % 1000, next_random(&random) % 99 + 1);
            when(pick == 0   ? opened("USD")
                 : pick == 1 ? close_account()
                 : pick < 11 ? deposit(amount)
                             : withdraw(amount));
            const struct decision *decision = story_decision();
            for (size_t e = 0; e < decision->event_count; e++) {
                const struct event *event = &decision->events[e];
                const struct money_moved *moved = (const void *)event->data.bytes;
                in +=
                    event->type == &account_event_types[MONEY_DEPOSITED] ? moved->amount_minor : 0;
                out +=
                    event->type == &account_event_types[MONEY_WITHDRAWN] ? moved->amount_minor : 0;
            }
            const struct account *account = story_state();
            cr_assert_geq(account->balance_minor, 0, "seed %" PRIu64, seed);
            cr_assert_eq(account->balance_minor, in - out, "seed %" PRIu64, seed);
        }
    }
}
