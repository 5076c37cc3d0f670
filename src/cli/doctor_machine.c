/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine: kernel, privileges, BPF, sockets, settings, and whether the hand-off works here.
 */
#include "cli/doctor.h"
#include "cli/cli.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <unistd.h>
#include <bpf/bpf.h>
#include <linux/capability.h>
#include <linux/if_xdp.h>
#include <linux/membarrier.h>
#include <linux/tcp.h>
#include "daemon/protocol.h"
#ifdef DOCTOR_SELFTEST
#include "host/conntrack.h"
#include "host/selftest.h"
#endif

#ifndef AF_XDP
#define AF_XDP 44
#endif

/** First kernel with everything: XDP test runs with live frames are the youngest part. */
#define KERNEL_MAJOR 5
#define KERNEL_MINOR 18

/** First line of a file without its newline; false if it cannot be read. */
static bool read_line(const char *path, char *line, size_t size)
{
    FILE *f = fopen(path, "re");
    bool ok = f && fgets(line, (int)size, f);

    if (f)
        fclose(f);
    if (ok)
        line[strcspn(line, "\n")] = '\0';
    return ok;
}

static void check_kernel(struct doctor *d)
{
    unsigned major = 0, minor = 0;
    struct utsname u;

    uname(&u);
    sscanf(u.release, "%u.%u", &major, &minor);
    if (major < KERNEL_MAJOR || (major == KERNEL_MAJOR && minor < KERNEL_MINOR))
        doctor_say(d, VERDICT_FAIL, "kernel", "install Linux 5.18 or later", "Linux %s is too old",
                   u.release);
    else if (strcmp(u.machine, "x86_64") != 0 && strcmp(u.machine, "aarch64") != 0)
        doctor_say(d, VERDICT_WARN, "kernel", "use x86_64 or aarch64 for production",
                   "Linux %s on %s, which nobody has tried", u.release, u.machine);
    else
        doctor_say(d, VERDICT_OK, "kernel", NULL, "Linux %s, %s", u.release, u.machine);
}

static bool has_capability(unsigned capability)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {0};

    if (syscall(SYS_capget, &header, data) < 0)
        return false;
    return data[capability / 32].effective & (1u << (capability % 32));
}

static void check_privileges(struct doctor *d)
{
    static const struct {
        unsigned capability;
        const char *name;
    } needed[] = {
        {CAP_NET_ADMIN, "CAP_NET_ADMIN"}, /* TCP_REPAIR, steering */
        {CAP_NET_RAW, "CAP_NET_RAW"},     /* AF_XDP */
        {CAP_BPF, "CAP_BPF"},             /* loading BPF programs */
        {CAP_IPC_LOCK, "CAP_IPC_LOCK"},   /* AF_XDP memory */
    };
    char missing[80] = "";

    for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
        if (has_capability(needed[i].capability) ||
            (needed[i].capability == CAP_BPF && has_capability(CAP_SYS_ADMIN)))
            continue;
        if (missing[0])
            strcat(missing, ", ");
        strcat(missing, needed[i].name);
    }
    if (missing[0])
        doctor_say(d, VERDICT_FAIL, "privileges", "run as root", "missing: %s", missing);
    else if (geteuid() != 0)
        doctor_say(d, VERDICT_FAIL, "privileges", "run as root", "user id is %u",
                   (unsigned)geteuid());
    else
        doctor_say(d, VERDICT_OK, "privileges", NULL,
                   "root, with CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF, CAP_IPC_LOCK");
}

