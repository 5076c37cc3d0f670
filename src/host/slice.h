/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cuts a received TCP frame that is too long to be reinjected as one into several: as if the peer
 * had sent smaller segments.  Used by steer.c only.
 */
#ifndef CHIMNEY_HOST_SLICE_H
#define CHIMNEY_HOST_SLICE_H

#include <stdbool.h>
#include "wire/wire.h"

struct slicer {
    struct wire_packet packet;
    uint32_t done; /* payload bytes */
    uint32_t most; /* payload bytes of a slice */
    bool ended;
};

/**
 * @frame must stay while slices are taken; no slice is longer than @max_frame.  False: not a plain
 * TCP segment, or one that cannot be cut (urgent pointer).
 */
bool slicer_init(struct slicer *slicer, const uint8_t *frame, uint32_t len, uint32_t max_frame);
/** Builds the next slice into @out (max_frame bytes); its length, 0: there is none. */
size_t slicer_next(struct slicer *slicer, uint8_t *out, uint32_t room);

#endif
