/* SPDX-License-Identifier: Apache-2.0 */
/*
 * chimneyd: options, start-up, the control thread's loop, and an end that leaves nothing behind.
 */
#include "daemon/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
#include <net/if.h>
#include "contract/verifier.h"
#include "daemon/control.h"

/** Exit codes: 0 done, 1 refused or failed, 2 usage. */
#define EXIT_USAGE 2

static const char usage[] =
    "Usage: chimneyd --port IFACE[,IFACE...] [options]\n"
    "Moves TCP connections of attached programs between the kernel and an offload target.\n\n"
    "  -p, --port IFACE[,IFACE...]  interface(s) to serve; may be repeated\n"
    "      --rundir DIR             sockets and lock (default " PROTOCOL_RUNDIR ")\n"
    "      --max-connections N      offloaded connections per port (default 16384)\n"
    "      --auto                   offload every connection as soon as it is attached\n"
    "      --generic                attach XDP in generic mode even if the driver has native\n"
    "      --no-verifier            leave out the contract verifier\n"
    "  -h, --help                   this text\n"
    "  -V, --version                version\n\n"
    "SIGTERM or Ctrl-C: uploads everything first, then ends.  See chimneyd(8), chimney(1).\n";

uint64_t daemon_now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

void daemon_log(const char *format, ...)
{
    char line[512];
    va_list ap;

    va_start(ap, format);
    vsnprintf(line, sizeof(line), format, ap);
    va_end(ap);
    fprintf(stderr, "chimneyd: %s\n", line);
}

void daemon_watch(struct daemon *d, int fd, void *tag, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.ptr = tag};

    (void)fd;
    if (epoll_ctl(d->epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0 && errno == EEXIST)
        epoll_ctl(d->epoll_fd, EPOLL_CTL_MOD, fd, &ev);
}

