/* SPDX-License-Identifier: Apache-2.0 */
#include "machine.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/** Time chimneyd has to begin to serve: its self-test moves connections of its own. */
#define START_S 20
/** Time chimneyd has to end: its own limit is 20 s. */
#define END_S 25

static unsigned machine_count;

/* ---- directories and programs ---------------------------------------------------------------- */

static void remove_directories(void)
{
    char command[96];

    snprintf(command, sizeof(command), "rm -rf /tmp/chimney-lab-%d", (int)getpid());
    if (system(command))
        fprintf(stderr, "machine: %s failed\n", command);
}

void machine_open(struct machine *m, unsigned queues, bool gro)
{
    memset(m, 0, sizeof(*m));
    m->number = ++machine_count;
    snprintf(m->dir, sizeof(m->dir), "/tmp/chimney-lab-%d", (int)getpid());
    if (mkdir(m->dir, 0700) < 0 && errno != EEXIST)
        LAB_FAIL("%s: %s", m->dir, strerror(errno));
    lab_at_end(remove_directories);
    snprintf(m->dir, sizeof(m->dir), "/tmp/chimney-lab-%d/%u", (int)getpid(), m->number);
    LAB_ZERO(mkdir(m->dir, 0700));
    m->a = lab_ns("a");
    m->b = lab_ns("b");
    lab_veth(m->a, "va", m->b, "vb", queues, 9);
    lab_sysctl(m->a, "net.ipv4.tcp_congestion_control", "reno");
    lab_sysctl(m->b, "net.ipv4.tcp_congestion_control", "reno");
    /* Linux's default: a queue longer than STREAM_RING_MAX is not offloaded until it is shorter. */
    lab_sysctl(m->a, "net.ipv4.tcp_rmem", "4096 131072 6291456");
    lab_sysctl(m->b, "net.ipv4.tcp_rmem", "4096 131072 6291456");
    if (gro)
        lab_must(-1,
                 "ip netns exec %s sh -c 'ethtool -K va gro on && "
                 "echo 5000000 > /sys/class/net/va/gro_flush_timeout && "
                 "echo 100 > /sys/class/net/va/napi_defer_hard_irqs'",
                 lab_ns_name(m->a));
    m->witness = lab_witness(m->b, "vb");
    machine_forget_resets(m);
    if (getenv("LAB_PCAP")) {
        const char *file = getenv("LAB_PCAP");

        m->tcpdump = machine_spawn(m, m->b, "tcpdump",
                                   (const char *[]){"/usr/bin/tcpdump", "-i", "vb", "-s", "100",
                                                    "-B", "65536", "-U", "-w", file, NULL});
        lab_sleep_ms(500);
    }
}

const char *machine_program(const char *path)
{
    static char full[8][PATH_MAX];
    static unsigned next;
    char *out = full[next++ % 8], self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

    LAB_CHECK(n > 0);
    self[n] = '\0';
    /* tests/lab/NAME: two floors below the build folder. */
    snprintf(out, PATH_MAX, "%.3000s/../../%.900s", dirname(self), path);
    return out;
}

struct spawn {
    const char *const *argv;
    char path[PATH_MAX], out[128];
};

static int spawn_main(void *arg)
{
    const struct spawn *s = arg;
    int fd = open(s->out, O_WRONLY | O_CREAT | O_APPEND, 0600);
    sigset_t none;

    if (fd < 0 || dup2(fd, STDOUT_FILENO) < 0 || dup2(fd, STDERR_FILENO) < 0)
        return 126;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    for (int signal_number = 1; signal_number < 32; signal_number++)
        signal(signal_number, SIG_DFL);
    execv(s->path, (char *const *)s->argv);
    fprintf(stderr, "%s: %s\n", s->path, strerror(errno));
    return 127;
}

pid_t machine_spawn(struct machine *m, int ns, const char *tag, const char *const *argv)
{
    struct spawn s = {.argv = argv};

    snprintf(s.path, sizeof(s.path), "%s", argv[0][0] == '/' ? argv[0] : machine_program(argv[0]));
    snprintf(s.out, sizeof(s.out), "%s/%s.log", m->dir, tag);
    return lab_fork(ns, spawn_main, &s);
}

