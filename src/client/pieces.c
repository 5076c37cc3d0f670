/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A walk over the pieces of a scattered buffer.
 */
#include <errno.h>
#include <limits.h>
#include "client/client.h"

/** What the kernel moves in one call at most (MAX_RW_COUNT): INT_MAX rounded down to a page. */
#define PIECES_MOST ((size_t)INT_MAX & ~(size_t)4095)

int pieces_init(struct pieces *p, const struct iovec *iov, int count)
{
    size_t left = 0;

    if (count < 0 || count > IOV_MAX)
        return -EMSGSIZE;
    for (int i = 0; i < count; i++) {
        if (iov[i].iov_len > SSIZE_MAX)
            return -EINVAL;
        /* As the kernel: the excess is cut off, not refused. */
        left += iov[i].iov_len < PIECES_MOST - left ? iov[i].iov_len : PIECES_MOST - left;
    }
    *p = (struct pieces){.iov = iov, .count = count, .left = left};
    return 0;
}

struct msghdr pieces_message(const struct pieces *p, struct iovec batch[PIECES_BATCH])
{
    struct msghdr msg = {.msg_iov = (struct iovec *)p->iov, .msg_iovlen = (size_t)p->count};
    int n = p->count < PIECES_BATCH ? p->count : PIECES_BATCH;

    if (p->offset == 0)
        return msg;
    for (int i = 0; i < n; i++)
        batch[i] = p->iov[i];
    batch[0].iov_base = (char *)batch[0].iov_base + p->offset;
    batch[0].iov_len -= p->offset;
    msg.msg_iov = batch;
    msg.msg_iovlen = (size_t)n;
    return msg;
}

/** The contiguous part at the walk's position, at most @len bytes; empty pieces are passed over. */
static size_t pieces_span(struct pieces *p, size_t len, uint8_t **at)
{
    while (p->count > 0 && p->offset == p->iov->iov_len) {
        p->iov++;
        p->count--;
        p->offset = 0;
    }
    if (p->count == 0)
        return 0;
    *at = (uint8_t *)p->iov->iov_base + p->offset;
    return len < p->iov->iov_len - p->offset ? len : p->iov->iov_len - p->offset;
}

void pieces_advance(struct pieces *p, size_t len)
{
    uint8_t *at;
    size_t n;

    /* The kernel may take more than we counted: what it would have cut off in one call. */
    p->left -= len < p->left ? len : p->left;
    while (len > 0 && (n = pieces_span(p, len, &at)) > 0) {
        p->offset += n;
        len -= n;
    }
    (void)pieces_span(p, 0, &at); /* stand at the next byte: the kernel need not see empty pieces */
}

void pieces_to_ring(struct pieces *p, uint8_t *base, uint32_t size, uint64_t pos, size_t len)
{
    uint8_t *at;
    size_t n;

    while (len > 0 && (n = pieces_span(p, len, &at)) > 0) {
        stream_copy_in(base, size, pos, at, n);
        pieces_advance(p, n);
        pos += n;
        len -= n;
    }
}

void pieces_from_ring(struct pieces *p, const uint8_t *base, uint32_t size, uint64_t pos,
                      size_t len)
{
    uint8_t *at;
    size_t n;

    while (len > 0 && (n = pieces_span(p, len, &at)) > 0) {
        stream_copy_out(base, size, pos, at, n);
        pieces_advance(p, n);
        pos += n;
        len -= n;
    }
}
