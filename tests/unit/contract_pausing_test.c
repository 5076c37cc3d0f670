/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pause, upload-all and resume, word for word, on the software target under the verifier (C357 to
 * C364).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "contract_lab.h"

static struct lab lab;

static struct target_info info(void)
{
    struct target_info i;

    target_get_info(lab.side[0].target, &i);
    return i;
}

/** Traffic both ways on all pairs, to its end. */
static void traffic(struct lab_pair **pairs, int count)
{
    for (int i = 0; i < count; i++) {
        if (pairs[i]->conn[0].object.state != CHIMNEY_OFFLOADED)
            continue;
        lab_send(&lab, 0, pairs[i], 20000);
        lab_send(&lab, 1, pairs[i], 30000);
    }
    lab_settle(&lab, 20 * LAB_SEC);
}

static void pause(void)
{
    target_pause(lab.side[0].target);
    lab_round(&lab);
    assert_true(lab.side[0].host.paused);
    assert_int_equal(info().pause, PAUSE_PAUSED);
}

static void upload_all(void)
{
    target_upload_all(lab.side[0].target);
    lab_round(&lab);
    assert_true(lab.side[0].host.upload_all);
}

/** Queues the offload of a pair: the race of pause and initiate, on demand. */
static struct host_tree *caught(struct lab_pair *pair)
{
    struct host_conn *c = &pair->conn[0];
    struct host_tree *t;

    target_pause_on_initiate(lab.side[0].target);
    t = host_offload(&lab.side[0].host, &c, 1);
    lab_round(&lab);
    assert_true(lab.side[0].host.paused);
    assert_false(t->done);
    assert_int_equal(c->object.state, CHIMNEY_OFFLOADING);
    return t;
}

/* rows: C357 */
static void existing_traffic_goes_on(void **state)
{
    struct host *h = &lab.side[0].host;
    struct lab_pair *pairs[10];
    size_t from;

    lab_init(&lab, NULL);
    for (int i = 0; i < 10; i++)
        pairs[i] = lab_connect(&lab, i & 1 ? 6 : 4);
    pause();
    from = h->log_count;
    for (int round = 0; round < 3; round++)
        traffic(pairs, 10);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(pairs[i]->conn[0].head, 90000);
        assert_int_equal(pairs[i]->conn[1].head, 60000);
    }
    /* All sends succeeded, none was refused because of the pause. */
    for (size_t i = from; i < h->log_count; i++) {
        if (h->log[i].kind == LOG_SENT)
            assert_int_equal(h->log[i].status, NDIS_STATUS_SUCCESS);
    }
    /* The other verbs work as ever, and this host offers nothing (the verifier sees to it). */
    lab_update(&lab, 0, &pairs[0]->conn[0].object);
    lab_state(&lab, 0, &pairs[1]->conn[0]);
    lab_terminate(&lab, 0, &pairs[2]->conn[0].object);
    for (size_t i = from; i < h->log_count; i++)
        assert_false(h->log[i].kind == LOG_CALL && h->log[i].verb == TREE_INITIATE);
    assert_int_equal(host_count(h, 0, LOG_STATUS, NULL), 1);
    lab_free(&lab);
}

/* rows: C358 */
static void late_initiates(void **state)
{
    struct host *h = &lab.side[0].host;
    struct lab_pair *running, *pairs[3];
    struct host_tree *trees[3];
    struct host_conn *c;

    lab_init(&lab, NULL);
    running = lab_connect(&lab, 4);
    for (int i = 0; i < 3; i++)
        pairs[i] = lab_pair(&lab, 4);
    /* One is caught by the pause, two more were called before the host took notice. */
    target_pause_on_initiate(lab.side[0].target);
    for (int i = 0; i < 3; i++) {
        c = &pairs[i]->conn[0];
        trees[i] = host_offload(h, &c, 1);
    }
    lab_round(&lab);
    assert_int_equal(info().queued, 3);
    lab_run(&lab, 100 * LAB_SEC);
    for (int i = 0; i < 3; i++) {
        assert_false(trees[i]->done);
        assert_null(pairs[i]->conn[0].object.cell.context);
        /* Their segments are the host's: it runs them in the meantime. */
        lab_peer_data(&lab, pairs[i], pairs[i]->conn[0].delegated.rcv_nxt, 10);
    }
    lab_run(&lab, 10 * LAB_MSEC);
    assert_int_equal(h->frame_count, 3);
    traffic(&running, 1);

    /* The host moved on with the first and writes fresh state into the unread block. */
    {
        struct chimney_block *tcp = trees[0]->block[2];

        tree_tcp_delegated(tcp)->rcv_nxt += 4000;
        tree_tcp_delegated(tcp)->snd_una += 100;
        tree_tcp_delegated(tcp)->snd_nxt += 100;
        tree_tcp_delegated(tcp)->snd_max += 100;
        tree_tcp_delegated(tcp)->snd_max_possible += 100;
        pairs[0]->conn[0].delegated.rcv_nxt += 4000;
    }
    target_resume(lab.side[0].target, 0);
    lab_round(&lab);
    for (int i = 0; i < 3; i++) {
        assert_true(trees[i]->done);
        assert_int_equal(trees[i]->completions, 1);
        assert_int_equal(pairs[i]->conn[0].object.state, CHIMNEY_OFFLOADED);
    }
    /* In the order of the calls. */
    assert_true(host_find(h, 0, LOG_DONE, trees[0]->root) <
                host_find(h, 0, LOG_DONE, trees[1]->root));
    assert_true(host_find(h, 0, LOG_DONE, trees[1]->root) <
                host_find(h, 0, LOG_DONE, trees[2]->root));
    assert_int_equal(lab_state(&lab, 0, &pairs[0]->conn[0])->rcv_nxt,
                     pairs[0]->conn[0].delegated.rcv_nxt);
    assert_int_equal(info().queued, 0);
    assert_int_equal(info().queued_total, 3);
    lab_free(&lab);
}

