/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Held frames: what may be appended to a restored socket, what goes through the kernel; and frames
 * cut into slices.  Frames are built here and judged there; no socket is involved.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include "host/held.h"
#include "host/slice.h"

#define RCV_NXT 0xfffffff0u /* so that everything wraps */
#define SND_MAX 0x80000010u
#define WINDOW 1000u
#define TS_RECENT 5000u

static const struct flow_key key = {
    .local_addr = {10, 0, 0, 1},
    .remote_addr = {10, 0, 0, 2},
    .local_port = 0x1234,
    .remote_port = 0x4321,
    .family = 4,
};

/* Differences from an ordinary data segment of 100 bytes that is next in order. */
struct variation {
    const char *what;
    enum held_verdict verdict;
    uint32_t payload; /* HELD_APPEND: how much of it */
    int32_t seq, ack; /* relative to RCV_NXT, SND_MAX */
    uint32_t len;
    uint8_t flags, clear_flags;
    int32_t stamp; /* relative to TS_RECENT */
    bool no_stamp, other_flow, damaged;
};

static const struct variation table[] = {
    /* 1 */ {"next in order", HELD_APPEND, 100, .len = 100},
    /* 2 */ {"with PSH", HELD_APPEND, 100, .len = 100, .flags = TCP_PSH},
    /* 3 */ {"overlapping by ten", HELD_APPEND, 90, .seq = -10, .len = 100},
    /* 4 */ {"old by all but one", HELD_APPEND, 1, .seq = -99, .len = 100},
    /* 5 */ {"wholly old", HELD_SPENT, .seq = -100, .len = 100},
    /* 6 */ {"a keepalive with a byte", HELD_SPENT, .seq = -1, .len = 1},
    /* 7 */ {"after a gap", HELD_REINJECT, .seq = 1, .len = 100},
    /* 8 */ {"fills the window", HELD_APPEND, WINDOW, .len = WINDOW},
    /* 9 */ {"beyond the window", HELD_REINJECT, .len = WINDOW + 1},
    /* 10 */ {"FIN", HELD_REINJECT, .len = 100, .flags = TCP_FIN},
    /* 11 */ {"FIN without data", HELD_REINJECT, .flags = TCP_FIN},
    /* 12 */ {"RST", HELD_REINJECT, .flags = TCP_RST},
    /* 13 */ {"SYN", HELD_REINJECT, .flags = TCP_SYN},
    /* 14 */ {"urgent", HELD_REINJECT, .len = 100, .flags = TCP_URG},
    /* 15 */ {"no ACK bit", HELD_REINJECT, .len = 100, .clear_flags = TCP_ACK},
    /* 16 */ {"acknowledges what was never sent", HELD_REINJECT, .ack = 1, .len = 100},
    /* 17 */ {"acknowledges less", HELD_APPEND, 100, .ack = -500, .len = 100},
    /* 18 */ {"a pure acknowledgement", HELD_ACK, .len = 0},
    /* 19 */ {"a keepalive", HELD_ACK, .seq = -1},
    /* 20 */ {"an older stamp", HELD_SPENT, .len = 100, .stamp = -1},
    /* 21 */ {"a newer stamp", HELD_APPEND, 100, .len = 100, .stamp = 1},
    /* 22 */ {"no stamp", HELD_APPEND, 100, .len = 100, .no_stamp = true},
    /* 23 */ {"another flow", HELD_REINJECT, .len = 100, .other_flow = true},
    /* 24 */ {"a wrong checksum", HELD_REINJECT, .len = 100, .damaged = true},
    /* 25 */ {"with ECE", HELD_APPEND, 100, .len = 100, .flags = TCP_ECE},
};

static uint8_t payload[9000];

static size_t build(uint8_t *frame, size_t room, const struct variation *v)
{
    struct wire_route route = {.ttl = 64};
    struct tcp_out out = {.seq = RCV_NXT + v->seq, .ack = SND_MAX + v->ack, .window = 10};

    /* As the peer sends it: both sides change places. */
    memcpy(route.key.local_addr, key.remote_addr, 16);
    memcpy(route.key.remote_addr, key.local_addr, 16);
    route.key.local_port = key.remote_port;
    route.key.remote_port = v->other_flow ? 1 : key.local_port;
    route.key.family = 4;
    out.flags = (TCP_ACK | v->flags) & ~v->clear_flags;
    out.has_timestamp = !v->no_stamp;
    out.tsval = TS_RECENT + v->stamp;
    out.span[0] = payload;
    out.span_len[0] = out.len = v->len;
    return wire_build(frame, room, &route, &out, false);
}

