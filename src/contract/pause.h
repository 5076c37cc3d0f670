/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pause queue of a target (C357 to C364).
 *
 * States: RUNNING; PAUSED (PAUSE was indicated); UPLOADING_ALL (UPLOAD_ALL was indicated, perhaps
 * after a pause); RESUMING (RESUME was indicated, the host has not yet re-read the capabilities).
 * Events: pause, upload_all, resume, capabilities_read, initiate arrives, terminate done.
 * Initiates that arrive in any state but RUNNING are queued, in order, and come out again after
 * capabilities_read.  Nothing is ever refused because of a pause and there is no timer: a target
 * may never resume.
 */
#ifndef CHIMNEY_CONTRACT_PAUSE_H
#define CHIMNEY_CONTRACT_PAUSE_H

#include <chimney/target.h>

enum pause_state { PAUSE_RUNNING, PAUSE_PAUSED, PAUSE_UPLOADING_ALL, PAUSE_RESUMING };

struct pause_queue {
    enum pause_state state;
    struct chimney_block *head, *tail; /* linked through target_reserved[0] of the roots */
    uint32_t queued;                   /* trees waiting */
    uint64_t queued_total, pauses, resumes, upload_alls;
};

void pause_init(struct pause_queue *q);
const char *pause_state_name(enum pause_state state);
/** Each returns the status to indicate to the host, or 0 if the request changes nothing now. */
chimney_status pause_pause(struct pause_queue *q);
chimney_status pause_upload_all(struct pause_queue *q);
/** @objects connections still held: a resume after upload-all waits for 0 (C363); returns 0 then.
 */
chimney_status pause_resume(struct pause_queue *q, uint32_t objects);
/** The host has read the capabilities: true if queued initiates may be taken out now. */
bool pause_capabilities_read(struct pause_queue *q);
/** True if the tree was queued; false if the target is to process it now. */
bool pause_initiate(struct pause_queue *q, struct chimney_block *root);
/** Next queued tree, or NULL; only while RUNNING. */
struct chimney_block *pause_dequeue(struct pause_queue *q);
/** Every queued tree whatever the state, one after the other, for a target that goes away. */
struct chimney_block *pause_drain(struct pause_queue *q);
/** True while sends have to be answered UPLOAD_IN_PROGRESS (C251). */
bool pause_uploading(const struct pause_queue *q);

#endif
