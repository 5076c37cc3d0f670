/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The arena: a sealed, sparse memfd.
 *
 * Sealed against shrinking and growing, so that neither side can make the other fault by cutting
 * the file short.  It is more than a hundred gigabytes of addresses and no memory: pages appear
 * when touched.  Therefore it must not go into a core dump, where every hole would become a page.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "stream/layout.h"

#define ARENA_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

static int arena_mmap(struct stream_arena *arena, int fd)
{
    void *base = mmap(NULL, LAYOUT_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);

    if (base == MAP_FAILED)
        return -errno;
    /* Advice: a kernel that does not know it serves as well. */
    (void)madvise(base, LAYOUT_SIZE, MADV_DONTDUMP);
    *arena = (struct stream_arena){.base = base, .size = LAYOUT_SIZE, .fd = fd};
    return 0;
}

int stream_arena_create(struct stream_arena *arena)
{
    int err, fd = memfd_create("chimney-arena", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    *arena = (struct stream_arena){.fd = -1};
    if (fd < 0)
        return -errno;
    if (ftruncate(fd, (off_t)LAYOUT_SIZE) != 0 || fcntl(fd, F_ADD_SEALS, ARENA_SEALS) != 0) {
        err = -errno;
        close(fd);
        return err;
    }
    err = arena_mmap(arena, fd);
    if (err != 0) {
        close(fd);
        return err;
    }
    stream_layout_fill((struct stream_session *)arena->base);
    return 0;
}

int stream_arena_map(struct stream_arena *arena, int fd)
{
    struct stat st;
    int err = 0, seals = fcntl(fd, F_GET_SEALS);

    *arena = (struct stream_arena){.fd = -1};
    if (seals < 0 || fstat(fd, &st) != 0)
        err = -errno;
    else if ((seals & F_SEAL_SHRINK) == 0 || (uint64_t)st.st_size != LAYOUT_SIZE)
        err = -EPROTO;
    else
        err = arena_mmap(arena, fd);
    if (err != 0) {
        close(fd);
        return err;
    }
    struct stream_session copy = *(struct stream_session *)arena->base;
    if (!stream_layout_same(&copy)) {
        stream_arena_unmap(arena);
        return -EPROTO;
    }
    return 0;
}

void stream_arena_unmap(struct stream_arena *arena)
{
    if (arena->base != NULL)
        munmap(arena->base, arena->size);
    if (arena->fd >= 0)
        close(arena->fd);
    *arena = (struct stream_arena){.fd = -1};
}

void stream_arena_release(struct stream_arena *arena, uint32_t index)
{
    uint8_t *rings = stream_send_base(arena, index);

    /* Only memory is at stake: if the hole cannot be punched the pages are used again later. */
    (void)fallocate(arena->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, rings - arena->base,
                    (off_t)2 * STREAM_RING_MAX);
}
