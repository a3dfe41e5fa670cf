/*
 * What holds for every history of an account, tried on random ones and at the edges of its numbers.
 *
 *  1. A decision is what a model with 128-bit numbers says: the same event or the same rejection.
 *  2. The balance is never negative and never over the limit, and equals deposits less withdrawals.
 *  3. The state is the fold of the events, also when taken up from a snapshot at any point.
 *  4. Between accounts money only moves: the sum changes by what comes in and goes out alone.
 *
 * A story's randomness follows from its seed. The first one is printed; DAYBOOK_TEST_SEED sets it.
 */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/json_doc.h"
#include "given.h"

enum { STORIES = 300, STEPS = 200, ACCOUNTS = 8, TRANSFERS = 2000, OUTCOMES = 16 };

__extension__ typedef __int128 wide; /* nothing here can overflow it */

/* --- randomness --- */

static uint64_t first_seed(const char *what) {
    const char *given_seed = getenv("DAYBOOK_TEST_SEED");
    uint64_t seed = 0;
    struct timespec now;

    if (given_seed == NULL || !str_to_u64(str_from(given_seed), &seed)) {
        (void)clock_gettime(CLOCK_REALTIME, &now);
        seed = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
    }
    (void)fprintf(stderr, "[seed] %s: DAYBOOK_TEST_SEED=%" PRIu64 "\n", what, seed);
    return seed;
}

/* SplitMix64: any state is a good one. */
static uint64_t next_random(uint64_t *state) {
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static int64_t below(uint64_t *random, int64_t limit) {
    return (int64_t)(next_random(random) % (uint64_t)limit);
}

/* --- the model --- */

struct model {
    int64_t status;
    int32_t digits;
    wide in;
    wide out;
};

/* -1: not a currency. */
static int32_t digits_of(const char *currency) {
    static const struct {
        const char *code;
        int32_t digits;
    } known[] = {{"", 2}, {"USD", 2}, {"JPY", 0}, {"KWD", 3}, {"CLF", 4}};

    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (strcmp(known[i].code, currency) == 0) {
            return known[i].digits;
        }
    }
    return -1;
}

/* More than any limit for what a model needn't tell apart. */
static wide minor_of(const struct model *model, const struct decimal *amount) {
    wide minor = amount->coefficient;

    for (int32_t i = amount->scale; i < model->digits; i++) {
        minor *= 10;
    }
    return minor;
}

static const char *expected_move(const struct model *model, const struct command *command) {
    const struct decimal *amount =
        &((const struct move_money *)(const void *)&command->data)->amount;
    const wide balance = model->in - model->out;
    const wide minor = minor_of(model, amount);
    const bool is_deposit = command->type == &account_aggregate.commands[ACCOUNT_DEPOSIT];

    if (amount->coefficient <= 0) {
        return "amount_not_positive";
    }
    if (amount->scale > model->digits) {
        return "amount_too_precise";
    }
    if (minor > INT64_C(100000000000000)) {
        return "amount_too_large";
    }
    if (is_deposit) {
        return balance + minor >= ((wide)1 << 53) ? "balance_limit_exceeded" : "MoneyDeposited";
    }
    return minor > balance ? "insufficient_funds" : "MoneyWithdrawn";
}

/* The event's name, or the rejection's code. */
static const char *expected(const struct model *model, const struct command *command) {
    const struct command_type *commands = account_aggregate.commands;

    if (command->type == &commands[ACCOUNT_OPEN_COMMAND]) {
        const struct open_account *open = (const void *)&command->data;
        return model->status != ACCOUNT_NONE       ? "account_exists"
               : digits_of(open->currency) < 0     ? "currency_unknown"
               : strchr(open->owner, '\n') != NULL ? "owner_invalid"
                                                   : "AccountCreated";
    }
    if (model->status != ACCOUNT_OPEN) {
        return model->status == ACCOUNT_NONE ? "account_not_found" : "account_closed";
    }
    if (command->type == &commands[ACCOUNT_CLOSE]) {
        return model->in != model->out ? "balance_not_zero" : "AccountClosed";
    }
    return expected_move(model, command);
}

static void follow(struct model *model, const struct command *command, const char *outcome) {
    if (strcmp(outcome, "AccountCreated") == 0) {
        const struct open_account *open = (const void *)&command->data;
        *model = (struct model){.status = ACCOUNT_OPEN, .digits = digits_of(open->currency)};
    } else if (strcmp(outcome, "AccountClosed") == 0) {
        model->status = ACCOUNT_CLOSED;
    } else {
        const struct move_money *move = (const void *)&command->data;
        wide *side = strcmp(outcome, "MoneyDeposited") == 0 ? &model->in : &model->out;
        *side += minor_of(model, &move->amount);
    }
}

