/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control room over real sockets, with a daemon that is only as real as the room needs: an
 * epoll loop, a list of connections, and moves that the test makes happen.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include "daemon/control.h"
#include "contract/verifier.h"

/* --- the rest of the daemon ---------------------------------------------------------------------
 */

#define CONNS 2000

static struct daemon d;
static struct session program = {.pid = 4242, .comm = "server"};
static struct conn conns[CONNS];
static struct port fake_port = {.caps = {.mtu = 1500, .queues = 2, .kind = "xsk"}};
static char rundir[64];
static unsigned stops, offload_calls, upload_calls;
static bool paused_on_initiate, upload_all_asked;
static uint32_t resumed_capacity;
static uint64_t clock_skip;

uint64_t daemon_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec + clock_skip;
}
void daemon_log(const char *format, ...) {}
void daemon_watch(struct daemon *dd, int fd, void *tag, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.ptr = tag};

    assert_int_equal(((struct control_fd *)tag)->kind, DAEMON_FD_CONTROL);
    assert_int_equal(((struct control_fd *)tag)->fd, fd);
    assert_int_equal(epoll_ctl(dd->epoll_fd, EPOLL_CTL_ADD, fd, &ev), 0);
}
void daemon_unwatch(struct daemon *dd, int fd)
{
    assert_int_equal(epoll_ctl(dd->epoll_fd, EPOLL_CTL_DEL, fd, NULL), 0);
}
void daemon_stop(struct daemon *dd)
{
    stops++;
}
void worker_call(struct daemon *dd, void (*fn)(struct daemon *, void *), void *arg)
{
    fn(dd, arg);
}
void move_offload(struct daemon *dd, struct conn *const *list, size_t n, const char *why)
{
    assert_string_equal(why, "operator");
    offload_calls++;
    for (size_t i = 0; i < n; i++)
        list[i]->want_offload = true;
}
void move_upload(struct daemon *dd, struct conn *const *list, size_t n,
                 enum chimney_upload_reason reason, const char *why)
{
    assert_int_equal(reason, CHIMNEY_REASON_NONE); /* the target did not ask */
    upload_calls++;
    for (size_t i = 0; i < n; i++)
        list[i]->state = CHIMNEY_UPLOADING;
}
void target_pause(struct chimney_target *t) {}
void target_pause_on_initiate(struct chimney_target *t)
{
    paused_on_initiate = true;
}
void target_upload_all(struct chimney_target *t)
{
    upload_all_asked = true;
}
void target_resume(struct chimney_target *t, uint32_t capacity)
{
    resumed_capacity = capacity;
}
void target_get_info(const struct chimney_target *t, struct target_info *out)
{
    memset(out, 0, sizeof(*out));
}
void verifier_counts(const struct chimney_target *v, uint64_t *calls, uint64_t *breaches) {}
void steer_get_counters(struct steer *s, struct steer_counters *out) {}
enum barrier_method barrier_method(const struct barrier *b)
{
    return BARRIER_MEMBARRIER;
}
const char *barrier_method_name(enum barrier_method m)
{
    return "membarrier";
}
uint64_t barrier_cost_ns(const struct barrier *b)
{
    return 0;
}
const char *handoff_step_name(enum handoff_step step)
{
    return "step";
}

static void fake_statistics(struct chimney_target *t, int family, struct chimney_statistics *out)
{
    memset(out, 0, sizeof(*out));
}
static void fake_stats(struct port *p, struct port_stats *out)
{
    memset(out, 0, sizeof(*out));
}
static bool fake_link(struct port *p)
{
    return true;
}
static const struct port_ops fake_port_ops = {.get_stats = fake_stats, .link_up = fake_link};
static const struct chimney_target_ops fake_target_ops = {.get_statistics = fake_statistics};
static struct chimney_target fake_target = {.ops = &fake_target_ops, .name = "ve0"};

