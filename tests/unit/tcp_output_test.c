/* SPDX-License-Identifier: Apache-2.0 */
/* What leaves: segment sizes, super-segments, Nagle, PSH, silly windows, the ring. */
#include "tcp_one.h"

/* rows: C36 C43 C196 C429 */
static void segment_sizes_by_table(void **state)
{
    static const struct {
        uint16_t remote_mss;
        uint32_t path_mtu;
        uint8_t ip_header;
        bool timestamps;
        uint32_t gap; /* out-of-order ranges to report beside the data */
        uint32_t len;
    } table[] = {
        /* 1: the peer's MSS rules */ {1000, 1500, 20, false, 0, 1000},
        /* 2: the path rules */ {9000, 1500, 20, false, 0, 1460},
        /* 3: IPv6 */ {9000, 1500, 40, false, 0, 1440},
        /* 4: not said: as if IPv6 */ {9000, 1500, 0, false, 0, 1440},
        /* 5: stamps count in */ {1460, 1500, 20, true, 0, 1448},
        /* 6: SACK blocks too */ {1460, 1500, 20, false, 1, 1448},
        /* 7 */ {1460, 1500, 20, true, 3, 1420},
        /* 8: more ranges than blocks */ {1460, 1500, 20, true, 9, 1420},
        /* 9 */ {1460, 1500, 20, false, 9, 1424},
        /* 10: the smallest */ {48, 1500, 20, true, 9, 8},
        /* 11 */ {65535, 65535, 40, false, 0, 65475},
    };

    for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct one o;
        unsigned options;

        one_init(&o);
        if (table[i].timestamps)
            one_timestamps(&o);
        o.in.constant.remote_mss = table[i].remote_mss;
        o.in.cached.path_mtu = table[i].path_mtu;
        o.in.ip_header = table[i].ip_header;
        o.in.delegated.cwnd = 1 << 20;
        o.in.delegated.snd_wnd = 1 << 20;
        one_open(&o);
        for (uint32_t k = 1; k <= table[i].gap; k++)
            data(&o, RCV + k * 100, 10);
        o.end = RING;
        tcp_send_ready(o.c, o.end, false, o.now);
        assert_int_equal(tcp_output(o.c, 0, o.now, &o.out[0]), 1);
        options = (o.out[0].has_timestamp ? 12 : 0) +
                  (o.out[0].sack_count ? 4 + 8 * o.out[0].sack_count : 0);
        if (o.out[0].len != table[i].len || o.out[0].gso_size)
            fail_msg("case %u: %u bytes", i + 1, o.out[0].len);
        assert_true(o.out[0].len + options <= table[i].remote_mss);
        one_free(&o);
    }
}

/* rows: C196 C429 */
static void a_smaller_path(void **state)
{
    struct one o;
    struct tcp_cached_state cached;

    one_init(&o);
    o.in.delegated.cwnd = 20000;
    one_open(&o);
    assert_int_equal(send_bytes(&o, 5000), 5);
    cached = o.in.cached;
    cached.path_mtu = 640;
    assert_true(tcp_update(o.c, &cached, o.now) & TCP_EV_OUTPUT);
    /* What is in flight was too large: again, in smaller pieces, and no congestion */
    assert_int_equal(pull(&o), 9);
    assert_int_equal(o.out[0].seq, SND);
    for (unsigned i = 0; i < o.n; i++)
        assert_true(o.out[i].len <= 600);
    assert_int_equal(o.c->cc.cwnd, 20000);
    cached.path_mtu = 10; /* nonsense is not taken over */
    tcp_update(o.c, &cached, o.now);
    assert_int_equal(o.c->mss, 600);
    one_free(&o);
}