char *machine_output(struct machine *m, const char *tag)
{
    char path[128];
    char *text;
    size_t n;
    FILE *f;

    snprintf(path, sizeof(path), "%s/%s.log", m->dir, tag);
    text = calloc(1, 65536);
    LAB_CHECK(text);
    f = fopen(path, "re");
    if (!f)
        return text;
    n = fread(text, 1, 65535, f);
    text[n] = '\0';
    fclose(f);
    return text;
}

void machine_print_logs(struct machine *m)
{
    char command[160];

    fflush(stdout);
    snprintf(command, sizeof(command), "tail -v -n 40 %s/*.log >&2", m->dir);
    if (system(command))
        fprintf(stderr, "machine: %s failed\n", command);
}

int machine_wait(pid_t pid, double seconds)
{
    uint64_t end = lab_now_ns() + (uint64_t)(seconds * 1e9);
    int status;

    for (;;) {
        pid_t got = waitpid(pid, &status, WNOHANG);

        LAB_CHECK(got >= 0 || errno == EINTR);
        if (got == pid)
            return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        if (lab_now_ns() > end)
            return -1;
        lab_sleep_ms(2);
    }
}

/* ---- the daemon ------------------------------------------------------------------------------ */

static int control_connect(struct machine *m)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    LAB_CHECK(fd >= 0);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/control.sock", m->dir);
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

void machine_daemon_start(struct machine *m, const char *const *arguments)
{
    const char *argv[MACHINE_MAX_ARGS] = {"src/daemon/chimneyd", "--port", "va", "--rundir",
                                          m->dir};
    uint64_t end = lab_now_ns() + START_S * 1000000000ull;
    unsigned n = 5;
    int fd = -1;

    while (arguments && *arguments && n < MACHINE_MAX_ARGS - 1)
        argv[n++] = *arguments++;
    LAB_CHECK(!m->daemon);
    m->daemon = machine_spawn(m, m->a, "chimneyd", argv);
    while (fd < 0) {
        int status = machine_wait(m->daemon, 0.02);

        if (status >= 0 || lab_now_ns() > end) {
            machine_print_logs(m);
            LAB_FAIL("chimneyd does not serve (status %d)", status);
        }
        fd = control_connect(m);
    }
    close(fd);
    machine_forget_resets(m); /* its self-test closes connections of its own */
}

int machine_daemon_end(struct machine *m, int number)
{
    int status;

    LAB_CHECK(m->daemon > 0);
    kill(m->daemon, number);
    status = machine_wait(m->daemon, END_S);
    if (status < 0) {
        kill(m->daemon, SIGKILL);
        machine_print_logs(m);
        LAB_FAIL("chimneyd does not end");
    }
    m->daemon = 0;
    return status;
}

bool machine_daemon_said(struct machine *m, const char *text)
{
    char *log = machine_output(m, "chimneyd");
    bool said = strstr(log, text) != NULL;

    free(log);
    return said;
}

void machine_close(struct machine *m)
{
    if (m->daemon) {
        int status = machine_daemon_end(m, SIGTERM);

        if (status) {
            machine_print_logs(m);
            LAB_FAIL("chimneyd ended with status %d", status);
        }
    }
    if (machine_daemon_said(m, "broken by")) {
        machine_print_logs(m);
        LAB_FAIL("the verifier saw a breach of the contract");
    }
    if (m->tcpdump) {
        kill(m->tcpdump, SIGTERM);
        machine_wait(m->tcpdump, 5);
    }
    lab_witness_end(m->witness);
    lab_clear();
    memset(m, 0, sizeof(*m));
}

/* ---- counters -------------------------------------------------------------------------------- */

uint64_t machine_out_resets(int ns)
{
    char names[2048], values[2048];
    uint64_t resets = UINT64_MAX;
    char *name, *value, *name_end, *value_end;
    int here = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    FILE *f;

    lab_enter(ns);
    f = fopen("/proc/thread-self/net/snmp", "re");
    LAB_CHECK(f && here >= 0);
    while (fgets(names, sizeof(names), f) && fgets(values, sizeof(values), f)) {
        if (strncmp(names, "Tcp:", 4))
            continue;
        name = strtok_r(names, " \n", &name_end);
        value = strtok_r(values, " \n", &value_end);
        while (name && value) {
            if (strcmp(name, "OutRsts") == 0)
                resets = strtoull(value, NULL, 10);
            name = strtok_r(NULL, " \n", &name_end);
            value = strtok_r(NULL, " \n", &value_end);
        }
    }
    fclose(f);
    LAB_ZERO(setns(here, 0));
    close(here);
    LAB_CHECK(resets != UINT64_MAX);
    return resets;
}