/* rows: C359 C360 */
static void thousand_connections(void **state)
{
    enum { COUNT = 1000 };

    for (int shape = 0; shape < 3; shape++) {
        static struct host_conn conns[COUNT];
        struct host_conn *list[COUNT];
        struct target_config config = {.max_connections = COUNT};
        struct lab_side *side = &lab.side[0];
        struct host_object *object;
        struct host_tree *t;

        lab_init(&lab, &config);
        for (int i = 0; i < COUNT; i++) {
            host_conn_init(&conns[i], i & 1 ? &side->path6 : &side->path4, (uint16_t)(1000 + i), 80,
                           4096);
            list[i] = &conns[i];
        }
        t = host_offload(&side->host, list, COUNT);
        lab_round(&lab);
        assert_true(t->done);
        assert_int_equal(info().connections, COUNT);
        for (int i = 0; i < COUNT; i += 10) {
            host_send(&side->host, &conns[i], 1000);
            conns[i].hold = false;
        }
        lab_round(&lab);
        pause();
        upload_all();
        assert_int_equal(host_last(&side->host, LOG_STATUS, NULL)->status, NDIS_STATUS_UPLOAD_ALL);

        if (shape == 0) { /* one tree with everything, all layers mixed */
            static struct host_object *all[COUNT + 3];
            int n = 0;

            all[n++] = &side->neighbor.object;
            all[n++] = &side->path4.object;
            all[n++] = &side->path6.object;
            for (int i = 0; i < COUNT; i++)
                all[n++] = &conns[i].object;
            host_terminate(&side->host, all, n);
            lab_round(&lab);
        } else { /* many: connections alone or in batches, then paths, then the neighbor */
            int batch = shape == 1 ? 1 : 64;

            for (int i = 0; i < COUNT; i += batch) {
                struct host_object *some[64];
                int n = 0;

                for (; n < batch && i + n < COUNT; n++)
                    some[n] = &conns[i + n].object;
                host_terminate(&side->host, some, n);
                if (i % 7 == 0)
                    lab_round(&lab);
            }
            lab_round(&lab);
            object = &side->path4.object;
            host_terminate(&side->host, &object, 1);
            object = &side->path6.object;
            host_terminate(&side->host, &object, 1);
            lab_round(&lab);
            object = &side->neighbor.object;
            host_terminate(&side->host, &object, 1);
            lab_round(&lab);
        }
        assert_int_equal(info().connections + info().paths + info().neighbors, 0);
        for (int i = 0; i < COUNT; i++) {
            assert_int_equal(conns[i].object.state, CHIMNEY_IN_HOST);
            if (i % 10 == 0)
                assert_int_equal(host_last(&side->host, LOG_SENT, &conns[i])->status,
                                 NDIS_STATUS_UPLOAD_IN_PROGRESS);
        }
        lab_free(&lab);
        for (int i = 0; i < COUNT; i++)
            host_conn_free(&conns[i]);
    }
}

