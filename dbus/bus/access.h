/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who may call what: checked here only, before a call gets to any object.
 *
 * What only reads is open to everybody. All the rest, and whatever is not listed, is for uid 0, the
 * user iommud-libvirt (the agent), and the user that the service itself runs as; everybody else
 * gets org.freedesktop.DBus.Error.AccessDenied.
 */
#pragma once

#include "dbus/base/sd-cleanup.h"

/* Has every method call pass through here before an object sees it. 0 or negative errno. */
int access_install(sd_bus *bus);
