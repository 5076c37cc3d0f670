/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fault injection: each system call of an offload and of an upload fails once, and each two of them
 * that are not far apart.  Afterwards the connection must be alive in the kernel with nothing lost.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "lab.h"
#include "pair.h"

/** More than the peer's buffer takes: some of it is in flight, some unsent. */
#define SEND_AHEAD 60000
#define PEER_BUFFER 8192
/** How far apart two failures are at most. */
#define MAX_GAP 12

static struct {
    unsigned calls;   /* steps so far */
    unsigned fail[2]; /* which of them fail, counted from 1; 0: none */
    int error;
    char failed[2][40]; /* their names */
} plan;

static int planned_fault(const char *step)
{
    plan.calls++;
    for (int i = 0; i < 2; i++)
        if (plan.calls == plan.fail[i]) {
            snprintf(plan.failed[i], sizeof(plan.failed[i]), "%s", step);
            return plan.error;
        }
    return 0;
}

static void plan_faults(unsigned first, unsigned second)
{
    static const int errors[] = {-EIO, -EPERM, -ENOMEM, -EAGAIN, -EINVAL};

    memset(&plan, 0, sizeof(plan));
    plan.fail[0] = first;
    plan.fail[1] = second;
    plan.error = errors[lab_random() % 5];
}

/* One offload and one upload with the planned faults; true if the plan was used up. */
static bool move(struct pair *p)
{
    const struct handoff_held held = hand_held(&p->c);
    struct repair_restore r;
    struct tcp_snapshot s;
    char after[128];
    int tries = 0;

    pair_load(p, SEND_AHEAD);
    p->c.held = true;
    handoff_fault = planned_fault;
    handoff_freeze_batch(&hand.handoff, &p->c.h, 1);
    pair_peer_send(p, 1000); /* something to be held */
    hand_poll();
    if (p->c.h.result == HANDOFF_PARKED) {
        handoff_prepare_unchanged(&p->c.h, &r);
        while (handoff_restore(&hand.handoff, &p->c.h, &r, &held)) {
            LAB_CHECK(++tries <= 2);
            if (tries == 1)
                pair_peer_send(p, 500);
        }
        p->c.pending = p->c.h.unsent_left;
        p->c.pending_pos = r.una_pos + r.sent_len + r.unsent_len - p->c.pending;
    } else {
        LAB_CHECK(p->c.h.result == HANDOFF_REFUSED || p->c.h.result == HANDOFF_AGAIN);
        LAB_CHECK(p->c.h.reason && p->c.h.error < 0);
        handoff_reinject(&hand.handoff, &p->c.h, &held);
    }
    handoff_fault = NULL;
    hand_release(&p->c);
    snprintf(after, sizeof(after), "failures of %s and %s (%d)", plan.failed[0], plan.failed[1],
             plan.error);
    pair_settle(p, after);
    LAB_CHECK(p->c.h.progress == 0);
    LAB_ZERO(steer_snapshot(hand.steer, &p->c.h.key, &s));
    if (s.repair)
        LAB_FAIL("still frozen after %s", after);
    return plan.calls >= plan.fail[0] && plan.calls >= plan.fail[1];
}

/* rows: C179 C468 */
static void faults(unsigned family)
{
    struct pair *p;
    unsigned steps, used = 0;

    printf("IPv%u: every step fails once, and every two steps\n", family);
    hand_open(1, false, 1500);
    p = pair_open(family, PEER_BUFFER, NULL);
    plan_faults(0, 0);
    move(p);
    LAB_CHECK(p->c.h.result == HANDOFF_IN_KERNEL && p->c.h.error == 0);
    steps = plan.calls;
    for (unsigned first = 1; first <= steps; first++) {
        plan_faults(first, 0);
        LAB_CHECK(move(p));
        used++;
    }
    for (unsigned first = 1; first <= steps; first++)
        for (unsigned gap = 1; gap <= MAX_GAP; gap++) {
            plan_faults(first, first + gap);
            used++;
            if (!move(p))
                break;
        }
    printf("  %u steps, %u plans, connection alive after each\n", steps, used);
    pair_close(p);
    hand_close();
}

int main(void)
{
    lab_init("fault", 240);
    faults(4);
    faults(6);
    puts("passed");
    return 0;
}
