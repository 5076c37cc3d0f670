/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pause queue of a target.  States, events and limits: pause.h.
 *
 *              pause            upload_all
 *   RUNNING ---------> PAUSED -------------> UPLOADING_ALL
 *      ^  \               |  \________________/   | resume, no connection left
 *      |   `-- upload_all | resume                |
 *      |  capabilities    v                       v
 *      `------------- RESUMING <------------------'
 *
 * A target may pause again, or ask for all uploads, while it is RESUMING; what the host reads then
 * no longer ends anything.  There is no edge that a clock takes.
 */
#include "contract/pause.h"

void pause_init(struct pause_queue *q)
{
    *q = (struct pause_queue){.state = PAUSE_RUNNING};
}

const char *pause_state_name(enum pause_state state)
{
    switch (state) {
    case PAUSE_RUNNING:
        return "running";
    case PAUSE_PAUSED:
        return "paused";
    case PAUSE_UPLOADING_ALL:
        return "uploading-all";
    case PAUSE_RESUMING:
        return "resuming";
    }
    return "?";
}

chimney_status pause_pause(struct pause_queue *q)
{
    if (q->state != PAUSE_RUNNING && q->state != PAUSE_RESUMING)
        return 0;
    q->state = PAUSE_PAUSED;
    q->pauses++;
    return NDIS_STATUS_OFFLOAD_PAUSE;
}

chimney_status pause_upload_all(struct pause_queue *q)
{
    if (q->state == PAUSE_UPLOADING_ALL)
        return 0;
    q->state = PAUSE_UPLOADING_ALL;
    q->upload_alls++;
    return NDIS_STATUS_UPLOAD_ALL;
}

chimney_status pause_resume(struct pause_queue *q, uint32_t objects)
{
    if (q->state != PAUSE_PAUSED && q->state != PAUSE_UPLOADING_ALL)
        return 0;
    if (q->state == PAUSE_UPLOADING_ALL && objects > 0)
        return 0;
    q->state = PAUSE_RESUMING;
    q->resumes++;
    return NDIS_STATUS_OFFLOAD_RESUME;
}

bool pause_capabilities_read(struct pause_queue *q)
{
    if (q->state == PAUSE_RESUMING)
        q->state = PAUSE_RUNNING;
    return q->state == PAUSE_RUNNING;
}

bool pause_initiate(struct pause_queue *q, struct chimney_block *root)
{
    /* While older trees still wait a new one must not overtake them, whatever the state. */
    if (q->state == PAUSE_RUNNING && !q->head)
        return false;
    root->target_reserved[0] = NULL;
    if (q->tail)
        q->tail->target_reserved[0] = root;
    else
        q->head = root;
    q->tail = root;
    q->queued++;
    q->queued_total++;
    return true;
}

struct chimney_block *pause_drain(struct pause_queue *q)
{
    struct chimney_block *root = q->head;

    if (!root)
        return NULL;
    q->head = root->target_reserved[0];
    if (!q->head)
        q->tail = NULL;
    q->queued--;
    root->target_reserved[0] = NULL;
    return root;
}

struct chimney_block *pause_dequeue(struct pause_queue *q)
{
    return q->state == PAUSE_RUNNING ? pause_drain(q) : NULL;
}

bool pause_uploading(const struct pause_queue *q)
{
    return q->state == PAUSE_UPLOADING_ALL;
}
