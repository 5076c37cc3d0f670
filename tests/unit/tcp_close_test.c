/* SPDX-License-Identifier: Apache-2.0 */
/* FIN in both directions and both policies, half close, TIME_WAIT, abort. */
#include "tcp_one.h"

static uint32_t fin(struct one *o, uint32_t seq, uint32_t len, uint32_t number)
{
    return input(
        o, (struct tcp_segment){
               .seq = seq, .ack = number, .window = 30000, .flags = TCP_ACK | TCP_FIN, .len = len});
}

static void open_policy(struct one *o, enum tcp_fin_policy policy)
{
    one_init(o);
    o->in.fin_policy = policy;
    one_open(o);
}

/* rows: C299 C300 C306 C427 */
static void we_close_first(void **state)
{
    struct one o;

    open_policy(&o, TCP_FIN_CONSUME);
    o.end = 1500;
    tcp_send_ready(o.c, o.end, false, o.now);
    tcp_shutdown(o.c, o.now);
    assert_int_equal(tcp_state(o.c), TcpConnectionFinWait1);
    assert_int_equal(tcp_send_ready(o.c, 1600, false, o.now), -1); /* nothing after the FIN */
    assert_int_equal(pull(&o), 2); /* it rides on the last data and waits for no ACK */
    assert_false(o.out[0].flags & TCP_FIN);
    assert_true(o.out[1].flags & TCP_FIN);
    assert_int_equal(o.out[1].len, 500);
    tcp_shutdown(o.c, o.now);
    assert_int_equal(pull(&o), 0); /* never twice */
    assert_int_equal(ack(&o, SND + 1500, 30000) & (TCP_EV_ACKED | TCP_EV_FIN_ACKED), TCP_EV_ACKED);
    assert_int_equal(ack(&o, SND + 1501, 30000) & (TCP_EV_ACKED | TCP_EV_FIN_ACKED),
                     TCP_EV_FIN_ACKED);
    assert_int_equal(tcp_una_pos(o.c), 1500);
    assert_int_equal(tcp_state(o.c), TcpConnectionFinWait2);
    /* The peer goes on sending */
    assert_true(data(&o, RCV, 5000) & TCP_EV_RECEIVED);
    assert_int_equal(pull(&o), 1);
    assert_int_equal(o.out[0].seq, SND + 1501);
    assert_int_equal(o.out[0].ack, RCV + 5000);
    /* And closes */
    assert_int_equal(fin(&o, RCV + 5000, 10, SND + 1501) &
                         (TCP_EV_RECEIVED | TCP_EV_FIN | TCP_EV_TIME_WAIT),
                     TCP_EV_RECEIVED | TCP_EV_FIN | TCP_EV_TIME_WAIT);
    assert_int_equal(tcp_state(o.c), TcpConnectionTimeWait);
    assert_int_equal(pull(&o), 1);
    assert_int_equal(o.out[0].ack, RCV + 5011);
    assert_true(tcp_next_timeout(o.c) == TCP_TIME_NEVER); /* TIME_WAIT is the host's (C410) */
    one_free(&o);
}

/* rows: C301 C306 C310 C427 */
static void the_peer_closes_first(void **state)
{
    struct one o;
    struct tcp_export x;

    open_policy(&o, TCP_FIN_CONSUME);
    assert_true(fin(&o, RCV, 100, SND) & TCP_EV_FIN);
    assert_int_equal(tcp_state(o.c), TcpConnectionCloseWait);
    pull(&o);
    assert_int_equal(o.out[0].ack, RCV + 101);
    /* Its FIN again: acknowledged again, told once */
    assert_false(fin(&o, RCV, 100, SND) & TCP_EV_FIN);
    assert_int_equal(pull(&o), 1);
    /* Bytes after its FIN are none of ours */
    assert_false(data(&o, RCV + 101, 50) & TCP_EV_RECEIVED);
    assert_int_equal(tcp_rcv_pos(o.c), 100);
    /* Our direction works on, then LAST_ACK */
    assert_int_equal(send_bytes(&o, 3000), 3);
    tcp_shutdown(o.c, o.now);
    assert_int_equal(tcp_state(o.c), TcpConnectionLastAck);
    assert_int_equal(pull(&o), 1);
    assert_true(o.out[0].flags & TCP_FIN);
    tcp_query(o.c, o.now, &x);
    assert_true(x.fin_sent && x.fin_received && !x.fin_acked);
    assert_int_equal(x.rcv_pos, 100);
    assert_int_equal(x.snd_max_pos, 3000);
    assert_true(ack(&o, SND + 3001, 30000) & TCP_EV_FIN_ACKED);
    assert_int_equal(tcp_state(o.c), TcpConnectionClosed);
    assert_true(tcp_next_timeout(o.c) == TCP_TIME_NEVER);
    assert_int_equal(pull(&o), 0);
    one_free(&o);
}