static const char *outcome_of(const struct decision *decision) {
    return decision->rejection.kind != REJECTION_NONE ? decision->rejection.code
                                                      : decision->events[0].type->name;
}

/* --- commands --- */

static struct command move(enum account_command which, struct decimal amount) {
    struct command command = {.type = &account_aggregate.commands[which], .stream_id = "a-1"};

    while (amount.scale > 0 && amount.coefficient % 10 == 0) { /* as decimals are: normalised */
        amount.coefficient /= 10;
        amount.scale--;
    }
    ((struct move_money *)(void *)&command.data)->amount = amount;
    return command;
}

static struct decimal random_amount(uint64_t *random, bool rich, int32_t digits,
                                    int64_t balance_minor) {
    static const int64_t edges[] = {INT64_MIN,
                                    INT64_MIN + 1,
                                    -1,
                                    0,
                                    1,
                                    ACCOUNT_AMOUNT_MINOR_MAX - 1,
                                    ACCOUNT_AMOUNT_MINOR_MAX,
                                    ACCOUNT_AMOUNT_MINOR_MAX + 1,
                                    ACCOUNT_BALANCE_MINOR_MAX,
                                    INT64_MAX / 10,
                                    INT64_MAX / 10 + 1,
                                    INT64_MAX};
    const int32_t scale = (int32_t)below(random, 5);

    if (rich && below(random, 10) > 0) { /* so much that the balance's end is met */
        return (struct decimal){ACCOUNT_AMOUNT_MINOR_MAX - below(random, 1000), digits};
    }
    switch (below(random, 8)) {
    case 0:
        return (struct decimal){edges[(size_t)below(random, ARRAY_LEN(edges))],
                                (int32_t)below(random, DECIMAL_SCALE_MAX + 1)};
    case 1:
    case 2: /* all there is, or a little more or less */
        return (struct decimal){balance_minor + below(random, 3) - 1, scale};
    case 3:
        return (struct decimal){below(random, ACCOUNT_AMOUNT_MINOR_MAX) + 1, scale};
    default:
        return (struct decimal){below(random, 100000) + 1, scale};
    }
}

static struct command random_command(uint64_t *random, bool rich, const struct model *model) {
    static const char *const currencies[] = {"", "USD", "JPY", "KWD", "CLF", "XXX", "usd"};

    switch (below(random, 40)) {
    case 0:
    case 1:
        return opened_by(currencies[(size_t)below(random, ARRAY_LEN(currencies))],
                         below(random, 4) == 0 ? "A\nB" : "Ada");
    case 2:
        return close_account();
    default: {
        const bool in = below(random, 100) < (rich ? 90 : 50);
        return move(in ? ACCOUNT_DEPOSIT : ACCOUNT_WITHDRAW,
                    random_amount(random, rich, model->digits, (int64_t)(model->in - model->out)));
    }
    }
}

/* --- the fold --- */

static struct event events[STEPS];
static size_t event_count;

/* Through JSON and back, as a snapshot is kept. */
static struct account from_snapshot(const struct account *account) {
    struct account again = {0};
    struct field_problem problem = {0};
    struct json_doc doc;
    struct arena arena;
    struct buf text;

    arena_init(&arena, 1024, 65536);
    buf_init(&text, 4096);
    fields_to_json(account_aggregate.state_fields, account_aggregate.state_field_count, account,
                   &text);
    cr_assert_eq(json_doc_parse(buf_str(&text), &arena, &doc, NULL), ERR_OK, "%s", text.ptr);
    cr_assert_eq(fields_from_json(account_aggregate.state_fields,
                                  account_aggregate.state_field_count, &doc, true, &again,
                                  &problem),
                 ERR_OK, "%s: %s", problem.detail, text.ptr);
    json_doc_release(&doc);
    buf_release(&text);
    arena_release(&arena);
    return again;
}

static void fold(struct account *account, size_t from, size_t to) {
    struct err err = {0};

    for (size_t i = from; i < to; i++) {
        cr_assert_eq(account_aggregate.evolve(account, &events[i], &err), ERR_OK, "%s",
                     err.message);
    }
}

