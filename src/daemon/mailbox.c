/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/mailbox.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

int mailbox_init(struct mailbox *box)
{
    memset(box, 0, sizeof(*box));
    pthread_mutex_init(&box->lock, NULL);
    box->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return box->event_fd < 0 ? -errno : 0;
}

void mailbox_free(struct mailbox *box)
{
    free(box->items);
    if (box->event_fd >= 0)
        close(box->event_fd);
    pthread_mutex_destroy(&box->lock);
}

void mailbox_post(struct mailbox *box, const struct mail *mail)
{
    uint64_t one = 1;
    bool first;

    pthread_mutex_lock(&box->lock);
    if (box->used == box->size) {
        size_t size = box->size ? 2 * box->size : 256;
        struct mail *items = realloc(box->items, size * sizeof(*items));

        if (!items) {
            fprintf(stderr, "chimneyd: out of memory\n");
            abort();
        }
        box->items = items;
        box->size = size;
    }
    box->items[box->used++] = *mail;
    first = !atomic_exchange(&box->pending, true);
    pthread_mutex_unlock(&box->lock);
    if (first && write(box->event_fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
        abort(); /* an eventfd of our own cannot fail otherwise */
}

bool mailbox_take(struct mailbox *box, struct mail *mail)
{
    bool got = false;

    if (!atomic_load_explicit(&box->pending, memory_order_acquire))
        return false;
    pthread_mutex_lock(&box->lock);
    if (box->taken < box->used) {
        *mail = box->items[box->taken++];
        got = true;
    }
    if (box->taken == box->used) {
        uint64_t count;

        box->taken = box->used = 0;
        atomic_store(&box->pending, false);
        if (read(box->event_fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
            abort();
    }
    pthread_mutex_unlock(&box->lock);
    return got;
}
