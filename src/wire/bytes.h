/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Big-endian fields at any alignment, and the numbers of the headers; private to wire/.
 */
#ifndef CHIMNEY_WIRE_BYTES_H
#define CHIMNEY_WIRE_BYTES_H

#include <stdint.h>

#define ETH_HEADER 14u
#define ETH_TAG 4u
#define ETH_TYPE_IPV4 0x0800u
#define ETH_TYPE_IPV6 0x86DDu
#define ETH_TYPE_VLAN 0x8100u

#define IPV4_HEADER 20u
#define IPV4_DF 0x4000u
#define IPV4_MF 0x2000u
#define IPV4_OFFSET 0x1FFFu
#define IPV6_HEADER 40u
#define IP_MAX 65535u /* total length of IPv4, payload length of IPv6: no jumbograms */
#define IP_ECN 0x03u

#define PROTO_HOPOPTS 0u
#define PROTO_TCP 6u
#define PROTO_ROUTING 43u
#define PROTO_FRAGMENT 44u
#define PROTO_ESP 50u
#define PROTO_AH 51u
#define PROTO_DSTOPTS 60u
#define PROTO_MOBILITY 135u
#define PROTO_HIP 139u
#define PROTO_SHIM6 140u

#define TCP_HEADER 20u
#define TCP_CHECKSUM 16u /* offset of the field */
#define TCP_OPTIONS_MAX 40u
#define TCPOPT_END 0u
#define TCPOPT_NOP 1u
#define TCPOPT_SACK 5u
#define TCPOPT_TIMESTAMP 8u
#define TCPOLEN_TIMESTAMP 10u
#define TCPOLEN_SACK_BASE 2u
#define TCPOLEN_SACK_BLOCK 8u

static inline uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t get32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline void put16(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static inline void put32(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 24);
    p[1] = (uint8_t)(v >> 16);
    p[2] = (uint8_t)(v >> 8);
    p[3] = (uint8_t)v;
}

#endif
