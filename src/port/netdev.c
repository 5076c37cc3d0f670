/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interface facts, by ioctl: no state, works in any namespace.
 */
#include <dirent.h>
#include <errno.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include "port/netdev.h"

_Static_assert(sizeof(((struct netdev *)0)->name) == IFNAMSIZ, "names fit");

static bool ask(int control, unsigned long request, struct ifreq *ifr, const char *name)
{
    memset(ifr, 0, sizeof(*ifr));
    strcpy(ifr->ifr_name, name);
    return ioctl(control, request, ifr) == 0;
}

/** Receive queues in use, or 0 if the driver does not say. */
static uint32_t ask_channels(int control, const char *name)
{
    struct ethtool_channels channels = {.cmd = ETHTOOL_GCHANNELS};
    struct ifreq ifr = {.ifr_data = (void *)&channels};

    strcpy(ifr.ifr_name, name);
    if (ioctl(control, SIOCETHTOOL, &ifr) < 0)
        return 0;
    return channels.rx_count + channels.combined_count;
}

/** The same from sysfs, which may show another namespace than ours: only the second choice. */
static uint32_t count_queues(const char *name)
{
    char path[64];
    struct dirent *entry;
    uint32_t n = 0;
    DIR *dir;

    snprintf(path, sizeof(path), "/sys/class/net/%s/queues", name);
    dir = opendir(path);
    if (!dir)
        return 0;
    while ((entry = readdir(dir)))
        n += strncmp(entry->d_name, "rx-", 3) == 0;
    closedir(dir);
    return n;
}

static bool is_veth(int control, const char *name)
{
    struct ethtool_drvinfo info = {.cmd = ETHTOOL_GDRVINFO};
    struct ifreq ifr = {.ifr_data = (void *)&info};

    strcpy(ifr.ifr_name, name);
    return ioctl(control, SIOCETHTOOL, &ifr) == 0 && strcmp(info.driver, "veth") == 0;
}

bool netdev_query(int control, const char *ifname, struct netdev *dev, char *err, size_t errlen)
{
    struct ifreq ifr;

    memset(dev, 0, sizeof(*dev));
    if (!ifname || !*ifname || strlen(ifname) >= IFNAMSIZ ||
        !ask(control, SIOCGIFINDEX, &ifr, ifname)) {
        snprintf(err, errlen, "%s: no such interface; `ip link` lists them", ifname ? ifname : "");
        return false;
    }
    strcpy(dev->name, ifname);
    dev->ifindex = ifr.ifr_ifindex;
    if (!ask(control, SIOCGIFHWADDR, &ifr, ifname))
        goto gone;
    if (ifr.ifr_hwaddr.sa_family != ARPHRD_ETHER) {
        snprintf(err, errlen,
                 "%s: not an Ethernet interface; choose the one the traffic arrives on", ifname);
        return false;
    }
    memcpy(dev->mac, ifr.ifr_hwaddr.sa_data, 6);
    if (!ask(control, SIOCGIFMTU, &ifr, ifname))
        goto gone;
    dev->mtu = (uint32_t)ifr.ifr_mtu;
    dev->veth = is_veth(control, ifname);
    dev->rx_queues = ask_channels(control, ifname);
    if (!dev->rx_queues)
        dev->rx_queues = count_queues(ifname);
    if (!dev->rx_queues)
        dev->rx_queues = 1;
    return true;

gone:
    snprintf(err, errlen, "%s: %s", ifname, strerror(errno));
    return false;
}

bool netdev_running(int control, int ifindex)
{
    struct ifreq ifr = {.ifr_ifindex = ifindex};

    /* By index: the name may have changed. */
    if (ioctl(control, SIOCGIFNAME, &ifr) < 0 || ioctl(control, SIOCGIFFLAGS, &ifr) < 0)
        return false;
    return (ifr.ifr_flags & IFF_UP) && (ifr.ifr_flags & IFF_RUNNING);
}
