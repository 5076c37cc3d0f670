/* SPDX-License-Identifier: Apache-2.0 */
/* Taking over and giving back: what is refused, what is carried, what is sent first. */
#include <stdio.h>
#include "tcp_one.h"

/* One field set wrong, and the error that names it. */
struct refusal {
    void (*spoil)(struct tcp_import *);
    int error;
};

#define SPOIL(name, statement)                                                                     \
    static void name(struct tcp_import *in)                                                        \
    {                                                                                              \
        statement;                                                                                 \
    }
SPOIL(closed, in->delegated.state = TcpConnectionClosed)
SPOIL(listening, in->delegated.state = TcpConnectionListen)
SPOIL(syn_sent, in->delegated.state = TcpConnectionSynSent)
SPOIL(syn_rcvd, in->delegated.state = TcpConnectionSynRcvd)
SPOIL(time_wait, in->delegated.state = TcpConnectionTimeWait)
SPOIL(no_state, in->delegated.state = 200)
SPOIL(nxt_before_una, in->delegated.snd_nxt--)
SPOIL(max_before_nxt, in->delegated.snd_nxt++)
SPOIL(possible_before_max, in->delegated.snd_max_possible--)
SPOIL(sent_more_than_there_is, in->delegated.snd_max_possible += 5001)
SPOIL(fin_wait_2_with_data, in->delegated.state = TcpConnectionFinWait2)
SPOIL(no_send_ring, in->snd.base = NULL)
SPOIL(odd_ring, in->rcv.size = 3000)
SPOIL(no_ring, in->rcv.size = 0)
SPOIL(huge_ring, in->snd.size = 1u << 31)
SPOIL(more_than_the_ring, in->snd_len = RING + 1)
SPOIL(unread_more_than_the_ring, in->rcv_len = RING + 1)
SPOIL(ring_below_a_unit, in->rcv.size = 64; in->constant.rcv_wind_scale = 7;
      in->constant.flags |= TCP_FLAG_WINDOW_SCALING_ENABLED)
SPOIL(shift_15, in->constant.snd_wind_scale = 15;
      in->constant.flags |= TCP_FLAG_WINDOW_SCALING_ENABLED)
SPOIL(huge_snd_wnd, in->delegated.snd_wnd = 1u << 30)
SPOIL(huge_rcv_wnd, in->delegated.rcv_wnd = UINT32_MAX)
SPOIL(tiny_mss, in->constant.remote_mss = 47)
SPOIL(no_mss, in->constant.remote_mss = 0)
SPOIL(tiny_mtu, in->cached.path_mtu = 80)

static const struct refusal refusals[] = {
    {closed, TCP_E_STATE},
    {listening, TCP_E_STATE},
    {syn_sent, TCP_E_STATE},
    {syn_rcvd, TCP_E_STATE},
    {time_wait, TCP_E_STATE},
    {no_state, TCP_E_STATE},
    {nxt_before_una, TCP_E_SEQUENCE},
    {max_before_nxt, TCP_E_SEQUENCE},
    {possible_before_max, TCP_E_SEQUENCE},
    {sent_more_than_there_is, TCP_E_SEQUENCE},
    {fin_wait_2_with_data, TCP_E_SEQUENCE},
    {no_send_ring, TCP_E_RING},
    {odd_ring, TCP_E_RING},
    {no_ring, TCP_E_RING},
    {huge_ring, TCP_E_RING},
    {more_than_the_ring, TCP_E_RING},
    {unread_more_than_the_ring, TCP_E_RING},
    {ring_below_a_unit, TCP_E_RING},
    {shift_15, TCP_E_WINDOW},
    {huge_snd_wnd, TCP_E_WINDOW},
    {huge_rcv_wnd, TCP_E_WINDOW},
    {tiny_mss, TCP_E_MSS},
    {no_mss, TCP_E_MSS},
    {tiny_mtu, TCP_E_MSS},
};

/* rows: C58 */
static void refused_by_table(void **state)
{
    for (unsigned i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        struct one o;
        int error;

        one_init(&o);
        o.in.snd_len = 5000;
        refusals[i].spoil(&o.in);
        error = tcp_import(o.c, &o.params, &o.in, o.now);
        if (error != refusals[i].error)
            fail_msg("case %u: %d", i + 1, error);
        one_free(&o);
    }
}

