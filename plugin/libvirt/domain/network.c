/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/libvirt/domain/network.h"

#include "kernel/base/cleanup.h"

#include <fcntl.h>
#include <string.h>

/* NAME.xml is a <networkstatus> that holds the <network>. */
static bool is_hostdev(xmlNode *root)
{
    xmlNode *network = root && xml_is(root, "networkstatus", NULL)
                           ? xml_first(root->children, "network", NULL)
                           : root;
    xmlNode *forward = network ? xml_first(network->children, "forward", NULL) : NULL;

    return forward && xml_attribute_is(forward, "mode", "hostdev");
}

bool network_passes_devices(const char *name)
{
    const char *dir = g_getenv(NETWORK_DIR_VARIABLE);
    g_autofree char *path = g_strdup_printf("%s/%s.xml", dir ? dir : NETWORK_DIR, name);
    size_t length;

    if (strchr(name, '/'))
        return false;
    autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
    g_autofree char *text = fd >= 0 ? xml_read(fd, &length, NULL) : NULL;
    g_autoptr(xmlDoc) doc = text ? xml_parse(text, length, NULL) : NULL;
    return doc && is_hostdev(xmlDocGetRootElement(doc));
}
