/* SPDX-License-Identifier: Apache-2.0 */
/* The scoreboard: truth table, and random operations against one state per byte. */
#include <stdio.h>
#include "tcp_one.h"

#define F SPAN_FLIGHT
#define S SPAN_SACKED
#define L SPAN_LOST
#define R SPAN_RESENT

/* Operations on bytes 0 to 9, then what every byte is. */
struct sack_case {
    struct {
        int left, right;
        enum tcp_span_state state;
    } op[5];
    const char *result; /* . in flight, S, L, R */
    unsigned spans;
};

static const struct sack_case cases[] = {
    /* 1 */ {{{2, 4, S}}, "..SS......", 1},
    /* 2 */ {{{2, 4, S}, {4, 6, S}}, "..SSSS....", 1},
    /* 3 */ {{{4, 6, S}, {2, 4, S}}, "..SSSS....", 1},
    /* 4 */ {{{2, 4, S}, {6, 8, S}}, "..SS..SS..", 2},
    /* 5 */ {{{2, 4, S}, {6, 8, S}, {4, 6, S}}, "..SSSSSS..", 1},
    /* 6 */ {{{2, 8, S}, {4, 6, L}}, "..SSLLSS..", 3},
    /* 7 */ {{{2, 8, L}, {2, 4, R}}, "..RRLLLL..", 2},
    /* 8 */ {{{2, 8, L}, {2, 4, R}, {4, 6, R}}, "..RRRRLL..", 2},
    /* 9 */ {{{2, 8, L}, {0, 10, S}}, "SSSSSSSSSS", 1},
    /* 10 */ {{{0, 10, L}, {3, 5, S}, {3, 5, F}}, "LLL..LLLLL", 2},
    /* 11 */ {{{0, 2, L}, {4, 6, S}, {8, 10, R}, {1, 9, F}}, "L........R", 2},
    /* 12 */ {{{0, 2, L}, {4, 6, S}, {8, 10, R}, {1, 9, S}}, "LSSSSSSSSR", 3},
    /* 13 */ {{{0, 10, F}}, "..........", 0},
};

static char letter(enum tcp_span_state state)
{
    return ".SLR"[state];
}

static void open_flight(struct one *o, uint32_t una, uint32_t len)
{
    one_init(o);
    o->in.delegated.snd_una = una;
    o->in.delegated.snd_nxt = o->in.delegated.snd_max = una + len;
    o->in.delegated.snd_max_possible = una + len;
    o->in.snd_len = len;
    one_open(o);
}

static void check_counts(const struct tcp_conn *c)
{
    uint32_t sacked = 0, lost = 0;

    for (unsigned i = 0; i < c->span_count; i++) {
        const struct tcp_span *s = &c->span[i];

        assert_true(seq_lt(s->left, s->right));
        assert_int_not_equal(s->state, SPAN_FLIGHT);
        if (i)
            assert_true(seq_geq(s->left, s[-1].right));
        if (i && s->left == s[-1].right && s->state != SPAN_RESENT)
            assert_int_not_equal(s->state, s[-1].state);
        sacked += s->state == SPAN_SACKED ? s->right - s->left : 0;
        lost += s->state == SPAN_LOST ? s->right - s->left : 0;
    }
    assert_int_equal(sacked, c->sacked_bytes);
    assert_int_equal(lost, c->lost_bytes);
}

/* rows: C39 */
static void spans_by_the_table(void **state)
{
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct one o;
        char got[11] = {0};
        uint32_t una = 0xfffffffbu, end;

        open_flight(&o, una, 10);
        for (unsigned k = 0; k < 5 && cases[i].op[k].right; k++)
            assert_true(tcp_span_set(o.c, una + cases[i].op[k].left, una + cases[i].op[k].right,
                                     cases[i].op[k].state, o.now));
        for (unsigned k = 0; k < 10; k++)
            got[k] = letter(tcp_span_at(o.c, una + k, &end));
        if (strcmp(got, cases[i].result) || o.c->span_count != cases[i].spans)
            fail_msg("case %u: %s, %u spans", i + 1, got, o.c->span_count);
        check_counts(o.c);
        one_free(&o);
    }
}

