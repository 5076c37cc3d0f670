/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes in and out of a ring.  The other side may change the bytes while they are copied: that
 * gives wrong bytes to whoever did it, never an access outside the ring.
 */
#include <assert.h>
#include <string.h>
#include "stream/stream.h"

/** Bytes from @pos to the end of the ring, at most @len. */
static size_t first_part(uint32_t size, uint64_t pos, size_t len)
{
    size_t offset = pos & (size - 1), room = size - offset;

    assert(size != 0 && (size & (size - 1)) == 0 && len <= size);
    return len < room ? len : room;
}

void stream_copy_in(uint8_t *base, uint32_t size, uint64_t pos, const void *data, size_t len)
{
    size_t first = first_part(size, pos, len);

    if (len == 0)
        return;
    memcpy(base + (pos & (size - 1)), data, first);
    memcpy(base, (const uint8_t *)data + first, len - first);
}

void stream_copy_out(const uint8_t *base, uint32_t size, uint64_t pos, void *data, size_t len)
{
    size_t first = first_part(size, pos, len);

    if (len == 0)
        return;
    memcpy(data, base + (pos & (size - 1)), first);
    memcpy((uint8_t *)data + first, base, len - first);
}
