/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams: the memory a program and a target share.
 *
 * A *session* is one program's connection to the daemon.  It has one arena, a sealed memfd made by
 * the daemon and mapped by both.  The arena begins with the session page, followed by the event
 * rings, followed by CHIMNEY_SLOTS slots.  A *slot* is one connection: a header page and two byte
 * rings, send (program to peer) and receive (peer to program).  Pages nobody touched cost nothing,
 * and the daemon gives pages back (hole punching) when a connection goes back to the kernel.
 *
 * Trust.  The program can write to all of it at any time.  The daemon therefore keeps every index
 * it needs in private memory, reads the program's indices once per use, checks them against its
 * own, and treats an impossible value as the end of that connection's offload, never as a reason to
 * stop.
 *
 * Ordering.  Producers write data, then the index with release; consumers read the index with
 * acquire, then data.  The one place that needs sequential consistency is "I am about to sleep"
 * against "is anybody asleep", in both directions: arm, full fence, look again.
 *
 * Who writes what:      send.head, receive.tail, users, want  - the program
 *                       send.tail, receive.head, route, events, generation - the daemon
 */
#ifndef CHIMNEY_STREAM_STREAM_H
#define CHIMNEY_STREAM_STREAM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STREAM_MAGIC 0x314d4843u /* "CHM1" */
#define STREAM_VERSION 1u

/** Connections of one program that can be attached at a time. */
#define STREAM_SLOTS 16384u
/** Room for each ring in a slot.  The ring in use may be smaller: see stream_ring.size. */
#define STREAM_RING_MAX (16u << 20)
/** Smallest ring: what a program may have outstanding when the kernel's queues were short. */
#define STREAM_RING_MIN (256u << 10)
/** Wait sets (epoll-like) a program can have at a time. */
#define STREAM_SETS 64u
#define STREAM_CACHELINE 64
#define STREAM_PAGE 4096u

/** A byte ring's indices.  Positions are 64-bit byte counts; one cache line per writer. */
struct stream_ring {
    _Alignas(STREAM_CACHELINE) _Atomic uint64_t head; /* producer: end of data */
    _Alignas(STREAM_CACHELINE) _Atomic uint64_t tail; /* consumer: start of data */
};

/*
 * Who carries the connection, as the program's library must know it.  Changed by the daemon only.
 * KERNEL: the socket is an ordinary socket.  STREAM: the socket is parked, data goes through the
 * rings.  MOVING: neither may be touched; wait for events to change.  LOST: the target died with
 * the connection's state; the program gets ECONNRESET.
 */
enum stream_route {
    STREAM_ROUTE_KERNEL = 0,
    STREAM_ROUTE_MOVING = 1,
    STREAM_ROUTE_STREAM = 2,
    STREAM_ROUTE_LOST = 3,
};

/* Readiness bits in slot->ready (daemon) and slot->want (program); values of poll(2). */
#define STREAM_READY_IN 0x001u
#define STREAM_READY_OUT 0x004u
#define STREAM_READY_ROUTE 0x100u /* the route changed */

struct stream_slot {
    /* The daemon writes. */
    _Alignas(STREAM_CACHELINE) _Atomic uint32_t route; /* enum stream_route */
    _Atomic uint32_t events;     /* futex: incremented at every change that may interest a waiter */
    _Atomic uint32_t generation; /* times this slot was offloaded */
    _Atomic uint32_t ring_size;  /* size in use of both rings while STREAM, a power of two */
    _Atomic uint32_t send_limit; /* bytes the program may have outstanding in the send ring */
    _Atomic uint32_t send_status; /* NDIS status of the last completed sends */
    _Atomic uint32_t conn_id;     /* the daemon's id of the connection, for messages */
    /* The program writes. */
    _Alignas(STREAM_CACHELINE) _Atomic uint32_t
        users;                /* calls of the program inside the socket or the
                                 rings right now (quiescing, handoff 1.1 step 0) */
    _Atomic uint32_t waiters; /* threads sleeping on events */
    _Atomic uint32_t set;     /* wait set + 1 that wants events of this slot, 0: none */
    _Atomic uint32_t want;    /* STREAM_READY_* that set waits for */
    _Atomic uint32_t kicked;  /* in the daemon's kick ring already */
    /* Both: 1 while the slot is in the ready ring of its set (the daemon sets, the program clears).
     */
    _Alignas(STREAM_CACHELINE) _Atomic uint32_t queued;
    struct stream_ring send, receive;
};

/**
 * A ring of slot numbers: any number of producers, one consumer.  A cell holds a slot number plus
 * one; 0 is empty.
 */
struct stream_queue {
    _Alignas(STREAM_CACHELINE) _Atomic uint32_t head;
    _Alignas(STREAM_CACHELINE) _Atomic uint32_t tail;
    _Alignas(STREAM_CACHELINE) _Atomic uint32_t armed; /* the consumer sleeps: ring its eventfd */
    _Alignas(STREAM_CACHELINE) _Atomic uint32_t slot[STREAM_SLOTS];
};

/** First page of the arena. */
struct stream_session {
    uint32_t magic, version;
    uint32_t slots, sets;
    uint64_t slot_offset, slot_stride;   /* slot i is at slot_offset + i * slot_stride */
    uint64_t ring_offset[2];             /* within a slot: send ring, receive ring */
    uint64_t kick_offset;                /* struct stream_queue, program to daemon */
    uint64_t ready_offset, ready_stride; /* struct stream_queue per set, daemon to program */
    uint64_t size;                       /* of the whole arena */
};

/** A mapped arena.  Offsets are kept here, in private memory, not read from the arena. */
struct stream_arena {
    uint8_t *base;
    size_t size;
    int fd;
};

/** Makes, seals and maps an arena (the daemon).  Returns 0 or -errno. */
int stream_arena_create(struct stream_arena *arena);
/** Maps and checks an arena got from the daemon (the program).  Takes over @fd.  0 or -errno. */
int stream_arena_map(struct stream_arena *arena, int fd);
void stream_arena_unmap(struct stream_arena *arena);
/** Gives the memory of both rings of slot @index back to the system (the daemon). */
void stream_arena_release(struct stream_arena *arena, uint32_t index);

struct stream_slot *stream_slot_at(const struct stream_arena *arena, uint32_t index);
uint8_t *stream_send_base(const struct stream_arena *arena, uint32_t index);
uint8_t *stream_receive_base(const struct stream_arena *arena, uint32_t index);
struct stream_queue *stream_kick_queue(const struct stream_arena *arena);
struct stream_queue *stream_ready_queue(const struct stream_arena *arena, uint32_t set);

/**
 * Puts @slot into the queue.  Returns 1 if the consumer sleeps and its eventfd must be written,
 * else 0; -1 if the queue is full (only a hostile or broken peer can cause that: ids are queued
 * once).
 */
int stream_queue_push(struct stream_queue *q, uint32_t slot);
/**
 * Takes the next slot number out; returns false if there is none.  @tail is the consumer's private
 * index.  A number out of range is skipped.
 */
bool stream_queue_pop(struct stream_queue *q, uint32_t *tail, uint32_t *slot);
/** About to sleep: returns true if the queue is still empty and the producer will ring. */
bool stream_queue_arm(struct stream_queue *q, uint32_t tail);
void stream_queue_disarm(struct stream_queue *q);

/** Copies @len bytes into / out of a ring of @size at position @pos. */
void stream_copy_in(uint8_t *base, uint32_t size, uint64_t pos, const void *data, size_t len);
void stream_copy_out(const uint8_t *base, uint32_t size, uint64_t pos, void *data, size_t len);

#endif
