/* SPDX-License-Identifier: Apache-2.0 */
/* The receive window: promised, kept, opened, probed; scaling and silly windows. */
#include "tcp_one.h"

static void open_scaled(struct one *o, uint8_t scale, uint32_t ring)
{
    one_init(o);
    o->in.constant.flags |= TCP_FLAG_WINDOW_SCALING_ENABLED;
    o->in.constant.rcv_wind_scale = o->in.constant.snd_wind_scale = scale;
    o->in.rcv.size = ring;
    o->in.cached.initial_rcv_wnd = ring;
    o->in.delegated.rcv_wnd = ring;
    one_open(o);
}

static uint32_t last_window(struct one *o, unsigned scale)
{
    assert_true(pull(o) >= 1);
    return wire_window(&o->out[o->n - 1], scale);
}

/* rows: C40 C42 C50 C60 */
static void scale_and_cap(void **state)
{
    struct one o;

    /* 1: idle: the window is InitialRcvWnd, in units of the scale */
    open_scaled(&o, 4, 65536);
    data(&o, RCV, 10);
    tcp_recv_consumed(o.c, 10, o.now);
    assert_int_equal(last_window(&o, 4), 65536);
    assert_int_equal(o.out[0].window, 65536 >> 4);
    /* 2: the peer's field is scaled too: 3 means 48 */
    ack(&o, SND, 3);
    o.c->snd_wl1 = RCV - 1;
    ack(&o, SND, 3);
    assert_int_equal(o.c->snd_wnd, 48);
    one_free(&o);
    /* 3: without the flag the shifts count for nothing, and 64 KiB is the end */
    one_init(&o);
    o.in.constant.rcv_wind_scale = o.in.constant.snd_wind_scale = 7;
    o.in.cached.initial_rcv_wnd = 1 << 20;
    one_open(&o);
    data(&o, RCV, 3000);
    tcp_recv_consumed(o.c, 3000, o.now);
    assert_int_equal(last_window(&o, 0), 65535);
    one_free(&o);
}

/* rows: C49 C50 C197 C198 */
static void update_up_and_down(void **state)
{
    for (uint8_t scale = 0; scale <= 14; scale += 7) {
        struct one o;
        struct tcp_cached_state cached;
        uint32_t seq = RCV, unit = 1u << scale, edge = 0, read = 0;

        open_scaled(&o, scale, 65536);
        cached = o.in.cached;
        cached.flags = TCP_FLAG_UPDATE_RCV_WND;
        cached.initial_rcv_wnd = 32768;
        /* The wish shrinks at once, the edge that was promised does not */
        assert_true(tcp_update(o.c, &cached, o.now) & TCP_EV_OUTPUT);
        assert_true(pull(&o) == 1);
        edge = o.out[0].ack + wire_window(&o.out[0], scale);
        assert_true(seq_gt(edge + unit, RCV + (65536 > 65535u << scale ? 65535 : 65536)));
        for (unsigned i = 0; i < 60; i++) {
            data(&o, seq, 1000);
            seq += 1000;
            read += 1000;
            tcp_recv_consumed(o.c, read, o.now);
            if (!pull(&o))
                continue;
            assert_true(
                seq_gt(o.out[o.n - 1].ack + wire_window(&o.out[o.n - 1], scale) + unit, edge));
            edge = seq_max(edge, o.out[o.n - 1].ack + wire_window(&o.out[o.n - 1], scale));
        }
        assert_int_equal(wire_window(&o.out[0], scale), 32768);
        /* And up again, at once */
        cached.initial_rcv_wnd = 49152;
        assert_true(tcp_update(o.c, &cached, o.now) & TCP_EV_OUTPUT);
        assert_int_equal(last_window(&o, scale), 49152);
        one_free(&o);
    }
}

/* The reader drains a full ring: the peer hears of it without asking. */
static void update_after_a_full_ring(void **state)
{
    for (uint8_t scale = 0; scale <= 12; scale++) {
        struct one o;
        uint32_t seq = RCV, sent = 0, edge;

        open_scaled(&o, scale, 4096);
        edge = RCV + 4096;
        while (seq_lt(seq, edge)) { /* the peer uses what it sees */
            uint32_t len = edge - seq < 700 ? edge - seq : 700;

            data(&o, seq, len);
            seq += len;
            if (pull(&o)) {
                uint32_t now = o.out[o.n - 1].ack + wire_window(&o.out[o.n - 1], scale);

                assert_true(seq_gt(now + (1u << scale), edge));
                edge = seq_max(edge, now);
            }
            assert_true(++sent < 100);
        }
        assert_true(tcp_rcv_pos(o.c) <= 4096);
        while (tcp_next_timeout(o.c) != TCP_TIME_NEVER) {
            fire(&o);
            pull(&o);
        }
        /* A probe is answered, with the truth */
        input(&o,
              (struct tcp_segment){.seq = seq - 1, .ack = SND, .window = 1000, .flags = TCP_ACK});
        assert_true(last_window(&o, scale) < 4096u);
        /* The reader takes everything */
        assert_int_equal(tcp_recv_consumed(o.c, tcp_rcv_pos(o.c), o.now), TCP_EV_OUTPUT);
        assert_int_equal(last_window(&o, scale), 4096);
        one_free(&o);
    }
}

