/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulated link: each impairment alone, then all at once for determinism.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "port/sim.h"
#include "wire/wire.h"

#define MTU 1500
#define MS UINT64_C(1000000)

static const struct sim_impair perfect;

static struct sim_link *make(const struct sim_impair *impair)
{
    struct sim_link *link = sim_link_create(7, MTU, impair, &perfect);

    assert_non_null(link);
    return link;
}

/** A frame of @len bytes that carries @number. */
static void send_one(struct sim_link *link, int end, uint32_t number, uint32_t len)
{
    struct port *port = sim_link_port(link, end);
    uint8_t *data = port_tx_reserve(port);

    assert_non_null(data);
    assert_true(len >= 4 && len <= port->caps.max_frame);
    memset(data, 0x5A, len);
    memcpy(data, &number, 4);
    port_tx_commit(port, len, 0);
}

/** Number of the next frame at @end, or -1. */
static int64_t receive_one(struct sim_link *link, int end)
{
    struct port *port = sim_link_port(link, end);
    struct port_frame f;
    uint32_t number;

    if (port_rx_burst(port, &f, 1) == 0)
        return -1;
    memcpy(&number, f.data, 4);
    assert_false(f.csum_trusted);
    assert_int_equal(f.gso_size, 0);
    port_rx_release(port, &f, 1);
    return number;
}

static void test_caps(void **state)
{
    struct sim_link *link = make(&perfect);

    for (int end = 0; end < 2; end++) {
        struct port *port = sim_link_port(link, end);
        int fds[4];

        assert_string_equal(port->caps.kind, "sim");
        assert_int_equal(port->caps.mtu, MTU);
        assert_int_equal(port->caps.max_frame, MTU + 18);
        assert_int_equal(port->caps.max_super, 0);
        assert_false(port->caps.tx_csum_offload);
        assert_int_equal(port->caps.queues, 1);
        assert_int_equal(port_poll_fds(port, fds, 4), 0);
        assert_true(port_link_up(port));
        port_close(port);
    }
    assert_memory_not_equal(sim_link_port(link, 0)->caps.mac, sim_link_port(link, 1)->caps.mac, 6);
    sim_link_destroy(link);
    sim_link_destroy(NULL);
}

static void test_flush_sends_in_order(void **state)
{
    struct sim_impair impair = {.latency_ns = 5 * MS};
    struct sim_link *link = make(&impair);
    struct port *port = sim_link_port(link, 0);
    struct port_stats stats;

    for (uint32_t i = 0; i < 10; i++)
        send_one(link, 0, i, 60);
    assert_true(sim_link_next(link) == UINT64_MAX); /* not flushed */
    port_tx_flush(port);
    assert_true(sim_link_next(link) == 5 * MS);
    sim_link_advance(link, 5 * MS - 1);
    assert_int_equal(receive_one(link, 1), -1);
    sim_link_advance(link, 5 * MS);
    assert_true(sim_link_next(link) == UINT64_MAX);
    for (uint32_t i = 0; i < 10; i++)
        assert_int_equal(receive_one(link, 1), i);
    assert_int_equal(receive_one(link, 1), -1);
    assert_int_equal(receive_one(link, 0), -1);
    port_get_stats(port, &stats);
    assert_int_equal(stats.tx_frames, 10);
    assert_int_equal(stats.tx_bytes, 600);
    port_get_stats(sim_link_port(link, 1), &stats);
    assert_int_equal(stats.rx_frames, 10);
    assert_int_equal(stats.rx_bytes, 600);
    sim_link_destroy(link);
}

static void test_both_directions_are_apart(void **state)
{
    struct sim_impair slow = {.latency_ns = 9 * MS}, fast = {.latency_ns = 1 * MS};
    struct sim_link *link = sim_link_create(1, MTU, &slow, &fast);

    send_one(link, 0, 1, 60);
    send_one(link, 1, 2, 60);
    port_tx_flush(sim_link_port(link, 0));
    port_tx_flush(sim_link_port(link, 1));
    sim_link_advance(link, sim_link_next(link));
    assert_int_equal(receive_one(link, 0), 2);
    assert_int_equal(receive_one(link, 1), -1);
    assert_true(sim_link_next(link) == 9 * MS);
    sim_link_advance(link, 9 * MS);
    assert_int_equal(receive_one(link, 1), 1);
    sim_link_destroy(link);
}