/** One turn of the loop. */
static void turn(int timeout_ms)
{
    struct epoll_event events[16];
    int n = epoll_wait(d.epoll_fd, events, 16, timeout_ms);

    for (int i = 0; i < n; i++) {
        const struct control_fd *tag = events[i].data.ptr;
        int fd = tag->fd;
        bool live = fd == d.control->listen.fd || fd == d.control->timer.fd;

        /* A client freed earlier in this round is not touched. */
        for (struct client *c = d.control->clients; c; c = c->next)
            live |= (const void *)c == tag;
        if (live)
            assert_true(control_ready(&d, fd, events[i].events));
    }
}

static void moved(struct conn *c, enum move_direction direction, bool failed, const char *why)
{
    struct move_record m = {.direction = direction, .failed = failed, .start_ns = daemon_now()};

    snprintf(m.why, sizeof(m.why), "%s", why);
    c->want_offload = false;
    if (!failed)
        c->state = direction == MOVE_OFFLOAD ? CHIMNEY_OFFLOADED : CHIMNEY_IN_HOST;
    c->last = m;
    event_move(&d, c, &m);
}

static void use_conns(unsigned n)
{
    d.conns = NULL;
    memset(d.hash, 0, sizeof(d.hash));
    memset(conns, 0, sizeof(conns));
    for (unsigned i = 0; i < n; i++) {
        struct conn *c = &conns[i], **bucket;

        c->id = i + 1;
        c->session = &program;
        c->key = (struct flow_key){.family = 4,
                                   .local_addr = {10, 0, 0, 1},
                                   .remote_addr = {10, 0, 0, 2},
                                   .local_port = htons(80),
                                   .remote_port = htons((uint16_t)(10000 + i))};
        c->next = d.conns;
        d.conns = c;
        bucket = &d.hash[flow_key_hash(&c->key, d.hash_seed) % DAEMON_HASH];
        c->hash_next = *bucket;
        *bucket = c;
    }
    d.conn_count = n;
}

static int setup(void **state)
{
    char err[200] = "";

    memset(&d, 0, sizeof(d));
    stops = offload_calls = upload_calls = 0;
    paused_on_initiate = upload_all_asked = false;
    clock_skip = 0;
    resumed_capacity = 0;
    d.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    snprintf(rundir, sizeof(rundir), "/tmp/chimney-control-test.%d", (int)getpid());
    mkdir(rundir, 0700);
    d.options.rundir = rundir;
    d.options.max_connections = 1000;
    d.started_ns = daemon_now();
    d.started_real_ns = 1767323045123456789ull;
    d.port_count = 1;
    fake_port.ops = &fake_port_ops;
    snprintf(d.ports[0].ifname, sizeof(d.ports[0].ifname), "ve0");
    d.ports[0].port = &fake_port;
    d.ports[0].target = d.ports[0].top = &fake_target;
    if (control_open(&d, err, sizeof(err)) != 0)
        fail_msg("%s", err);
    use_conns(3);
    return 0;
}

