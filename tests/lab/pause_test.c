/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pause, word for word, against the real kernel and in traffic:
 *
 *   - while paused nothing new is offered, and new connections work;
 *   - an initiate caught in flight is queued, its connection goes on in the kernel, and it
 * completes after the resume;
 *   - offloaded connections keep moving;
 *   - pause, upload-all: sends complete with UPLOAD_IN_PROGRESS at the contract, the program sees
 * no error and loses no byte;
 *   - a target that never resumes does no harm: the daemon ends while it is paused and has
 * initiates queued, in order and by SIGKILL, and every connection goes on.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "machine.h"

#define CONNECTIONS 8
/** What every connection has to carry to be called moving. */
#define PROGRESS 20000
#define RATE "2000000"

static struct machine m;
static struct traffic server, client;
static struct ctl *ctl;
static uint32_t ids[CONNECTIONS];

static const char *state_of(uint32_t id)
{
    static char state[16];
    json_t *row = ctl_conn(ctl, id);

    LAB_CHECK(row);
    snprintf(state, sizeof(state), "%s", ctl_text(row, "state"));
    json_decref(row);
    return state;
}

/* A number of the status; shows everything if it is another one. */
static void expect(const char *path, int64_t value)
{
    int64_t is = ctl_status(ctl, path);
    json_t *list;

    if (is == value)
        return;
    list = ctl_must(ctl, "{\"command\":\"list\"}");
    json_dumpf(list, stderr, JSON_INDENT(1));
    machine_print_logs(&m);
    LAB_FAIL("%s is %lld, not %lld", path, (long long)is, (long long)value);
}

static bool queued(uint32_t id)
{
    json_t *row = ctl_conn(ctl, id);
    bool is = ctl_number(row, "queued");

    json_decref(row);
    return is;
}

static int64_t bytes_of(uint32_t id)
{
    json_t *row = ctl_conn(ctl, id);
    int64_t bytes = ctl_number(row, "bytes_in") + ctl_number(row, "bytes_out");

    json_decref(row);
    return bytes;
}

/* Every connection of either side carries data in both directions. */
static void all_move(void)
{
    traffic_await_progress(&server, PROGRESS, 10);
    traffic_await_progress(&client, PROGRESS, 10);
}

static void offload(unsigned first, unsigned last)
{
    char selector[128] = "id ";

    for (unsigned i = first; i <= last; i++)
        snprintf(selector + strlen(selector), sizeof(selector) - strlen(selector), "%s%u",
                 i > first ? "," : "", ids[i]);
    ctl_do(ctl, "{\"command\":\"offload\",\"selector\":\"%s\",\"wait\":true}", selector);
    /* It may be on the way from rings that are too small for a flood to larger ones. */
    for (unsigned i = first; i <= last; i++) {
        for (int tries = 0; tries < 200 && strcmp(state_of(ids[i]), "Offloaded") != 0; tries++)
            lab_sleep_ms(10);
        LAB_ZERO(strcmp(state_of(ids[i]), "Offloaded"));
    }
}

/* Events of @kind since the subscription's last reading; failed moves apart. */
static unsigned events(struct ctl *log, const char *kind, const char *direction)
{
    unsigned n = 0;
    json_t *event;

    while ((event = ctl_next(log, 100)) != NULL) {
        if (getenv("LAB_VERBOSE"))
            json_dumpf(event, stderr, JSON_COMPACT), fputc('\n', stderr);
        if (strcmp(ctl_text(event, "kind"), kind) == 0 &&
            (!direction || strcmp(ctl_text(event, "direction"), direction) == 0)) {
            if (direction && ctl_number(event, "failed"))
                printf("  tried again: %s\n", ctl_text(event, "why"));
            else
                n++;
        }
        json_decref(event);
    }
    return n;
}

static struct ctl *subscribe(void)
{
    struct ctl *log = ctl_open(&m);

    ctl_do(log, "{\"command\":\"events\"}");
    return log;
}

/*
 * Eight connections, four of each family.  @rate: bytes per second and direction, so that no ring
 * becomes full and no connection has a reason to move but those the test gives; NULL: a flood.
 */