static void test_cancel_and_ring_limit(void **state)
{
    struct sim_link *link = make(&perfect);
    struct port *port = sim_link_port(link, 0);
    uint32_t n;

    assert_non_null(port_tx_reserve(port));
    port_tx_cancel(port);
    for (n = 0; n < 100000; n++) {
        if (!port_tx_reserve(port))
            break;
        port_tx_commit(port, 60, 0);
    }
    assert_in_range(n, 64, 65536);
    port_tx_flush(port);
    assert_non_null(port_tx_reserve(port));
    port_tx_cancel(port);
    sim_link_destroy(link);
}

/** A full receive ring drops and counts. */
static void test_receive_ring_overflow(void **state)
{
    struct sim_link *link = make(&perfect);
    struct port_stats stats;
    uint32_t got = 0;

    for (uint32_t i = 0; i < 10000; i++) {
        send_one(link, 0, i, 60);
        port_tx_flush(sim_link_port(link, 0));
    }
    sim_link_advance(link, 1);
    while (receive_one(link, 1) >= 0)
        got++;
    port_get_stats(sim_link_port(link, 1), &stats);
    assert_int_equal(got + stats.rx_dropped, 10000);
    assert_true(stats.rx_dropped > 0);
    sim_link_destroy(link);
}

static void test_rate(void **state)
{
    /* 1000 bytes at 8 Mbit/s: one millisecond each. */
    struct sim_impair impair = {.latency_ns = 10 * MS, .rate_bps = 8000000};
    struct sim_link *link = make(&impair);

    for (uint32_t i = 0; i < 5; i++)
        send_one(link, 0, i, 1000);
    port_tx_flush(sim_link_port(link, 0));
    for (uint32_t i = 0; i < 5; i++) {
        assert_true(sim_link_next(link) == (11 + i) * MS);
        sim_link_advance(link, sim_link_next(link));
        assert_int_equal(receive_one(link, 1), i);
    }
    /* An idle line starts again at once. */
    sim_link_advance(link, 100 * MS);
    send_one(link, 0, 9, 1000);
    port_tx_flush(sim_link_port(link, 0));
    assert_true(sim_link_next(link) == 111 * MS);
    sim_link_destroy(link);
}

static void test_drop_tail(void **state)
{
    struct sim_impair impair = {.rate_bps = 8000000, .queue_frames = 3};
    struct sim_link *link = make(&impair);

    for (uint32_t i = 0; i < 5; i++)
        send_one(link, 0, i, 1000);
    port_tx_flush(sim_link_port(link, 0));
    sim_link_advance(link, MS); /* one has left: room for one */
    for (uint32_t i = 5; i < 7; i++)
        send_one(link, 0, i, 1000);
    port_tx_flush(sim_link_port(link, 0));
    sim_link_advance(link, 20 * MS);
    assert_int_equal(receive_one(link, 1), 0);
    assert_int_equal(receive_one(link, 1), 1);
    assert_int_equal(receive_one(link, 1), 2);
    assert_int_equal(receive_one(link, 1), 5);
    assert_int_equal(receive_one(link, 1), -1);
    sim_link_destroy(link);
}

/** Beyond mark_frames ECT becomes CE, Not-ECT stays, and the packet is still valid. */
static void test_ecn_mark(void **state)
{
    static const uint8_t ecns[] = {TCP_ECN_ECT0, TCP_ECN_NOT, TCP_ECN_ECT1, TCP_ECN_CE};

    for (int variant = 0; variant < 4; variant++) {
        struct sim_impair impair = {.rate_bps = 8000000, .mark_frames = 4};
        struct sim_link *link = make(&impair);
        struct port *port = sim_link_port(link, 0);
        struct wire_route route = {
            .key = {.local_addr = {10, 0, 0, 1}, .remote_addr = {10, 0, 0, 2}},
            .ttl = 64,
            .tos = 0xFC,
            .tagged = variant & 1};

        route.key.family = variant & 2 ? 6 : 4;
        for (unsigned i = 0; i < 8; i++) {
            struct tcp_out seg = {.flags = TCP_ACK, .ecn = ecns[i % 4]};
            uint8_t *data = port_tx_reserve(port);

            port_tx_commit(
                port, (uint32_t)wire_build(data, port->caps.max_frame, &route, &seg, false), 0);
        }
        port_tx_flush(port);
        sim_link_advance(link, 100 * MS);
        for (unsigned i = 0; i < 8; i++) {
            struct wire_packet pkt;
            struct port_frame f;
            uint8_t want = ecns[i % 4];

            if (i >= 4 && want != TCP_ECN_NOT)
                want = TCP_ECN_CE;
            assert_int_equal(port_rx_burst(sim_link_port(link, 1), &f, 1), 1);
            assert_int_equal(wire_parse(f.data, f.len, false, &pkt), WIRE_OK);
            assert_int_equal(pkt.seg.ecn, want);
            assert_int_equal(pkt.tos & 0xFC, 0xFC);
            port_rx_release(sim_link_port(link, 1), &f, 1);
        }
        sim_link_destroy(link);
    }
}

