/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 (FIPS 180-4), so that two ends can say in one line that they saw the same bytes. */
#ifndef CHIMNEY_TESTS_SHA256_H
#define CHIMNEY_TESTS_SHA256_H

#include <stddef.h>
#include <stdint.h>

struct sha256 {
    uint32_t state[8];
    uint64_t length; /* bytes so far */
    uint8_t block[64];
};

void sha256_init(struct sha256 *s);
void sha256_add(struct sha256 *s, const void *data, size_t len);
/** Ends it; @hex gets 64 digits and a NUL. */
void sha256_hex(struct sha256 *s, char hex[65]);

#endif
