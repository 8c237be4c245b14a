/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/log.h"
#include "lib/base/units.h"
#include "netd/bind/private.h"

/* Devices that netd makes because a Plug row says so.
 *
 * Made first, then put on the bridge (by the wish of its port), which marks it
 * as ours there; removed first from the kernel, then from the bridge.  So after
 * a crash the bridge still tells which devices are ours to remove.  What is
 * there already is adopted by making it again. */

#define PLUG_RETRY_NS (1 * NS_PER_S)

/* "wf" and twelve digits of the UUID. */
static void
default_device(const struct weft_uuid *port, char ret_device[LINK_NAME_SIZE])
{
    (void)snprintf(ret_device, LINK_NAME_SIZE, "wf%02x%02x%02x%02x%02x%02x",
                   port->bytes[0], port->bytes[1], port->bytes[2],
                   port->bytes[3], port->bytes[4], port->bytes[5]);
}

static void
remove_device(struct bind *bind, const char *device)
{
    struct link_info info;
    struct err err = { "" };

    if (link_find(bind->options.link, device, &info) == -ENODEV) {
        return;
    }
    if (link_remove(bind->options.link, device, &err) != 0) {
        log_warning("bind", "a device stays behind reason=%s", err.text);
    } else {
        log_info("bind", "unplugged device=%s", device);
    }
}

static void
read_plug(struct bind *bind, const struct state_plug *row)
{
    struct bind_port *port = bind_find(bind, &row->port);
    char device[LINK_NAME_SIZE];

    if (port == NULL || strcmp(row->host, bind->options.host) != 0 ||
        row->kind == STATE_PLUG_KIND_UNKNOWN) {
        return;
    }
    struct bind_plug *plug = &port->plug;
    const char *ifname = row->ifname[0] != '\0' ? row->ifname : "eth0";
    default_device(&row->port, device);
    if (row->device[0] != '\0') {
        (void)snprintf(device, sizeof device, "%s", row->device);
    }
    bool is_same = strcmp(plug->device, device) == 0 &&
                   plug->kind == row->kind &&
                   strcmp(plug->netns, row->netns) == 0 &&
                   strcmp(plug->ifname, ifname) == 0;
    plug->is_wanted = true;
    port->is_claimed = false; /* It is the API's from now on. */
    if (is_same) {
        return;
    }
    if (plug->is_made) {
        remove_device(bind, plug->device);
    }
    *plug = (struct bind_plug){ .is_wanted = true, .kind = row->kind };
    memcpy(plug->device, device, sizeof plug->device);
    (void)snprintf(plug->netns, sizeof plug->netns, "%s", row->netns);
    (void)snprintf(plug->ifname, sizeof plug->ifname, "%s", ifname);
}

void
bind_read_plugs(struct bind *bind)
{
    for (size_t i = 0; i < bind->count; i++) {
        bind->ports[i]->plug.is_wanted = false;
    }
    for (const struct state_row *row = NULL;
         (row = cloud_next(bind->options.cloud, STATE_TABLE_PLUG, row)) !=
         NULL;) {
        read_plug(bind, state_plug_from(row));
    }
}

/* Whether the device is there and not of this port: unplugging would remove
 * it.  The port's own are those that the bridge has as made for it, and what
 * has the name that only it gets (from before a crash, say). */
static bool
is_foreign(struct bind *bind, const struct bind_port *port)
{
    const char *device = port->plug.device;
    char own[LINK_NAME_SIZE];
    struct link_info info;
    size_t count;
    const struct vswitch_interface *all =
        vswitch_interfaces(bind->options.vswitch, &count);

    for (size_t i = 0; i < count; i++) {
        if (strcmp(all[i].name, device) == 0) {
            return !all[i].is_made || !uuid_equal(&all[i].port, &port->uuid);
        }
    }
    default_device(&port->uuid, own);
    return strcmp(device, own) != 0 &&
           link_find(bind->options.link, device, &info) == 0;
}

/* Whether the bridge still has an earlier device of this port, which is gone.
 * It has to be taken off first (nobody wishes it): the switch would say that it
 * has the new one before it has noticed. */