/** Sends @count frames 10 us apart; returns how many came, with their order judged. */
static uint32_t flow(struct sim_link *link, uint32_t count, uint32_t *late, uint32_t *twice)
{
    uint8_t *seen = calloc(count, 1);
    int64_t highest = -1, got;
    uint32_t n = 0;

    *late = *twice = 0;
    for (uint32_t i = 0; i < count + 1; i++) {
        if (i < count) {
            send_one(link, 0, i, 60);
            port_tx_flush(sim_link_port(link, 0));
        }
        sim_link_advance(link, i < count ? i * 10000u : (uint64_t)count * 10000u + 1000 * MS);
        while ((got = receive_one(link, 1)) >= 0) {
            n++;
            if (seen[got]++)
                (*twice)++;
            else if (got < highest)
                (*late)++;
            else
                highest = got;
        }
    }
    free(seen);
    return n;
}

static void test_loss_rate(void **state)
{
    struct sim_impair impair = {.loss_ppm = 100000};
    struct sim_link *link = make(&impair);
    uint32_t late, twice, got = flow(link, 20000, &late, &twice);

    assert_in_range(got, 18000 - 300, 18000 + 300);
    assert_int_equal(late + twice, 0);
    sim_link_destroy(link);
}

static void test_loss_bursts(void **state)
{
    struct sim_impair impair = {.burst_ppm = 10000, .burst_len = 20};
    struct sim_link *link = make(&impair);
    uint32_t run = 0, bursts = 0;

    for (uint32_t i = 0; i < 20000; i++) {
        send_one(link, 0, i, 60);
        port_tx_flush(sim_link_port(link, 0));
        sim_link_advance(link, i + 1);
        if (receive_one(link, 1) < 0) {
            run++;
        } else {
            assert_int_equal(run % 20, 0); /* two may touch */
            bursts += run / 20;
            run = 0;
        }
    }
    assert_in_range(bursts, 100, 250);
    sim_link_destroy(link);
}

static void test_jitter_keeps_order(void **state)
{
    struct sim_impair impair = {.latency_ns = MS, .jitter_ns = 5 * MS};
    struct sim_link *link = make(&impair);
    uint32_t late, twice, got = flow(link, 5000, &late, &twice);

    assert_int_equal(got, 5000);
    assert_int_equal(late + twice, 0);
    sim_link_destroy(link);
}

static void test_reorder(void **state)
{
    struct sim_impair impair = {.latency_ns = MS, .reorder_ppm = 50000, .reorder_ns = 100000};
    struct sim_link *link = make(&impair);
    uint32_t late, twice, got = flow(link, 5000, &late, &twice);

    assert_int_equal(got, 5000);
    assert_int_equal(twice, 0);
    assert_in_range(late, 150, 350);
    sim_link_destroy(link);
}

static void test_duplicate(void **state)
{
    struct sim_impair impair = {.latency_ns = MS, .dup_ppm = 50000};
    struct sim_link *link = make(&impair);
    uint32_t late, twice, got = flow(link, 5000, &late, &twice);

    assert_int_equal(got, 5000 + twice);
    assert_int_equal(late, 0);
    assert_in_range(twice, 150, 350);
    sim_link_destroy(link);
}

static void test_corrupt_one_bit(void **state)
{
    struct sim_impair impair = {.corrupt_ppm = 1000000};
    struct sim_link *link = make(&impair);
    uint8_t hit[200] = {0};

    for (unsigned i = 0; i < 2000; i++) {
        struct port *port = sim_link_port(link, 0);
        struct port_frame f;
        unsigned bits = 0;

        memset(port_tx_reserve(port), 0x5A, 200);
        port_tx_commit(port, 200, 0);
        port_tx_flush(port);
        sim_link_advance(link, i);
        assert_int_equal(port_rx_burst(sim_link_port(link, 1), &f, 1), 1);
        for (unsigned b = 0; b < 200; b++) {
            bits += (unsigned)__builtin_popcount(f.data[b] ^ 0x5Au);
            hit[b] |= f.data[b] ^ 0x5A;
        }
        assert_int_equal(bits, 1);
        port_rx_release(sim_link_port(link, 1), &f, 1);
    }
    for (unsigned b = 0; b < 200; b++)
        assert_int_not_equal(hit[b], 0);
    sim_link_destroy(link);
}

