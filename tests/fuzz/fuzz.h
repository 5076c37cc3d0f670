/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a fuzz target defines, and what it may use to say that something is wrong.
 */
#ifndef CHIMNEY_FUZZ_H
#define CHIMNEY_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/** The target: must return 0 for whatever it is given; libFuzzer's name and type. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/** Like assert(), in every build: a property that must hold for any input. */
#define HOLDS(property)                                                                            \
    do {                                                                                           \
        if (!(property))                                                                           \
            __builtin_trap();                                                                      \
    } while (0)

#endif
