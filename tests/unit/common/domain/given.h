/*
 * Given / when / then for aggregates:
 *
 *   given(&account_aggregate);
 *   past(opened("USD"));
 *   past(deposited("100.00"));
 *   when(withdraw("150.00"));
 *   then_rejected("insufficient_funds");
 *
 * One story at a time; `given` begins a new one. Each step checks what it does with Criterion.
 */
#ifndef DAYBOOK_TESTS_DOMAIN_GIVEN_H
#define DAYBOOK_TESTS_DOMAIN_GIVEN_H

#include "common/domain/account.h"

/* --- the story --- */
void given(const struct aggregate *aggregate);
/* A command that must be accepted: how the story came to be. */
void past(struct command command);
void when(struct command command);
void then_accepted(const char *event_name);
void then_rejected(const char *code);
void then_rejected_as(enum rejection_kind kind);
/* The answer's member has this value (as it stands in JSON). */
void then_described(const char *name, const char *value);
void then_balance(const char *balance);
void then_status(const char *status);
/* The state as it is now, and the last decision. */
const void *story_state(void);
const struct decision *story_decision(void);

/* --- commands of the account --- */
struct command opened(const char *currency);
struct command opened_by(const char *currency, const char *owner);
struct command deposit(const char *amount);
struct command withdraw(const char *amount);
struct command close_account(void);
#define deposited(amount) deposit(amount)
#define withdrawn(amount) withdraw(amount)
#define closed() close_account()

#endif
