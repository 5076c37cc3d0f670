/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Selectors: which connections an operator means.
 *
 *   all                     every connection
 *   id N[,N...]             by the daemon's number
 *   anything else           a pcap-filter(7) expression over the packets of the connection: it
 *                           matches if a packet of either direction would match
 */
#ifndef CHIMNEY_DAEMON_SELECTOR_H
#define CHIMNEY_DAEMON_SELECTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "wire/wire.h"

/** Longest selector, in bytes. */
#define SELECTOR_MAX_TEXT 1024
/** Most numbers after "id". */
#define SELECTOR_MAX_IDS 256

struct selector;

/**
 * Reads @text.  Touches neither network nor file: host, network and service names are refused,
 * because looking them up could block the daemon.
 * Returns NULL and a line that says what to do in @err.
 */
struct selector *selector_parse(const char *text, char *err, size_t errlen);
void selector_free(struct selector *selector);
/** True if the connection with number @id and tuple @key is meant. */
bool selector_match(const struct selector *selector, uint32_t id, const struct flow_key *key);

#endif
