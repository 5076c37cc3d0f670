/* SPDX-License-Identifier: Apache-2.0 */
/* Reassembly in place, SACK and D-SACK blocks; against a model that keeps one flag per byte. */
#include <stdio.h>
#include "tcp_one.h"

static uint8_t stream_byte(uint64_t seed, uint32_t offset)
{
    uint64_t x = (seed + offset) * 0x9e3779b97f4a7c15ull;

    return (uint8_t)(x >> 40);
}

static uint32_t data_at(struct one *o, uint32_t offset, uint32_t len)
{
    static uint8_t bytes[65536];

    for (uint32_t i = 0; i < len; i++)
        bytes[i] = stream_byte(1, offset + i);
    return input(o, (struct tcp_segment){.seq = o->in.delegated.rcv_nxt + offset,
                                         .ack = o->c->snd_una,
                                         .window = 30000,
                                         .flags = TCP_ACK,
                                         .len = len,
                                         .payload = bytes});
}

struct block {
    int left, right;
};

/* What arrives (offset, length), then RCV.NXT and the SACK blocks expected in the ACK. */
struct reasm_case {
    struct {
        uint32_t offset, len;
    } in[8];
    uint32_t rcv_nxt;
    struct block sack[4];
};

static const struct reasm_case cases[] = {
    /* 1: in order */ {{{0, 100}}, 100, {{0, 0}}},
    /* 2: a gap */ {{{100, 100}}, 0, {{100, 200}}},
    /* 3: filled */ {{{100, 100}, {0, 100}}, 200, {{0, 0}}},
    /* 4: two gaps, most recent first */ {{{100, 100}, {300, 100}}, 0, {{300, 400}, {100, 200}}},
    /* 5: the older grows: it is the most recent now */
    {{{100, 100}, {300, 100}, {200, 50}}, 0, {{100, 250}, {300, 400}}},
    /* 6: bridged */ {{{100, 100}, {300, 100}, {200, 100}}, 0, {{100, 400}}},
    /* 7: touching on the left */ {{{100, 100}, {50, 50}}, 0, {{50, 200}}},
    /* 8: overlapping both */ {{{100, 100}, {300, 100}, {150, 200}}, 0, {{100, 400}}},
    /* 9: swallowing both */ {{{100, 50}, {300, 50}, {50, 400}}, 0, {{50, 450}}},
    /* 10: first of two filled */
    {{{100, 100}, {300, 100}, {0, 100}}, 200, {{300, 400}}},
    /* 11: more than filled */ {{{100, 100}, {300, 100}, {0, 350}}, 400, {{0, 0}}},
    /* 12: old data again: D-SACK */ {{{0, 200}, {50, 100}}, 200, {{50, 150}}},
    /* 13: partly old: D-SACK of the old part */ {{{0, 100}, {50, 100}}, 150, {{50, 100}}},
    /* 14: out-of-order data again: D-SACK, then its range */
    {{{100, 200}, {150, 50}}, 0, {{150, 200}, {100, 300}}},
    /* 15: D-SACK, then its range, then the more recent one */
    {{{100, 100}, {300, 100}, {500, 100}, {300, 100}},
     0,
     {{300, 400}, {300, 400}, {500, 600}, {100, 200}}},
    /* 16: four blocks are all there is room for */
    {{{100, 10}, {200, 10}, {300, 10}, {400, 10}, {500, 10}},
     0,
     {{500, 510}, {400, 410}, {300, 310}, {200, 210}}},
};

