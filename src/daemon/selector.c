/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/selector.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>
#include <pcap/pcap.h>

/* A packet as the filter sees it: IP and TCP header, no link layer, no payload. */
#define IP4_HEADER 20
#define IP6_HEADER 40
#define TCP_HEADER 20
#define PACKET_MAX (IP6_HEADER + TCP_HEADER)
#define PROTOCOL_TCP 6

enum selector_kind { SELECTOR_ALL, SELECTOR_IDS, SELECTOR_FILTER };

struct selector {
    enum selector_kind kind;
    size_t id_count;
    uint32_t ids[SELECTOR_MAX_IDS];
    struct bpf_program filter;
};

/*
 * The words of pcap-filter(7) that mean something for a TCP/IP header.  libpcap would take every
 * other word for a name and look it up.
 */
static const char *const words[] = {
    "and",      "dst",     "greater", "host",    "ip",       "ip6",     "len",
    "less",     "mask",    "net",     "not",     "or",       "port",    "portrange",
    "proto",    "src",     "tcp",     "tcp-ack", "tcp-cwr",  "tcp-ece", "tcp-fin",
    "tcp-push", "tcp-rst", "tcp-syn", "tcp-urg", "tcpflags",
};

/** A word of the selector, not NUL-terminated. */
struct word {
    const char *text;
    size_t len;
};

static bool word_is(const struct word *w, const char *text)
{
    return strlen(text) == w->len && memcmp(text, w->text, w->len) == 0;
}

static bool known_word(const struct word *w)
{
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (word_is(w, words[i]))
            return true;
    return false;
}

/** Of what a word, a number or an address is made; within [ ] a colon separates. */
static bool word_char(char c, bool first, bool brackets)
{
    return isalnum((unsigned char)c) || c == '_' || (c == '.' && !first) || (c == '-' && !first) ||
           (c == ':' && !brackets);
}

/** "80", "0x50", "10.0", "10.0.0.1", "fd00::1"; "1-1023" too if @range.  Never looked up. */
static bool number_or_address(const struct word *w, bool range)
{
    char text[INET6_ADDRSTRLEN];
    struct in6_addr address;
    size_t digits, parts = 1;

    if (w->len >= sizeof(text))
        return false;
    memcpy(text, w->text, w->len);
    text[w->len] = '\0';
    if (strchr(text, ':'))
        return inet_pton(AF_INET6, text, &address) == 1;
    if (strncmp(text, "0x", 2) == 0)
        return w->len > 2 && strspn(text + 2, "0123456789abcdefABCDEF") == w->len - 2;
    for (const char *p = text;; p += digits + 1, parts++) {
        digits = strspn(p, "0123456789");
        if (digits == 0 || parts > 4)
            return false;
        if (!p[digits])
            return !range || parts <= 2;
        if (p[digits] != (range ? '-' : '.'))
            return false;
    }
}

/* Refuses characters and words that libpcap would look up or that cannot be meant. */
static bool check_words(const char *text, char *err, size_t errlen)
{
    bool brackets = false, range = false;

    for (const char *p = text; *p;) {
        struct word w = {p, 0};

        if (!word_char(*p, true, brackets)) {
            if (!strchr(" \t()[]!&|<>=+-*/%^:", *p)) {
                snprintf(err, errlen, "a selector cannot contain the character 0x%02x",
                         (unsigned)(unsigned char)*p);
                return false;
            }
            if (*p == '[' || *p == ']')
                brackets = *p == '[';
            p++;
            continue;
        }
        while (word_char(*p, p == w.text, brackets))
            p++;
        w.len = (size_t)(p - w.text);
        if (!known_word(&w) && !number_or_address(&w, range)) {
            snprintf(err, errlen,
                     "'%.*s' is no word for TCP connections, and names are not looked up: give "
                     "addresses and port numbers",
                     (int)(w.len > 40 ? 40 : w.len), w.text);
            return false;
        }
        range = word_is(&w, "portrange");
    }
    return true;
}

static bool parse_ids(struct selector *s, const char *text, char *err, size_t errlen)
{
    const char *p = text;

    for (;;) {
        unsigned long long id;
        char *end;

        while (*p == ' ' || *p == '\t')
            p++;
        errno = 0;
        id = isdigit((unsigned char)*p) ? strtoull(p, &end, 10) : 0;
        if (id == 0 || id > UINT32_MAX || errno) {
            snprintf(err, errlen, "after 'id' give numbers of connections: id 3 or id 3,4,5");
            return false;
        }
        if (s->id_count == SELECTOR_MAX_IDS) {
            snprintf(err, errlen, "more than %d connections after 'id': use several commands",
                     SELECTOR_MAX_IDS);
            return false;
        }
        s->ids[s->id_count++] = (uint32_t)id;
        for (p = end; *p == ' ' || *p == '\t';)
            p++;
        if (!*p)
            return true;
        if (*p++ != ',') {
            snprintf(err, errlen, "numbers after 'id' are separated by commas: id 3,4,5");
            return false;
        }
    }
}