static void begin(const char *what, const char *rate, const char *const *daemon_arguments)
{
    printf("%s\n", what);
    machine_open(&m, 1, false);
    machine_daemon_start(&m, daemon_arguments);
    ctl = ctl_open(&m);
    traffic_start(&m, m.a, &server, "server", "server",
                  (const char *[]){"--listen", "::,5000", "--accept", "8", rate ? "--rate" : NULL,
                                   rate, NULL});
    traffic_start(&m, m.b, &client, "client", "client",
                  (const char *[]){"--connect", MACHINE_A4 ",5000,4", "--connect",
                                   MACHINE_A6 ",5000,4", rate ? "--rate" : NULL, rate, NULL});
    traffic_await(&server, CONNECTIONS, 10);
    traffic_await(&client, CONNECTIONS, 10);
    LAB_CHECK(traffic_ids(&server, ids, CONNECTIONS) == CONNECTIONS);
}

static void end(void)
{
    traffic_end(&client, &server);
    machine_check_no_resets(&m);
    machine_close(&m);
}

/* rows: C179 C357 C361 */
static void nothing_new_is_offered(void)
{
    struct traffic more;
    struct ctl *log;
    json_t *answer;
    int64_t initiates, carried[CONNECTIONS / 2];
    uint32_t new_id = 0;

    begin("nothing new is offered, new connections work, offloaded ones keep moving", RATE, NULL);
    offload(0, CONNECTIONS / 2 - 1);
    log = subscribe();
    ctl_do(ctl, "{\"command\":\"pause\"}");
    expect("targets.0.paused", 1);
    initiates = ctl_status(ctl, "targets.0.initiates");
    for (unsigned i = 0; i < CONNECTIONS / 2; i++)
        carried[i] = bytes_of(ids[i]);

    /* Connections made in the pause; they ask for an offload at once. */
    traffic_start(&m, m.b, &more, "more", "client",
                  (const char *[]){"--connect", MACHINE_A4 ",5000,2", "--connect",
                                   MACHINE_A6 ",5000,2", "--first", "50", "--rate", RATE, NULL});
    traffic_await(&server, CONNECTIONS + 4, 10);
    answer = ctl_ask(ctl, "{\"command\":\"offload\",\"selector\":\"id %u\"}", ids[CONNECTIONS - 1]);
    LAB_CHECK(!json_is_true(json_object_get(answer, "ok")));
    LAB_CHECK(strstr(ctl_text(answer, "error"), "paused"));
    json_decref(answer);
    for (int i = 0; i < 5; i++) {
        all_move();
        traffic_await_progress(&more, PROGRESS, 10);
        lab_sleep_ms(100);
    }
    for (unsigned i = 0; i < CONNECTIONS / 2; i++) {
        LAB_ZERO(strcmp(state_of(ids[i]), "Offloaded"));
        LAB_CHECK(bytes_of(ids[i]) > carried[i] + PROGRESS);
    }
    for (unsigned i = CONNECTIONS / 2; i < CONNECTIONS; i++)
        LAB_ZERO(strcmp(state_of(ids[i]), "InHost"));
    for (unsigned i = CONNECTIONS; i < CONNECTIONS + 4; i++) {
        new_id = atomic_load(&server.table->rows[i].id);
        LAB_ZERO(strcmp(state_of(new_id), "InHost"));
    }
    expect("targets.0.initiates", initiates);
    LAB_CHECK(events(log, "move", NULL) == 0);

    ctl_do(ctl, "{\"command\":\"resume\"}");
    expect("targets.0.paused", 0);
    ctl_do(ctl, "{\"command\":\"offload\",\"all\":true,\"wait\":true}");
    expect("targets.0.connections", CONNECTIONS + 4);
    LAB_ZERO(strcmp(state_of(new_id), "Offloaded"));
    all_move();
    ctl_close(log);
    ctl_close(ctl);
    kill(more.pid, SIGTERM);
    traffic_end(&client, &server);
    traffic_end(&more, &server);
    machine_check_no_resets(&m);
    machine_close(&m);
}