/* rows: C39 C423 */
static void blocks_by_the_table(void **state)
{
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct reasm_case *t = &cases[i];
        struct one o;
        struct tcp_out last;
        unsigned blocks = 0;

        one_init(&o);
        o.in.delegated.rcv_nxt = 0xffffff80u; /* every case crosses the wrap */
        one_open(&o);
        for (unsigned k = 0; k < 8 && t->in[k].len; k++)
            data_at(&o, t->in[k].offset, t->in[k].len);
        assert_true(pull(&o) >= 1);
        last = o.out[o.n - 1];
        while (blocks < 4 && t->sack[blocks].right)
            blocks++;
        if (last.ack - o.in.delegated.rcv_nxt != t->rcv_nxt || last.sack_count != blocks)
            fail_msg("case %u: ack %u, %u blocks", i + 1, last.ack - o.in.delegated.rcv_nxt,
                     last.sack_count);
        for (unsigned k = 0; k < blocks; k++)
            if (last.sack[k].left - o.in.delegated.rcv_nxt != (uint32_t)t->sack[k].left ||
                last.sack[k].right - o.in.delegated.rcv_nxt != (uint32_t)t->sack[k].right)
                fail_msg("case %u: block %u is %u-%u", i + 1, k,
                         last.sack[k].left - o.in.delegated.rcv_nxt,
                         last.sack[k].right - o.in.delegated.rcv_nxt);
        one_free(&o);
    }
}

/* rows: C39 C430 */
static void no_blocks_without_sack(void **state)
{
    struct one o;

    one_init(&o);
    o.in.constant.flags = 0;
    one_open(&o);
    for (uint32_t i = 1; i <= 4; i++)
        data_at(&o, i * 1000, 1000);
    assert_int_equal(pull(&o),
                     4); /* a duplicate ACK for each, so that the peer can count to three */
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(o.out[i].sack_count, 0);
        assert_int_equal(o.out[i].ack, RCV);
    }
    /* Their blocks mean nothing either. */
    send_bytes(&o, 8000);
    for (int i = 0; i < 8; i++)
        ack_sack(&o, SND, SND + 1000, SND + 5000);
    assert_int_equal(o.c->sacked_bytes, 0);
    one_free(&o);
}

static void three_blocks_beside_timestamps(void **state)
{
    struct one o;

    one_init(&o);
    one_timestamps(&o);
    one_open(&o);
    for (uint32_t i = 1; i <= 5; i++)
        data_at(&o, i * 1000, 500);
    assert_int_equal(pull(&o), 1);
    assert_int_equal(o.out[0].sack_count, 3);
    assert_int_equal(o.out[0].sack[0].left, RCV + 5000);
    one_free(&o);
}

static void full_table_drops_and_recovers(void **state)
{
    struct one o;
    uint32_t i;

    one_init(&o);
    one_open(&o);
    for (i = 0; i < TCP_MAX_OOO; i++)
        data_at(&o, 100 + i * 200, 100);
    assert_int_equal(o.c->ooo_count, TCP_MAX_OOO);
    data_at(&o, 100 + i * 200, 100); /* one too many */
    assert_int_equal(o.c->ooo_count, TCP_MAX_OOO);
    assert_int_equal(tcp_conn_stats(o.c)->ooo_dropped, 1);
    data_at(&o, 150, 100); /* one that merges is no burden */
    assert_int_equal(o.c->ooo[0].right, RCV + 250);
    data_at(&o, 0, 100 + i * 200 + 100); /* all at once, the dropped one included */
    assert_int_equal(o.c->ooo_count, 0);
    assert_int_equal(tcp_rcv_pos(o.c), 100 + i * 200 + 100);
    one_free(&o);
}

/* rows: C60 C187 */
static void never_over_unread_data(void **state)
{
    struct one o;

    one_init(&o);
    o.in.rcv.size = 4096;
    o.in.rcv_len = 3000; /* the program has not read these yet */
    memset(o.rcv, 0xaa, 3000);
    o.in.delegated.rcv_wnd = 30000; /* promised by the kernel, far beyond the ring */
    one_open(&o);

    /* 1: more than the ring takes: what fits is taken and acknowledged, the rest is not */
    data_at(&o, 0, 2000);
    assert_int_equal(tcp_rcv_pos(o.c), 4096);
    assert_int_equal(pull(&o), 1);
    assert_int_equal(o.out[0].ack, RCV + 1096);
    /* 2: in the promised window, but there is no room at all */
    data_at(&o, 1096, 1000);
    data_at(&o, 5000, 1000);
    assert_int_equal(tcp_rcv_pos(o.c), 4096);
    assert_int_equal(o.c->ooo_count, 0);
    assert_int_equal(pull(&o), 1);
    assert_int_equal(o.out[0].ack, RCV + 1096);
    for (unsigned i = 0; i < 3000; i++)
        assert_int_equal(o.rcv[i], 0xaa);
    for (unsigned i = 0; i < 1096; i++)
        assert_int_equal(o.rcv[3000 + i], stream_byte(1, i));
    /* 3: the promise itself stands */
    assert_int_equal(o.out[0].ack + o.out[0].window, RCV + 30000);
    one_free(&o);
}

