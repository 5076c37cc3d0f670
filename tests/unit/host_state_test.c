/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state that travels: filled in from a dump, given back, and refused when it contradicts
 * itself.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>
#include "host/handoff.h"

#define RING 65536u

static uint8_t send_ring[RING], receive_ring[RING];

static uint64_t clock_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

/* A parked connection: 3000 bytes to send, 1000 of them in flight and 500 perhaps, 700 unread. */
static struct handoff_conn parked(void)
{
    struct handoff_conn c = {
        .result = HANDOFF_PARKED,
        .rings = {send_ring, receive_ring, RING},
        .key = {.local_port = 1, .remote_port = 2, .family = 4},
        .state =
            {
                .snd_una = 0xfffffc00u,
                .write_seq = 0xfffffc00u + 3000,
                .snd_nxt_low = 0xfffffc00u + 1000,
                .snd_nxt_high = 0xfffffc00u + 1500,
                .rcv_nxt = 100,
                .sendq_len = 3000,
                .recvq_len = 700,
                .timestamps = true,
                .sack = true,
                .wscale = true,
                .snd_wscale = 7,
                .rcv_wscale = 9,
                .mss_clamp = 1460,
                .window = {.snd_wl1 = 90,
                           .snd_wnd = 50000,
                           .max_window = 60000,
                           .rcv_wnd = 40000,
                           .rcv_wup = 80},
                .keepalive = 1,
                .keep_idle_s = 7200,
                .keep_intvl_s = 75,
                .keep_cnt = 9,
                .ttl = 64,
                .tos = 8,
                .congestion = "cubic",
            },
        .snapshot =
            {
                .mss_cache = 1448,
                .snd_cwnd = 20,
                .snd_ssthresh = 0x7fffffff,
                .srtt_us = 800,
                .rttvar_us = 100,
                .ts_recent = 77,
                .ts_recent_age_s = 2,
                .tsoffset = 12345,
                .rto_left_ms = 150,
                .pending = 1,
                .reordering = 3,
            },
    };

    c.snapshot.now_ns = c.snapshot.wstamp_ns = clock_ns();
    return c;
}

static struct chimney_tcp_state_all filled(const struct handoff_conn *c)
{
    struct chimney_tcp_state_all s = {0};

    handoff_fill(c, &s.constant, &s.cached, &s.delegated);
    return s;
}

/* rows: C61 C62 C64 C65 */
static void test_fill(void **state)
{
    struct handoff_conn c = parked();
    struct chimney_tcp_state_all s = filled(&c);
    const struct chimney_tcp_delegated *d = &s.delegated;

    assert_int_equal(s.constant.flags, CHIMNEY_TCP_TIMESTAMP_ENABLED | CHIMNEY_TCP_SACK_ENABLED |
                                           CHIMNEY_TCP_WINDOW_SCALING_ENABLED);
    assert_int_equal(s.constant.local_port, 1);
    assert_int_equal(s.constant.remote_port, 2);
    assert_int_equal(s.constant.snd_wind_scale, 7);
    assert_int_equal(s.constant.rcv_wind_scale, 9);
    assert_int_equal(s.constant.remote_mss, 1460);
    assert_ptr_equal(s.constant.send_stream.base, send_ring);
    assert_int_equal(s.cached.flags, CHIMNEY_TCP_KEEP_ALIVE_ENABLED | CHIMNEY_TCP_NAGLING_ENABLED);
    assert_int_equal(s.cached.initial_rcv_wnd, RING);
    assert_int_equal(s.cached.ka_interval, 75000000);
    /* Two hours do not fit: as long as possible, but not "off". */
    assert_int_equal(s.cached.ka_timeout, CHIMNEY_TIMER_OFF - 1);
    assert_string_equal(s.cached.congestion_algorithm, "cubic");
    assert_int_equal(d->state, TcpConnectionEstablished);
    assert_int_equal(d->rcv_nxt, 100);
    assert_int_equal(d->rcv_wnd, 80 + 40000 - 100);
    assert_int_equal(d->snd_max, c.state.snd_nxt_low);
    assert_int_equal(d->snd_max_possible, c.state.snd_nxt_high);
    assert_int_equal(d->cwnd, 20 * 1448);
    assert_int_equal(d->ssthresh, 0x7fffffff);
    assert_int_equal(d->srtt, 800);
    assert_int_equal(d->rttvar, 100);
    assert_int_equal(d->ts_recent, 77);
    assert_int_equal(d->ts_recent_age, 2000000);
    assert_in_range(d->ts_time - 12345 - (uint32_t)(c.snapshot.now_ns / 1000000), 0, 1000);
    assert_int_equal(d->retransmit_timeout_delta, 150000);
    assert_int_equal(d->send_data.end, 3000);
    assert_int_equal(d->buffered_data.end, 700);
}

