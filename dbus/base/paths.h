/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Object paths of the service, and what they stand for.
 *
 * Tenants' ids are escaped as sd_bus_path_encode(3) does it; UUIDs and addresses stay readable,
 * with
 * '_' in the place of '-', ':' and '.', which sd_bus_path_encode() would write as two hex digits
 * each.
 */
#pragma once

/* Freed with g_free(). uuid in lower case with dashes, address as 0000:01:00.0. */
char *bus_tenant_path(const char *id);
char *bus_machine_path(const char *uuid);
char *bus_device_path(const char *address);

/* What the path's last element names, freed with g_free(). NULL: the path is not one of this
 * kind. */
char *bus_path_tenant(const char *path);
char *bus_path_machine(const char *path);
char *bus_path_device(const char *path);