void daemon_unwatch(struct daemon *d, int fd)
{
    epoll_ctl(d->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

/* ---- options -------------------------------------------------------------------------------- */

static int usage_error(const char *format, const char *what)
{
    fprintf(stderr, "chimneyd: ");
    fprintf(stderr, format, what);
    fprintf(stderr, " (see chimneyd --help)\n");
    return EXIT_USAGE;
}

static int add_ports(struct daemon_options *o, char *list)
{
    for (char *name = strtok(list, ","); name; name = strtok(NULL, ",")) {
        if (o->port_count == DAEMON_MAX_PORTS)
            return usage_error("too many ports; the limit is %s", "16");
        for (unsigned i = 0; i < o->port_count; i++)
            if (strcmp(o->ports[i], name) == 0)
                return usage_error("port %s is named twice", name);
        o->ports[o->port_count++] = name;
    }
    return 0;
}

/* 0: go on; else the exit code + 1. */
static int parse_options(struct daemon_options *o, int argc, char **argv)
{
    enum { OPT_RUNDIR = 256, OPT_MAX, OPT_AUTO, OPT_GENERIC, OPT_NO_VERIFIER };
    static const struct option options[] = {
        {"port", required_argument, NULL, 'p'},
        {"rundir", required_argument, NULL, OPT_RUNDIR},
        {"max-connections", required_argument, NULL, OPT_MAX},
        {"auto", no_argument, NULL, OPT_AUTO},
        {"generic", no_argument, NULL, OPT_GENERIC},
        {"no-verifier", no_argument, NULL, OPT_NO_VERIFIER},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},
        {NULL, 0, NULL, 0},
    };
    const char *env = getenv("CHIMNEY_RUNDIR");
    char *end;
    int opt;

    o->rundir = env && *env ? env : PROTOCOL_RUNDIR;
    o->max_connections = DAEMON_DEFAULT_MAX_CONNECTIONS;
    opterr = 0; /* one line is enough */
    while ((opt = getopt_long(argc, argv, "p:hV", options, NULL)) != -1) {
        switch (opt) {
        case 'p':
            if (add_ports(o, optarg))
                return EXIT_USAGE + 1;
            break;
        case OPT_RUNDIR:
            o->rundir = optarg;
            break;
        case OPT_MAX: {
            unsigned long n = strtoul(optarg, &end, 10);

            if (*end || n == 0 || n > STEER_MAX_FLOWS)
                return usage_error("--max-connections %s: a number from 1 to 65536 is needed",
                                   optarg) +
                       1;
            o->max_connections = (uint32_t)n;
            break;
        }
        case OPT_AUTO:
            o->auto_offload = true;
            break;
        case OPT_GENERIC:
            o->force_generic = true;
            break;
        case OPT_NO_VERIFIER:
            o->no_verifier = true;
            break;
        case 'h':
            fputs(usage, stdout);
            return 1;
        case 'V':
            puts("chimneyd " CHIMNEY_VERSION);
            return 1;
        default:
            return usage_error("%s", "unknown option or missing value") + 1;
        }
    }
    if (optind < argc)
        return usage_error("unexpected argument %s", argv[optind]) + 1;
    if (o->port_count == 0)
        return usage_error("%s", "no port: name an interface with --port") + 1;
    return 0;
}

/* ---- start-up ------------------------------------------------------------------------------- */

static int lock_rundir(struct daemon *d, char *err, size_t errlen)
{
    char path[128];

    if (mkdir(d->options.rundir, 0755) < 0 && errno != EEXIST) {
        snprintf(err, errlen, "%s: %s", d->options.rundir, strerror(errno));
        return -errno;
    }
    if (snprintf(path, sizeof(path), "%s/chimneyd.lock", d->options.rundir) >= (int)sizeof(path)) {
        snprintf(err, errlen, "--rundir: path too long");
        return -ENAMETOOLONG;
    }
    d->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (d->lock_fd < 0) {
        snprintf(err, errlen, "%s: %s", path, strerror(errno));
        return -errno;
    }
    if (flock(d->lock_fd, LOCK_EX | LOCK_NB) < 0) {
        char pid[16] = "?";
        ssize_t n = read(d->lock_fd, pid, sizeof(pid) - 1);

        if (n > 0)
            pid[strcspn(pid, "\n")] = 0;
        snprintf(err, errlen,
                 "another chimneyd (pid %s) runs in %s: end it, or choose another --rundir", pid,
                 d->options.rundir);
        return -EBUSY;
    }
    if (ftruncate(d->lock_fd, 0) == 0)
        dprintf(d->lock_fd, "%d\n", (int)getpid());
    return 0;
}

static void on_breach(void *arg, int row, const char *who, const char *line)
{
    struct port_ctx *p = arg;
    struct mail mail = {.kind = MAIL_BREACH, .port = p};

    snprintf(mail.text, sizeof(mail.text), "C%d broken by %s: %s", row, who, line);
    mailbox_post(&p->daemon->to_control, &mail);
}

/*
 * An initiate that was queued and is no longer wanted (move.c, on_resume): this connection alone is
 * rejected, where an illegal state would end the whole tree.
 */
static bool withdrawn(void *arg, struct chimney_block *block)
{
    (void)arg;
    return tree_tcp_delegated(block)->state == TcpConnectionClosed;
}

static int open_port(struct daemon *d, struct port_ctx *p, const char *name, char *err,
                     size_t errlen)
{
    struct target_config config = {.max_connections = d->options.max_connections,
                                   .reject = withdrawn,
                                   .fin_policy = TCP_FIN_HOLD};
    struct xsk_config xsk = {.ifname = p->ifname};
    struct chimney_parameters parameters;
    int rc;

    p->daemon = d;
    if (strlen(name) >= sizeof(p->ifname) || (p->ifindex = (int)if_nametoindex(name)) == 0) {
        snprintf(err, errlen, "no interface %s here: see ip link", name);
        return -ENODEV;
    }
    strcpy(p->ifname, name);
    rc = steer_attach(d->steer, p->ifindex, d->options.force_generic, &p->native, err, errlen);
    if (rc < 0)
        return rc;
    xsk.force_generic = !p->native;
    p->port = xsk_open(&xsk, err, errlen);
    if (!p->port)
        return -EIO;
    for (unsigned q = 0; q < p->port->caps.queues; q++) {
        rc = steer_set_queue(d->steer, p->ifindex, q, xsk_queue_fd(p->port, q));
        if (rc < 0) {
            snprintf(err, errlen, "%s: registering queue %u: %s", name, q, strerror(-rc));
            return rc;
        }
    }
    if (getrandom(&config.hash_seed, sizeof(config.hash_seed), 0) < 0)
        config.hash_seed = daemon_now();
    p->target = target_create(&config, p->port);
    if (!p->target) {
        snprintf(err, errlen, "%s: not enough memory for %u connections", name,
                 d->options.max_connections);
        return -ENOMEM;
    }
    p->top = p->target;
    if (!d->options.no_verifier) {
        p->top = verifier_create(p->target, on_breach, p);
        if (!p->top) {
            snprintf(err, errlen, "%s: not enough memory for the verifier", name);
            return -ENOMEM;
        }
    }
    p->top->ops->bind(p->top, &daemon_host_ops, (struct chimney_host *)p);
    parameters = (struct chimney_parameters){
        .header = {0, CHIMNEY_REVISION, sizeof(parameters)},
        .ticks_per_second = 1000000,
        .tcp_ack_frequency = 2,
        .tcp_delayed_ack_ticks = 40000,
        .tcp_maximum_retransmissions = 15,
        .tcp_doubt_reachability_retransmissions = 3,
        .tcp_sws_prevention_ticks = 200000,
        .tcp_duplicate_ack_threshold = 3,
        .tcp_push_ticks = 500000,
    };
    if (p->top->ops->set_parameters(p->top, &parameters) != NDIS_STATUS_SUCCESS) {
        snprintf(err, errlen, "%s: the target refuses our parameters", name);
        return -EINVAL;
    }
    p->top->ops->get_capabilities(p->top, &p->caps);
    p->link_up = port_link_up(p->port);
    return 0;
}

static int run_selftest(struct daemon *d, char *err, size_t errlen)
{
    d->check_count = selftest_run(d->steer, d->checks);
    for (int i = 0; i < d->check_count; i++) {
        if (d->checks[i].passed)
            continue;
        if (d->checks[i].fatal) {
            snprintf(err, errlen, "this kernel cannot be used: %s: %s", d->checks[i].name,
                     d->checks[i].detail);
            return -EOPNOTSUPP;
        }
        daemon_log("self-test: %s: %s", d->checks[i].name, d->checks[i].detail);
    }
    return 0;
}

static int open_loop(struct daemon *d, char *err, size_t errlen)
{
    sigset_t signals;

    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    d->signal_fd = signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
    d->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    d->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (d->signal_fd < 0 || d->timer_fd < 0 || d->epoll_fd < 0 || mailbox_init(&d->to_worker) < 0 ||
        mailbox_init(&d->to_control) < 0) {
        snprintf(err, errlen, "setting up: %s", strerror(errno));
        return -errno;
    }
    return 0;
}

static int start(struct daemon *d, char *err, size_t errlen)
{
    struct rlimit files = {1 << 20, 1 << 20};
    struct steer_config config = {0};
    uint64_t seed = 0;
    int rc;

    if (geteuid() != 0) {
        snprintf(err, errlen, "needs root (CAP_NET_ADMIN, CAP_BPF, CAP_NET_RAW): run it as root");
        return -EPERM;
    }
    setrlimit(RLIMIT_NOFILE, &files); /* a descriptor per attached connection; best effort */
    if (getrandom(&seed, sizeof(seed), 0) < 0)
        seed = daemon_now();
    d->hash_seed = seed;
    hold_table_init(&d->holds, ~seed);
    d->wants_tail = &d->wants;
    d->ups_tail = &d->ups;
    rc = lock_rundir(d, err, errlen);
    if (rc == 0)
        rc = open_loop(d, err, errlen);
    if (rc == 0)
        rc = steer_create(&d->steer, &config, err, errlen);
    if (rc == 0)
        rc = barrier_create(&d->barrier, err, errlen);
    if (rc == 0)
        rc = route_open(&d->routes, err, errlen);
    if (rc == 0)
        rc = run_selftest(d, err, errlen);
    if (rc < 0)
        return rc;
    rc = barrier_prove(d->barrier, d->steer);
    if (rc < 0 && rc != -EAGAIN) {
        snprintf(err, errlen, "no way to wait for the kernel's packet handlers works here: %s",
                 strerror(-rc));
        return rc;
    }
    if (rc == -EAGAIN)
        daemon_log("the machine is too busy to prove the barrier; going on with %s",
                   barrier_method_name(barrier_method(d->barrier)));
    if (conntrack_open(&d->conntrack) < 0)
        d->conntrack = NULL;
    d->handoff.steer = d->steer;
    d->handoff.barrier = d->barrier;
    d->handoff.conntrack = d->conntrack;
    for (unsigned i = 0; i < d->options.port_count; i++) {
        d->port_count = i + 1;
        rc = open_port(d, &d->ports[i], d->options.ports[i], err, errlen);
        if (rc < 0)
            return rc;
    }
    rc = session_listen(d, err, errlen);
    if (rc == 0)
        rc = control_open(d, err, errlen);
    if (rc == 0)
        rc = worker_start(d, err, errlen);
    return rc;
}

/* ---- the loop ------------------------------------------------------------------------------- */

void daemon_stop(struct daemon *d)
{
    if (d->stopping)
        return;
    d->stopping = true;
    d->stop_deadline_ns = daemon_now() + DAEMON_SHUTDOWN_NS;
    daemon_log("stopping: uploading everything first");
    event_simple(d, "stop", NULL, NULL, NULL);
    for (struct conn *c = d->conns; c; c = c->next)
        c->want_offload = false;
    for (unsigned i = 0; i < d->port_count; i++) {
        struct conn *batch[HANDOFF_BATCH];
        size_t n = 0;

        for (struct conn *c = d->conns; c; c = c->next) {
            if (c->port != &d->ports[i] || c->lent ||
                (c->state != CHIMNEY_OFFLOADED && c->state != CHIMNEY_OFFLOADING))
                continue;
            batch[n++] = c;
            if (n == HANDOFF_BATCH) {
                move_upload(d, batch, n, CHIMNEY_REASON_NONE, "chimneyd ends");
                n = 0;
            }
        }
        if (n > 0)
            move_upload(d, batch, n, CHIMNEY_REASON_NONE, "chimneyd ends");
    }
}

static void on_signal(struct daemon *d)
{
    struct signalfd_siginfo info;

    while (read(d->signal_fd, &info, sizeof(info)) == sizeof(info)) {
        if (info.ssi_signo != SIGHUP)
            daemon_stop(d);
    }
}

static void on_route(void *arg, const struct route_event *event)
{
    paths_changed(arg, event);
}

static void arm_timer(struct daemon *d)
{
    uint64_t next = move_next_tick(d), now = daemon_now();
    struct itimerspec spec = {0};

    if (d->stopping && next > now + 20000000)
        next = now + 20000000;
    if (next == d->timer_armed_ns)
        return;
    d->timer_armed_ns = next;
    if (next != UINT64_MAX) {
        if (next <= now)
            next = now + 1;
        spec.it_value.tv_sec = (time_t)((next - now) / 1000000000ull);
        spec.it_value.tv_nsec = (long)((next - now) % 1000000000ull);
    }
    timerfd_settime(d->timer_fd, 0, &spec, NULL);
}

/* A descriptor of the control room, or -1: read before anything of this round can free its tag. */
static int control_tag(struct daemon *d, const void *tag)
{
    if (tag == &d->signal_fd || tag == &d->timer_fd || tag == &d->session_listen ||
        tag == &d->routes || tag == &d->to_control)
        return -1;
    for (const struct session *s = d->sessions; s; s = s->next)
        if (s == tag)
            return -1;
    return ((const struct control_fd *)tag)->fd;
}

static void dispatch(struct daemon *d, const struct epoll_event *ev, int control_fd)
{
    uint64_t count;

    if (ev->data.ptr == &d->signal_fd) {
        on_signal(d);
    } else if (ev->data.ptr == &d->timer_fd) {
        if (read(d->timer_fd, &count, sizeof(count)) > 0)
            d->timer_armed_ns = 0;
    } else if (ev->data.ptr == &d->session_listen) {
        session_accept(d);
    } else if (ev->data.ptr == &d->routes) {
        if (route_dispatch(d->routes, on_route, d) == -ENOBUFS)
            paths_reexamine(d);
    } else if (ev->data.ptr == &d->to_control) {
        /* read below, every round */
    } else if (control_fd >= 0) {
        control_ready(d, control_fd, ev->events);
    } else {
        for (struct session *s = d->sessions; s; s = s->next)
            if (s == ev->data.ptr) {
                if (!s->dead)
                    session_readable(d, s);
                return;
            }
    }
}

static void loop(struct daemon *d)
{
    struct epoll_event events[64];
    int control_fds[64];
    struct mail mail;

    daemon_watch(d, d->signal_fd, &d->signal_fd, EPOLLIN);
    daemon_watch(d, d->timer_fd, &d->timer_fd, EPOLLIN);
    daemon_watch(d, d->session_listen, &d->session_listen, EPOLLIN);
    daemon_watch(d, route_fd(d->routes), &d->routes, EPOLLIN);
    daemon_watch(d, d->to_control.event_fd, &d->to_control, EPOLLIN);
    for (;;) {
        int n;

        while (mailbox_take(&d->to_control, &mail))
            move_mail(d, &mail);
        move_tick(d, daemon_now());
        session_reap(d);
        if (d->stopping && move_idle(d))
            return;
        if (d->stopping && daemon_now() > d->stop_deadline_ns) {
            daemon_log("not everything could be uploaded in time");
            d->exit_code = EXIT_FAILURE;
            return;
        }
        arm_timer(d);
        n = epoll_wait(d->epoll_fd, events, 64, -1);
        for (int i = 0; i < n; i++)
            control_fds[i] = control_tag(d, events[i].data.ptr);
        for (int i = 0; i < n; i++)
            dispatch(d, &events[i], control_fds[i]);
    }
}

static void finish(struct daemon *d)
{
    char path[256];

    worker_stop(d);
    if (d->control)
        control_close(d);
    /* Targets first: they complete what is still queued, and its blocks are the connections'. */
    for (unsigned i = 0; i < d->port_count; i++) {
        struct port_ctx *p = &d->ports[i];

        if (p->target)
            target_destroy(p->target);
        if (p->top && p->top != p->target)
            verifier_destroy(p->top);
    }
    while (d->conns) {
        d->conns->session = NULL;
        conn_free(d, d->conns);
    }
    while (d->zombies)
        conn_free(d, d->zombies);
    session_goodbye(d);
    for (unsigned i = 0; i < d->port_count; i++)
        if (d->ports[i].port)
            port_close(d->ports[i].port);
    if (d->steer)
        steer_destroy(d->steer);
    if (d->barrier)
        barrier_destroy(d->barrier);
    if (d->routes)
        route_close(d->routes);
    if (d->conntrack)
        conntrack_close(d->conntrack);
    if (d->session_listen > 0) {
        snprintf(path, sizeof(path), "%s/%s", d->options.rundir, PROTOCOL_SESSION_SOCKET);
        unlink(path);
        close(d->session_listen);
    }
}

int main(int argc, char **argv)
{
    static struct daemon d; /* large: tables */
    char err[256] = "";
    struct timespec real;
    int rc;

    d.lock_fd = d.session_listen = d.control_listen = -1;
    rc = parse_options(&d.options, argc, argv);
    if (rc)
        return rc - 1;
    d.started_ns = daemon_now();
    clock_gettime(CLOCK_REALTIME, &real);
    d.started_real_ns = (uint64_t)real.tv_sec * 1000000000ull + (uint64_t)real.tv_nsec;
    rc = start(&d, err, sizeof(err));
    if (rc < 0) {
        fprintf(stderr, "chimneyd: %s\n", err);
        finish(&d);
        return EXIT_FAILURE;
    }
    event_simple(&d, "start", NULL, NULL, NULL);
    daemon_log("ready: %u port(s), barrier %s (%.0f us), %s", d.port_count,
               barrier_method_name(barrier_method(d.barrier)),
               (double)barrier_cost_ns(d.barrier) / 1000.0,
               d.options.no_verifier ? "no verifier" : "verifier on");
    loop(&d);
    finish(&d);
    daemon_log("ended");
    return d.exit_code;
}