static bool
has_remains(const struct bind *bind, const struct bind_port *port)
{
    struct link_info info;
    size_t count;
    const struct vswitch_interface *interfaces =
        bind_interfaces(bind, &port->uuid, &count);

    for (size_t i = 0; i < count; i++) {
        if (interfaces[i].is_made &&
            link_find(bind->options.link, interfaces[i].name, &info) ==
                -ENODEV) {
            return true;
        }
    }
    return false;
}

static int
make_device(struct bind *bind, const struct bind_port *port, struct err *err)
{
    const struct state_port *row = bind_port_row(bind, &port->uuid);
    const struct state_network *network =
        row == NULL ? NULL : bind_network_row(bind, row);
    const struct bind_plug *plug = &port->plug;

    if (network == NULL) {
        return -EAGAIN;
    }
    if (is_foreign(bind, port)) {
        err_set(err,
                "there is a device %s already that was not made for this port; "
                "take another name, or remove it",
                plug->device);
        return -EEXIST;
    }
    if (plug->kind == STATE_PLUG_KIND_TAP) {
        return link_make_tap(bind->options.link, plug->device, network->mtu,
                             err);
    }
    struct link_veth veth = {
        .device = plug->device,
        .netns = plug->netns,
        .ifname = plug->ifname,
        .mtu = network->mtu,
    };
    unsigned bytes[6];
    if (sscanf(row->mac, "%2x:%2x:%2x:%2x:%2x:%2x", &bytes[0], &bytes[1],
               &bytes[2], &bytes[3], &bytes[4], &bytes[5]) != 6) {
        err_set(err, "the port has no MAC address: \"%s\"", row->mac);
        return -EINVAL;
    }
    for (size_t i = 0; i < 6; i++) {
        veth.mac[i] = (uint8_t)bytes[i];
    }
    return link_make_veth(bind->options.link, &veth, err);
}

static void
plug_in(struct bind *bind, struct bind_port *port)
{
    struct bind_plug *plug = &port->plug;
    struct link_info info;
    struct err err = { "" };

    if (plug->is_made && link_may_be_gone(bind->options.link, plug->device) &&
        link_find(bind->options.link, plug->device, &info) == -ENODEV) {
        plug->is_made = false; /* Its namespace has gone, say. */
    }
    if (plug->is_made) {
        return;
    }
    if (has_remains(bind, port)) {
        return;
    }
    if (!bind->has_new_links && loop_now_ns() < plug->retry_ns) {
        bind_retry(bind, plug->retry_ns);
        return;
    }
    int result = make_device(bind, port, &err);
    if (result == 0) {
        plug->is_made = true;
        plug->error[0] = '\0';
        log_info("bind", "plugged device=%s netns=%s", plug->device,
                 plug->netns);
        return;
    }
    plug->retry_ns = loop_now_ns() + PLUG_RETRY_NS;
    bind_retry(bind, plug->retry_ns);
    if (result != -EAGAIN && strcmp(plug->error, err.text) != 0) {
        (void)snprintf(plug->error, sizeof plug->error, "%.255s", err.text);
        log_warning("bind", "cannot plug, trying again reason=%s", err.text);
    }
}

void
bind_plug(struct bind *bind, struct bind_port *port)
{
    bool is_here = port->decision.verdict == BIND_SERVE ||
                   port->decision.verdict == BIND_HOLD;
    size_t count;

    if (port->plug.is_wanted && is_here) {
        if (port->decision.verdict == BIND_SERVE) {
            plug_in(bind, port);
        }
        return;
    }
    if (!cloud_is_complete(bind->options.cloud)) {
        return; /* The row may be on its way. */
    }
    if (port->plug.is_made) {
        remove_device(bind, port->plug.device);
    }
    /* Those from before a restart, too. */
    const struct vswitch_interface *interfaces =
        bind_interfaces(bind, &port->uuid, &count);
    for (size_t i = 0; i < count; i++) {
        if (interfaces[i].is_made &&
            !(port->plug.is_made &&
              strcmp(interfaces[i].name, port->plug.device) == 0)) {
            remove_device(bind, interfaces[i].name);
        }
    }
    port->plug = (struct bind_plug){ .is_wanted = false };
}