static bool compile(struct selector *s, const char *text, char *err, size_t errlen)
{
    pcap_t *pcap;
    bool ok;

    if (!check_words(text, err, errlen))
        return false;
    pcap = pcap_open_dead(DLT_RAW, PACKET_MAX);
    if (!pcap) {
        snprintf(err, errlen, "no memory for the selector");
        return false;
    }
    /* Not optimised: a hostile expression must not cost time, and a header is matched in no time.
     */
    ok = pcap_compile(pcap, &s->filter, text, 0, PCAP_NETMASK_UNKNOWN) == 0;
    if (!ok)
        snprintf(err, errlen, "selector: %.160s; see pcap-filter(7)", pcap_geterr(pcap));
    pcap_close(pcap);
    return ok;
}

struct selector *selector_parse(const char *text, char *err, size_t errlen)
{
    struct selector *s;
    bool ok = true;

    while (*text == ' ' || *text == '\t')
        text++;
    if (!*text || strlen(text) > SELECTOR_MAX_TEXT) {
        snprintf(err, errlen,
                 *text ? "the selector is longer than %d bytes"
                       : "empty selector: give 'id N', a filter, or all",
                 SELECTOR_MAX_TEXT);
        return NULL;
    }
    s = calloc(1, sizeof(*s));
    if (!s) {
        snprintf(err, errlen, "no memory for the selector");
        return NULL;
    }
    if (strcmp(text, "all") == 0) {
        s->kind = SELECTOR_ALL;
    } else if (strncmp(text, "id", 2) == 0 && (!text[2] || strchr(" \t", text[2]))) {
        s->kind = SELECTOR_IDS;
        ok = parse_ids(s, text + 2, err, errlen);
    } else {
        s->kind = SELECTOR_FILTER;
        ok = compile(s, text, err, errlen);
    }
    if (!ok) {
        free(s);
        return NULL;
    }
    return s;
}

void selector_free(struct selector *s)
{
    if (s && s->kind == SELECTOR_FILTER)
        pcap_freecode(&s->filter);
    free(s);
}

/** The headers of a data segment of the flow, as local or as remote would send it. */
static unsigned build(uint8_t *packet, const struct flow_key *key, bool outgoing)
{
    const uint8_t *src = outgoing ? key->local_addr : key->remote_addr;
    const uint8_t *dst = outgoing ? key->remote_addr : key->local_addr;
    const uint16_t *sport = outgoing ? &key->local_port : &key->remote_port;
    const uint16_t *dport = outgoing ? &key->remote_port : &key->local_port;
    unsigned header = key->family == 6 ? IP6_HEADER : IP4_HEADER;
    uint8_t *tcp = packet + header;

    memset(packet, 0, PACKET_MAX);
    if (key->family == 6) {
        packet[0] = 0x60;
        packet[5] = TCP_HEADER;
        packet[6] = PROTOCOL_TCP;
        packet[7] = 64;
        memcpy(packet + 8, src, 16);
        memcpy(packet + 24, dst, 16);
    } else {
        packet[0] = 0x45;
        packet[3] = IP4_HEADER + TCP_HEADER;
        packet[6] = 0x40; /* don't fragment */
        packet[8] = 64;
        packet[9] = PROTOCOL_TCP;
        memcpy(packet + 12, src, 4);
        memcpy(packet + 16, dst, 4);
    }
    memcpy(tcp, sport, 2);
    memcpy(tcp + 2, dport, 2);
    tcp[12] = (TCP_HEADER / 4) << 4;
    tcp[13] = 0x10; /* ACK */
    return header + TCP_HEADER;
}

bool selector_match(const struct selector *s, uint32_t id, const struct flow_key *key)
{
    uint8_t packet[PACKET_MAX];

    switch (s->kind) {
    case SELECTOR_ALL:
        return true;
    case SELECTOR_IDS:
        for (size_t i = 0; i < s->id_count; i++)
            if (s->ids[i] == id)
                return true;
        return false;
    case SELECTOR_FILTER:
        break;
    }
    for (int outgoing = 0; outgoing < 2; outgoing++) {
        struct pcap_pkthdr header = {0};

        header.caplen = header.len = build(packet, key, outgoing);
        if (pcap_offline_filter(&s->filter, &header, packet))
            return true;
    }
    return false;
}