static void test_judge(void **state)
{
    const struct held_receiver receiver = {
        .key = &key,
        .rcv_nxt = RCV_NXT,
        .right_edge = RCV_NXT + WINDOW,
        .snd_max = SND_MAX,
        .ts_recent = TS_RECENT,
    };
    uint8_t frame[2048];

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        const struct variation *v = &table[i];
        size_t len = build(frame, sizeof(frame), v);
        const uint8_t *data = NULL;
        uint32_t n = 0;
        enum held_verdict verdict;

        assert_true(len > 0);
        if (v->damaged)
            frame[len - 1] ^= 1;
        verdict = held_judge(&receiver, frame, len, &data, &n);
        if (verdict != v->verdict || (verdict == HELD_APPEND && n != v->payload))
            fail_msg("%zu: %s: verdict %d, %u bytes", i + 1, v->what, verdict, n);
        if (verdict == HELD_APPEND)
            assert_ptr_equal(data, frame + len - n);
    }
}

/* Nothing is known of the peer's clock: no segment is too old. */
static void test_no_ts_recent(void **state)
{
    const struct held_receiver receiver = {
        .key = &key, .rcv_nxt = RCV_NXT, .right_edge = RCV_NXT + WINDOW, .snd_max = SND_MAX};
    const struct variation v = {.len = 100, .stamp = -4000};
    uint8_t frame[256];
    const uint8_t *data;
    uint32_t n;

    assert_int_equal(held_judge(&receiver, frame, build(frame, sizeof(frame), &v), &data, &n),
                     HELD_APPEND);
}

/* The slices together say what the frame said. */
static void test_slices(void **state)
{
    const struct variation v = {.len = 8900, .flags = TCP_FIN | TCP_PSH | TCP_CWR};
    static uint8_t frame[9216], slice[3000];
    size_t len = build(frame, sizeof(frame), &v), size;
    uint32_t done = 0, count = 0;
    struct slicer s;

    for (size_t i = 0; i < sizeof(payload); i++)
        payload[i] = i * 13 + i / 251;
    len = build(frame, sizeof(frame), &v);
    assert_true(slicer_init(&s, frame, len, sizeof(slice)));
    while ((size = slicer_next(&s, slice, sizeof(slice)))) {
        struct wire_packet p;

        assert_true(size <= sizeof(slice));
        assert_int_equal(wire_parse(slice, size, false, &p), WIRE_OK);
        assert_true(flow_key_equal(&p.key, &key));
        assert_int_equal(p.seg.seq, RCV_NXT + done);
        assert_int_equal(p.seg.ack, SND_MAX);
        assert_int_equal(p.seg.tsval, TS_RECENT);
        assert_memory_equal(p.seg.payload, payload + done, p.seg.len);
        assert_int_equal(!!(p.seg.flags & TCP_CWR), done == 0);
        done += p.seg.len;
        assert_int_equal(!!(p.seg.flags & TCP_FIN), done == v.len);
        count++;
    }
    assert_int_equal(done, v.len);
    assert_int_equal(count, 4);
}

static void test_not_sliced(void **state)
{
    const struct variation urgent = {.len = 100, .flags = TCP_URG};
    uint8_t frame[256];
    struct slicer s;
    size_t len = build(frame, sizeof(frame), &urgent);

    assert_false(slicer_init(&s, frame, len, 128 + WIRE_MAX_HEADER));
    frame[len - 1] ^= 1;
    assert_false(slicer_init(&s, frame, len, 128 + WIRE_MAX_HEADER));
    assert_false(slicer_init(&s, frame, 20, 128 + WIRE_MAX_HEADER));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_judge),
        cmocka_unit_test(test_no_ts_recent),
        cmocka_unit_test(test_slices),
        cmocka_unit_test(test_not_sliced),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