static int teardown(void **state)
{
    struct stat st;
    char path[128];

    snprintf(path, sizeof(path), "%s/control.sock", rundir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    control_close(&d);
    assert_int_equal(stat(path, &st), -1);
    close(d.epoll_fd);
    rmdir(rundir);
    return 0;
}

/* --- a client -----------------------------------------------------------------------------------
 */

static int dial(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

    snprintf(address.sun_path, sizeof(address.sun_path), "%s/control.sock", rundir);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    turn(100);
    return fd;
}

static void say(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/** Next line, turning the loop meanwhile; NULL: the daemon hung up, or nothing came. */
static char *hear(int fd)
{
    static char line[2 << 20];
    size_t len = 0;

    for (int idle = 0; idle < 200;) {
        ssize_t n = recv(fd, line + len, 1, 0);

        if (n == 0 || (n < 0 && errno != EAGAIN))
            return NULL;
        if (n < 0) {
            idle++;
            turn(1);
            continue;
        }
        idle = 0;
        if (line[len] == '\n') {
            line[len] = '\0';
            return line;
        }
        len++;
        assert_true(len < sizeof(line));
    }
    return NULL;
}

static json_t *hear_json(int fd)
{
    json_error_t error;
    char *line = hear(fd);
    json_t *json = line ? json_loads(line, 0, &error) : NULL;

    if (!json)
        fail_msg("no JSON: %s", line ? line : "(nothing)");
    return json;
}

static void expect_error(int fd, const char *part)
{
    json_t *json = hear_json(fd);
    const char *error = json_string_value(json_object_get(json, "error"));

    assert_true(json_is_false(json_object_get(json, "ok")));
    assert_non_null(error);
    if (!strstr(error, part))
        fail_msg("'%s' does not say '%s'", error, part);
    json_decref(json);
}

static json_int_t get(const json_t *json, const char *field)
{
    const json_t *value = json_object_get(json, field);

    if (!json_is_integer(value))
        fail_msg("no number '%s'", field);
    return json_integer_value(value);
}

/* --- tests --------------------------------------------------------------------------------------
 */

static void nonsense_is_refused_and_the_next_request_works(void **state)
{
    int fd = dial();

    say(fd, "{\n");
    expect_error(fd, "not JSON");
    say(fd, "[]\n");
    expect_error(fd, "JSON object");
    say(fd, "42\n");
    expect_error(fd, "not JSON");
    say(fd, "{}\n");
    expect_error(fd, "no \"command\"");
    say(fd, "{\"command\":7}\n");
    expect_error(fd, "no \"command\"");
    say(fd, "{\"command\":\"reboot\"}\n");
    expect_error(fd, "unknown command 'reboot'");
    say(fd, "{\"command\":\"status\",\"command\":\"stop\"}\n");
    expect_error(fd, "not JSON");
    say(fd, "{\"command\":\"upload\",\"selecter\":\"id 1\",\"all\":true}\n");
    expect_error(fd, "no field 'selecter'");
    say(fd, "{\"command\":\"upload\",\"all\":\"yes\"}\n");
    expect_error(fd, "must be true or false");
    say(fd, "{\"command\":\"upload\"}\n");
    expect_error(fd, "either");
    say(fd, "{\"command\":\"upload\",\"all\":true,\"selector\":\"id 1\"}\n");
    expect_error(fd, "either");
    say(fd, "{\"command\":\"upload\",\"all\":true,\"timeout\":-1}\n");
    expect_error(fd, "timeout");
    say(fd, "{\"command\":\"upload\",\"all\":true,\"timeout\":1e300}\n");
    expect_error(fd, "timeout");
    say(fd, "{\"command\":\"list\",\"selector\":\"host example.com\"}\n");
    expect_error(fd, "not looked up");
    say(fd, "{\"command\":\"resume\",\"capacity\":-1}\n");
    expect_error(fd, "capacity");
    say(fd, "{\"command\":\"resume\",\"capacity\":1.5}\n");
    expect_error(fd, "capacity");
    say(fd, "{\"command\":\"pause\",\"target\":\"eth9\"}\n");
    expect_error(fd, "there is ve0");
    say(fd, "{\"command\":\"unk\\u001b[31m\"}\n");
    expect_error(fd, "unknown command 'unk?[31m'");
    say(fd, "{\"command\":\"\\u0000\"}\n");
    expect_error(fd, "not JSON");
    say(fd, "\xff\xfe{\"command\":\"status\"}\n");
    expect_error(fd, "not JSON");
    assert_int_equal(upload_calls + offload_calls, 0);
    say(fd, "\n\r\n{\"command\":\"status\"}\r\n");
    json_decref(hear_json(fd));
    close(fd);
    turn(10);
    assert_int_equal(d.control->client_count, 0);
}

static void deep_nesting_is_refused(void **state)
{
    static char text[CONTROL_MAX_LINE];
    int fd = dial();

    memset(text, '[', sizeof(text) - 2);
    text[sizeof(text) - 2] = '\n';
    text[sizeof(text) - 1] = '\0';
    say(fd, text);
    expect_error(fd, "not JSON");
    close(fd);
}

static void a_line_may_be_64_kib_and_not_more(void **state)
{
    static char text[CONTROL_MAX_LINE + 2];
    static const char request[] = "{\"command\":\"list\"}";
    int fd = dial();

    memset(text, ' ', sizeof(text));
    memcpy(text, request, sizeof(request) - 1);
    text[CONTROL_MAX_LINE] = '\n';
    text[CONTROL_MAX_LINE + 1] = '\0';
    say(fd, text);
    json_decref(hear_json(fd));

    text[CONTROL_MAX_LINE] = ' ';
    say(fd, text);
    expect_error(fd, "longer than");
    assert_null(hear(fd));
    assert_int_equal(d.control->client_count, 0);
    close(fd);
}

static void pieces_make_a_line_and_lines_are_answered_in_order(void **state)
{
    int fd = dial();

    for (const char *p = "{\"command\":\"list\"}"; *p; p++) {
        say(fd, (char[]){*p, 0});
        turn(0);
    }
    say(fd, "\n{\"command\":\"nix\"}\n{\"command\":\"list\",\"selector\":\"id 2\"}\n{");
    json_t *first = hear_json(fd);
    assert_int_equal(json_array_size(json_object_get(first, "connections")), 3);
    json_decref(first);
    expect_error(fd, "unknown command");
    json_t *third = hear_json(fd);
    assert_int_equal(json_array_size(json_object_get(third, "connections")), 1);
    json_decref(third);
    close(fd);
}

static void a_client_that_says_no_more_still_gets_its_answer(void **state)
{
    int fd = dial();

    say(fd, "{\"command\":\"status\"}\n");
    shutdown(fd, SHUT_WR);
    json_decref(hear_json(fd));
    assert_null(hear(fd));
    assert_int_equal(d.control->client_count, 0);
    close(fd);
}

static void a_full_house_says_so(void **state)
{
    int fds[DAEMON_MAX_CONTROL_CLIENTS + 1];

    for (int i = 0; i <= DAEMON_MAX_CONTROL_CLIENTS; i++)
        fds[i] = dial();
    expect_error(fds[DAEMON_MAX_CONTROL_CLIENTS], "too many clients");
    assert_null(hear(fds[DAEMON_MAX_CONTROL_CLIENTS]));
    close(fds[0]);
    turn(10);
    fds[0] = dial();
    say(fds[0], "{\"command\":\"status\"}\n");
    json_decref(hear_json(fds[0]));
    for (int i = 0; i <= DAEMON_MAX_CONTROL_CLIENTS; i++)
        close(fds[i]);
}

static void a_list_is_written_as_it_is_read(void **state)
{
    int fd = dial(), size = 4096;
    json_t *json;

    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
    use_conns(CONNS);
    for (int i = 0; i < CONNS; i++)
        memset(conns[i].why_not, 'x', sizeof(conns[i].why_not) - 1);
    say(fd, "{\"command\":\"list\"}\n{\"command\":\"list\"}\n{\"command\":\"list\"}\n");
    for (int i = 0; i < 20; i++)
        turn(1);
    /* Not read: not produced either. */
    assert_true(d.control->clients->out_end - d.control->clients->out_start <=
                CONTROL_OUTPUT_LOW + 64 * 1024);
    d.conns->id = 0; /* the last of the list goes away meanwhile */
    d.conns = d.conns->next;
    d.conn_count--;
    for (int i = 0; i < 3; i++) {
        json = hear_json(fd);
        assert_int_equal(json_array_size(json_object_get(json, "connections")), CONNS - 1);
        json_decref(json);
    }
    close(fd);
}

static void a_subscriber_hears_everything_in_order(void **state)
{
    static const char rubbish[4096] = "rubbish";
    int fd = dial();
    json_t *json;

    event_simple(&d, "start", NULL, NULL, "before");
    say(fd, "{\"command\":\"events\"}\n");
    json = hear_json(fd);
    assert_int_equal(get(json, "seq"), 1);
    json_decref(json);
    strcpy(program.comm, "bad\x1b\xff");
    moved(&conns[0], MOVE_OFFLOAD, false, "operator");
    strcpy(program.comm, "server");
    event_simple(&d, "pause", "ve0", NULL, NULL);
    json = hear_json(fd);
    assert_int_equal(get(json, "seq"), 2);
    assert_int_equal(get(json, "id"), 1);
    assert_string_equal(json_string_value(json_object_get(json, "kind")), "move");
    assert_string_equal(json_string_value(json_object_get(json, "program")), "bad??");
    assert_string_equal(json_string_value(json_object_get(json, "tuple")),
                        "10.0.0.1:80-10.0.0.2:10000");
    assert_memory_equal(json_string_value(json_object_get(json, "time")), "2026-01-02T03:04:05.1",
                        19);
    json_decref(json);
    json = hear_json(fd);
    assert_int_equal(get(json, "seq"), 3);
    assert_string_equal(json_string_value(json_object_get(json, "kind")), "pause");
    json_decref(json);
    /* What a subscriber says is not read as a request. */
    say(fd, "{\"command\":\"stop\"}\n");
    assert_null(hear(fd));
    assert_int_equal(stops, 0);
    assert_int_equal(d.control->subscribers, 1);
    /* However much it says, the loop has nothing to do with it for long. */
    for (int i = 0; i < 100; i++) {
        assert_int_equal(send(fd, rubbish, sizeof(rubbish), MSG_NOSIGNAL), sizeof(rubbish));
        turn(0);
    }
    turn(0);
    assert_int_equal(epoll_wait(d.epoll_fd, &(struct epoll_event){0}, 1, 0), 0);
    close(fd);
    turn(10);
    assert_int_equal(d.control->subscribers, 0);
}

static void a_subscriber_that_does_not_read_is_dropped(void **state)
{
    int slow = dial(), fast = dial();

    say(slow, "{\"command\":\"events\"}\n");
    say(fast, "{\"command\":\"events\"}\n");
    json_decref(hear_json(slow));
    json_decref(hear_json(fast));
    for (uint64_t i = 1; i <= 20000; i++) {
        moved(&conns[0], MOVE_OFFLOAD, false, "operator");
        if (i % 100 == 0)
            for (int k = 0; k < 100; k++) {
                json_t *json = hear_json(fast);

                assert_int_equal(get(json, "seq"), i - 99 + (uint64_t)k);
                json_decref(json);
            }
    }
    turn(10);
    assert_int_equal(d.control->client_count, 1);
    assert_int_equal(d.control->subscribers, 1);
    close(slow);
    close(fast);
}

static void an_order_is_answered_when_all_have_arrived(void **state)
{
    int fd = dial();
    json_t *json;

    conns[2].state = CHIMNEY_OFFLOADED;
    say(fd, "{\"command\":\"offload\",\"all\":true,\"wait\":true}\n");
    assert_null(hear(fd));
    assert_int_equal(offload_calls, 1);
    moved(&conns[0], MOVE_OFFLOAD, false, "operator");
    assert_null(hear(fd));
    strcpy(conns[1].why_not, "urgent data pending");
    moved(&conns[1], MOVE_OFFLOAD, true, "urgent data pending");
    json = hear_json(fd);
    assert_true(json_is_false(json_object_get(json, "ok")));
    assert_int_equal(get(json, "selected"), 3);
    assert_int_equal(get(json, "moved"), 1);
    assert_int_equal(get(json, "already"), 1);
    assert_int_equal(get(json, "refused"), 1);
    assert_non_null(strstr(json_string_value(json_object_get(json, "error")), "urgent"));
    assert_int_equal(json_array_size(json_object_get(json, "refusals")), 1);
    json_decref(json);

    conns[1].why_not[0] = '\0';
    say(fd, "{\"command\":\"upload\",\"selector\":\"src host 10.0.0.1\",\"wait\":true}\n");
    assert_null(hear(fd));
    moved(&conns[0], MOVE_UPLOAD, false, "operator");
    event_simple(&d, "detach", NULL, &conns[2], NULL);
    json = hear_json(fd);
    assert_true(json_is_true(json_object_get(json, "ok")));
    assert_int_equal(get(json, "moved"), 2);
    assert_int_equal(get(json, "already"), 1);
    json_decref(json);
    close(fd);
}

static void an_order_looks_for_itself_and_gives_up_in_time(void **state)
{
    int fd = dial();
    json_t *json;

    say(fd, "{\"command\":\"offload\",\"selector\":\"id 1,2,3\",\"wait\":true,\"timeout\":5}\n");
    assert_null(hear(fd));
    /* No event told of this. */
    conns[0].want_offload = false;
    conns[0].state = CHIMNEY_OFFLOADED;
    conns[1].lent = true;
    conns[1].state = CHIMNEY_OFFLOADING;
    d.conns = &conns[1]; /* 3 is gone */
    assert_null(hear(fd));
    clock_skip += 6000000000ull;
    json = hear_json(fd);
    assert_int_equal(get(json, "moved"), 1);
    assert_int_equal(get(json, "queued"), 1);
    assert_int_equal(get(json, "refused"), 1);
    assert_true(json_is_false(json_object_get(json, "ok")));
    json_decref(json);
    close(fd);
}

static void without_wait_it_is_counted_what_began(void **state)
{
    int fd = dial();
    json_t *json;

    say(fd, "{\"command\":\"offload\",\"selector\":\"port 10001\"}\n");
    json = hear_json(fd);
    assert_true(json_is_true(json_object_get(json, "ok")));
    assert_int_equal(get(json, "selected"), 1);
    assert_int_equal(get(json, "started"), 1);
    json_decref(json);
    say(fd, "{\"command\":\"offload\",\"selector\":\"port 4\"}\n");
    expect_error(fd, "no connection matches");
    use_conns(0);
    say(fd, "{\"command\":\"upload\",\"all\":true}\n");
    json = hear_json(fd);
    assert_true(json_is_true(json_object_get(json, "ok")));
    assert_int_equal(get(json, "selected"), 0);
    json_decref(json);
    close(fd);
}

static void a_pause_is_waited_for_and_offloads_are_refused_in_it(void **state)
{
    int fd = dial(), other = dial();
    json_t *json;

    say(fd, "{\"command\":\"pause\",\"target\":\"ve0\"}\n");
    assert_null(hear(fd));
    d.ports[0].paused = true;
    event_simple(&d, "pause", "ve0", NULL, NULL);
    json = hear_json(fd);
    assert_true(json_is_true(json_object_get(json, "ok")));
    json_decref(json);
    say(other, "{\"command\":\"offload\",\"all\":true,\"wait\":true}\n");
    expect_error(other, "ve0 is paused: chimney resume ve0");
    assert_int_equal(offload_calls, 0);
    say(fd, "{\"command\":\"resume\",\"capacity\":500}\n");
    assert_null(hear(fd));
    assert_int_equal(resumed_capacity, 500);
    d.ports[0].paused = false;
    event_simple(&d, "resume", "ve0", NULL, NULL);
    json = hear_json(fd);
    assert_true(json_is_true(json_object_get(json, "ok")));
    json_decref(json);
    say(fd, "{\"command\":\"pause\",\"on_initiate\":true}\n");
    json = hear_json(fd);
    assert_true(json_is_true(json_object_get(json, "ok")));
    assert_true(paused_on_initiate);
    json_decref(json);
    close(fd);
    close(other);
}

static void upload_all_asks_the_target_and_waits(void **state)
{
    int fd = dial();
    json_t *json;

    conns[0].state = CHIMNEY_OFFLOADED;
    conns[0].port = &d.ports[0];
    say(fd, "{\"command\":\"upload-all\",\"wait\":true}\n");
    assert_null(hear(fd));
    assert_true(upload_all_asked);
    moved(&conns[0], MOVE_UPLOAD, false, "UPLOAD_ALL");
    json = hear_json(fd);
    assert_int_equal(get(json, "selected"), 1);
    assert_int_equal(get(json, "moved"), 1);
    json_decref(json);
    close(fd);
}

static void a_client_that_goes_takes_its_order_along(void **state)
{
    int fd = dial();

    say(fd, "{\"command\":\"offload\",\"all\":true,\"wait\":true}\n");
    assert_null(hear(fd));
    close(fd);
    turn(10);
    assert_int_equal(d.control->client_count, 0);
    moved(&conns[0], MOVE_OFFLOAD, false, "operator");
    /* Asked and gone at once: it is done all the same. */
    fd = dial();
    say(fd, "{\"command\":\"stop\"}\n");
    close(fd);
    turn(10);
    turn(10);
    assert_int_equal(stops, 1);
    assert_int_equal(d.control->client_count, 0);
}

static void closing_answers_who_waits(void **state)
{
    int fd = dial();
    char line[4096];

    say(fd, "{\"command\":\"offload\",\"all\":true,\"wait\":true}\n");
    assert_null(hear(fd));
    control_close(&d);
    assert_true(recv(fd, line, sizeof(line), 0) > 0);
    assert_non_null(strstr(line, "in time"));
    assert_int_equal(recv(fd, line, sizeof(line), 0), 0);
    event_move(&d, &conns[0], &conns[0].last); /* nobody is there: nothing happens */
    event_simple(&d, "stop", NULL, NULL, NULL);
    assert_false(control_ready(&d, fd, EPOLLIN));
    close(fd);
    assert_int_equal(control_open(&d, line, sizeof(line)), 0);
}

static void random_bytes_do_no_harm(void **state)
{
    const char *env = getenv("CHIMNEY_SEED");
    unsigned seed = env ? (unsigned)strtoul(env, NULL, 0) : (unsigned)time(NULL), r = seed;
    static const char *const pieces[] = {"{\"command\":\"",
                                         "status",
                                         "list",
                                         "offload",
                                         "upload",
                                         "pause",
                                         "resume",
                                         "events",
                                         "upload-all",
                                         "\",\"selector\":\"",
                                         "id 1,2",
                                         "port 10000",
                                         "\",\"all\":true",
                                         "\",\"wait\":true",
                                         ",\"timeout\":0",
                                         ",\"capacity\":3",
                                         "\"}\n",
                                         "}\n",
                                         "\n",
                                         "\"",
                                         "\\u0000",
                                         "\xc3",
                                         "\x80"};
    int fds[8];

    printf("seed %u\n", seed);
    for (int i = 0; i < 8; i++)
        fds[i] = dial();
    for (int i = 0; i < 20000; i++) {
        int *fd = &fds[(unsigned)rand_r(&r) % 8];
        const char *p = pieces[(unsigned)rand_r(&r) % (sizeof(pieces) / sizeof(pieces[0]))];
        struct conn *c = &conns[(unsigned)rand_r(&r) % 3];
        char sink[65536];

        if (send(*fd, p, strlen(p), MSG_NOSIGNAL) < 0 || rand_r(&r) % 200 == 0) {
            close(*fd);
            *fd = dial();
        }
        if (rand_r(&r) % 4 == 0)
            while (recv(*fd, sink, sizeof(sink), 0) > 0)
                ;
        if (rand_r(&r) % 8 == 0)
            moved(c, rand_r(&r) % 2 ? MOVE_OFFLOAD : MOVE_UPLOAD, rand_r(&r) % 4 == 0, "chance");
        turn(0);
    }
    for (int i = 0; i < 8; i++)
        close(fds[i]);
    for (int i = 0; i < 100; i++)
        turn(1);
    assert_int_equal(d.control->client_count, 0);
    assert_int_equal(d.control->subscribers, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(nonsense_is_refused_and_the_next_request_works),
        TEST(deep_nesting_is_refused),
        TEST(a_line_may_be_64_kib_and_not_more),
        TEST(pieces_make_a_line_and_lines_are_answered_in_order),
        TEST(a_client_that_says_no_more_still_gets_its_answer),
        TEST(a_full_house_says_so),
        TEST(a_list_is_written_as_it_is_read),
        TEST(a_subscriber_hears_everything_in_order),
        TEST(a_subscriber_that_does_not_read_is_dropped),
        TEST(an_order_is_answered_when_all_have_arrived),
        TEST(an_order_looks_for_itself_and_gives_up_in_time),
        TEST(without_wait_it_is_counted_what_began),
        TEST(a_pause_is_waited_for_and_offloads_are_refused_in_it),
        TEST(upload_all_asks_the_target_and_waits),
        TEST(a_client_that_goes_takes_its_order_along),
        TEST(closing_answers_who_waits),
        TEST(random_bytes_do_no_harm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