static void super_segments(void **state)
{
    struct one o;

    one_init(&o);
    o.in.delegated.cwnd = 1 << 20;
    o.in.delegated.snd_wnd = o.in.delegated.max_snd_wnd = 1 << 20;
    one_open(&o);
    o.end = 20500;
    tcp_send_ready(o.c, o.end, true, o.now);
    assert_int_equal(pull_super(&o, 8700), 4);
    assert_int_equal(o.out[0].len, 8000); /* whole segments */
    assert_int_equal(o.out[0].gso_size, 1000);
    assert_int_equal(o.out[1].len, 8000);
    assert_int_equal(o.out[2].len, 4000);
    assert_int_equal(o.out[3].len, 500);
    assert_int_equal(o.out[3].gso_size, 0);
    /* A hole is sent again as it is, no further */
    ack_sack(&o, SND, SND + 2500, SND + 20500);
    assert_int_equal(pull_super(&o, 8700), 1);
    assert_int_equal(o.out[0].seq, SND);
    assert_int_equal(o.out[0].len, 2500);
    assert_int_equal(o.out[0].gso_size, 1000);
    one_free(&o);

    /* The congestion window cuts at whole segments, the peer's window does not leave dwarfs */
    one_init(&o);
    o.in.delegated.cwnd = 5500;
    one_open(&o);
    o.end = 20000;
    tcp_send_ready(o.c, o.end, false, o.now);
    assert_int_equal(pull_super(&o, 60000), 1);
    assert_int_equal(o.out[0].len, 5000);
    one_free(&o);
    one_init(&o);
    o.in.delegated.snd_wnd = 5500;
    one_open(&o);
    o.c->flags &= ~F_SWS_OVERRIDE;
    o.end = 20000;
    tcp_send_ready(o.c, o.end, false, o.now);
    assert_int_equal(pull_super(&o, 60000), 1);
    assert_int_equal(o.out[0].len, 5000);
    one_free(&o);
    /* A port that takes less than a segment gets segments */
    one_init(&o);
    one_open(&o);
    o.end = 3000;
    tcp_send_ready(o.c, o.end, false, o.now);
    assert_int_equal(pull_super(&o, 10), 3);
    assert_int_equal(pull_super(&o, UINT32_MAX), 0);
    one_free(&o);
}

/* rows: C46 C422 */
static void nagle(void **state)
{
    struct one o;
    struct tcp_cached_state cached;

    one_init(&o);
    o.in.cached.flags = TCP_FLAG_NAGLING_ENABLED;
    one_open(&o);
    assert_int_equal(send_bytes(&o, 10), 1); /* nothing small in flight: at once */
    assert_int_equal(send_bytes(&o, 10), 0); /* the second waits */
    assert_int_equal(send_bytes(&o, 10), 0);
    assert_int_equal(send_bytes(&o, 1000), 1); /* a full one does not */
    assert_int_equal(o.out[0].len, 1000);
    ack(&o, SND + 10, 30000);
    assert_int_equal(pull(&o), 1); /* the small one is acknowledged: the rest in one */
    assert_int_equal(o.out[0].len, 20);
    /* Switched off by update: no waiting */
    assert_int_equal(send_bytes(&o, 10), 0);
    cached = o.in.cached;
    cached.flags = 0;
    assert_true(tcp_update(o.c, &cached, o.now) & TCP_EV_OUTPUT);
    assert_int_equal(pull(&o), 1);
    assert_int_equal(send_bytes(&o, 10), 1);
    /* A FIN takes what is there along */
    cached.flags = TCP_FLAG_NAGLING_ENABLED;
    tcp_update(o.c, &cached, o.now);
    assert_int_equal(send_bytes(&o, 10), 0);
    tcp_shutdown(o.c, o.now);
    assert_int_equal(pull(&o), 1);
    assert_int_equal(o.out[0].len, 10);
    one_free(&o);
}

/* rows: C398 */
static void silly_window_sender(void **state)
{
    struct one o;

    one_init(&o);
    one_open(&o);
    o.c->flags &= ~F_SWS_OVERRIDE;
    /* 1: less than a segment, less than half of the largest window, more data waits: not sent */
    ack(&o, SND, 0);
    o.c->snd_wnd = 400;
    assert_int_equal(send_bytes(&o, 5000), 0);
    /* 2: a segment fits */
    o.c->snd_wl1 = RCV - 1;
    ack(&o, SND, 1100);
    assert_int_equal(pull(&o), 1);
    assert_int_equal(o.out[0].len, 1000);
    /* 3: half of the largest window */
    o.c->max_snd_wnd = 600;
    ack(&o, SND + 1000, 400);
    assert_int_equal(pull(&o), 1);
    assert_int_equal(o.out[0].len, 400);
    /* 4: all there is */
    o.c->max_snd_wnd = 30000;
    ack(&o, SND + 1400, 30000);
    assert_int_equal(pull(&o), 4);
    assert_int_equal(o.out[3].len, 600);
    one_free(&o);
}