/* A policy that offloads everything waits for the resume as well. rows: C357 C361 */
static void automatic_waits(void)
{
    struct traffic more;
    struct ctl *log;

    begin("a daemon that offloads everything offers nothing in a pause", RATE,
          (const char *[]){"--auto", NULL});
    ctl_await(ctl, "connections.offloaded", CONNECTIONS, 10);
    log = subscribe();
    ctl_do(ctl, "{\"command\":\"pause\"}");
    traffic_start(&m, m.b, &more, "more", "client",
                  (const char *[]){"--connect", MACHINE_A4 ",5000,2", "--connect",
                                   MACHINE_A6 ",5000,2", "--first", "50", "--rate", RATE, NULL});
    traffic_await(&server, CONNECTIONS + 4, 10);
    for (int i = 0; i < 3; i++) {
        all_move();
        traffic_await_progress(&more, PROGRESS, 10);
        lab_sleep_ms(100);
    }
    expect("connections.in_host", 4);
    LAB_CHECK(events(log, "move", NULL) == 0);
    ctl_do(ctl, "{\"command\":\"resume\"}");
    ctl_await(ctl, "connections.offloaded", CONNECTIONS + 4, 10);
    all_move();
    ctl_close(log);
    ctl_close(ctl);
    kill(more.pid, SIGTERM);
    traffic_end(&client, &server);
    traffic_end(&more, &server);
    machine_check_no_resets(&m);
    machine_close(&m);
}

/*
 * Has the initiate of connections @first to @last caught by a pause.  Some of several may come too
 * late for it: a program inside a call, out-of-order data.  Returns how many are queued.
 */
static unsigned catch_in_flight(unsigned first, unsigned last)
{
    char selector[128] = "id ";
    unsigned caught = 0;

    for (unsigned i = first; i <= last; i++)
        snprintf(selector + strlen(selector), sizeof(selector) - strlen(selector), "%s%u",
                 i > first ? "," : "", ids[i]);
    ctl_do(ctl, "{\"command\":\"pause\",\"on_initiate\":true}");
    expect("targets.0.paused", 0);
    ctl_do(ctl, "{\"command\":\"offload\",\"selector\":\"%s\"}", selector);
    ctl_await(ctl, "targets.0.paused", 1, 10);
    expect("targets.0.queued", 1);
    for (unsigned i = first; i <= last; i++) {
        if (queued(ids[i])) {
            LAB_ZERO(strcmp(state_of(ids[i]), "Offloading"));
            caught++;
        } else {
            LAB_ZERO(strcmp(state_of(ids[i]), "InHost"));
        }
    }
    LAB_CHECK(caught > 0);
    expect("connections.queued", caught);
    return caught;
}

/* rows: C8 C358 C361 */
static void initiate_in_flight_is_queued(void)
{
    struct ctl *log;
    unsigned caught;

    for (unsigned last = 0; last < CONNECTIONS; last += CONNECTIONS - 1) {
        begin(last ? "an initiate of eight in flight is queued" : "an initiate in flight is queued",
              RATE, NULL);
        log = subscribe();
        caught = catch_in_flight(0, last);
        expect("targets.0.queued_in_pause", caught);
        for (int i = 0; i < 5; i++) {
            all_move();
            lab_sleep_ms(50);
        }
        expect("connections.queued", caught);
        LAB_CHECK(events(log, "move", NULL) == 0);
        ctl_do(ctl, "{\"command\":\"resume\"}");
        ctl_await(ctl, "connections.offloaded", last + 1, 10);
        expect("targets.0.queued", 0);
        LAB_CHECK(events(log, "move", "offload") == last + 1);
        all_move();
        /* And once more: what was queued once is no different. */
        ctl_do(ctl, "{\"command\":\"upload\",\"all\":true,\"wait\":true}");
        catch_in_flight(0, last);
        all_move();
        ctl_do(ctl, "{\"command\":\"resume\"}");
        ctl_await(ctl, "connections.offloaded", last + 1, 10);
        all_move();
        ctl_close(log);
        ctl_close(ctl);
        end();
    }
}

/* The program closes a connection whose initiate is queued. rows: C358 C362 */
static void closed_while_queued(void)
{
    begin("connections are closed while their initiate is queued", NULL, NULL);
    catch_in_flight(0, CONNECTIONS - 1);
    all_move();
    traffic_end(&client, &server);
    ctl_await(ctl, "connections.attached", 0, 10);
    ctl_do(ctl, "{\"command\":\"resume\"}");
    ctl_await(ctl, "targets.0.queued", 0, 10);
    ctl_await(ctl, "targets.0.connections", 0, 10);
    machine_check_no_resets(&m);
    ctl_close(ctl);
    machine_close(&m);
}

