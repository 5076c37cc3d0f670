/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Selectors: what they match, what is refused, and that libpcap is never brought to look up a name,
 * whatever the text.  The look-up functions of the C library are replaced for that.
 * CHIMNEY_SEED=N reruns the random part.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dlfcn.h>
#include <errno.h>
#include <time.h>
#include <arpa/inet.h>
#include <netdb.h>
#include <cmocka.h>
#include "daemon/selector.h"

/* --- nothing may be looked up ------------------------------------------------------------------
 */

static unsigned lookups;

/** libpcap reads IPv6 addresses with it: allowed for what is nothing but an address. */
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                struct addrinfo **res)
{
    static int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    struct addrinfo numeric = hints ? *hints : (struct addrinfo){0};

    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
    numeric.ai_flags |= AI_NUMERICHOST | AI_NUMERICSERV;
    if (real(node, service, &numeric, res) == 0)
        return 0;
    lookups++;
    return EAI_NONAME;
}
struct hostent *gethostbyname(const char *name)
{
    lookups++;
    return NULL;
}
struct netent *getnetbyname(const char *name)
{
    lookups++;
    return NULL;
}
int getnetbyname_r(const char *name, struct netent *entry, char *buf, size_t len,
                   struct netent **result, int *error)
{
    lookups++;
    *result = NULL;
    return ENOENT;
}
struct protoent *getprotobyname(const char *name)
{
    lookups++;
    return NULL;
}
int getprotobyname_r(const char *name, struct protoent *entry, char *buf, size_t len,
                     struct protoent **result)
{
    lookups++;
    *result = NULL;
    return ENOENT;
}
struct servent *getservbyname(const char *name, const char *proto)
{
    lookups++;
    return NULL;
}

/* --- helpers -----------------------------------------------------------------------------------
 */

static struct flow_key key_of(int family, const char *local, uint16_t lport, const char *remote,
                              uint16_t rport)
{
    struct flow_key key = {.family = (uint16_t)family};
    int af = family == 6 ? AF_INET6 : AF_INET;

    assert_int_equal(inet_pton(af, local, key.local_addr), 1);
    assert_int_equal(inet_pton(af, remote, key.remote_addr), 1);
    key.local_port = htons(lport);
    key.remote_port = htons(rport);
    return key;
}

static int no_lookups(void **state)
{
    lookups = 0;
    return 0;
}

static bool matches(const char *text, uint32_t id, const struct flow_key *key)
{
    char err[256] = "";
    struct selector *s = selector_parse(text, err, sizeof(err));
    bool match;

    if (!s)
        fail_msg("'%s': %s", text, err);
    match = selector_match(s, id, key);
    selector_free(s);
    return match;
}

static void refused(const char *text, const char *part)
{
    char err[256] = "";
    struct selector *s = selector_parse(text, err, sizeof(err));

    if (s)
        fail_msg("'%s' was accepted", text);
    assert_non_null(strstr(err, part));
    assert_null(strchr(err, '\n'));
}

/* --- tests -------------------------------------------------------------------------------------
 */

static void numbers_select_by_id(void **state)
{
    struct flow_key key = key_of(4, "10.0.0.1", 80, "10.0.0.2", 4711);

    assert_true(matches("id 7", 7, &key));
    assert_true(matches("  id 3, 7 ,9 ", 7, &key));
    assert_true(matches("id 4294967295", UINT32_MAX, &key));
    assert_false(matches("id 8", 7, &key));
    assert_true(matches("all", 1, &key));
    refused("id", "numbers");
    refused("id x", "numbers");
    refused("id 0", "numbers");
    refused("id -1", "numbers");
    refused("id 4294967296", "numbers");
    refused("id 99999999999999999999999", "numbers");
    refused("id 1 2", "commas");
    refused("id 1,", "numbers");
    refused("id 1;2", "commas");
}

static void too_many_numbers_are_refused(void **state)
{
    char text[SELECTOR_MAX_TEXT + 10] = "id 1";

    for (int i = 1; i < SELECTOR_MAX_IDS; i++)
        strcat(text, ",2");
    assert_true(matches(text, 2, &(struct flow_key){.family = 4}));
    strcat(text, ",2");
    refused(text, "several commands");
}

