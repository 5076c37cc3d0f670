/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checksums the sender left to somebody else.
 *
 * A kernel that sends to a virtual interface of the same machine writes only the pseudo-header sum
 * into the TCP checksum field and marks the packet; AF_XDP does not show the mark (handoff.md
 * section 6).  Such a frame never was on a wire, so finishing the sum is what a NIC would have
 * done.
 */
#include "wire/wire.h"

#include <string.h>
#include "wire/bytes.h"

bool wire_finish_checksum(uint8_t *frame, size_t len)
{
    struct wire_packet packet;
    uint8_t tail[8] = {0, 0, 0, 0, 0, 0, 0, PROTO_TCP};
    uint32_t segment;
    uint64_t pseudo;
    uint16_t field, sum;
    uint8_t *tcp;

    if (wire_parse(frame, len, true, &packet) != WIRE_OK)
        return false;
    tcp = frame + packet.tcp_offset;
    segment = packet.ip_len - (packet.tcp_offset - packet.ip_offset);
    put32(tail, segment);
    pseudo = wire_sum(tail, sizeof(tail), 0);
    if (packet.key.family == 4)
        pseudo = wire_sum(frame + packet.ip_offset + 12, 8, pseudo);
    else
        pseudo = wire_sum(frame + packet.ip_offset + 8, 32, pseudo);
    sum = (uint16_t)~wire_fold(pseudo);
    memcpy(&field, tcp + TCP_CHECKSUM, sizeof(field));
    if (field != sum)
        return false;
    sum = wire_fold(wire_sum(tcp, segment, 0)); /* over the pseudo-header sum in the field */
    memcpy(tcp + TCP_CHECKSUM, &sum, sizeof(sum));
    return true;
}