/* rows: C410 C411 C427 */
static void both_at_once(void **state)
{
    struct one o;

    open_policy(&o, TCP_FIN_CONSUME);
    tcp_shutdown(o.c, o.now);
    pull(&o);
    assert_true(fin(&o, RCV, 0, SND) & TCP_EV_FIN);
    assert_int_equal(tcp_state(o.c), TcpConnectionClosing);
    pull(&o);
    assert_true(ack(&o, SND + 1, 30000) & TCP_EV_TIME_WAIT);
    assert_int_equal(tcp_state(o.c), TcpConnectionTimeWait);
    /* A FIN again: its ACK was lost */
    fin(&o, RCV, 0, SND + 1);
    assert_int_equal(pull(&o), 1);
    assert_int_equal(o.out[0].ack, RCV + 1);
    /* A SYN in TIME_WAIT goes to the host */
    assert_int_equal(input(&o, (struct tcp_segment){.seq = RCV + 9, .flags = TCP_SYN}), TCP_EV_SYN);
    assert_int_equal(tcp_state(o.c), TcpConnectionTimeWait);
    one_free(&o);

    /* FIN and the ACK of ours in one segment */
    open_policy(&o, TCP_FIN_CONSUME);
    tcp_shutdown(o.c, o.now);
    pull(&o);
    assert_int_equal(fin(&o, RCV, 0, SND + 1) & (TCP_EV_FIN_ACKED | TCP_EV_FIN | TCP_EV_TIME_WAIT),
                     TCP_EV_FIN_ACKED | TCP_EV_FIN | TCP_EV_TIME_WAIT);
    one_free(&o);
}

/* handoff.md 1.1: a FIN is not acknowledged, but what comes before it is. */
static void a_held_fin(void **state)
{
    struct one o;
    struct tcp_export x;
    uint32_t events;

    open_policy(&o, TCP_FIN_HOLD);
    o.c->quick_acks = 0;
    /* 1: it comes before its data: not yet */
    events = fin(&o, RCV + 2000, 100, SND);
    assert_false(events & TCP_EV_FIN);
    assert_int_equal(pull(&o), 1);
    assert_int_equal(o.out[0].ack, RCV);
    /* 2: the data: told once, and everything up to it acknowledged */
    events = data(&o, RCV, 2000);
    assert_true(events & TCP_EV_FIN && events & TCP_EV_RECEIVED);
    assert_int_equal(tcp_rcv_pos(o.c), 2100);
    assert_int_equal(pull(&o), 1);
    assert_int_equal(o.out[0].ack, RCV + 2100);
    assert_int_equal(tcp_state(o.c), TcpConnectionEstablished);
    /* 3: again: told no more, and never acknowledged */
    events = fin(&o, RCV + 2100, 0, SND);
    assert_false(events & TCP_EV_FIN);
    assert_int_equal(pull(&o), 0);
    pass(&o, 10 * TCP_SEC);
    /* 4: our direction works, and never acknowledges it either */
    send_bytes(&o, 100);
    assert_int_equal(o.out[0].ack, RCV + 2100);
    /* 5: data after it does not exist */
    assert_false(data(&o, RCV + 2101, 50) & TCP_EV_RECEIVED);
    tcp_query(o.c, o.now, &x);
    assert_int_equal(x.delegated.rcv_nxt, RCV + 2100);
    assert_true(x.fin_received);
    one_free(&o);
}

