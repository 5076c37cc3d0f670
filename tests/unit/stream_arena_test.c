/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The arena: sealed, sparse, refused when it is not what we made; and bytes through its rings.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "stream/stream.h"

#define PAGES_OF_A_TOUCHED_SLOT 64

static uint64_t pages(const struct stream_arena *arena)
{
    struct stat st;

    assert_int_equal(fstat(arena->fd, &st), 0);
    return (uint64_t)st.st_blocks * 512 / STREAM_PAGE;
}

static void both_sides_see_one_memory(void **state)
{
    struct stream_arena daemon_side, program;

    assert_int_equal(stream_arena_create(&daemon_side), 0);
    assert_int_equal(stream_arena_map(&program, dup(daemon_side.fd)), 0);
    for (uint32_t i = 0; i < STREAM_SLOTS; i += STREAM_SLOTS - 1) {
        atomic_store(&stream_slot_at(&daemon_side, i)->conn_id, 4711 + i);
        stream_send_base(&program, i)[0] = 1;
        stream_send_base(&program, i)[STREAM_RING_MAX - 1] = 2;
        stream_receive_base(&daemon_side, i)[STREAM_RING_MAX - 1] = 3;
        assert_int_equal(atomic_load(&stream_slot_at(&program, i)->conn_id), 4711 + i);
        assert_int_equal(stream_send_base(&daemon_side, i)[0], 1);
        assert_int_equal(stream_send_base(&daemon_side, i)[STREAM_RING_MAX - 1], 2);
        assert_int_equal(stream_receive_base(&program, i)[STREAM_RING_MAX - 1], 3);
    }
    assert_int_equal(stream_queue_push(stream_ready_queue(&daemon_side, STREAM_SETS - 1), 9), 0);
    uint32_t tail = 0, slot = 0;
    assert_true(stream_queue_pop(stream_ready_queue(&program, STREAM_SETS - 1), &tail, &slot));
    assert_int_equal(slot, 9);
    assert_false(stream_queue_pop(stream_kick_queue(&program), &(uint32_t){0}, &slot));
    stream_arena_unmap(&program);
    stream_arena_unmap(&daemon_side);
    stream_arena_unmap(&daemon_side);
}

static void memory_is_used_when_touched_and_given_back(void **state)
{
    struct stream_arena arena;

    assert_int_equal(stream_arena_create(&arena), 0);
    assert_true(pages(&arena) <= 2);
    for (int i = 0; i < PAGES_OF_A_TOUCHED_SLOT; i++) {
        stream_send_base(&arena, 5)[i * STREAM_PAGE] = 1;
        stream_receive_base(&arena, 5)[i * STREAM_PAGE] = 1;
    }
    atomic_store(&stream_slot_at(&arena, 5)->events, 77);
    assert_true(pages(&arena) >= 2 * PAGES_OF_A_TOUCHED_SLOT);
    stream_arena_release(&arena, 5);
    assert_true(pages(&arena) <= 4);
    assert_int_equal(atomic_load(&stream_slot_at(&arena, 5)->events), 77);
    assert_int_equal(stream_send_base(&arena, 5)[0], 0);
    stream_arena_unmap(&arena);
}

static void nobody_can_cut_it_short(void **state)
{
    struct stream_arena arena;

    assert_int_equal(stream_arena_create(&arena), 0);
    assert_int_equal(ftruncate(arena.fd, 4096), -1);
    assert_int_equal(errno, EPERM);
    assert_int_equal(ftruncate(arena.fd, (off_t)arena.size + 4096), -1);
    assert_int_equal(fcntl(arena.fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
    stream_arena_unmap(&arena);
}

static int file_of(off_t size, int seals)
{
    int fd = memfd_create("not-ours", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, size), 0);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
    return fd;
}

static void what_is_not_an_arena_is_refused(void **state)
{
    struct stream_arena arena, other;
    int fd;

    assert_int_equal(stream_arena_map(&arena, -1), -EBADF);
    assert_int_equal(stream_arena_map(&arena, open("/dev/null", O_RDWR)), -EINVAL);
    assert_int_equal(stream_arena_map(&arena, file_of(4096, F_SEAL_SHRINK)), -EPROTO);

    assert_int_equal(stream_arena_create(&other), 0);
    assert_int_equal(stream_arena_map(&arena, file_of((off_t)other.size, 0)), -EPROTO);
    assert_int_equal(stream_arena_map(&arena, file_of((off_t)other.size, F_SEAL_SHRINK)), -EPROTO);
    struct stream_session *page = (struct stream_session *)other.base;
    page->slot_stride += 4096;
    fd = dup(other.fd);
    assert_int_equal(stream_arena_map(&arena, fd), -EPROTO);
    assert_int_equal(fcntl(fd, F_GETFD), -1); /* taken over, also by a refusal */
    page->slot_stride -= 4096;
    page->version++;
    assert_int_equal(stream_arena_map(&arena, dup(other.fd)), -EPROTO);
    stream_arena_unmap(&other);
}

/** Random writes and reads through a ring of each size against one flat copy. */
static void bytes_wrap_right(void **state)
{
    uint8_t *ring = malloc(STREAM_RING_MAX);
    uint8_t in[5000], out[5000];
    unsigned seed = 3;

    for (uint32_t size = 1; size <= STREAM_RING_MAX; size <<= 1) {
        uint64_t pos = UINT64_MAX - 20000; /* positions wrap as well */

        for (int i = 0; i < 200; i++) {
            size_t len = (size_t)rand_r(&seed) % (sizeof(in) + 1);
            if (len > size)
                len = size;
            for (size_t k = 0; k < len; k++)
                in[k] = (uint8_t)rand_r(&seed);
            stream_copy_in(ring, size, pos, in, len);
            stream_copy_out(ring, size, pos, out, len);
            assert_memory_equal(in, out, len);
            for (size_t k = 0; k < len; k++)
                assert_int_equal(ring[(pos + k) % size], in[k]);
            pos += len;
        }
    }
    stream_copy_in(ring, 4096, 5, NULL, 0);
    stream_copy_out(ring, 4096, 5, NULL, 0);
    free(ring);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_sides_see_one_memory),
        cmocka_unit_test(memory_is_used_when_touched_and_given_back),
        cmocka_unit_test(nobody_can_cut_it_short),
        cmocka_unit_test(what_is_not_an_arena_is_refused),
        cmocka_unit_test(bytes_wrap_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