/* rows: C398 */
static void silly_windows_are_not_given(void **state)
{
    struct one o;
    uint32_t read = 0;

    open_scaled(&o, 0, 32768);
    for (uint32_t seq = RCV; seq < RCV + 32768; seq += 1024)
        data(&o, seq, 1024);
    assert_int_equal(last_window(&o, 0), 0);
    /* Byte by byte: silence until two segments' worth is free */
    while (read < 2047) {
        read += 89;
        if (read > 2047)
            read = 2047;
        assert_int_equal(tcp_recv_consumed(o.c, read, o.now), 0);
        assert_int_equal(pull(&o), 0);
    }
    /* An ACK that leaves for another reason does not open it by less than a segment either */
    input(&o,
          (struct tcp_segment){.seq = RCV + 32767, .ack = SND, .window = 1000, .flags = TCP_ACK});
    assert_int_equal(last_window(&o, 0), 2047); /* more than a segment is free: told when asked */
    assert_int_equal(tcp_recv_consumed(o.c, 2048, o.now), 0);
    assert_int_equal(tcp_recv_consumed(o.c, 4200, o.now), TCP_EV_OUTPUT);
    assert_int_equal(last_window(&o, 0), 4200);
    one_free(&o);
}

static void consumed_is_checked(void **state)
{
    struct one o;

    open_scaled(&o, 0, 4096);
    data(&o, RCV, 1000);
    assert_int_equal(tcp_recv_consumed(o.c, 1001, o.now), -1);
    assert_int_equal(tcp_recv_consumed(o.c, UINT64_MAX, o.now), -1);
    assert_true(tcp_recv_consumed(o.c, 1000, o.now) >= 0);
    assert_int_equal(tcp_recv_consumed(o.c, 999, o.now), -1);
    assert_true(tcp_recv_consumed(o.c, 1000, o.now) >= 0);
    one_free(&o);
}

/* Where a segment lies, and what is done about it; the window is [RCV, RCV + 4000). */
static void acceptance_by_table(void **state)
{
    static const struct {
        int offset;
        uint32_t len;
        uint32_t taken; /* bytes by which RCV.NXT moves */
        bool dropped, answered;
    } table[] = {
        /* 1 */ {0, 100, 100, false, true},
        /* 2: at the edge, empty: a full window looks like this */ {4000, 0, 0, false, false},
        /* 3: beyond, empty */ {4001, 0, 0, true, true},
        /* 4: at the edge, with data */ {4000, 1, 0, false, true},
        /* 5: last byte */ {3999, 1, 0, false, true},
        /* 6: beyond */ {4001, 1, 0, true, true},
        /* 7: across the edge: cut */ {0, 5000, 4000, false, true},
        /* 8: old, empty: a keepalive probe */ {-1, 0, 0, true, true},
        /* 9: old, one byte: the other sort */ {-1, 1, 0, false, true},
        /* 10: old data */ {-500, 500, 0, false, true},
        /* 11: half old */ {-500, 600, 100, false, true},
        /* 12: from before the window and across all of it */ {-500, 6000, 4000, false, true},
        /* 13: far away */ {0x40000000, 10, 0, true, true},
        /* 14: farther */ {-0x7fffffff, 10, 0, true, true},
    };

    for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct one o;
        uint32_t events;

        open_scaled(&o, 0, 4096);
        o.c->rcv_adv = RCV + 4000;
        events = data(&o, RCV + table[i].offset, table[i].len);
        if (tcp_rcv_pos(o.c) != table[i].taken || !!(events & TCP_EV_DROPPED) != table[i].dropped ||
            (pull(&o) > 0) != table[i].answered)
            fail_msg("case %u: events %x, %llu bytes, %u out", i + 1, events,
                     (unsigned long long)tcp_rcv_pos(o.c), o.n);
        one_free(&o);
    }
}

/* Two closed windows: each side's probe carries the news the other waits for. */
static void both_windows_closed(void **state)
{
    struct one o;

    open_scaled(&o, 0, 4096);
    o.c->snd_wnd = 0;
    assert_int_equal(send_bytes(&o, 2000), 0);
    for (uint32_t seq = RCV; seq < RCV + 4096; seq += 1024)
        input(&o, (struct tcp_segment){
                      .seq = seq, .ack = SND, .window = 0, .flags = TCP_ACK, .len = 1024});
    assert_int_equal(last_window(&o, 0), 0);
    /* The peer pushes one byte into our closed window; its own has opened meanwhile */
    input(&o, (struct tcp_segment){
                  .seq = RCV + 4096, .ack = SND, .window = 8000, .flags = TCP_ACK, .len = 1});
    assert_int_equal(pull(&o), 2);
    assert_int_equal(o.out[0].seq, SND);
    assert_int_equal(o.out[0].window, 0);
    one_free(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scale_and_cap),
        cmocka_unit_test(update_up_and_down),
        cmocka_unit_test(update_after_a_full_ring),
        cmocka_unit_test(silly_windows_are_not_given),
        cmocka_unit_test(consumed_is_checked),
        cmocka_unit_test(acceptance_by_table),
        cmocka_unit_test(both_windows_closed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