static void check_bpf(struct doctor *d)
{
    /* r0 = XDP_PASS; exit */
    static const struct bpf_insn pass[] = {
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = XDP_PASS},
        {.code = BPF_JMP | BPF_EXIT},
    };
    LIBBPF_OPTS(bpf_prog_load_opts, options, .log_level = 0);
    char line[16];
    int map, prog;

    if (access("/sys/kernel/btf/vmlinux", R_OK) == 0)
        doctor_say(d, VERDICT_OK, "BTF", NULL, "/sys/kernel/btf/vmlinux");
    else
        doctor_say(d, VERDICT_FAIL, "BTF",
                   "use a kernel with CONFIG_DEBUG_INFO_BTF=y, and mount sysfs on /sys",
                   "/sys/kernel/btf/vmlinux: %s", strerror(errno));
    map = bpf_map_create(BPF_MAP_TYPE_XSKMAP, "doctor", 4, 4, 1, NULL);
    prog = bpf_prog_load(BPF_PROG_TYPE_XDP, "doctor", "Dual BSD/GPL", pass, 2, &options);
    if (map < 0)
        doctor_say(d, VERDICT_FAIL, "BPF",
                   map == -EPERM ? "run as root"
                                 : "use a kernel with CONFIG_BPF_SYSCALL=y, CONFIG_XDP_SOCKETS=y",
                   "an XSKMAP cannot be made: %s", strerror(-map));
    else if (prog < 0)
        doctor_say(d, VERDICT_FAIL, "BPF",
                   prog == -EPERM ? "run as root" : "use a kernel with CONFIG_BPF_SYSCALL=y",
                   "an XDP program cannot be loaded: %s", strerror(-prog));
    else
        doctor_say(d, VERDICT_OK, "BPF", NULL, "maps and XDP programs load");
    if (map >= 0)
        close(map);
    if (prog >= 0)
        close(prog);
    if (read_line("/proc/sys/net/core/bpf_jit_enable", line, sizeof(line)) && line[0] == '0')
        doctor_say(d, VERDICT_WARN, "BPF JIT", "sysctl net.core.bpf_jit_enable=1",
                   "off: every frame is interpreted");
}

static void check_xdp_socket(struct doctor *d)
{
    int fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
    struct rlimit limit;

    if (fd < 0) {
        doctor_say(d, VERDICT_FAIL, "AF_XDP",
                   errno == EPERM ? "run as root" : "use a kernel with CONFIG_XDP_SOCKETS=y",
                   "no socket: %s", strerror(errno));
        return;
    }
    doctor_say(d, VERDICT_OK, "AF_XDP", NULL, "sockets can be made");
    close(fd);
    if (!has_capability(CAP_IPC_LOCK) && getrlimit(RLIMIT_MEMLOCK, &limit) == 0 &&
        limit.rlim_cur != RLIM_INFINITY)
        doctor_say(d, VERDICT_WARN, "locked memory", "ulimit -l unlimited",
                   "limited to %llu kB: AF_XDP memory may not fit",
                   (unsigned long long)limit.rlim_cur / 1000);
}

static void check_repair(struct doctor *d)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

    if (fd >= 0 && setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &one, sizeof(one)) == 0)
        doctor_say(d, VERDICT_OK, "TCP_REPAIR", NULL, "connections can leave the kernel");
    else
        doctor_say(d, VERDICT_FAIL, "TCP_REPAIR",
                   errno == EPERM ? "run as root, with CAP_NET_ADMIN over this network namespace"
                                  : "use a kernel with CONFIG_CHECKPOINT_RESTORE=y",
                   "%s", strerror(errno));
    if (fd >= 0)
        close(fd);
}

static void check_membarrier(struct doctor *d)
{
    long commands = syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);

    if (commands >= 0 && commands & MEMBARRIER_CMD_GLOBAL)
        doctor_say(d, VERDICT_OK, "membarrier", NULL, "there, should the fast barrier not work");
    else
        doctor_say(d, VERDICT_WARN, "membarrier",
                   "use a kernel with CONFIG_MEMBARRIER=y, no nohz_full",
                   "not there: if the fast barrier does not work either, chimneyd will not start");
}