static void check_fold(uint64_t *random, uint64_t seed) {
    struct account account;
    const size_t cut = event_count > 0 ? (size_t)below(random, (int64_t)event_count) + 1 : 0;

    account_aggregate.initial(&account);
    fold(&account, 0, event_count);
    cr_assert_eq(memcmp(&account, story_state(), sizeof(account)), 0, "seed %" PRIu64, seed);
    if (cut > 0) {
        account_aggregate.initial(&account);
        fold(&account, 0, cut);
        account = from_snapshot(&account);
        fold(&account, cut, event_count);
        cr_assert_eq(memcmp(&account, story_state(), sizeof(account)), 0,
                     "seed %" PRIu64 ", snapshot behind event %zu", seed, cut);
    }
}

/* --- 1, 2, 3: stories --- */

static void note_outcome(const char *seen[OUTCOMES], const char *outcome) {
    size_t i = 0;

    while (i < OUTCOMES - 1 && seen[i] != NULL && strcmp(seen[i], outcome) != 0) {
        i++;
    }
    seen[i] = outcome;
}

static void tell_story(uint64_t seed, const char *seen[OUTCOMES]) {
    const struct account *account = story_state();
    struct model model = {0};
    uint64_t random = seed;
    const bool rich = below(&random, 3) == 0;

    given(&account_aggregate);
    event_count = 0;
    for (int step = 0; step < STEPS; step++) {
        const struct command command = random_command(&random, rich, &model);
        const char *wanted = expected(&model, &command);
        when(command);
        const struct decision *decision = story_decision();
        cr_assert_str_eq(outcome_of(decision), wanted, "seed %" PRIu64 ", step %d: %s, not %s",
                         seed, step, outcome_of(decision), wanted);
        note_outcome(seen, wanted);
        if (decision->event_count > 0) {
            follow(&model, &command, wanted);
            events[event_count++] = decision->events[0];
        }
        cr_assert(account->balance_minor == model.in - model.out && account->status == model.status,
                  "seed %" PRIu64 ", step %d: balance %" PRId64, seed, step,
                  account->balance_minor);
        cr_assert(
            account->balance_minor >= 0 && account->balance_minor <= ACCOUNT_BALANCE_MINOR_MAX,
            "seed %" PRIu64 ", step %d: balance %" PRId64, seed, step, account->balance_minor);
    }
    check_fold(&random, seed);
}

Test(account_properties, any_history_is_as_the_model_says) {
    static const char *const all[] = {
        "AccountCreated",   "MoneyDeposited",     "MoneyWithdrawn",        "AccountClosed",
        "account_exists",   "currency_unknown",   "owner_invalid",         "account_not_found",
        "account_closed",   "balance_not_zero",   "amount_not_positive",   "amount_too_precise",
        "amount_too_large", "insufficient_funds", "balance_limit_exceeded"};
    const char *seen[OUTCOMES] = {NULL};
    const uint64_t seed = first_seed("histories");

    for (uint64_t i = 0; i < STORIES; i++) {
        tell_story(seed + i, seen);
    }
    /* Stories that never come to a rule don't test it. */
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        bool met = false;
        for (size_t j = 0; j < OUTCOMES && !met; j++) {
            met = seen[j] != NULL && strcmp(seen[j], all[i]) == 0;
        }
        cr_assert(met, "%s was never met", all[i]);
    }
}

/* --- 4: several accounts --- */

static bool act(struct account *account, enum account_command which, int64_t minor, uint64_t seed) {
    struct decision decision = {.event_count = 0};
    struct err err = {0};
    const struct command command = move(which, (struct decimal){minor, 2});

    command.type->decide(account, &command, &decision);
    if (decision.rejection.kind != REJECTION_NONE) {
        return false;
    }
    cr_assert_eq(account_aggregate.evolve(account, &decision.events[0], &err), ERR_OK,
                 "seed %" PRIu64 ": %s", seed, err.message);
    return true;
}

static wide sum_of(const struct account accounts[ACCOUNTS]) {
    wide sum = 0;

    for (int i = 0; i < ACCOUNTS; i++) {
        sum += accounts[i].balance_minor;
    }
    return sum;
}