static void test_carrier(void **state)
{
    struct sim_impair impair = {.latency_ns = MS};
    struct sim_link *link = make(&impair);
    struct port_stats stats;

    send_one(link, 0, 1, 60);
    port_tx_flush(sim_link_port(link, 0));
    sim_link_set_carrier(link, false);
    assert_false(port_link_up(sim_link_port(link, 0)));
    assert_false(port_link_up(sim_link_port(link, 1)));
    assert_true(sim_link_next(link) == UINT64_MAX); /* lost on the wire */
    send_one(link, 0, 2, 60);
    port_tx_flush(sim_link_port(link, 0));
    port_get_stats(sim_link_port(link, 0), &stats);
    assert_int_equal(stats.tx_frames, 1);
    assert_int_equal(stats.tx_dropped, 1);
    sim_link_set_carrier(link, true);
    assert_true(port_link_up(sim_link_port(link, 0)));
    send_one(link, 0, 3, 60);
    port_tx_flush(sim_link_port(link, 0));
    sim_link_advance(link, 2 * MS);
    assert_int_equal(receive_one(link, 1), 3);
    assert_int_equal(receive_one(link, 1), -1);
    sim_link_destroy(link);
}

static unsigned taps[2];

static void count_tap(void *arg, int end, const uint8_t *frame, uint32_t len, uint64_t now_ns)
{
    assert_ptr_equal(arg, taps);
    assert_int_equal(len, 60);
    assert_int_equal(frame[10], 0x5A);
    taps[end]++;
}

static void test_silence_and_tap(void **state)
{
    struct sim_impair impair = {.latency_ns = MS};
    struct sim_link *link = make(&impair);

    taps[0] = taps[1] = 0;
    sim_link_set_tap(link, count_tap, taps);
    sim_link_set_silent(link, 0, true);
    for (int end = 0; end < 2; end++) {
        send_one(link, end, 4, 60);
        port_tx_flush(sim_link_port(link, end));
    }
    assert_true(port_link_up(sim_link_port(link, 0)));
    sim_link_advance(link, 2 * MS);
    assert_int_equal(receive_one(link, 1), -1); /* vanished */
    assert_int_equal(receive_one(link, 0), 4);  /* the other way works */
    sim_link_set_silent(link, 0, false);
    send_one(link, 0, 5, 60);
    port_tx_flush(sim_link_port(link, 0));
    sim_link_advance(link, 4 * MS);
    assert_int_equal(receive_one(link, 1), 5);
    assert_int_equal(taps[0], 2); /* silence is behind the tap */
    assert_int_equal(taps[1], 1);
    sim_link_destroy(link);
}

/** Everything at once; a digest of what is delivered, when and where. */
static uint64_t trace(uint64_t seed, const struct sim_impair *impair, bool talk_back)
{
    struct sim_link *link = sim_link_create(seed, MTU, impair, impair);
    uint64_t now = 0, digest = 0;
    struct sim_rng rng;

    sim_rng_seed(&rng, 99); /* the same traffic every time */
    for (uint32_t i = 0; i < 4000; i++) {
        uint32_t burst = (uint32_t)sim_rng_below(&rng, 4), len;

        for (uint32_t b = 0; b < burst; b++) {
            len = 60 + (uint32_t)sim_rng_below(&rng, MTU - 60);
            send_one(link, 0, i, len);
            if (talk_back)
                send_one(link, 1, i, len);
        }
        port_tx_flush(sim_link_port(link, 0));
        port_tx_flush(sim_link_port(link, 1));
        now += sim_rng_below(&rng, 2000000);
        while (sim_link_next(link) <= now) {
            struct port_frame f[8];
            int n;

            sim_link_advance(link, sim_link_next(link));
            n = port_rx_burst(sim_link_port(link, 1), f, 8);
            for (int k = 0; k < n; k++) {
                for (uint32_t b = 0; b < f[k].len; b++)
                    digest = digest * 0x100000001B3u ^ f[k].data[b];
                digest = digest * 0x100000001B3u ^ sim_link_next(link);
            }
            port_rx_release(sim_link_port(link, 1), f, n);
            while (receive_one(link, 0) >= 0)
                ;
        }
        sim_link_advance(link, now);
        while (receive_one(link, 1) >= 0)
            digest = digest * 31 + now;
    }
    sim_link_destroy(link);
    return digest;
}

static void test_determinism(void **state)
{
    struct sim_impair all = {.latency_ns = 3 * MS,
                             .rate_bps = 20000000,
                             .jitter_ns = 2 * MS,
                             .loss_ppm = 20000,
                             .burst_ppm = 1000,
                             .burst_len = 5,
                             .dup_ppm = 10000,
                             .corrupt_ppm = 10000,
                             .reorder_ppm = 30000,
                             .reorder_ns = 4 * MS,
                             .queue_frames = 50,
                             .mark_frames = 20};

    for (uint64_t seed = 1; seed <= 5; seed++)
        assert_true(trace(seed, &all, false) == trace(seed, &all, false));
    assert_true(trace(1, &all, false) != trace(2, &all, false));
}

