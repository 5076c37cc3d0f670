/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include "stream/layout.h"

void stream_layout_fill(struct stream_session *session)
{
    *session = (struct stream_session){
        .magic = STREAM_MAGIC,
        .version = STREAM_VERSION,
        .slots = STREAM_SLOTS,
        .sets = STREAM_SETS,
        .slot_offset = LAYOUT_SLOTS,
        .slot_stride = LAYOUT_SLOT_STRIDE,
        .ring_offset = {LAYOUT_SEND, LAYOUT_RECEIVE},
        .kick_offset = LAYOUT_KICK,
        .ready_offset = LAYOUT_READY,
        .ready_stride = LAYOUT_QUEUE_STRIDE,
        .size = LAYOUT_SIZE,
    };
}

bool stream_layout_same(const struct stream_session *session)
{
    struct stream_session mine;

    stream_layout_fill(&mine);
    return session->magic == mine.magic && session->version == mine.version &&
           session->slots == mine.slots && session->sets == mine.sets &&
           session->slot_offset == mine.slot_offset && session->slot_stride == mine.slot_stride &&
           session->ring_offset[0] == mine.ring_offset[0] &&
           session->ring_offset[1] == mine.ring_offset[1] &&
           session->kick_offset == mine.kick_offset && session->ready_offset == mine.ready_offset &&
           session->ready_stride == mine.ready_stride && session->size == mine.size;
}

struct stream_slot *stream_slot_at(const struct stream_arena *arena, uint32_t index)
{
    assert(index < STREAM_SLOTS);
    return (struct stream_slot *)(arena->base + LAYOUT_SLOTS + index * LAYOUT_SLOT_STRIDE);
}

uint8_t *stream_send_base(const struct stream_arena *arena, uint32_t index)
{
    return (uint8_t *)stream_slot_at(arena, index) + LAYOUT_SEND;
}

uint8_t *stream_receive_base(const struct stream_arena *arena, uint32_t index)
{
    return (uint8_t *)stream_slot_at(arena, index) + LAYOUT_RECEIVE;
}

struct stream_queue *stream_kick_queue(const struct stream_arena *arena)
{
    return (struct stream_queue *)(arena->base + LAYOUT_KICK);
}

struct stream_queue *stream_ready_queue(const struct stream_arena *arena, uint32_t set)
{
    assert(set < STREAM_SETS);
    return (struct stream_queue *)(arena->base + LAYOUT_READY + set * LAYOUT_QUEUE_STRIDE);
}
