/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libchimney without a daemon: every connection stays in the kernel and works.  It is the traffic
 * program's own test as well, in each of its three ways.
 */
#include <stdio.h>
#include "machine.h"

static void run(const char *way)
{
    struct traffic server, client;
    struct machine m;

    printf("%s\n", way ? way : "loop");
    machine_open(&m, 1, false);
    traffic_start(&m, m.a, &server, "server", "server",
                  (const char *[]){"--listen", "::,5000", "--listen", MACHINE_A4 ",5001",
                                   "--accept", "12", "--connect", MACHINE_B4 ",5002,4", "--connect",
                                   MACHINE_B6 ",5003,4", "--first", "100", "--sha256", way, NULL});
    traffic_start(&m, m.b, &client, "client", "client",
                  (const char *[]){"--connect", MACHINE_A4 ",5000,4", "--connect",
                                   MACHINE_A6 ",5000,4", "--connect", MACHINE_A4 ",5001,4",
                                   "--listen", MACHINE_B4 ",5002", "--listen", "::,5003",
                                   "--accept", "8", "--sha256", way, NULL});
    traffic_await(&server, 20, 10);
    traffic_await(&client, 20, 10);
    machine_forget_resets(&m);
    traffic_await_progress(&client, 1 << 20, 10);
    traffic_await_progress(&server, 1 << 20, 10);
    traffic_end(&client, &server);
    printf("  %lld bytes checked in %.1f s, longest silence %.1f ms\n",
           (long long)(ctl_number(server.summary, "received") +
                       ctl_number(client.summary, "received")),
           (double)ctl_number(server.summary, "seconds"),
           (double)ctl_number(client.summary, "silence_us") / 1000);
    machine_check_no_resets(&m);
    machine_close(&m);
}

int main(void)
{
    lab_init("traff", 55);
    run(NULL);
    run("--edge");
    run("--threads");
    puts("passed");
    return 0;
}
