/* SPDX-License-Identifier: Apache-2.0 */
#include "host/tc.h"

#include <errno.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/pkt_cls.h>
#include <string.h>
#include <bpf/libbpf.h>
#include "host/netlink.h"

/** Filters of ours that one scan can remember; there are two, or four after a crash. */
#define SCAN_MAX 16

struct scan {
    struct tc_filter found[SCAN_MAX];
    unsigned ours, others;
};

static int scan_option(const struct nlattr *attr, void *arg)
{
    const char **name = arg;

    /* libbpf names a filter after its program. */
    if (mnl_attr_get_type(attr) == TCA_BPF_NAME &&
        mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) >= 0)
        *name = mnl_attr_get_str(attr);
    return MNL_CB_OK;
}

static int scan_attr(const struct nlattr *attr, void *arg)
{
    if (mnl_attr_get_type(attr) == TCA_OPTIONS)
        mnl_attr_parse_nested(attr, scan_option, arg);
    return MNL_CB_OK;
}

static int scan_filter(const struct nlmsghdr *nlh, void *arg)
{
    const struct tcmsg *tc = mnl_nlmsg_get_payload(nlh);
    const char *name = NULL;
    struct scan *scan = arg;

    if (nlh->nlmsg_type != RTM_NEWTFILTER || nlh->nlmsg_len < mnl_nlmsg_size(sizeof(*tc)))
        return MNL_CB_OK;
    /* Every classifier also announces itself once without a filter. */
    if (!tc->tcm_handle)
        return MNL_CB_OK;
    mnl_attr_parse(nlh, sizeof(*tc), scan_attr, &name);
    if (!name || strncmp(name, "chimney_", 8) != 0) {
        scan->others++;
        return MNL_CB_OK;
    }
    if (scan->ours < SCAN_MAX) {
        scan->found[scan->ours].handle = tc->tcm_handle;
        scan->found[scan->ours].priority = TC_H_MAJ(tc->tcm_info) >> 16;
    }
    scan->ours++;
    return MNL_CB_OK;
}

static int scan_one(struct mnl_socket *s, int ifindex, uint32_t minor, struct scan *scan)
{
    char buf[NETLINK_REQUEST] __attribute__((aligned(8)));
    struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
    struct tcmsg *tc;

    nlh->nlmsg_type = RTM_GETTFILTER;
    nlh->nlmsg_flags = NLM_F_DUMP;
    tc = mnl_nlmsg_put_extra_header(nlh, sizeof(*tc));
    tc->tcm_family = AF_UNSPEC;
    tc->tcm_ifindex = ifindex;
    tc->tcm_parent = TC_H_MAKE(TC_H_CLSACT, minor);
    memset(scan, 0, sizeof(*scan));
    return netlink_ask(s, nlh, scan_filter, scan);
}

static int detach_one(int ifindex, enum bpf_tc_attach_point point, const struct tc_filter *filter)
{
    LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = point);
    LIBBPF_OPTS(bpf_tc_opts, opts, .handle = filter->handle, .priority = filter->priority);
    int err = bpf_tc_detach(&hook, &opts);

    return err == -ENOENT || err == -ENODEV || err == -EINVAL ? 0 : err;
}

int tc_scan(int ifindex, bool remove, unsigned *ours, unsigned *others)
{
    static const struct {
        uint32_t minor;
        enum bpf_tc_attach_point point;
    } direction[] = {
        {TC_H_MIN_INGRESS, BPF_TC_INGRESS},
        {TC_H_MIN_EGRESS, BPF_TC_EGRESS},
    };
    struct mnl_socket *s;
    struct scan scan;
    int err;

    *ours = *others = 0;
    err = netlink_open(&s, 0);
    if (err)
        return err;
    for (unsigned d = 0; d < 2 && !err; d++) {
        err = scan_one(s, ifindex, direction[d].minor, &scan);
        if (err)
            break;
        *ours += scan.ours;
        *others += scan.others;
        for (unsigned i = 0; remove && i < scan.ours && i < SCAN_MAX && !err; i++)
            err = detach_one(ifindex, direction[d].point, &scan.found[i]);
    }
    mnl_socket_close(s);
    return err;
}

static int attach_one(int ifindex, enum bpf_tc_attach_point point, int fd, struct tc_filter *filter)
{
    LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = point);
    /* Priority 0: the kernel chooses one before all others. */
    LIBBPF_OPTS(bpf_tc_opts, opts, .prog_fd = fd);
    int err = bpf_tc_attach(&hook, &opts);

    if (err)
        return err;
    filter->handle = opts.handle;
    filter->priority = opts.priority;
    return 0;
}

/* Removes the qdisc if it is ours to remove and nobody else's filters hang on it. */
static void drop_qdisc(int ifindex, const struct tc_guards *guards)
{
    LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex,
                .attach_point = BPF_TC_INGRESS | BPF_TC_EGRESS);
    unsigned ours, others;

    if (!guards->own_qdisc || tc_scan(ifindex, false, &ours, &others) || ours || others)
        return;
    bpf_tc_hook_destroy(&hook);
}

int tc_attach(int ifindex, int in_fd, int out_fd, struct tc_guards *guards)
{
    LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex,
                .attach_point = BPF_TC_INGRESS | BPF_TC_EGRESS);
    unsigned ours = 0, others;
    int err;

    memset(guards, 0, sizeof(*guards));
    err = bpf_tc_hook_create(&hook);
    if (err && err != -EEXIST)
        return err;
    guards->own_qdisc = !err;
    err = tc_scan(ifindex, true, &ours, &others);
    if (err)
        goto fail;
    /* An earlier process of ours was here: the qdisc was probably its own, too. */
    if (ours)
        guards->own_qdisc = true;
    err = attach_one(ifindex, BPF_TC_INGRESS, in_fd, &guards->in);
    if (err)
        goto fail;
    err = attach_one(ifindex, BPF_TC_EGRESS, out_fd, &guards->out);
    if (err) {
        detach_one(ifindex, BPF_TC_INGRESS, &guards->in);
        goto fail;
    }
    return 0;
fail:
    drop_qdisc(ifindex, guards);
    return err;
}

int tc_detach(int ifindex, struct tc_guards *guards)
{
    int in = detach_one(ifindex, BPF_TC_INGRESS, &guards->in);
    int out = detach_one(ifindex, BPF_TC_EGRESS, &guards->out);

    drop_qdisc(ifindex, guards);
    return in ? in : out;
}
