/* SPDX-License-Identifier: Apache-2.0 */
/* The pause queue as a truth table: every event in every state, then order and the missing resume.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "contract/pause.h"

enum event { PAUSE, UPLOAD_ALL, RESUME_HELD, RESUME_FREE, READ };

/** A queue in @state, reached by the shortest way. */
static struct pause_queue queue_in(enum pause_state state)
{
    struct pause_queue q;

    pause_init(&q);
    if (state == PAUSE_PAUSED || state == PAUSE_RESUMING)
        pause_pause(&q);
    if (state == PAUSE_UPLOADING_ALL)
        pause_upload_all(&q);
    if (state == PAUSE_RESUMING)
        pause_resume(&q, 0);
    assert_int_equal(q.state, state);
    return q;
}

/* rows: C363 */
static void every_event_in_every_state(void **state)
{
    static const struct {
        enum pause_state from;
        enum event event;
        chimney_status told; /* for READ: whether the queue is open */
        enum pause_state to;
    } table[] = {
        {PAUSE_RUNNING, PAUSE, NDIS_STATUS_OFFLOAD_PAUSE, PAUSE_PAUSED},
        {PAUSE_RUNNING, UPLOAD_ALL, NDIS_STATUS_UPLOAD_ALL, PAUSE_UPLOADING_ALL},
        {PAUSE_RUNNING, RESUME_HELD, 0, PAUSE_RUNNING},
        {PAUSE_RUNNING, RESUME_FREE, 0, PAUSE_RUNNING},
        {PAUSE_RUNNING, READ, 1, PAUSE_RUNNING},
        {PAUSE_PAUSED, PAUSE, 0, PAUSE_PAUSED},
        {PAUSE_PAUSED, UPLOAD_ALL, NDIS_STATUS_UPLOAD_ALL, PAUSE_UPLOADING_ALL},
        {PAUSE_PAUSED, RESUME_HELD, NDIS_STATUS_OFFLOAD_RESUME, PAUSE_RESUMING},
        {PAUSE_PAUSED, RESUME_FREE, NDIS_STATUS_OFFLOAD_RESUME, PAUSE_RESUMING},
        {PAUSE_PAUSED, READ, 0, PAUSE_PAUSED},
        {PAUSE_UPLOADING_ALL, PAUSE, 0, PAUSE_UPLOADING_ALL},
        {PAUSE_UPLOADING_ALL, UPLOAD_ALL, 0, PAUSE_UPLOADING_ALL},
        {PAUSE_UPLOADING_ALL, RESUME_HELD, 0, PAUSE_UPLOADING_ALL},
        {PAUSE_UPLOADING_ALL, RESUME_FREE, NDIS_STATUS_OFFLOAD_RESUME, PAUSE_RESUMING},
        {PAUSE_UPLOADING_ALL, READ, 0, PAUSE_UPLOADING_ALL},
        {PAUSE_RESUMING, PAUSE, NDIS_STATUS_OFFLOAD_PAUSE, PAUSE_PAUSED},
        {PAUSE_RESUMING, UPLOAD_ALL, NDIS_STATUS_UPLOAD_ALL, PAUSE_UPLOADING_ALL},
        {PAUSE_RESUMING, RESUME_HELD, 0, PAUSE_RESUMING},
        {PAUSE_RESUMING, RESUME_FREE, 0, PAUSE_RESUMING},
        {PAUSE_RESUMING, READ, 1, PAUSE_RUNNING},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct pause_queue q = queue_in(table[i].from);
        chimney_status told = 0;

        switch (table[i].event) {
        case PAUSE:
            told = pause_pause(&q);
            break;
        case UPLOAD_ALL:
            told = pause_upload_all(&q);
            break;
        case RESUME_HELD:
            told = pause_resume(&q, 1);
            break;
        case RESUME_FREE:
            told = pause_resume(&q, 0);
            break;
        case READ:
            told = pause_capabilities_read(&q);
            break;
        }
        assert_int_equal(told, table[i].told);
        assert_int_equal(q.state, table[i].to);
        assert_int_equal(pause_uploading(&q), table[i].to == PAUSE_UPLOADING_ALL);
    }
}

/* rows: C358 */
static void late_initiates_wait_in_order(void **state)
{
    struct chimney_block roots[6] = {0};
    struct pause_queue q;

    pause_init(&q);
    assert_false(pause_initiate(&q, &roots[0]));
    for (enum pause_state s = PAUSE_PAUSED; s <= PAUSE_RESUMING; s++) {
        struct chimney_block late = {0};
        struct pause_queue other = queue_in(s);

        assert_true(pause_initiate(&other, &late));
        assert_null(pause_dequeue(&other));
    }
    pause_pause(&q);
    assert_true(pause_initiate(&q, &roots[1]));
    assert_true(pause_initiate(&q, &roots[2]));
    pause_upload_all(&q);
    assert_true(pause_initiate(&q, &roots[3]));
    assert_int_equal(q.queued, 3);
    pause_resume(&q, 0);
    assert_true(pause_initiate(&q, &roots[4]));
    assert_null(pause_dequeue(&q));
    assert_true(pause_capabilities_read(&q));
    assert_ptr_equal(pause_dequeue(&q), &roots[1]);
    /* Nothing overtakes what still waits. */
    assert_true(pause_initiate(&q, &roots[5]));
    for (int i = 2; i < 6; i++)
        assert_ptr_equal(pause_dequeue(&q), &roots[i]);
    assert_null(pause_dequeue(&q));
    assert_int_equal(q.queued, 0);
    assert_int_equal(q.queued_total, 5);
    assert_false(pause_initiate(&q, &roots[0]));
}

static void never_resumed(void **state)
{
    struct chimney_block roots[3] = {0};
    struct pause_queue q = queue_in(PAUSE_PAUSED);

    for (int i = 0; i < 3; i++)
        assert_true(pause_initiate(&q, &roots[i]));
    assert_null(pause_dequeue(&q));
    /* A target that goes away gives every tree back. */
    for (int i = 0; i < 3; i++)
        assert_ptr_equal(pause_drain(&q), &roots[i]);
    assert_null(pause_drain(&q));
    assert_true(pause_initiate(&q, &roots[1]));
    assert_ptr_equal(pause_drain(&q), &roots[1]);
}

static void paused_again_before_the_host_read(void **state)
{
    struct chimney_block root = {0};
    struct pause_queue q = queue_in(PAUSE_RESUMING);

    assert_true(pause_initiate(&q, &root));
    assert_int_equal(pause_pause(&q), NDIS_STATUS_OFFLOAD_PAUSE);
    assert_false(pause_capabilities_read(&q));
    assert_null(pause_dequeue(&q));
    assert_int_equal(pause_resume(&q, 7), NDIS_STATUS_OFFLOAD_RESUME);
    assert_true(pause_capabilities_read(&q));
    assert_ptr_equal(pause_dequeue(&q), &root);
    assert_int_equal(q.pauses, 2);
    assert_int_equal(q.resumes, 2);
    assert_string_equal(pause_state_name(q.state), "running");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_event_in_every_state),
        cmocka_unit_test(late_initiates_wait_in_order),
        cmocka_unit_test(never_resumed),
        cmocka_unit_test(paused_again_before_the_host_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