/* Who takes a connection back while its initiate is queued keeps it. rows: C358 */
static void uploaded_while_queued(void)
{
    begin("connections are uploaded while their initiate is queued", RATE, NULL);
    catch_in_flight(0, CONNECTIONS - 1);
    ctl_do(ctl, "{\"command\":\"upload\",\"selector\":\"id %u,%u,%u,%u\",\"wait\":true}", ids[0],
           ids[1], ids[2], ids[3]);
    all_move();
    ctl_do(ctl, "{\"command\":\"resume\"}");
    ctl_await(ctl, "connections.offloaded", CONNECTIONS - 4, 10);
    ctl_await(ctl, "connections.queued", 0, 10);
    for (unsigned i = 0; i < CONNECTIONS; i++)
        LAB_ZERO(strcmp(state_of(ids[i]), i < 4 ? "InHost" : "Offloaded"));
    all_move();
    offload(0, CONNECTIONS - 1);
    all_move();
    ctl_close(ctl);
    end();
}

/* rows: C251 C359 C361 C363 C364 */
static void upload_all_in_pause(void)
{
    int64_t before = 0, in_progress = 0;

    begin("pause, upload-all: sends are completed with UPLOAD_IN_PROGRESS", NULL, NULL);
    offload(0, CONNECTIONS - 1);
    for (int round = 0; round < 5; round++) {
        all_move();
        ctl_do(ctl, "{\"command\":\"pause\"}");
        all_move();
        ctl_do(ctl, "{\"command\":\"upload-all\",\"wait\":true}");
        expect("connections.in_host", CONNECTIONS);
        expect("targets.0.connections", 0);
        in_progress = ctl_status(ctl, "targets.0.sends_upload_in_progress");
        printf("  round %d: %lld sends in progress\n", round, (long long)(in_progress - before));
        before = in_progress;
        expect("targets.0.paused", 1);
        all_move();
        /* Paths and neighbors go as well; then the target is empty. */
        ctl_await(ctl, "targets.0.paths", 0, 5);
        ctl_await(ctl, "targets.0.neighbors", 0, 5);
        ctl_do(ctl, "{\"command\":\"resume\"}");
        offload(0, CONNECTIONS - 1);
    }
    LAB_CHECK(in_progress > 0);
    all_move();
    expect("verifier.breaches", 0);
    ctl_close(ctl);
    end();
}

/* upload-all without a pause before, with an initiate in flight. rows: C358 C359 C363 */
static void upload_all_with_queue(void)
{
    begin("upload-all while initiates are queued", NULL, NULL);
    offload(0, 2);
    catch_in_flight(3, CONNECTIONS - 1);
    ctl_do(ctl, "{\"command\":\"upload-all\",\"timeout\":5}");
    ctl_await(ctl, "connections.offloaded", 0, 10);
    all_move();
    ctl_do(ctl, "{\"command\":\"resume\"}");
    ctl_await(ctl, "connections.queued", 0, 10);
    all_move();
    ctl_do(ctl, "{\"command\":\"offload\",\"all\":true,\"wait\":true}");
    all_move();
    ctl_close(ctl);
    end();
}

/* rows: C362 */
static void never_resumes(int number)
{
    begin(number == SIGKILL ? "a target that never resumes, and a daemon that is killed"
                            : "a target that never resumes, and a daemon that ends",
          NULL, NULL);
    if (number != SIGKILL)
        offload(0, 2);
    catch_in_flight(3, CONNECTIONS - 1);
    all_move();
    ctl_close(ctl);
    LAB_CHECK(machine_daemon_end(&m, number) == (number == SIGKILL ? 128 + SIGKILL : 0));
    for (int i = 0; i < 5; i++) {
        all_move();
        lab_sleep_ms(100);
    }
    end();
}

static void daemon_ends(void)
{
    never_resumes(SIGTERM);
    never_resumes(SIGINT);
    never_resumes(SIGKILL);
}

int main(int argc, char **argv)
{
    void (*const tests[])(void) = {nothing_new_is_offered,       automatic_waits,
                                   initiate_in_flight_is_queued, closed_while_queued,
                                   uploaded_while_queued,        upload_all_in_pause,
                                   upload_all_with_queue,        daemon_ends};

    lab_init("pause", 115);
    for (unsigned i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
        if (argc < 2 || strtoul(argv[1], NULL, 10) == i)
            tests[i]();
    puts("passed");
    return 0;
}