static void check_settings(struct doctor *d)
{
    char line[256];

    if (read_line("/proc/sys/net/ipv4/tcp_timestamps", line, sizeof(line)) && line[0] == '0')
        doctor_say(d, VERDICT_WARN, "TCP timestamps", "sysctl net.ipv4.tcp_timestamps=1",
                   "off: slower recovery from loss");
    if (read_line("/proc/sys/net/ipv4/tcp_sack", line, sizeof(line)) && line[0] == '0')
        doctor_say(d, VERDICT_WARN, "TCP SACK", "sysctl net.ipv4.tcp_sack=1",
                   "off: slower recovery from loss");
    if (!read_line("/proc/sys/net/ipv4/tcp_congestion_control", line, sizeof(line)))
        return;
    if (strcmp(line, "cubic") == 0 || strcmp(line, "reno") == 0)
        doctor_say(d, VERDICT_OK, "congestion control", NULL, "%s, which the target has too", line);
    else
        doctor_say(d, VERDICT_WARN, "congestion control",
                   "sysctl net.ipv4.tcp_congestion_control=cubic, if that matters",
                   "%s: the target goes on with cubic, and %s starts afresh after an upload", line,
                   line);
}

static void check_conntrack(struct doctor *d)
{
    char line[32];

    if (!read_line("/proc/sys/net/netfilter/nf_conntrack_count", line, sizeof(line))) {
        doctor_say(d, VERDICT_OK, "connection tracking", NULL, "not in this kernel");
        return;
    }
#ifdef DOCTOR_SELFTEST
    struct conntrack *ct;
    int rc = conntrack_open(&ct);

    if (rc == -EPERM) {
        doctor_say(d, VERDICT_WARN, "connection tracking", "run as root", "cannot be tried");
        return;
    }
    if (rc < 0) {
        doctor_say(d, VERDICT_WARN, "connection tracking",
                   "use a kernel with CONFIG_NF_CT_NETLINK, or sysctl "
                   "net.netfilter.nf_conntrack_tcp_be_liberal=1",
                   "its entries cannot be changed (%s): rules that drop `ct state invalid` would "
                   "stop uploaded connections",
                   strerror(-rc));
        return;
    }
    conntrack_close(ct);
#endif
    doctor_say(d, VERDICT_OK, "connection tracking", NULL,
               "%s entries; those of offloaded connections are made liberal", line);
}

static void check_handoff(struct doctor *d)
{
#ifdef DOCTOR_SELFTEST
    struct selftest_check checks[SELFTEST_MAX_CHECKS];
    int count, passed = 0;

    if (!has_capability(CAP_NET_ADMIN)) {
        doctor_say(d, VERDICT_FAIL, "hand-off", "run as root",
                   "cannot be tried without CAP_NET_ADMIN");
        return;
    }
    count = selftest_run(NULL, checks);
    for (int i = 0; i < count; i++) {
        if (checks[i].passed)
            passed++;
        else
            doctor_say(d, checks[i].fatal ? VERDICT_FAIL : VERDICT_WARN, checks[i].name,
                       checks[i].fatal ? "this kernel cannot be used: see docs"
                                       : "nothing is lost by it",
                       "%s", checks[i].detail);
    }
    if (passed > 0 && passed == count)
        doctor_say(d, VERDICT_OK, "hand-off", NULL,
                   "a connection on loopback kept all of %d things", count);
#endif
}

/** The version of a daemon that answers. */
static void check_daemon(struct doctor *d, const char *rundir)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int n = snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s", rundir,
                     PROTOCOL_CONTROL_SOCKET);

    if (n < 0 || (size_t)n >= sizeof(address.sun_path))
        doctor_say(d, VERDICT_FAIL, "daemon", "choose a shorter --rundir",
                   "%s: too long for a socket's path", rundir);
    else if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
        doctor_say(d, VERDICT_OK, "daemon", NULL, "runs at %s", rundir);
    else if (errno == ENOENT || errno == ECONNREFUSED)
        doctor_say(d, VERDICT_OK, "daemon", NULL, "does not run at %s", rundir);
    else
        doctor_say(d, VERDICT_WARN, "daemon", "run as root", "%s: %s", address.sun_path,
                   strerror(errno));
    close(fd);
}

void doctor_machine(struct doctor *d, const char *rundir)
{
    check_kernel(d);
    check_privileges(d);
    check_bpf(d);
    check_xdp_socket(d);
    check_repair(d);
    check_membarrier(d);
    check_settings(d);
    check_conntrack(d);
    check_handoff(d);
    check_daemon(d, rundir);
}