static void trim_and_marks(void **state)
{
    struct one o;
    uint32_t end;

    open_flight(&o, 100, 100);
    tcp_span_set(o.c, 120, 140, SPAN_SACKED, 0);
    tcp_span_set(o.c, 160, 180, SPAN_SACKED, 0);
    tcp_span_mark_lost(o.c, 160);
    assert_int_equal(o.c->lost_bytes, 40);
    assert_int_equal(tcp_span_at(o.c, 199, &end), SPAN_FLIGHT);
    tcp_span_set(o.c, 100, 120, SPAN_RESENT, 5);
    assert_int_equal(tcp_span_first(o.c, SPAN_LOST)->left, 140);

    /* Lost again only if all that tells so was sent later. */
    assert_int_equal(o.c->span[0].mark, 200);
    tcp_span_mark_lost(o.c, 180);
    assert_int_equal(tcp_span_at(o.c, 100, &end), SPAN_RESENT);
    tcp_span_mark_all_lost(o.c);
    assert_int_equal(tcp_span_at(o.c, 100, &end), SPAN_LOST);
    assert_int_equal(o.c->lost_bytes, 60);
    assert_int_equal(o.c->sacked_bytes, 40);

    o.c->snd_una = 130;
    tcp_span_trim(o.c, 130);
    check_counts(o.c);
    assert_int_equal(o.c->sacked_bytes, 30);
    o.c->snd_una = 200;
    tcp_span_trim(o.c, 200);
    assert_int_equal(o.c->span_count, 0);
    one_free(&o);
}

static void a_full_map_forgets_sack_first(void **state)
{
    struct one o;

    open_flight(&o, SND, 60000);
    for (uint32_t i = 0; i < TCP_MAX_SCOREBOARD; i++)
        assert_true(tcp_span_set(o.c, SND + 10 + i * 100, SND + 20 + i * 100, SPAN_SACKED, 0));
    assert_false(tcp_span_set(o.c, SND + 50000, SND + 50010, SPAN_SACKED, 0));
    assert_true(tcp_span_set(o.c, SND + 20, SND + 30, SPAN_SACKED, 0)); /* one that merges */
    tcp_span_force(o.c, SND, SND + 5, SPAN_LOST, 0);
    assert_int_equal(o.c->lost_bytes, 5);
    check_counts(o.c);
    tcp_span_mark_all_lost(o.c);
    check_counts(o.c);
    assert_int_equal(o.c->lost_bytes + o.c->sacked_bytes, 60000);

    /* Nothing to forget: retransmissions in turns with losses. */
    tcp_span_clear(o.c);
    for (uint32_t i = 0; i < 200; i++) {
        tcp_span_force(o.c, SND + i * 100, SND + i * 100 + 50, SPAN_LOST, 0);
        tcp_span_force(o.c, SND + i * 100 + 50, SND + i * 100 + 60, SPAN_RESENT, i * TCP_SEC);
        check_counts(o.c);
    }
    one_free(&o);
}

