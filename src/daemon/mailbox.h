/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages between the control thread and the worker: a queue under a mutex, an eventfd to wake the
 * reader.  The data path never comes by here.
 */
#ifndef CHIMNEY_DAEMON_MAILBOX_H
#define CHIMNEY_DAEMON_MAILBOX_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <chimney/target.h>

enum mail_kind {
    /* to the worker */
    MAIL_VERB, /* target, verb, root */
    MAIL_CALL, /* run a function, then signal */
    MAIL_CAPS, /* re-read the capabilities after a RESUME */
    /* to the control thread */
    MAIL_DONE,    /* port, verb, root: completed */
    MAIL_STATUS,  /* port, status indication, caps with RESUME */
    MAIL_EVENT,   /* conn, event, info */
    MAIL_CORRUPT, /* conn: the program wrote nonsense into its slot */
    MAIL_BREACH,  /* port: the verifier's line, text */
    MAIL_STARTED, /* conn: route is STREAM */
};

struct mail {
    enum mail_kind kind;
    void *port; /* struct port_ctx */
    void *conn; /* struct conn */
    int verb;   /* enum tree_verb */
    struct chimney_block *root;
    chimney_status status;
    int event;
    uint32_t info;
    struct chimney_capabilities caps;
    void (*fn)(void *a, void *b);
    void *a, *b;
    _Atomic uint32_t *done;
    char text[120];
};

struct mailbox {
    pthread_mutex_t lock;
    struct mail *items;
    size_t used, size, taken;
    int event_fd;
    _Atomic bool pending;
};

int mailbox_init(struct mailbox *box);
void mailbox_free(struct mailbox *box);
/** Copies @mail in and wakes the reader.  Memory shortage ends the process: nothing can be told. */
void mailbox_post(struct mailbox *box, const struct mail *mail);
/** Takes the oldest message; false if there is none. */
bool mailbox_take(struct mailbox *box, struct mail *mail);

#endif