static void filters_match_either_direction(void **state)
{
    struct flow_key v4 = key_of(4, "10.0.0.1", 80, "10.0.0.2", 4711);
    struct flow_key v6 = key_of(6, "fd00::1", 6379, "fd00::2", 40000);
    static const struct {
        const char *text;
        bool v4, v6;
    } cases[] = {
        {"tcp", true, true},
        {"ip", true, false},
        {"ip6", false, true},
        {"tcp port 80", true, false},
        {"port 6379", false, true},
        {"src port 80", true, false},
        {"dst port 80", true, false},
        {"src port 80 and dst port 80", false, false},
        {"src host 10.0.0.1 and dst port 4711", true, false},
        {"src host 10.0.0.2 and dst port 80", true, false},
        {"src host 10.0.0.2 and src port 80", false, false},
        {"host 10.0.0.2", true, false},
        {"host fd00::2", false, true},
        {"host fd00:0:0:0:0:0:0:2", false, true},
        {"net 10.0.0.0/8", true, false},
        {"net 10", true, false},
        {"net 10.0.0.0 mask 255.255.255.0", true, false},
        {"net fd00::/64", false, true},
        {"portrange 4000-5000", true, false},
        {"portrange 1-65535", true, true},
        {"not port 80", false, true},
        {"tcp port 80 or tcp port 6379", true, true},
        {"(port 80 || port 6379) && ip6", false, true},
        {"tcp[0:2] = 80", true, false},
        {"tcp[13] & 0x10 != 0", true, false},
        {"tcp[tcpflags] & tcp-ack != 0", true, false},
        {"ip proto 6", true, false},
        {"ip6 proto 6", false, true},
        {"less 40", true, false},
        {"greater 41", false, true},
        {"len - 20 > 39", false, true},
        {"host 10.0.0.3", false, false},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (matches(cases[i].text, 1, &v4) != cases[i].v4)
            fail_msg("'%s' over IPv4", cases[i].text);
        if (matches(cases[i].text, 1, &v6) != cases[i].v6)
            fail_msg("'%s' over IPv6", cases[i].text);
    }
}

static void names_are_refused_and_not_looked_up(void **state)
{
    char long_text[SELECTOR_MAX_TEXT + 2];

    refused("host example.com", "not looked up");
    refused("host localhost", "not looked up");
    refused("port http", "not looked up");
    refused("net loopback", "not looked up");
    refused("udp", "no word");
    refused("host 1.2.3.4.5", "not looked up");
    refused("host 1-2", "not looked up");
    refused("port 1-2", "not looked up");
    refused("host fe80::zz", "not looked up");
    refused("host 00:11:22:33:44:55:66:77:88", "not looked up");
    refused("proto \\tcp", "0x5c");
    refused("port 80; reboot", "0x3b");
    refused("port 80\nport 81", "0x0a");
    refused("host \xff", "0xff");
    refused("", "empty");
    refused("   ", "empty");
    refused("port", "pcap-filter");
    refused("port 65536", "pcap-filter");
    refused("(port 80", "pcap-filter");
    refused("tcp[", "pcap-filter");
    memset(long_text, ' ', sizeof(long_text));
    memcpy(long_text, "tcp", 3);
    memcpy(long_text + sizeof(long_text) - 4, "tcp", 4);
    refused(long_text, "longer than");
    assert_int_equal(lookups, 0);
}

/** Words, pieces of words and rubbish in random order: refused or accepted, never looked up. */
static void random_text_is_never_looked_up(void **state)
{
    static const char *const pieces[] = {
        "tcp",
        "port",
        "portrange",
        "host",
        "net",
        "src",
        "dst",
        "ip",
        "ip6",
        "and",
        "or",
        "not",
        "80",
        "1-2",
        "10.0.0.1",
        "fd00::1",
        "::",
        "::1",
        "1.2",
        "/",
        "8",
        "(",
        ")",
        "[",
        "]",
        ":",
        "-",
        ".",
        "0x",
        "0x1f",
        "&",
        "|",
        "=",
        "<",
        ">",
        "!",
        "*",
        "proto",
        "mask",
        "len",
        "tcp-syn",
        "tcpflags",
        "less",
        "greater",
        "a",
        "dead",
        "beef:",
        "1:2",
        "::ffff:1.2.3.4",
        "00:11:22:33:44:55",
        "1.2.3.4.5",
        "id",
        "%",
        "^",
        "+",
        "65536",
        "4294967296",
        "e1",
        "_",
    };
    const char *env = getenv("CHIMNEY_SEED");
    unsigned seed = env ? (unsigned)strtoul(env, NULL, 0) : (unsigned)time(NULL), r = seed;
    struct flow_key key = key_of(4, "10.0.0.1", 80, "10.0.0.2", 4711);
    unsigned accepted = 0;

    for (int i = 0; i < 100000; i++) {
        char text[256] = "", err[256];
        struct selector *s;
        int n = rand_r(&r) % 7 + 1;

        while (n--) {
            strcat(text, pieces[(unsigned)rand_r(&r) % (sizeof(pieces) / sizeof(pieces[0]))]);
            if (rand_r(&r) % 4)
                strcat(text, " ");
        }
        s = selector_parse(text, err, sizeof(err));
        if (lookups)
            fail_msg("'%s' was looked up (CHIMNEY_SEED=%u)", text, seed);
        if (s) {
            selector_match(s, 1, &key);
            accepted++;
        }
        selector_free(s);
    }
    printf("seed %u: %u of 100000 random texts are selectors\n", seed, accepted);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(numbers_select_by_id, no_lookups),
        cmocka_unit_test_setup(too_many_numbers_are_refused, no_lookups),
        cmocka_unit_test_setup(filters_match_either_direction, no_lookups),
        cmocka_unit_test_setup(names_are_refused_and_not_looked_up, no_lookups),
        cmocka_unit_test_setup(random_text_is_never_looked_up, no_lookups),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