/* rows: C251 C249 */
static void sends_in_pause_and_upload_all(void **state)
{
    const struct host *h = &lab.side[0].host;
    struct lab_pair *pairs[4];
    size_t from;

    lab_init(&lab, NULL);
    for (int i = 0; i < 4; i++)
        pairs[i] = lab_connect(&lab, 4);
    for (int i = 0; i < 4; i++)
        lab_send(&lab, 0, pairs[i], 50000);
    pause();
    from = h->log_count;
    for (int i = 0; i < 4; i++)
        lab_send(&lab, 0, pairs[i], 5000);
    upload_all();
    for (int i = 0; i < 4; i++)
        lab_send(&lab, 0, pairs[i], 5000);
    lab_run(&lab, 5 * LAB_MSEC);
    for (int i = 0; i < 4; i++)
        assert_int_equal(host_last(h, LOG_SENT, &pairs[i]->conn[0])->status,
                         NDIS_STATUS_UPLOAD_IN_PROGRESS);
    for (size_t i = from; i < h->log_count; i++)
        assert_int_not_equal(h->log[i].status, NDIS_STATUS_PAUSED);
    /* No byte is lost by any of it. */
    for (int i = 0; i < 4; i++)
        lab_take_back(&pairs[i]->conn[0], lab_terminate(&lab, 0, &pairs[i]->conn[0].object));
    target_resume(lab.side[0].target, 0);
    lab_round(&lab);
    for (int i = 0; i < 4; i++)
        lab_offload(&lab, 0, pairs[i]);
    lab_settle(&lab, 20 * LAB_SEC);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pairs[i]->conn[1].head, 60000);
    lab_free(&lab);
}

/* rows: C361 C364 */
static void resume_with_other_limits(void **state)
{
    struct host *h = &lab.side[0].host;
    struct target_config config = {.max_connections = 8};
    struct lab_pair *pairs[6];
    size_t from;

    lab_init(&lab, &config);
    assert_int_equal(h->capabilities.tcp_connection_offload_capacity, 8);
    for (int i = 0; i < 6; i++)
        pairs[i] = lab_pair(&lab, 4);
    lab_offload(&lab, 0, pairs[0]);
    pause();
    lab_run(&lab, LAB_SEC);
    from = h->log_count;
    target_resume(lab.side[0].target, 3);
    lab_round(&lab);
    /* The indication carries the new capabilities, and the host has read them again. */
    assert_int_equal(host_find(h, from, LOG_STATUS, NULL)->status, NDIS_STATUS_OFFLOAD_RESUME);
    assert_int_equal(host_find(h, from, LOG_STATUS, NULL)->value,
                     sizeof(struct chimney_capabilities));
    assert_int_equal(h->resumed.tcp_connection_offload_capacity, 3);
    assert_int_equal(h->capabilities.tcp_connection_offload_capacity, 3);
    assert_non_null(host_find(h, from, LOG_CAPABILITIES, NULL));
    /* The next initiate meets the new limit. */
    for (int i = 1; i < 6; i++)
        lab_offload(&lab, 0, pairs[i]);
    for (int i = 0; i < 6; i++)
        assert_int_equal(pairs[i]->conn[0].object.state,
                         i < 3 ? CHIMNEY_OFFLOADED : CHIMNEY_IN_HOST);
    /* Without a pause nothing changes. */
    host_read_capabilities(h);
    assert_int_equal(h->capabilities.tcp_connection_offload_capacity, 3);
    lab_free(&lab);
}

/* rows: C361 */
static void queue_waits_for_the_reading(void **state)
{
    struct host *h = &lab.side[0].host;
    struct lab_pair *pair;
    struct host_tree *t;

    lab_init(&lab, NULL);
    h->lazy = true;
    pair = lab_pair(&lab, 4);
    t = caught(pair);
    target_resume(lab.side[0].target, 0);
    lab_run(&lab, 10 * LAB_SEC);
    assert_false(t->done);
    assert_int_equal(info().pause, PAUSE_RESUMING);
    host_read_capabilities(h);
    lab_round(&lab);
    assert_true(t->done);
    assert_int_equal(pair->conn[0].object.state, CHIMNEY_OFFLOADED);
    lab_free(&lab);
}

/* rows: C362 */
static void never_resumed(void **state)
{
    struct lab_pair *pairs[3], *waiting;
    struct host_tree *t;

    lab_init(&lab, NULL);
    for (int i = 0; i < 3; i++)
        pairs[i] = lab_connect(&lab, 4);
    waiting = lab_pair(&lab, 4);
    t = caught(waiting);
    /* Streams go on for hours. */
    for (int hour = 0; hour < 5; hour++) {
        traffic(pairs, 3);
        lab_run(&lab, 3600 * LAB_SEC);
    }
    for (int i = 0; i < 3; i++)
        assert_int_equal(pairs[i]->conn[0].head, 150000);
    assert_false(t->done);
    /* Connections come up as ever; the tree that waits does no harm, also to the end. */
    for (int i = 0; i < 3; i++)
        lab_terminate(&lab, 0, &pairs[i]->conn[0].object);
    assert_false(t->done);
    lab_free(&lab);
}