static void test_fill_corners(void **state)
{
    struct handoff_conn c = parked();
    struct chimney_tcp_state_all s;

    /* Paced: the last stamp sent is ahead of the clock (T5c). */
    c.snapshot.wstamp_ns = c.snapshot.now_ns + 5000000000ull;
    /* The kernel forgot TS.Recent in a restore, we did not. */
    c.snapshot.ts_recent = 0;
    c.snapshot.ts_recent_age_s = ~0ull;
    c.ts_recent = 66;
    c.snapshot.pending = 0;
    c.state.keepalive = 0;
    c.state.wscale = false;
    /* The peer has sent more than the kernel had announced (a window that was closed meanwhile). */
    c.state.window.rcv_wnd = 0;
    c.state.window.snd_wl1 = c.state.rcv_nxt + 5000; /* of a segment that was dropped then */
    strcpy(c.state.congestion, "bbr");
    s = filled(&c);
    assert_in_range(s.delegated.ts_last - s.delegated.ts_time, 3000, 5000);
    assert_int_equal(s.delegated.ts_recent, 66);
    assert_int_equal(s.delegated.rcv_wnd, 0);
    assert_int_equal(s.delegated.snd_wl1, c.state.rcv_nxt);
    assert_int_equal(s.delegated.retransmit_timeout_delta, CHIMNEY_TIMER_OFF);
    assert_int_equal(s.delegated.ka_timeout_delta, CHIMNEY_TIMER_OFF);
    assert_int_equal(s.constant.rcv_wind_scale, 0);
    assert_int_equal(s.cached.initial_rcv_wnd, 65535);
    assert_string_equal(s.cached.congestion_algorithm, "");
}

/* Out and back without anything happening in between changes nothing. */
/* rows: C62 C65 */
static void test_round_trip(void **state)
{
    struct handoff_conn c = parked();
    struct chimney_tcp_state_all s = filled(&c);
    struct repair_restore back, same;

    handoff_prepare_unchanged(&c, &same);
    assert_int_equal(handoff_prepare(&c, &s.delegated, &back), 0);
    assert_int_equal(back.snd_una, same.snd_una);
    assert_int_equal(back.snd_max, same.snd_max);
    assert_int_equal(back.sent_len, 1500);
    assert_int_equal(back.sent_len, same.sent_len);
    assert_int_equal(back.unsent_len, 1500);
    assert_int_equal(back.unsent_len, same.unsent_len);
    assert_int_equal(back.rcv_nxt, same.rcv_nxt);
    assert_int_equal(back.unread_len, 700);
    assert_int_equal(back.rcv_pos, same.rcv_pos);
    /* The same right edge, said from another point. */
    assert_int_equal(back.window.rcv_wup + back.window.rcv_wnd,
                     same.window.rcv_wup + same.window.rcv_wnd);
    assert_int_equal(back.window.snd_wnd, same.window.snd_wnd);
    assert_int_equal(back.tsval_floor, 0);
    assert_int_equal(c.ts_recent, 77);
}

static void test_progress(void **state)
{
    struct handoff_conn c = parked();
    struct chimney_tcp_state_all s = filled(&c);
    struct chimney_tcp_delegated *d = &s.delegated;
    struct repair_restore r;

    /* 2000 bytes were acknowledged, 10000 more written, 300 of them sent; 5000 received, all read.
     */
    d->snd_una += 2000;
    d->snd_nxt = d->snd_max = d->snd_max_possible = d->snd_una + 1300;
    d->send_data = (struct chimney_span){2000, 13000};
    d->rcv_nxt += 5000;
    d->buffered_data = (struct chimney_span){5700, 5700};
    d->ts_last = d->ts_time + 100000;
    assert_int_equal(handoff_prepare(&c, d, &r), 0);
    assert_int_equal(r.una_pos, 2000);
    assert_int_equal(r.sent_len, 1300);
    assert_int_equal(r.unsent_len, 9700);
    assert_int_equal(r.unread_len, 0);
    assert_int_equal(r.rcv_pos, 5700);
    assert_int_equal(r.tsval_floor, d->ts_last);
}

/* Each of these is a target that lies. */
static void test_contradictions(void **state)
{
    struct handoff_conn c = parked();
    const struct chimney_tcp_state_all s = filled(&c);

    for (int i = 0;; i++) {
        struct chimney_tcp_delegated d = s.delegated;
        struct repair_restore r;

        switch (i) {
        case 0:
            d.state = TcpConnectionCloseWait;
            break;
        case 1:
            d.send_data.begin = 1; /* but SND.UNA did not move */
            break;
        case 2:
            d.snd_una++;
            break;
        case 3:
            d.send_data.end = d.send_data.begin + RING + 1;
            break;
        case 4:
            d.send_data.end = d.send_data.begin - 1;
            break;
        case 5:
            d.snd_max_possible = d.snd_una + 3001; /* more than there is */
            break;
        case 6:
            d.snd_max_possible = d.snd_una - 1;
            break;
        case 7:
            d.snd_max = d.snd_max_possible + 1;
            break;
        case 8:
            d.rcv_nxt++;
            break;
        case 9:
            d.buffered_data.begin = d.buffered_data.end + 1;
            break;
        case 10:
            d.rcv_nxt += RING + 1;
            d.buffered_data.end += RING + 1;
            break;
        default:
            return;
        }
        if (handoff_prepare(&c, &d, &r) != -EINVAL)
            fail_msg("contradiction %d was not seen", i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fill),           cmocka_unit_test(test_fill_corners),
        cmocka_unit_test(test_round_trip),     cmocka_unit_test(test_progress),
        cmocka_unit_test(test_contradictions),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