static unsigned delivered[2][2000];

/** Which of 2000 frames get through does not depend on what else is switched on. */
static void test_impairments_are_independent(void **state)
{
    for (int variant = 0; variant < 2; variant++) {
        struct sim_impair impair = {.latency_ns = MS, .loss_ppm = 50000};
        struct sim_link *link;
        int64_t got;

        if (variant) {
            impair.jitter_ns = 3 * MS;
            impair.reorder_ppm = 30000;
            impair.reorder_ns = 5 * MS;
            impair.rate_bps = 1000000000;
        }
        link = sim_link_create(5, MTU, &impair, &impair);
        memset(delivered[variant], 0, sizeof(delivered[variant]));
        for (uint32_t i = 0; i < 2000; i++) {
            send_one(link, 0, i, 60);
            if (variant)
                send_one(link, 1, i, 60); /* and traffic the other way */
            port_tx_flush(sim_link_port(link, 0));
            port_tx_flush(sim_link_port(link, 1));
            sim_link_advance(link, i * 1000u);
            while ((got = receive_one(link, 1)) >= 0)
                delivered[variant][got]++;
        }
        sim_link_advance(link, 1000 * MS);
        while ((got = receive_one(link, 1)) >= 0)
            delivered[variant][got]++;
        sim_link_destroy(link);
    }
    assert_memory_equal(delivered[0], delivered[1], sizeof(delivered[0]));
}

/** Published first outputs of splitmix64(0) -> xoshiro256**: an old seed reproduces for ever. */
static void test_generator(void **state)
{
    struct sim_rng rng = {{1, 2, 3, 4}};
    unsigned hits = 0, low = 0;

    /* The reference output for state 1, 2, 3, 4. */
    assert_true(sim_rng_next(&rng) == 11520);
    assert_true(sim_rng_next(&rng) == 0);
    assert_true(sim_rng_next(&rng) == 1509978240);
    assert_true(sim_rng_next(&rng) == UINT64_C(1215971899390074240));
    sim_rng_seed(&rng, 0);
    assert_true(rng.s[0] == UINT64_C(0xE220A8397B1DCDAF));
    for (unsigned i = 0; i < 100000; i++) {
        hits += sim_rng_ppm(&rng, 250000);
        low += sim_rng_below(&rng, 3) == 0;
    }
    assert_in_range(hits, 24000, 26000);
    assert_in_range(low, 32300, 34300);
    assert_false(sim_rng_ppm(&rng, 0));
    assert_true(sim_rng_ppm(&rng, 1000000));
    assert_int_equal(sim_rng_below(&rng, 1), 0);
}

/** A simulated crash leaves frames lent; the link still frees them (LeakSanitizer watches). */
static void test_destroy_with_frames_lent(void **state)
{
    struct sim_link *link = make(&perfect);
    struct port_frame f;

    send_one(link, 0, 1, 60);
    port_tx_flush(sim_link_port(link, 0));
    sim_link_advance(link, 1);
    assert_int_equal(port_rx_burst(sim_link_port(link, 1), &f, 1), 1);
    assert_non_null(port_tx_reserve(sim_link_port(link, 1)));
    sim_link_destroy(link);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_caps),
        cmocka_unit_test(test_flush_sends_in_order),
        cmocka_unit_test(test_both_directions_are_apart),
        cmocka_unit_test(test_cancel_and_ring_limit),
        cmocka_unit_test(test_receive_ring_overflow),
        cmocka_unit_test(test_rate),
        cmocka_unit_test(test_drop_tail),
        cmocka_unit_test(test_ecn_mark),
        cmocka_unit_test(test_loss_rate),
        cmocka_unit_test(test_loss_bursts),
        cmocka_unit_test(test_jitter_keeps_order),
        cmocka_unit_test(test_reorder),
        cmocka_unit_test(test_duplicate),
        cmocka_unit_test(test_corrupt_one_bit),
        cmocka_unit_test(test_carrier),
        cmocka_unit_test(test_silence_and_tap),
        cmocka_unit_test(test_determinism),
        cmocka_unit_test(test_impairments_are_independent),
        cmocka_unit_test(test_generator),
        cmocka_unit_test(test_destroy_with_frames_lent),
    };

    return cmocka_run_group_tests_name("sim_link", tests, NULL, NULL);
}