static void random_operations(uint64_t seed)
{
    enum { N = 3000 };
    static uint8_t model[N];
    struct one o;
    uint64_t rng = seed * 0x9e3779b97f4a7c15ull + 1;
    uint32_t una = (uint32_t)(0 - seed * 41), gone = 0;

    open_flight(&o, una, N);
    memset(model, SPAN_FLIGHT, sizeof(model));
    for (unsigned step = 0; step < 3000 && gone < N - 1; step++) {
        uint32_t left, right, end;
        enum tcp_span_state s;

        rng = rng * 6364136223846793005ull + 1442695040888963407ull;
        left = gone + (uint32_t)(rng >> 33) % (N - gone);
        right = left + 1 + (uint32_t)(rng >> 50) % 40;
        right = right > N ? N : right;
        s = (enum tcp_span_state)(rng >> 20 & 3);
        if ((rng >> 24) % 40 == 0) {
            gone += (uint32_t)(rng >> 40) % 30;
            gone = gone >= N ? N - 1 : gone;
            o.c->snd_una = una + gone;
            tcp_span_trim(o.c, una + gone);
        } else if ((rng >> 24) % 40 == 1) {
            tcp_span_mark_lost(o.c, una + right);
            for (uint32_t i = gone; i < right; i++)
                if (model[i] == SPAN_FLIGHT || (model[i] == SPAN_RESENT && right == N))
                    model[i] = SPAN_LOST; /* snd_max, and so every mark, is at N */
        } else if (tcp_span_set(o.c, una + left, una + right, s, o.now + step * TCP_SEC)) {
            memset(model + left, s, right - left);
        } else {
            assert_true(o.c->span_count >= TCP_MAX_SCOREBOARD - 2);
        }
        if (o.c->span_count > TCP_MAX_SCOREBOARD - 8) { /* start over before SACKs are forgotten */
            tcp_span_clear(o.c);
            memset(model, SPAN_FLIGHT, sizeof(model));
        }
        check_counts(o.c);
        for (uint32_t i = gone; i < N; i++)
            if (tcp_span_at(o.c, una + i, &end) != model[i])
                fail_msg("seed %llu step %u byte %u", (unsigned long long)seed, step, i);
    }
    one_free(&o);
}

static void random_operations_against_a_model(void **state)
{
    printf("seeds 1 to 20\n");
    for (uint64_t seed = 1; seed <= 20; seed++)
        random_operations(seed);
}

/* Blocks as they come from the wire: 10 segments in flight from SND. */
static void hostile_blocks(void **state)
{
    static const struct {
        struct tcp_sack_range block[2];
        unsigned count;
        uint32_t sacked, dsack;
    } table[] = {
        /* 1: plain */ {{{SND + 1000, SND + 2000}}, 1, 1000, 0},
        /* 2: empty */ {{{SND + 1000, SND + 1000}}, 1, 0, 0},
        /* 3: backwards */ {{{SND + 2000, SND + 1000}}, 1, 0, 0},
        /* 4: beyond what was sent */ {{{SND + 9000, SND + 10001}}, 1, 0, 0},
        /* 5: below the ACK: a duplicate report */ {{{SND - 1000, SND}}, 1, 0, 1},
        /* 6: across the ACK */ {{{SND - 1000, SND + 1000}}, 1, 0, 1},
        /* 7: inside the second */
        {{{SND + 3000, SND + 4000}, {SND + 2000, SND + 5000}}, 2, 3000, 1},
        /* 8: the whole number space */ {{{SND + 1, SND}}, 1, 0, 0},
        /* 9: second block old */ {{{SND + 1000, SND + 2000}, {SND - 5000, SND - 1}}, 2, 1000, 0},
        /* 10: all of it */ {{{SND + 0, SND + 10000}}, 1, 10000, 0},
    };

    for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct one o;
        struct tcp_segment seg = {.seq = RCV, .ack = SND, .window = 30000, .flags = TCP_ACK};

        open_flight(&o, SND, 10000);
        seg.sack_count = (uint8_t)table[i].count;
        memcpy(seg.sack, table[i].block, sizeof(table[i].block));
        input(&o, seg);
        if (o.c->sacked_bytes != table[i].sacked || tcp_conn_stats(o.c)->dsack_in != table[i].dsack)
            fail_msg("case %u: %u SACKed", i + 1, o.c->sacked_bytes);
        check_counts(o.c);
        one_free(&o);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spans_by_the_table),
        cmocka_unit_test(trim_and_marks),
        cmocka_unit_test(a_full_map_forgets_sack_first),
        cmocka_unit_test(random_operations_against_a_model),
        cmocka_unit_test(hostile_blocks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