/* rows: C302 C303 C305 */
static void abort_is_one_rst(void **state)
{
    struct one o;

    open_policy(&o, TCP_FIN_HOLD);
    send_bytes(&o, 3000);
    data(&o, RCV, 100);
    o.end += 5000;
    tcp_send_ready(o.c, o.end, true, o.now);
    tcp_abort(o.c);
    assert_int_equal(pull(&o), 1);
    assert_true(o.out[0].flags & TCP_RST);
    assert_int_equal(o.out[0].len, 0);
    assert_int_equal(o.out[0].seq, SND + 3000);
    assert_int_equal(data(&o, RCV + 100, 100), TCP_EV_DROPPED);
    assert_int_equal(pull(&o), 0);
    assert_true(tcp_next_timeout(o.c) == TCP_TIME_NEVER);
    tcp_abort(o.c);
    assert_int_equal(pull(&o), 0);
    one_free(&o);
}

static void a_lost_fin_comes_again(void **state)
{
    struct one o;

    open_policy(&o, TCP_FIN_CONSUME);
    send_bytes(&o, 1000);
    tcp_shutdown(o.c, o.now);
    assert_int_equal(pull(&o), 1);
    ack(&o, SND + 1000, 30000);
    for (unsigned i = 0; i < 5; i++) {
        fire(&o);
        assert_int_equal(pull(&o), 1);
        assert_true(o.out[0].flags & TCP_FIN);
        assert_int_equal(o.out[0].seq, SND + 1000);
        assert_int_equal(o.out[0].len, 0);
    }
    assert_true(ack(&o, SND + 1001, 30000) & TCP_EV_FIN_ACKED);
    one_free(&o);
}

/* rows: C58 C74 */
static void closing_states_are_taken_over(void **state)
{
    static const struct {
        uint8_t state, after_ack, after_fin;
        bool receiving;
    } table[] = {
        {TcpConnectionFinWait1, TcpConnectionFinWait2, TcpConnectionTimeWait, true},
        {TcpConnectionClosing, TcpConnectionTimeWait, TcpConnectionTimeWait, false},
        {TcpConnectionLastAck, TcpConnectionClosed, TcpConnectionClosed, false},
    };

    for (unsigned i = 0; i < 3; i++)
        for (unsigned sent = 0; sent < 2; sent++) {
            struct one o;

            one_init(&o);
            o.in.fin_policy = TCP_FIN_CONSUME;
            o.in.delegated.state = table[i].state;
            o.in.snd_len = 500;
            o.in.delegated.snd_nxt = o.in.delegated.snd_max = SND + (sent ? 501 : 0);
            o.in.delegated.snd_max_possible = o.in.delegated.snd_max;
            o.in.delegated.retransmit_timeout_delta = sent ? 200000 : TCP_TIMER_OFF;
            one_open(&o);
            if (!sent) { /* the kernel had queued the FIN, not sent it */
                assert_int_equal(pull(&o), 1);
                assert_true(o.out[0].flags & TCP_FIN);
            } else { /* lost: it comes again with its data */
                fire(&o);
                assert_int_equal(pull(&o), 1);
                assert_true(o.out[0].flags & TCP_FIN);
                assert_int_equal(o.out[0].len, 500);
            }
            assert_int_equal(!!(data(&o, RCV, 10) & TCP_EV_RECEIVED), table[i].receiving);
            assert_true(ack(&o, SND + 501, 30000) & TCP_EV_FIN_ACKED);
            assert_int_equal(tcp_state(o.c), table[i].after_ack);
            fin(&o, RCV + 10, 0, SND + 501);
            assert_int_equal(tcp_state(o.c), table[i].after_fin);
            one_free(&o);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(we_close_first),
        cmocka_unit_test(the_peer_closes_first),
        cmocka_unit_test(both_at_once),
        cmocka_unit_test(a_held_fin),
        cmocka_unit_test(abort_is_one_rst),
        cmocka_unit_test(a_lost_fin_comes_again),
        cmocka_unit_test(closing_states_are_taken_over),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
