/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Moves in a flood: 16 connections stream checked data in both directions while movers offload and
 * upload them at random through the control socket.  At least 2,000 moves in IPv4 and 2,000 in
 * IPv6, then with GRO holding packets back, then with two receive queues.
 *
 * Each mover has connections of its own, so every order it gives must be carried out as given.  One
 * more round lets movers contradict each other: then orders may be refused, but nothing may be
 * lost.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "machine.h"

#define CONNECTIONS 16
#define MOVERS 3
/** Which part of the moves is asked of single connections; the others of random subsets. */
#define SINGLES 4

static struct round {
    const char *name;
    unsigned family, queues;
    bool gro, contradict;
    const char *way; /* of the server */
    unsigned moves;  /* at least */
    double seconds;  /* at most; a tenth of it on a machine with nothing else to do */
} rounds[] = {
    {"IPv4", 4, 1, false, false, NULL, 2000, 200},
    {"IPv6", 6, 1, false, false, "--edge", 2000, 200},
    {"IPv4, threads that block", 4, 1, false, false, "--threads", 500, 100},
    {"IPv6, movers that contradict each other", 6, 1, false, true, NULL, 500, 100},
    {"IPv4, GRO holding packets", 4, 1, true, false, NULL, 500, 100},
    {"IPv6, GRO holding packets, two receive queues", 6, 2, true, false, "--edge", 500, 100},
    {"IPv4, two receive queues", 4, 2, false, false, NULL, 500, 100},
};

struct mover {
    pthread_t thread;
    const struct round *round;
    struct machine *machine;
    struct ctl *ctl;
    uint64_t random;
    uint32_t ids[CONNECTIONS];
    unsigned count;
    volatile bool stop;
    unsigned orders, refused, full;
};

static uint64_t draw(uint64_t *state)
{
    uint64_t x = *state += 0x9e3779b97f4a7c15ull;

    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    return x ^ x >> 31;
}

/* One order over some of the mover's connections, waited for. */
static void order(struct mover *m, bool offload)
{
    char selector[256] = "id ";
    unsigned chosen = 0;
    json_t *answer;

    if (draw(&m->random) % SINGLES == 0) {
        snprintf(selector, sizeof(selector), "id %u", m->ids[draw(&m->random) % m->count]);
        chosen = 1;
    } else {
        for (unsigned i = 0; i < m->count; i++)
            if (draw(&m->random) & 1)
                snprintf(selector + strlen(selector), sizeof(selector) - strlen(selector), "%s%u",
                         chosen++ ? "," : "", m->ids[i]);
    }
    if (!chosen)
        return;
    answer =
        ctl_ask(m->ctl, "{\"command\":\"%s\",\"selector\":\"%s\",\"wait\":true,\"timeout\":20}",
                offload ? "offload" : "upload", selector);
    m->orders++;
    if (!json_is_true(json_object_get(answer, "ok"))) {
        char *text = json_dumps(answer, JSON_COMPACT);

        /* A program that reads slowly may have more in its queue than a ring can hold. */
        if (strstr(text, "more data queued than the rings hold")) {
            m->full++;
        } else if (!m->round->contradict) {
            machine_print_logs(m->machine);
            LAB_FAIL("%s of %s: %s", offload ? "offload" : "upload", selector, text);
        }
        m->refused++;
        free(text);
    }
    json_decref(answer);
}

static void *mover_main(void *arg)
{
    struct mover *m = arg;

    while (!m->stop) {
        order(m, draw(&m->random) & 1);
        if (draw(&m->random) % 8 == 0)
            lab_sleep_ms((unsigned)(draw(&m->random) % 10));
    }
    return NULL;
}

/* Moves completed by all connections, by the daemon's own count. */
static int64_t moves_done(struct ctl *ctl)
{
    json_t *status = ctl_must(ctl, "{\"command\":\"status\"}");
    int64_t n = ctl_number(status, "moves.offloads") + ctl_number(status, "moves.uploads");

    json_decref(status);
    return n;
}

static void print_status(struct ctl *ctl, const struct traffic *server,
                         const struct traffic *client, double seconds)
{
    json_t *s = ctl_must(ctl, "{\"command\":\"status\"}");

    printf("  %lld offloads, %lld uploads, %lld failed tries in %.1f s; longest move %.1f ms; "
           "late %lld (dropped %lld), reinjected %lld\n",
           (long long)ctl_number(s, "moves.offloads"), (long long)ctl_number(s, "moves.uploads"),
           (long long)ctl_number(s, "moves.failed"), seconds,
           (double)ctl_number(s, "moves.longest_us") / 1000, (long long)ctl_number(s, "steer.late"),
           (long long)ctl_number(s, "steer.late_dropped"),
           (long long)ctl_number(s, "steer.reinjected"));
    printf("  %.0f MB checked at the client, %.0f MB at the server\n",
           (double)traffic_received(client) / 1e6, (double)traffic_received(server) / 1e6);
    json_decref(s);
}