/* rows: C241 */
static void push_at_the_boundaries(void **state)
{
    struct one o;
    unsigned pushed = 0;

    one_init(&o);
    o.in.delegated.cwnd = 30000;
    one_open(&o);
    tcp_send_ready(o.c, 1500, true, o.now);
    tcp_send_ready(o.c, 3200, true, o.now);
    tcp_send_ready(o.c, 5000, false, o.now);
    tcp_send_ready(o.c, 6000, true, o.now);
    assert_int_equal(pull(&o), 6);
    for (unsigned i = 0; i < 6; i++)
        pushed |= (o.out[i].flags & TCP_PSH ? 1u : 0) << i;
    assert_int_equal(pushed, 0x2a); /* the segments with bytes 1500, 3200 and 6000 */
    /* Many small requests: the last is never forgotten */
    for (uint64_t end = 6010; end <= 6300; end += 10)
        tcp_send_ready(o.c, end, true, o.now);
    assert_int_equal(pull(&o), 1);
    assert_true(o.out[0].flags & TCP_PSH);
    one_free(&o);
}

static void the_ring_wraps(void **state)
{
    struct one o;

    one_init(&o);
    o.in.snd.size = 4096;
    o.in.snd_len = 4000;
    one_open(&o);
    pull(&o);
    ack(&o, SND + 4000, 30000);
    o.end = 4000;
    assert_int_equal(send_bytes(&o, 500), 1);
    assert_int_equal(o.out[0].len, 500);
    assert_ptr_equal(o.out[0].span[0], o.snd + 4000);
    assert_int_equal(o.out[0].span_len[0], 96);
    assert_ptr_equal(o.out[0].span[1], o.snd);
    assert_int_equal(o.out[0].span_len[1], 404);
    one_free(&o);
}

/* What the other owner of the ring may claim. */
static void hostile_send_ready(void **state)
{
    struct one o;

    one_init(&o);
    o.in.snd.size = 4096;
    one_open(&o);
    assert_int_equal(tcp_send_ready(o.c, 4097, false, o.now), -1);
    assert_int_equal(tcp_send_ready(o.c, UINT64_MAX, false, o.now), -1);
    assert_int_equal(tcp_send_ready(o.c, 4096, false, o.now), 0);
    assert_int_equal(tcp_send_ready(o.c, 4095, false, o.now), -1);
    assert_int_equal(tcp_send_ready(o.c, 4097, false, o.now), -1);
    assert_int_equal(tcp_send_ready(o.c, 4096, true, o.now), 0);
    pull(&o);
    ack(&o, SND + 4096, 30000);
    assert_int_equal(tcp_send_ready(o.c, 8193, false, o.now), -1);
    assert_int_equal(tcp_send_ready(o.c, 8192, false, o.now), 0);
    one_free(&o);
}

/* rows: C38 */
static void stamps_in_all_or_none(void **state)
{
    for (int on = 0; on < 2; on++) {
        struct one o;

        one_init(&o);
        if (on)
            one_timestamps(&o);
        one_open(&o);
        send_bytes(&o, 5000);
        for (unsigned i = 0; i < o.n; i++)
            assert_int_equal(o.out[i].has_timestamp, on);
        data(&o, RCV + 100, 10);
        pull(&o);
        assert_int_equal(o.out[0].has_timestamp, on);
        fire(&o);
        pull(&o);
        assert_int_equal(o.out[0].has_timestamp, on);
        one_free(&o);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(segment_sizes_by_table), cmocka_unit_test(a_smaller_path),
        cmocka_unit_test(super_segments),         cmocka_unit_test(nagle),
        cmocka_unit_test(silly_window_sender),    cmocka_unit_test(push_at_the_boundaries),
        cmocka_unit_test(the_ring_wraps),         cmocka_unit_test(hostile_send_ready),
        cmocka_unit_test(stamps_in_all_or_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