/* One world of random segments against a model with one flag per byte. */
static void random_world(uint64_t seed)
{
    enum { LIMIT = 20000 };
    struct one *o = malloc(sizeof(*o));
    uint64_t rng = seed * 0x9e3779b97f4a7c15ull + 1;
    uint8_t *have = calloc(LIMIT, 1);
    uint32_t next = 0, read = 0;

    one_init(o);
    o->in.rcv.size = 1u << (9 + seed % 6);
    o->in.delegated.rcv_nxt = (uint32_t)(0 - seed * 37);
    o->in.delegated.rcv_wnd = o->in.rcv.size;
    o->in.cached.initial_rcv_wnd = o->in.rcv.size;
    one_open(o);
    for (unsigned step = 0; step < 4000 && next < LIMIT; step++) {
        uint32_t offset, len, promised, dropped = (uint32_t)tcp_conn_stats(o->c)->ooo_dropped;

        rng = rng * 6364136223846793005ull + 1442695040888963407ull;
        offset = next + (uint32_t)(rng >> 33) % (o->in.rcv.size / 2);
        offset -= offset > 50 ? (uint32_t)(rng >> 20) % 50 : 0;
        len = 1 + (uint32_t)(rng >> 50) % 300;
        if (rng >> 60 == 0)
            offset = next;
        if (offset + len > LIMIT)
            len = LIMIT - offset;
        if (!len || offset >= LIMIT)
            continue;
        promised = o->c->rcv_adv - o->in.delegated.rcv_nxt;
        data_at(o, offset, len);
        /* The model: what was promised and fits is there, unless the table was full. */
        if (tcp_conn_stats(o->c)->ooo_dropped == dropped)
            for (uint32_t i = offset; i < offset + len; i++)
                if (i >= next && i < promised && i < read + o->in.rcv.size)
                    have[i] = 1;
        while (next < LIMIT && have[next])
            next++;
        if (tcp_rcv_pos(o->c) != next)
            fail_msg("seed %llu step %u: %llu, model %u", (unsigned long long)seed, step,
                     (unsigned long long)tcp_rcv_pos(o->c), next);
        pull(o);
        /* The ranges are exactly the islands of the model. */
        for (unsigned k = 0; k < o->c->ooo_count; k++) {
            uint32_t left = o->c->ooo[k].left - o->in.delegated.rcv_nxt;
            uint32_t right = o->c->ooo[k].right - o->in.delegated.rcv_nxt;

            assert_true(left > next && !have[left - 1] && (right == LIMIT || !have[right]));
            for (uint32_t i = left; i < right; i++)
                assert_true(have[i]);
        }
        if (rng >> 40 & 1) {
            for (; read < next; read++)
                assert_int_equal(o->rcv[read & (o->in.rcv.size - 1)], stream_byte(1, read));
            assert_true(tcp_recv_consumed(o->c, read, o->now) >= 0);
            pull(o);
        }
    }
    one_free(o);
    free(o);
    free(have);
}

/* rows: C423 */
static void random_segments_against_a_model(void **state)
{
    printf("seeds 1 to 60\n");
    for (uint64_t seed = 1; seed <= 60; seed++)
        random_world(seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_by_the_table),
        cmocka_unit_test(no_blocks_without_sack),
        cmocka_unit_test(three_blocks_beside_timestamps),
        cmocka_unit_test(full_table_drops_and_recovers),
        cmocka_unit_test(never_over_unread_data),
        cmocka_unit_test(random_segments_against_a_model),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