static void flood(const struct round *round)
{
    const bool v4 = round->family == 4;
    struct traffic server, client;
    struct mover movers[MOVERS];
    uint32_t ids[CONNECTIONS];
    struct machine m;
    struct ctl *ctl;
    uint64_t start, end;
    char seed[32];

    printf("%s: %u connections\n", round->name, CONNECTIONS);
    snprintf(seed, sizeof(seed), "%llu", (unsigned long long)lab_random() >> 1); /* JSON: signed */
    machine_open(&m, round->queues, round->gro);
    machine_daemon_start(&m, NULL);
    ctl = ctl_open(&m);
    traffic_start(&m, m.b, &client, "client", "client",
                  (const char *[]){"--listen", v4 ? MACHINE_B4 ",5002" : "::,5002", "--connect",
                                   v4 ? MACHINE_A4 ",5000,8" : MACHINE_A6 ",5000,12", "--accept",
                                   "4", "--seed", seed, v4 ? "--connect" : NULL,
                                   MACHINE_A4 ",5001,4", NULL});
    traffic_start(&m, m.a, &server, "server", "server",
                  (const char *[]){"--listen", "::,5000", "--listen", MACHINE_A4 ",5001",
                                   "--connect", v4 ? MACHINE_B4 ",5002,4" : MACHINE_B6 ",5002,4",
                                   "--first", "100", "--accept", "12", "--seed", seed, round->way,
                                   NULL});
    traffic_await(&server, CONNECTIONS, 10);
    traffic_await(&client, CONNECTIONS, 10);
    LAB_CHECK(traffic_ids(&server, ids, CONNECTIONS) == CONNECTIONS);
    machine_forget_resets(&m);

    start = lab_now_ns();
    end = start + (uint64_t)(round->seconds * 1e9);
    memset(movers, 0, sizeof(movers));
    for (unsigned i = 0; i < MOVERS; i++) {
        movers[i].round = round;
        movers[i].machine = &m;
        movers[i].ctl = ctl_open(&m);
        movers[i].random = lab_random();
        for (unsigned j = 0; j < CONNECTIONS; j++)
            if (round->contradict || j % MOVERS == i)
                movers[i].ids[movers[i].count++] = ids[j];
        LAB_ZERO(pthread_create(&movers[i].thread, NULL, mover_main, &movers[i]));
    }
    while (moves_done(ctl) < round->moves) {
        if (lab_now_ns() > end)
            LAB_FAIL("only %lld moves in %.0f s", (long long)moves_done(ctl), round->seconds);
        traffic_await_progress(&server, 1, 10);
        traffic_await_progress(&client, 1, 10);
        lab_sleep_ms(50);
    }
    for (unsigned i = 0; i < MOVERS; i++) {
        movers[i].stop = true;
        LAB_ZERO(pthread_join(movers[i].thread, NULL));
        if (movers[i].refused)
            printf("  mover %u: %u of %u orders refused, %u because of full queues\n", i,
                   movers[i].refused, movers[i].orders, movers[i].full);
        ctl_close(movers[i].ctl);
    }
    print_status(ctl, &server, &client, (double)(lab_now_ns() - start) / 1e9);
    LAB_ZERO(ctl_status(ctl, "verifier.breaches"));
    machine_check_no_resets(&m);
    traffic_end(&client, &server);
    printf("  longest silence of a connection: client %.1f ms, server %.1f ms\n",
           (double)ctl_number(client.summary, "silence_us") / 1000,
           (double)ctl_number(server.summary, "silence_us") / 1000);
    machine_check_no_resets(&m);
    ctl_close(ctl);
    machine_close(&m);
}

/* rows: C1-C3 C8 C9 C60 C61 C148 C212-C214 C231 C459 C468 */
int main(int argc, char **argv)
{
    lab_init("flood", 880);
    for (unsigned i = 0; i < sizeof(rounds) / sizeof(rounds[0]); i++)
        if (argc < 2 || strtoul(argv[1], NULL, 10) == i)
            flood(&rounds[i]);
    puts("passed");
    return 0;
}