void machine_forget_resets(struct machine *m)
{
    m->resets_wire = lab_witness_resets(m->witness);
    m->resets_a = machine_out_resets(m->a);
    m->resets_b = machine_out_resets(m->b);
}

void machine_check_no_resets(struct machine *m)
{
    unsigned wire = lab_witness_resets(m->witness) - m->resets_wire;
    uint64_t a = machine_out_resets(m->a) - m->resets_a;
    uint64_t b = machine_out_resets(m->b) - m->resets_b;

    if (wire || a || b) {
        machine_print_logs(m);
        LAB_FAIL("%u resets on the wire, TcpOutRsts %llu in A, %llu in B", wire,
                 (unsigned long long)a, (unsigned long long)b);
    }
}

/* ---- the control socket ---------------------------------------------------------------------- */

struct ctl *ctl_open(struct machine *m)
{
    struct ctl *ctl = calloc(1, sizeof(*ctl));

    LAB_CHECK(ctl);
    ctl->machine = m;
    ctl->fd = control_connect(m);
    if (ctl->fd < 0)
        LAB_FAIL("no control socket: %s", strerror(errno));
    return ctl;
}

void ctl_close(struct ctl *ctl)
{
    close(ctl->fd);
    free(ctl);
}

json_t *ctl_next(struct ctl *ctl, int timeout_ms)
{
    uint64_t end = lab_now_ns() + (uint64_t)timeout_ms * 1000000;
    char *newline;
    json_t *json;
    json_error_t error;

    while (!(newline = memchr(ctl->data, '\n', ctl->used))) {
        struct pollfd pfd = {.fd = ctl->fd, .events = POLLIN};
        uint64_t now = lab_now_ns();
        ssize_t n;

        if (now >= end || poll(&pfd, 1, (int)((end - now + 999999) / 1000000)) == 0)
            return NULL;
        LAB_CHECK(ctl->used < sizeof(ctl->data));
        n = recv(ctl->fd, ctl->data + ctl->used, sizeof(ctl->data) - ctl->used, 0);
        if (n <= 0)
            return NULL;
        ctl->used += (size_t)n;
    }
    json = json_loadb(ctl->data, (size_t)(newline - ctl->data), 0, &error);
    if (!json)
        LAB_FAIL("not JSON: %s: %.*s", error.text, (int)(newline - ctl->data), ctl->data);
    ctl->used -= (size_t)(newline + 1 - ctl->data);
    memmove(ctl->data, newline + 1, ctl->used);
    return json;
}

static json_t *ask(struct ctl *ctl, bool must, const char *format, va_list args)
{
    char line[4096];
    int n = vsnprintf(line, sizeof(line) - 1, format, args);
    json_t *answer;

    LAB_CHECK(n > 0 && n < (int)sizeof(line) - 1);
    line[n] = '\n';
    if (send(ctl->fd, line, (size_t)n + 1, MSG_NOSIGNAL) != n + 1)
        LAB_FAIL("asking %.*s: %s", n, line, strerror(errno));
    answer = ctl_next(ctl, 60000);
    if (!answer)
        LAB_FAIL("no answer to %.*s", n, line);
    if (must && !json_is_true(json_object_get(answer, "ok"))) {
        char *text = json_dumps(answer, JSON_COMPACT);

        LAB_FAIL("%.*s was answered by %s", n, line, text);
    }
    return answer;
}

json_t *ctl_ask(struct ctl *ctl, const char *format, ...)
{
    va_list args;
    json_t *answer;

    va_start(args, format);
    answer = ask(ctl, false, format, args);
    va_end(args);
    return answer;
}

json_t *ctl_must(struct ctl *ctl, const char *format, ...)
{
    va_list args;
    json_t *answer;

    va_start(args, format);
    answer = ask(ctl, true, format, args);
    va_end(args);
    return answer;
}