/* rows: C363 */
static void resume_after_upload_all(void **state)
{
    struct host *h = &lab.side[0].host;
    struct lab_pair *pairs[3];
    struct host_object *object;

    lab_init(&lab, NULL);
    for (int i = 0; i < 3; i++)
        pairs[i] = lab_connect(&lab, 4);
    upload_all();
    target_resume(lab.side[0].target, 0);
    lab_run(&lab, LAB_SEC);
    assert_true(h->upload_all);
    for (int i = 0; i < 3; i++) {
        assert_int_not_equal(host_last(h, LOG_STATUS, NULL)->status, NDIS_STATUS_OFFLOAD_RESUME);
        object = &pairs[i]->conn[0].object;
        lab_take_back(&pairs[i]->conn[0], lab_terminate(&lab, 0, object));
    }
    lab_round(&lab);
    assert_int_equal(host_last(h, LOG_STATUS, NULL)->status, NDIS_STATUS_OFFLOAD_RESUME);
    assert_true(host_last(h, LOG_STATUS, NULL) > host_last(h, LOG_DONE, NULL));
    /* And it all begins again. */
    for (int i = 0; i < 3; i++)
        lab_offload(&lab, 0, pairs[i]);
    traffic(pairs, 3);
    lab_free(&lab);
}

/* rows: C357 C358 C359 C361 C363 */
static void in_every_order(void **state)
{
    struct host *h = &lab.side[0].host;
    struct lab_pair *pairs[6];
    struct sim_rng rng;
    uint64_t seed = getenv("SEED") ? strtoull(getenv("SEED"), NULL, 0) : 7;
    uint32_t moves = 0;

    print_message("SEED=%llu\n", (unsigned long long)seed);
    sim_rng_seed(&rng, seed);
    lab_init(&lab, NULL);
    for (int i = 0; i < 6; i++) {
        pairs[i] = lab_pair(&lab, i & 1 ? 6 : 4);
        lab_offload(&lab, 1, pairs[i]);
    }
    /* The verifier watches; the streams say whether a byte went astray. */
    for (int step = 0; step < 1500; step++) {
        struct lab_pair *pair = pairs[sim_rng_below(&rng, 6)];
        struct host_conn *c = &pair->conn[0];
        struct host_object *object = &c->object;

        switch (sim_rng_below(&rng, 9)) {
        case 0:
            target_pause(lab.side[0].target);
            break;
        case 1:
            target_pause_on_initiate(lab.side[0].target);
            break;
        case 2:
            if (sim_rng_below(&rng, 4) == 0)
                target_upload_all(lab.side[0].target);
            break;
        case 3:
        case 4:
            target_resume(lab.side[0].target, 0);
            break;
        case 5:
            if (object->state == CHIMNEY_IN_HOST && !h->paused)
                host_offload(h, &c, 1);
            break;
        case 6:
            if (object->state == CHIMNEY_OFFLOADED) {
                struct host_tree *t = host_terminate(h, &object, 1);

                lab_round(&lab);
                assert_true(t->done);
                lab_take_back(c, t);
                moves++;
            }
            break;
        default:
            if (object->state == CHIMNEY_OFFLOADED && c->written - c->acked < LAB_RING / 4)
                host_send(h, c, 2000);
            if (pair->conn[1].written - pair->conn[1].acked < LAB_RING / 4)
                host_send(&lab.side[1].host, &pair->conn[1], 2000);
        }
        lab_run(&lab, sim_rng_below(&rng, 3) * LAB_MSEC);
        if (!h->upload_all)
            continue;
        for (int i = 0; i < 6; i++) {
            object = &pairs[i]->conn[0].object;
            if (object->state == CHIMNEY_OFFLOADED)
                lab_take_back(&pairs[i]->conn[0], lab_terminate(&lab, 0, object));
        }
    }
    target_resume(lab.side[0].target, 0);
    lab_run(&lab, LAB_SEC);
    for (int i = 0; i < 6; i++) {
        if (pairs[i]->conn[0].object.state == CHIMNEY_IN_HOST)
            lab_offload(&lab, 0, pairs[i]);
    }
    lab_settle(&lab, 300 * LAB_SEC);
    for (int i = 0; i < 6; i++) {
        for (int end = 0; end < 2; end++) {
            const struct host_conn *from = &pairs[i]->conn[end], *to = &pairs[i]->conn[1 - end];

            assert_int_equal(from->base_out + from->written, to->base_in + to->head);
        }
    }
    assert_true(moves > 20);
    assert_true(info().queued_total > 0);
    lab_free(&lab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(existing_traffic_goes_on),
        cmocka_unit_test(late_initiates),
        cmocka_unit_test(thousand_connections),
        cmocka_unit_test(sends_in_pause_and_upload_all),
        cmocka_unit_test(resume_with_other_limits),
        cmocka_unit_test(queue_waits_for_the_reading),
        cmocka_unit_test(never_resumed),
        cmocka_unit_test(resume_after_upload_all),
        cmocka_unit_test(in_every_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
