#include "common/adapters/redis_replies.h"

#include <criterion/criterion.h>
#include <string.h>

enum { REPLY_MAX = 4096 };

/* A connection without a socket: what it received is fed to its reader. */
struct peer {
    redisContext connection;
    struct redis_replies replies;
};

static void set_up(struct peer *peer) {
    *peer = (struct peer){.connection = {.reader = redisReaderCreate()}};
    cr_assert_not_null(peer->connection.reader);
    redis_replies_init(&peer->replies, REPLY_MAX);
    redis_replies_use(&peer->replies, &peer->connection);
}

static void tear_down(struct peer *peer) {
    redisReaderFree(peer->connection.reader);
    redis_replies_release(&peer->replies);
}

/* NULL: not all of it is there yet. */
static const redisReply *next(struct peer *peer) {
    void *reply = NULL;

    cr_assert_eq(redisReaderGetReply(peer->connection.reader, &reply), REDIS_OK, "%s",
                 peer->connection.reader->errstr);
    return reply;
}

static void feed(struct peer *peer, const char *text, size_t len) {
    cr_assert_eq(redisReaderFeed(peer->connection.reader, text, len), REDIS_OK);
}

static bool is_text(const redisReply *reply, int type, const char *text) {
    return reply->type == type && reply->len == strlen(text) &&
           memcmp(reply->str, text, reply->len + 1) == 0;
}

static const char mixed[] =
    "*6\r\n$5\r\nhello\r\n:42\r\n$-1\r\n*2\r\n$0\r\n\r\n*0\r\n+fine\r\n-ERR no\r\n";

static void expect_mixed(const redisReply *reply) {
    cr_assert_eq(reply->type, REDIS_REPLY_ARRAY);
    cr_assert_eq(reply->elements, 6);
    cr_assert(is_text(reply->element[0], REDIS_REPLY_STRING, "hello"));
    cr_assert_eq(reply->element[1]->type, REDIS_REPLY_INTEGER);
    cr_assert_eq(reply->element[1]->integer, 42);
    cr_assert_eq(reply->element[2]->type, REDIS_REPLY_NIL);
    const redisReply *inner = reply->element[3];
    cr_assert_eq(inner->type, REDIS_REPLY_ARRAY);
    cr_assert_eq(inner->elements, 2);
    cr_assert(is_text(inner->element[0], REDIS_REPLY_STRING, ""));
    cr_assert_eq(inner->element[1]->type, REDIS_REPLY_ARRAY);
    cr_assert_eq(inner->element[1]->elements, 0);
    cr_assert(is_text(reply->element[4], REDIS_REPLY_STATUS, "fine"));
    cr_assert(is_text(reply->element[5], REDIS_REPLY_ERROR, "ERR no"));
}

Test(redis_replies, a_reply_that_arrives_in_two_pieces_is_whole_wherever_it_is_cut) {
    for (size_t cut = 1; cut < sizeof(mixed) - 1; cut++) {
        struct peer peer;
        set_up(&peer);
        feed(&peer, mixed, cut);
        cr_assert_null(next(&peer), "cut at %zu", cut);
        feed(&peer, mixed + cut, sizeof(mixed) - 1 - cut);
        const redisReply *reply = next(&peer);
        cr_assert_not_null(reply, "cut at %zu", cut);
        expect_mixed(reply);
        tear_down(&peer);
    }
}

Test(redis_replies, one_after_the_other_is_read_from_what_arrives_together) {
    struct peer peer;

    set_up(&peer);
    for (int i = 0; i < 3; i++) {
        feed(&peer, mixed, sizeof(mixed) - 1);
        feed(&peer, ":7\r\n", 4);
    }
    for (int i = 0; i < 3; i++) {
        expect_mixed(next(&peer));
        cr_assert_eq(next(&peer)->integer, 7);
    }
    cr_assert_null(next(&peer));
    tear_down(&peer);
}

Test(redis_replies, room_is_used_again_for_each_reply) {
    struct peer peer;

    set_up(&peer);
    for (int i = 0; i < 10000; i++) { /* far more than REPLY_MAX in all */
        feed(&peer, mixed, sizeof(mixed) - 1);
        expect_mixed(next(&peer));
    }
    tear_down(&peer);
}

static bool is_refused(const char *text, size_t len) {
    struct peer peer;
    void *reply = NULL;

    set_up(&peer);
    feed(&peer, text, len);
    const bool refused = redisReaderGetReply(peer.connection.reader, &reply) == REDIS_ERR;
    tear_down(&peer);
    return refused;
}

Test(redis_replies, more_than_a_reply_may_have_is_refused) {
    char text[2 * REPLY_MAX] = "$4500\r\n";
    const size_t begin = strlen(text);

    memset(text + begin, 'x', 4500);
    memcpy(text + begin + 4500, "\r\n", 2);
    cr_assert(is_refused(text, begin + 4502));
    cr_assert(is_refused("*1000\r\n", 7), "room for the elements");
}

#if HIREDIS_MAJOR >= 1
Test(redis_replies, kinds_that_nobody_asks_for_are_refused) {
    cr_assert(is_refused(",1.5\r\n", 6));
    cr_assert(is_refused("#t\r\n", 4));
    cr_assert(is_refused("*2\r\n:1\r\n#f\r\n", 12));
}
#endif