Test(account_properties, money_moves_between_accounts_and_its_sum_stays) {
    struct account accounts[ACCOUNTS] = {{.status = ACCOUNT_NONE}};
    const uint64_t seed = first_seed("transfers");
    uint64_t random = seed;
    wide outside = 0; /* what came in less what went out */
    int refused = 0;
    int made = 0;

    for (int i = 0; i < ACCOUNTS; i++) {
        accounts[i] = (struct account){.status = ACCOUNT_OPEN, .currency = "USD"};
        /* One is full, so that transfers to it are refused and must go back. */
        accounts[i].balance_minor =
            i == 0 ? ACCOUNT_BALANCE_MINOR_MAX - 5 : below(&random, 10000) + 3000;
        outside += accounts[i].balance_minor;
    }
    for (int i = 0; i < TRANSFERS; i++) {
        /* The first goes to the full one. */
        struct account *from = &accounts[i == 0 ? 1 : (size_t)below(&random, ACCOUNTS)];
        struct account *to = &accounts[i == 0 ? 0 : (size_t)below(&random, ACCOUNTS)];
        const int64_t minor = below(&random, 2000) + 6;
        if (i > 0 && below(&random, 10) == 0) {
            outside += act(to, ACCOUNT_DEPOSIT, minor, seed) ? minor : 0;
            outside -= act(from, ACCOUNT_WITHDRAW, minor, seed) ? minor : 0;
        } else if (act(from, ACCOUNT_WITHDRAW, minor, seed)) {
            made++;
            if (!act(to, ACCOUNT_DEPOSIT, minor, seed)) {
                refused++;
                cr_assert(act(from, ACCOUNT_DEPOSIT, minor, seed),
                          "seed %" PRIu64 ": what was taken can't go back", seed);
            }
        }
        cr_assert(sum_of(accounts) == outside, "seed %" PRIu64 ", transfer %d", seed, i);
    }
    cr_assert(refused > 0 && made > refused, "seed %" PRIu64 ": %d made, %d refused", seed, made,
              refused);
}

/* --- 1, 2 at the edges, all of them --- */

static void check_edge(const char *currency, int64_t balance, struct decimal amount,
                       enum account_command which) {
    struct account account = {.status = ACCOUNT_OPEN, .balance_minor = balance};
    const struct command command = move(which, amount);
    const struct model model = {ACCOUNT_OPEN, digits_of(currency), balance, 0};
    struct decision decision = {.event_count = 0};
    struct err err = {0};

    cr_assert(str_copy(account.currency, sizeof(account.currency), str_from(currency)));
    command.type->decide(&account, &command, &decision);
    cr_assert_str_eq(outcome_of(&decision), expected(&model, &command),
                     "%s %" PRId64 " and %" PRId64 "e-%d: %s", currency, balance,
                     amount.coefficient, (int)amount.scale, outcome_of(&decision));
    if (decision.event_count > 0) {
        struct model after = model;
        follow(&after, &command, outcome_of(&decision));
        cr_assert_eq(account_aggregate.evolve(&account, &decision.events[0], &err), ERR_OK);
        cr_assert(account.balance_minor == after.in - after.out, "%s %" PRId64, currency, balance);
    }
}

Test(account_properties, nothing_overflows_at_the_limits) {
    static const char *const currencies[] = {"JPY", "USD", "KWD", "CLF"};
    static const int64_t ends[] = {0,
                                   1,
                                   ACCOUNT_AMOUNT_MINOR_MAX,
                                   ACCOUNT_BALANCE_MINOR_MAX - ACCOUNT_AMOUNT_MINOR_MAX,
                                   ACCOUNT_BALANCE_MINOR_MAX,
                                   INT64_MAX / 10,
                                   INT64_MAX / 100,
                                   INT64_MAX / 1000,
                                   INT64_MAX / 10000,
                                   INT64_MAX - 1,
                                   INT64_MIN + 1};
    const size_t count = ARRAY_LEN(currencies) * ARRAY_LEN(ends) * ARRAY_LEN(ends);

    for (size_t i = 0; i < count; i++) {
        const char *currency = currencies[i % ARRAY_LEN(currencies)];
        const int64_t near_balance = ends[i / ARRAY_LEN(currencies) % ARRAY_LEN(ends)];
        const int64_t near_amount = ends[i / ARRAY_LEN(currencies) / ARRAY_LEN(ends)];
        for (int nudge = 0; nudge < 9; nudge++) {
            const int64_t balance = near_balance + (nudge / 3 - 1);
            if (balance < 0 || balance > ACCOUNT_BALANCE_MINOR_MAX) {
                continue; /* no account has that */
            }
            for (int32_t scale = 0; scale <= DECIMAL_SCALE_MAX; scale++) {
                const struct decimal amount = {near_amount + (nudge % 3 - 1), scale};
                check_edge(currency, balance, amount, ACCOUNT_DEPOSIT);
                check_edge(currency, balance, amount, ACCOUNT_WITHDRAW);
            }
        }
    }
}