void ctl_do(struct ctl *ctl, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    json_decref(ask(ctl, true, format, args));
    va_end(args);
}

const json_t *ctl_at(const json_t *json, const char *path)
{
    char copy[128], *end;
    const json_t *at = json;

    snprintf(copy, sizeof(copy), "%s", path);
    for (char *word = strtok_r(copy, ".", &end); word && at; word = strtok_r(NULL, ".", &end))
        at = json_is_array(at) ? json_array_get(at, strtoul(word, NULL, 10))
                               : json_object_get(at, word);
    if (!at) {
        char *text = json_dumps(json, JSON_COMPACT);

        LAB_FAIL("no \"%s\" in %s", path, text);
    }
    return at;
}

int64_t ctl_number(const json_t *json, const char *path)
{
    const json_t *at = ctl_at(json, path);

    return json_is_boolean(at) ? json_is_true(at) : (int64_t)json_number_value(at);
}

const char *ctl_text(const json_t *json, const char *path)
{
    const char *text = json_string_value(ctl_at(json, path));

    return text ? text : "";
}

int64_t ctl_status(struct ctl *ctl, const char *path)
{
    json_t *status = ctl_must(ctl, "{\"command\":\"status\"}");
    int64_t value = ctl_number(status, path);

    json_decref(status);
    return value;
}

void ctl_await(struct ctl *ctl, const char *path, int64_t value, double seconds)
{
    uint64_t end = lab_now_ns() + (uint64_t)(seconds * 1e9);
    int64_t now;

    while ((now = ctl_status(ctl, path)) != value) {
        if (lab_now_ns() > end) {
            json_dumpf(ctl_must(ctl, "{\"command\":\"list\"}"), stderr, JSON_INDENT(1));
            machine_print_logs(ctl->machine);
            LAB_FAIL("%s is %lld, not %lld", path, (long long)now, (long long)value);
        }
        lab_sleep_ms(5);
    }
}

json_t *ctl_conn(struct ctl *ctl, uint32_t id)
{
    json_t *list = ctl_must(ctl, "{\"command\":\"list\",\"selector\":\"id %u\"}", id);
    json_t *row = json_array_get(json_object_get(list, "connections"), 0);

    json_incref(row);
    json_decref(list);
    return row;
}

/* ---- traffic --------------------------------------------------------------------------------- */

void traffic_start(struct machine *m, int ns, struct traffic *t, const char *tag, const char *role,
                   const char *const *arguments)
{
    char progress[128], summary[128];
    const char *argv[MACHINE_MAX_ARGS] = {"tests/lab/traffic", role,     "--rundir",  m->dir,
                                          "--progress",        progress, "--summary", summary};
    unsigned n = 8;
    int fd;

    memset(t, 0, sizeof(*t));
    t->machine = m;
    snprintf(t->tag, sizeof(t->tag), "%s", tag);
    snprintf(progress, sizeof(progress), "%s/%s.table", m->dir, tag);
    snprintf(summary, sizeof(summary), "%s/%s.json", m->dir, tag);
    while (*arguments && n < MACHINE_MAX_ARGS - 1)
        argv[n++] = *arguments++;
    fd = open(progress, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    LAB_CHECK(fd >= 0);
    LAB_ZERO(ftruncate(fd, sizeof(*t->table)));
    t->table = mmap(NULL, sizeof(*t->table), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    LAB_CHECK(t->table != MAP_FAILED);
    close(fd);
    t->pid = machine_spawn(m, ns, tag, argv);
    while (!atomic_load(&t->table->ready)) {
        int status = machine_wait(t->pid, 0.01);

        if (status >= 0) {
            machine_print_logs(m);
            LAB_FAIL("traffic %s ended with status %d", tag, status);
        }
    }
}

/* Ends the test if the program has ended already. */
static void traffic_lives(struct traffic *t)
{
    int status = machine_wait(t->pid, 0);

    if (status >= 0) {
        machine_print_logs(t->machine);
        LAB_FAIL("traffic %s ended with status %d", t->tag, status);
    }
}

void traffic_await(struct traffic *t, unsigned count, double seconds)
{
    uint64_t end = lab_now_ns() + (uint64_t)(seconds * 1e9);

    while (atomic_load(&t->table->count) < count) {
        traffic_lives(t);
        if (lab_now_ns() > end)
            LAB_FAIL("traffic %s: %u connections, not %u", t->tag, atomic_load(&t->table->count),
                     count);
        lab_sleep_ms(2);
    }
}

void traffic_await_progress(struct traffic *t, uint64_t bytes, double seconds)
{
    static struct {
        uint64_t sent, received;
    } before[TRAFFIC_MAX];
    uint64_t end = lab_now_ns() + (uint64_t)(seconds * 1e9);
    unsigned count = atomic_load(&t->table->count), i;

    for (i = 0; i < count; i++) {
        before[i].sent = atomic_load(&t->table->rows[i].sent);
        before[i].received = atomic_load(&t->table->rows[i].received);
    }
    for (i = 0; i < count;) {
        const struct traffic_row *row = &t->table->rows[i];

        if (atomic_load(&row->state) != TRAFFIC_OPEN ||
            (atomic_load(&row->sent) - before[i].sent >= bytes &&
             atomic_load(&row->received) - before[i].received >= bytes)) {
            i++;
            continue;
        }
        traffic_lives(t);
        if (lab_now_ns() > end) {
            machine_print_logs(t->machine);
            LAB_FAIL("traffic %s: connection %u (id %u) stands still: sent %llu + %llu, received "
                     "%llu + %llu",
                     t->tag, row->number, row->id, (unsigned long long)before[i].sent,
                     (unsigned long long)(atomic_load(&row->sent) - before[i].sent),
                     (unsigned long long)before[i].received,
                     (unsigned long long)(atomic_load(&row->received) - before[i].received));
        }
        lab_sleep_ms(2);
    }
}

uint64_t traffic_received(const struct traffic *t)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < atomic_load(&t->table->count); i++)
        sum += atomic_load(&t->table->rows[i].received);
    return sum;
}