/* The delegated state without what depends on padding. */
static void assert_same(const struct tcp_delegated_state *a, const struct tcp_delegated_state *b,
                        const char *what)
{
#define SAME(field)                                                                                \
    do {                                                                                           \
        if (a->field != b->field)                                                                  \
            fail_msg("%s: " #field " %u became %u", what, (unsigned)a->field, (unsigned)b->field); \
    } while (0)
    SAME(state);
    SAME(rcv_nxt);
    SAME(rcv_wnd);
    SAME(snd_una);
    SAME(snd_nxt);
    SAME(snd_max);
    SAME(snd_max_possible);
    SAME(snd_wnd);
    SAME(max_snd_wnd);
    SAME(snd_wl1);
    SAME(cwnd);
    SAME(ssthresh);
    SAME(srtt);
    SAME(rttvar);
    SAME(ts_recent);
    SAME(ts_recent_age);
    SAME(ts_time);
    SAME(ts_last);
    SAME(total_rt);
    SAME(dup_ack_count);
    SAME(snd_wnd_probe_count);
    SAME(ka_probe_count);
    SAME(ka_timeout_delta);
    SAME(retransmit_count);
    SAME(retransmit_timeout_delta);
    SAME(reordering);
#undef SAME
}

/* A rich state, varied by @i over states, timers, doubt and ticks. */
static void rich_state(struct one *o, unsigned i, char *what, size_t room)
{
    static const uint8_t states[] = {TcpConnectionEstablished, TcpConnectionFinWait1,
                                     TcpConnectionFinWait2,    TcpConnectionCloseWait,
                                     TcpConnectionClosing,     TcpConnectionLastAck};
    static const uint32_t rates[] = {1000, 100000, 1000000};
    static const uint32_t deltas[] = {0, 1, 12345, 100000};
    struct tcp_delegated_state *d = &o->in.delegated;
    uint8_t tcp = states[i % 6];
    unsigned timer = i / 6 % 4, sends = i / 24 % 4, keepalive = i / 96 % 2, rate = i / 192 % 3;
    uint32_t base = 0xffffff00u;

    one_init(o);
    one_timestamps(o);
    snprintf(what, room, "state %u timer %u sends %u keepalive %u rate %u", tcp, timer, sends,
             keepalive, rate);
    o->params.ticks_per_second = rates[rate];
    d->state = tcp;
    d->rcv_nxt = base + 7;
    d->rcv_wnd = 23456;
    d->snd_una = d->snd_nxt = d->snd_max = d->snd_max_possible = base;
    d->snd_wl1 = base + 3;
    d->snd_wnd = 12345;
    d->max_snd_wnd = 54321;
    d->cwnd = 7777;
    d->ssthresh = 8888;
    d->srtt = 12345;
    d->rttvar = 2345;
    d->ts_recent = 4711;
    d->ts_recent_age = 99;
    d->ts_time = 0xfffffff0u;
    d->ts_last = 0xfffffffau;
    d->reordering = 5;
    if (keepalive) {
        o->in.cached.flags |= TCP_FLAG_KEEP_ALIVE_ENABLED;
        d->ka_probe_count = 2;
        d->ka_timeout_delta = 54321;
    }
    if (tcp == TcpConnectionFinWait2) {
        d->retransmit_timeout_delta = deltas[timer];
        return;
    }
    switch (sends) {
    case 0: /* idle */
        break;
    case 1: /* in flight, some in doubt, some unsent */
        o->in.snd_len = 9000;
        d->snd_nxt = d->snd_max = base + 4000;
        d->snd_max_possible = base + 5000;
        d->retransmit_count = 1;
        d->total_rt = 77;
        d->dup_ack_count = 2;
        d->retransmit_timeout_delta = deltas[timer];
        break;
    case 2: /* some to be sent again */
        o->in.snd_len = 9000;
        d->snd_nxt = base + 1000;
        d->snd_max = d->snd_max_possible = base + 4000;
        d->retransmit_count = 3;
        d->total_rt = 99999;
        d->retransmit_timeout_delta = deltas[timer];
        break;
    default: /* a closed window */
        o->in.snd_len = 9000;
        d->snd_wnd = 0;
        d->snd_wnd_probe_count = 2;
        d->retransmit_count = (uint8_t)timer;
        d->retransmit_timeout_delta = deltas[timer];
        break;
    }
    if (sends == 0 && tcp != TcpConnectionEstablished && tcp != TcpConnectionCloseWait) {
        /* only our FIN is in flight */
        d->snd_nxt = d->snd_max = d->snd_max_possible = base + 1;
        d->retransmit_timeout_delta = deltas[timer];
    }
}

/* import(export(x)) is x, in every state and with every timer. */
/* rows: C60 C61 C62 C63 C64 C65 C66 C67 C68 C69 C70 C71 C72 C73 C74 C192 C399 */
static void the_state_survives(void **state)
{
    for (unsigned i = 0; i < 576; i++) {
        struct one o, p;
        struct tcp_export x, y, z;
        char what[100];

        rich_state(&o, i, what, sizeof(what));
        one_open(&o);
        tcp_query(o.c, o.now, &x);
        assert_same(&o.in.delegated, &x.delegated, what);
        assert_int_equal(x.snd_end_pos, o.in.snd_len);
        assert_int_equal(x.una_pos, 0);
        tcp_export(o.c, o.now, &y);
        assert_same(&x.delegated, &y.delegated, what);
        /* To an owner whose clock stands elsewhere; later the two must agree again */
        p = o;
        one_init(&p);
        p.params = o.params;
        p.in = o.in;
        p.in.delegated = y.delegated;
        p.now = 5 * TCP_SEC + 123;
        one_open(&p);
        tcp_query(p.c, p.now, &z);
        assert_same(&y.delegated, &z.delegated, what);
        one_free(&o);
        one_free(&p);
    }
}

/* rows: C182 C183 C184 C185 */
static void what_is_sent_first(void **state)
{
    struct one o;

    /* In flight only: nothing is sent, nothing twice */
    one_init(&o);
    o.in.snd_len = 5000;
    o.in.delegated.snd_nxt = o.in.delegated.snd_max = o.in.delegated.snd_max_possible = SND + 5000;
    o.in.delegated.retransmit_timeout_delta = 250000;
    one_open(&o);
    assert_int_equal(pull(&o), 0);
    ack(&o, SND + 5000, 30000);
    assert_int_equal(pull(&o), 0);
    one_free(&o);

    /* The same, not quiet: the first segment at once (T6), with an ACK in it */
    one_init(&o);
    o.in.quiet = false;
    o.in.snd_len = 5000;
    o.in.delegated.snd_nxt = o.in.delegated.snd_max = o.in.delegated.snd_max_possible = SND + 5000;
    o.in.delegated.retransmit_timeout_delta = 250000;
    one_open(&o);
    assert_int_equal(pull(&o), 1);
    assert_int_equal(o.out[0].seq, SND);
    assert_int_equal(o.out[0].len, 1000);
    assert_int_equal(o.out[0].ack, RCV);
    assert_true(fire(&o) == 250 * MS); /* and the timer goes on as it was */
    one_free(&o);

    /* [SND.NXT, SND.MAX) first, then new data, then what is written later */
    one_init(&o);
    o.in.snd_len = 9000;
    o.in.delegated.cwnd = 20000;
    o.in.delegated.snd_nxt = SND + 2000;
    o.in.delegated.snd_max = o.in.delegated.snd_max_possible = SND + 5000;
    o.in.delegated.retransmit_timeout_delta = 250000;
    one_open(&o);
    assert_int_equal(send_bytes(&o, 1000), 8);
    for (unsigned i = 0; i < 8; i++) {
        assert_int_equal(o.out[i].seq, SND + 2000 + i * 1000);
        assert_ptr_equal(o.out[i].span[0], o.snd + 2000 + i * 1000);
    }
    one_free(&o);

    /* ... one of them even when the window is full */
    one_init(&o);
    o.in.snd_len = 9000;
    o.in.delegated.cwnd = 2000;
    o.in.delegated.snd_nxt = SND + 4000;
    o.in.delegated.snd_max = o.in.delegated.snd_max_possible = SND + 5000;
    o.in.delegated.retransmit_timeout_delta = 250000;
    one_open(&o);
    assert_int_equal(pull(&o), 1);
    assert_int_equal(o.out[0].seq, SND + 4000);
    one_free(&o);
}

/* rows: C61 C182 */
static void perhaps_sent(void **state)
{
    struct one o;
    struct tcp_export x;

    one_init(&o);
    o.in.snd_len = 60000;
    o.in.delegated.cwnd = 1000;
    o.in.delegated.snd_wnd = o.in.delegated.max_snd_wnd = 65535;
    o.in.delegated.snd_max_possible = SND + 60000;
    one_open(&o);
    pull(&o); /* one segment; the peer has all 60,000 bytes already (T3) */
    assert_int_equal(o.c->snd_max, SND + 1000);
    assert_false(ack(&o, SND + 60000, 65535) & TCP_EV_DROPPED);
    assert_int_equal(tcp_una_pos(o.c), 60000);
    tcp_query(o.c, o.now, &x);
    assert_int_equal(x.delegated.snd_nxt, SND + 60000);
    assert_int_equal(x.snd_max_pos, 60000);
    assert_true(tcp_next_timeout(o.c) == TCP_TIME_NEVER);
    /* But not more than what there was */
    assert_true(ack(&o, SND + 60001, 65535) & TCP_EV_DROPPED);
    one_free(&o);

    /* A sample from what may have been sent before would be a lie */
    one_init(&o);
    o.in.snd_len = 3000;
    o.in.delegated.srtt = 0;
    o.in.delegated.snd_max_possible = SND + 3000;
    one_open(&o);
    assert_int_equal(pull(&o), 3);
    o.now += MS;
    ack(&o, SND + 3000, 30000);
    assert_int_equal(o.c->srtt, 0);
    one_free(&o);
}

/* rows: C38 C66 C67 C425 */
static void stamps_never_step_back(void **state)
{
    struct one o;
    struct tcp_export x;
    uint32_t last;

    /* The kernel stamped its last segment 858 ms ahead (T5) */
    one_init(&o);
    one_timestamps(&o);
    o.in.quiet = false;
    o.in.delegated.ts_time = 0xffffff00u;
    o.in.delegated.ts_last = 0xffffff00u + 858;
    one_open(&o);
    pull(&o);
    assert_true(o.out[0].has_timestamp);
    assert_int_equal(o.out[0].tsval, 0xffffff00u + 858);
    last = o.out[0].tsval;
    for (unsigned i = 0; i < 40; i++) { /* over ten owners, with clocks that drift back and forth */
        o.now += 50 * MS;
        send_bytes(&o, 10);
        assert_true(seq_geq(o.out[0].tsval, last));
        last = o.out[0].tsval;
        if (i % 4)
            continue;
        tcp_export(o.c, o.now, &x);
        o.in.delegated = x.delegated;
        o.in.snd_len = (uint32_t)(x.snd_end_pos - x.una_pos);
        o.now = i % 8 ? o.now / 2 : o.now * 3;
        one_open(&o);
        pull(&o);
    }
    assert_int_equal(last, 0xffffff00u + 2000); /* and on average it keeps the pace of 1 ms */
    one_free(&o);
}

/* The worked example of the contract, with milliseconds for ticks. */
/* rows: C425 C426 */
static void the_contracts_example(void **state)
{
    struct one o;
    struct tcp_export x;

    one_init(&o);
    one_timestamps(&o);
    o.in.delegated.srtt = 0;
    o.in.delegated.ts_time = o.in.delegated.ts_last = 100;
    o.in.snd_len = 1000;
    o.in.delegated.snd_nxt = o.in.delegated.snd_max = o.in.delegated.snd_max_possible = SND + 1000;
    o.in.delegated.retransmit_timeout_delta = 900000;
    o.now = 200 * MS;
    one_open(&o);
    o.now = 205 * MS;
    input(&o, (struct tcp_segment){.seq = RCV,
                                   .ack = SND + 1000,
                                   .window = 30000,
                                   .flags = TCP_ACK,
                                   .has_timestamp = true,
                                   .tsval = 778,
                                   .tsecr = 100});
    assert_int_equal(o.c->srtt / 8, 5000);
    o.now = 210 * MS;
    send_bytes(&o, 10);
    assert_int_equal(o.out[0].tsval, 110);
    o.now = 250 * MS;
    tcp_export(o.c, o.now, &x);
    assert_int_equal(x.delegated.ts_time, 150);
    one_free(&o);
}

/* rows: C62 */
static void older_window_updates_are_ignored(void **state)
{
    struct one o;

    one_init(&o);
    o.in.delegated.snd_wl1 = RCV;
    one_open(&o);
    input(&o, (struct tcp_segment){
                  .seq = RCV - 1, .ack = SND, .window = 5, .flags = TCP_ACK, .len = 1});
    assert_int_equal(o.c->snd_wnd, 30000);
    input(&o, (struct tcp_segment){.seq = RCV + 1, .ack = SND, .window = 40000, .flags = TCP_ACK});
    assert_int_equal(o.c->snd_wnd, 40000);
    one_free(&o);
}

/* rows: C60 C187 C77 */
static void unread_data_stays_in_front(void **state)
{
    struct one o;
    struct tcp_export x;

    one_init(&o);
    o.in.rcv_len = 1000;
    memset(o.rcv, 'x', 1000);
    one_open(&o);
    assert_int_equal(tcp_rcv_pos(o.c), 1000);
    data(&o, RCV, 500);
    data(&o, RCV + 700, 100);
    tcp_recv_consumed(o.c, 400, o.now);
    tcp_export(o.c, o.now, &x);
    assert_int_equal(x.rcv_pos, 1500);
    assert_int_equal(x.delegated.rcv_nxt, RCV + 500);
    assert_int_equal(x.ooo_count, 1);
    assert_int_equal(x.ooo[0].left, RCV + 700);
    assert_int_equal(x.ooo[0].right, RCV + 800);
    assert_false(x.fin_received);
    /* Finished: nothing has an effect any more */
    assert_int_equal(data(&o, RCV + 500, 100), TCP_EV_DROPPED);
    assert_int_equal(pull(&o), 0);
    one_free(&o);
}

/* rows: C76 C193 C254 */
static void send_backlog(void **state)
{
    struct one o;

    one_init(&o);
    one_open(&o);
    assert_int_equal(tcp_send_backlog(o.c), 10000);
    send_bytes(&o, 30000);
    assert_int_equal(tcp_send_backlog(o.c), 10000); /* not what is posted: what is preferred */
    o.c->cc.cwnd = 100000;
    assert_int_equal(tcp_send_backlog(o.c), 30000);
    one_free(&o);
}

/* A window without cwnd: the initial one. */
static void initial_window(void **state)
{
    struct one o;

    one_init(&o);
    o.in.delegated.cwnd = 0;
    o.in.delegated.ssthresh = 0;
    one_open(&o);
    assert_int_equal(o.c->cc.cwnd, 10000);
    assert_int_equal(o.c->cc.ssthresh, TCP_CC_INFINITE);
    one_free(&o);
}

/* Arbitrary delegated state: refused, or a connection whose invariants hold. */
static void random_state(void **state)
{
    uint64_t rng = 1;
    unsigned taken = 0;

    for (unsigned i = 0; i < 20000; i++) {
        struct one *o = malloc(sizeof(*o));
        uint8_t *bytes = (uint8_t *)&o->in.delegated;

        one_init(o);
        for (unsigned k = 0; k < sizeof(o->in.delegated); k++) {
            rng = rng * 6364136223846793005ull + 1442695040888963407ull;
            if (rng >> 60 == 0)
                bytes[k] = (uint8_t)(rng >> 40);
        }
        o->in.snd_len = (uint32_t)(rng >> 20) % 40000;
        o->in.delegated.snd_max_possible = o->in.delegated.snd_max + (uint32_t)(rng >> 30) % 100;
        o->in.delegated.state = (uint8_t)(rng >> 10) % 12;
        if (rng & 1)
            o->in.delegated.snd_nxt = o->in.delegated.snd_max = o->in.delegated.snd_una;
        o->in.quiet = rng & 2;
        if (tcp_import(o->c, &o->params, &o->in, o->now) == 0) {
            taken++;
            for (unsigned k = 0; k < 40; k++) {
                struct tcp_export x;

                pull(o);
                ack(o, o->c->snd_una + (uint32_t)(rng >> (k % 30)) % 3000, (uint16_t)(rng >> 7));
                data(o, o->c->rcv_nxt + (uint32_t)(rng >> (k % 20)) % 2000, 300);
                if (tcp_next_timeout(o->c) != TCP_TIME_NEVER)
                    fire(o);
                tcp_query(o->c, o->now, &x);
                assert_true(x.una_pos <= x.snd_max_pos && x.snd_max_pos <= x.snd_end_pos);
            }
        }
        one_free(o);
        free(o);
    }
    assert_true(taken > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refused_by_table),
        cmocka_unit_test(the_state_survives),
        cmocka_unit_test(what_is_sent_first),
        cmocka_unit_test(perhaps_sent),
        cmocka_unit_test(stamps_never_step_back),
        cmocka_unit_test(the_contracts_example),
        cmocka_unit_test(older_window_updates_are_ignored),
        cmocka_unit_test(unread_data_stays_in_front),
        cmocka_unit_test(send_backlog),
        cmocka_unit_test(initial_window),
        cmocka_unit_test(random_state),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
