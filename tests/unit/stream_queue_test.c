/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Queues of slot numbers: order, wrap, full, hostile contents, and the one thing that is hard, that
 * no wake-up is lost between a consumer that goes to sleep and producers that push.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <cmocka.h>
#include "stream/stream.h"

static struct stream_queue q;

static int setup(void **state)
{
    memset(&q, 0, sizeof(q));
    return 0;
}

static void order_is_kept_and_empty_is_empty(void **state)
{
    uint32_t tail = 0, slot;

    assert_false(stream_queue_pop(&q, &tail, &slot));
    assert_int_equal(stream_queue_push(&q, 7), 0);
    assert_int_equal(stream_queue_push(&q, 0), 0);
    assert_int_equal(stream_queue_push(&q, STREAM_SLOTS - 1), 0);
    assert_true(stream_queue_pop(&q, &tail, &slot));
    assert_int_equal(slot, 7);
    assert_true(stream_queue_pop(&q, &tail, &slot));
    assert_int_equal(slot, 0);
    assert_true(stream_queue_pop(&q, &tail, &slot));
    assert_int_equal(slot, STREAM_SLOTS - 1);
    assert_false(stream_queue_pop(&q, &tail, &slot));
}

static void full_is_said_and_indices_wrap(void **state)
{
    uint32_t tail = UINT32_MAX - 5, slot;

    atomic_store(&q.head, tail);
    atomic_store(&q.tail, tail);
    for (int round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < STREAM_SLOTS; i++)
            assert_int_equal(stream_queue_push(&q, i), 0);
        assert_int_equal(stream_queue_push(&q, 1), -1);
        for (uint32_t i = 0; i < STREAM_SLOTS; i++) {
            assert_true(stream_queue_pop(&q, &tail, &slot));
            assert_int_equal(slot, i);
        }
        assert_false(stream_queue_pop(&q, &tail, &slot));
    }
}

static void ring_once_per_sleep(void **state)
{
    uint32_t tail = 0, slot;

    assert_true(stream_queue_arm(&q, tail));
    assert_int_equal(stream_queue_push(&q, 1), 1);
    assert_int_equal(stream_queue_push(&q, 2), 0);
    assert_false(stream_queue_arm(&q, tail));
    assert_int_equal(stream_queue_push(&q, 3), 0);
    while (stream_queue_pop(&q, &tail, &slot))
        ;
    assert_int_equal(slot, 3);
    assert_true(stream_queue_arm(&q, tail));
    stream_queue_disarm(&q);
    assert_int_equal(stream_queue_push(&q, 4), 0);
}

/** Everything in the queue is nonsense: pop ends, skips, and finds what is right. */
static void nonsense_is_skipped(void **state)
{
    uint32_t tail = 0, slot = 99;

    for (uint32_t i = 0; i < STREAM_SLOTS; i++)
        atomic_store(&q.slot[i], STREAM_SLOTS + 1 + i);
    assert_false(stream_queue_pop(&q, &tail, &slot));
    assert_int_equal(slot, 99);
    memset(&q, 0xff, sizeof(q));
    atomic_store(&q.slot[(tail + 3) % STREAM_SLOTS], 5);
    assert_true(stream_queue_pop(&q, &tail, &slot));
    assert_int_equal(slot, 4);
    /* A wrong index of the other side: the push is refused or lost, nothing else happens. */
    atomic_store(&q.tail, 12345);
    (void)stream_queue_push(&q, 1);
}

#define PRODUCERS 3
#define ROUNDS 60000
#define SLOTS_EACH 50

static int bell;
static _Atomic uint32_t queued[PRODUCERS * SLOTS_EACH];
static _Atomic uint64_t pushed[PRODUCERS * SLOTS_EACH];
static _Atomic uint64_t rings;

static void *producer(void *arg)
{
    uint32_t first = (uint32_t)(uintptr_t)arg * SLOTS_EACH;
    uint32_t seed = first + 1;

    for (int i = 0; i < ROUNDS; i++) {
        uint32_t slot = first + (uint32_t)rand_r(&seed) % SLOTS_EACH;

        atomic_fetch_add(&pushed[slot], 1);
        if (atomic_exchange(&queued[slot], 1) != 0)
            continue;
        int rc = stream_queue_push(&q, slot);
        assert_true(rc >= 0);
        if (rc > 0) {
            atomic_fetch_add(&rings, 1);
            assert_int_equal(eventfd_write(bell, 1), 0);
        }
        if (rand_r(&seed) % 64 == 0)
            usleep((useconds_t)(rand_r(&seed) % 50));
    }
    return NULL;
}

/**
 * The consumer sleeps whenever the queue is empty.  If a wake-up were lost it would sleep for ever
 * with events waiting: poll would time out.
 */
static void no_wakeup_is_lost(void **state)
{
    pthread_t thread[PRODUCERS];
    uint64_t seen[PRODUCERS * SLOTS_EACH] = {0}, total = 0;
    uint32_t tail = 0, slot;
    uint64_t arms = 0, sleeps = 0;

    bell = eventfd(0, EFD_NONBLOCK);
    for (uintptr_t i = 0; i < PRODUCERS; i++)
        pthread_create(&thread[i], NULL, producer, (void *)i);
    while (total < (uint64_t)PRODUCERS * ROUNDS) {
        while (stream_queue_pop(&q, &tail, &slot)) {
            atomic_exchange(&queued[slot], 0);
            uint64_t now = atomic_load(&pushed[slot]);
            total += now - seen[slot];
            seen[slot] = now;
        }
        if (total == (uint64_t)PRODUCERS * ROUNDS)
            break;
        arms++;
        if (stream_queue_arm(&q, tail)) {
            struct pollfd pfd = {.fd = bell, .events = POLLIN};
            eventfd_t value;

            sleeps++;
            assert_int_equal(poll(&pfd, 1, 20000), 1);
            assert_int_equal(eventfd_read(bell, &value), 0);
        }
    }
    for (int i = 0; i < PRODUCERS; i++)
        pthread_join(thread[i], NULL);
    print_message("%llu pushes, %llu sleeps, %llu rings\n", (unsigned long long)total,
                  (unsigned long long)sleeps, (unsigned long long)atomic_load(&rings));
    assert_true(atomic_load(&rings) <= arms);
    close(bell);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(order_is_kept_and_empty_is_empty, setup),
        cmocka_unit_test_setup(full_is_said_and_indices_wrap, setup),
        cmocka_unit_test_setup(ring_once_per_sleep, setup),
        cmocka_unit_test_setup(nonsense_is_skipped, setup),
        cmocka_unit_test_setup(no_wakeup_is_lost, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