unsigned traffic_ids(const struct traffic *t, uint32_t *ids, unsigned most)
{
    unsigned n = 0;

    for (unsigned i = 0; i < atomic_load(&t->table->count) && n < most; i++)
        ids[n++] = atomic_load(&t->table->rows[i].id);
    return n;
}

static void traffic_summary(struct traffic *t)
{
    char path[128];
    json_error_t error;
    int status;

    if (t->summary)
        return;
    status = machine_wait(t->pid, 40);

    if (status) {
        machine_print_logs(t->machine);
        LAB_FAIL("traffic %s ended with status %d", t->tag, status);
    }
    snprintf(path, sizeof(path), "%s/%s.json", t->machine->dir, t->tag);
    t->summary = json_load_file(path, 0, &error);
    if (!t->summary)
        LAB_FAIL("%s: %s", path, error.text);
    munmap(t->table, sizeof(*t->table));
    t->table = NULL;
}

static const json_t *summary_of(const struct traffic *t, int64_t number)
{
    const json_t *list = ctl_at(t->summary, "connections");
    const json_t *row;
    size_t i;

    json_array_foreach(list, i, row)
    {
        if (ctl_number(row, "number") == number)
            return row;
    }
    return NULL;
}

void traffic_end(struct traffic *first, struct traffic *second)
{
    const json_t *list, *row;
    size_t i;

    if (!first->summary)
        kill(first->pid, SIGTERM);
    traffic_summary(first);
    traffic_summary(second);
    list = ctl_at(second->summary, "connections");
    json_array_foreach(list, i, row)
    {
        const json_t *other = summary_of(first, ctl_number(row, "number"));

        if (!other)
            continue;
        if (ctl_number(row, "sent") != ctl_number(other, "received") ||
            ctl_number(row, "received") != ctl_number(other, "sent"))
            LAB_FAIL("connection %lld: %s sent %lld and received %lld, %s sent %lld and received "
                     "%lld",
                     (long long)ctl_number(row, "number"), second->tag,
                     (long long)ctl_number(row, "sent"), (long long)ctl_number(row, "received"),
                     first->tag, (long long)ctl_number(other, "sent"),
                     (long long)ctl_number(other, "received"));
    }
}

void traffic_kill(struct traffic *t, int number)
{
    kill(t->pid, number);
    LAB_CHECK(machine_wait(t->pid, 10) >= 0);
    munmap(t->table, sizeof(*t->table));
    t->table = NULL;
}
