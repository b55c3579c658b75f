/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What clients share: object paths, and errors as sentences. */
#include "dbus/client/client.h"

#include <errno.h>

static void test_paths(void)
{
    static const struct {
        char *(*to_path)(const char *);
        char *(*from_path)(const char *);
        const char *name;
        const char *path;
    } cases[] = {
        {bus_tenant_path, bus_path_tenant, "acme", "/org/iommud1/tenant/acme"},
        {bus_tenant_path, bus_path_tenant, "a.b-1", "/org/iommud1/tenant/a_2eb_2d1"},
        {bus_machine_path, bus_path_machine, "9b2cfcdc-6005-4de0-a6ac-aaa68d1917c0",
         "/org/iommud1/machine/9b2cfcdc_6005_4de0_a6ac_aaa68d1917c0"},
        {bus_device_path, bus_path_device, "0000:81:00.7", "/org/iommud1/device/0000_81_00_7"},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *path = cases[i].to_path(cases[i].name);
        g_autofree char *name = cases[i].from_path(path);

        g_assert_cmpstr(path, ==, cases[i].path);
        g_assert_cmpstr(name, ==, cases[i].name);
    }
}

static void test_foreign_paths(void)
{
    g_assert_null(bus_path_tenant("/org/iommud1/machine/x"));
    g_assert_null(bus_path_tenant("/org/iommud1"));
    g_assert_null(bus_path_machine("/org/iommud1/machine/"));
    g_assert_null(bus_path_machine("/org/iommud1/machine/a/b"));
    g_assert_null(bus_path_device("/org/iommud1/device"));
}

static void assert_text(const char *name, const char *message, const char *expected)
{
    g_auto(sd_bus_error) error = SD_BUS_ERROR_NULL;
    g_autofree char *text = NULL;

    (void)sd_bus_error_set(&error, name, message);
    text = client_error_text(&error, -EIO);
    g_assert_cmpstr(text, ==, expected);
}

static void test_errors(void)
{
    assert_text("org.iommud1.Error.LimitExceeded", "Tenant acme has 1G left.",
                "Tenant acme has 1G left.");
    assert_text("org.iommud1.Error.LimitExceeded", "no stop at its end", "no stop at its end.");
    assert_text(SD_BUS_ERROR_SERVICE_UNKNOWN, "The name org.iommud1 is not on the bus.",
                "The iommud service is not running: start it with 'systemctl start iommud'.");
    assert_text(SD_BUS_ERROR_SERVICE_UNKNOWN, "The name org.iommud1.Libvirt is not on the bus.",
                "The libvirt agent is not running: start it with 'systemctl start "
                "iommud-libvirt'.");
    assert_text("org.freedesktop.systemd1.NoSuchUnit", "Unit dbus-org.iommud1.service not found.",
                "The iommud service is not running: start it with 'systemctl start iommud'.");
    assert_text("org.freedesktop.DBus.Error.Spawn.ChildExited",
                "Process org.iommud1 exited with status 1",
                "The iommud service is not running: start it with 'systemctl start iommud'.");
    assert_text(SD_BUS_ERROR_NO_REPLY, "x", "The service did not answer in time.");
    assert_text(SD_BUS_ERROR_ACCESS_DENIED, "Rejected send message, 2 matched rules",
                "Access denied: only root and the user iommud-libvirt may do this.");
    assert_text(SD_BUS_ERROR_ACCESS_DENIED, "SetLimit is for root.", "SetLimit is for root.");
    assert_text(SD_BUS_ERROR_UNKNOWN_METHOD, NULL, SD_BUS_ERROR_UNKNOWN_METHOD ".");
}

static void test_errno(void)
{
    g_autofree char *refused = client_error_text(NULL, -ECONNREFUSED);
    g_autofree char *late = client_error_text(NULL, -ETIMEDOUT);

    g_assert_true(g_str_has_prefix(refused, "The message bus cannot be reached: "));
    g_assert_cmpstr(late, ==, "The service did not answer in time.");
}

static void test_no_bus(void)
{
    sd_bus *bus = NULL;

    g_assert_cmpint(client_open_bus("unix:path=/nonexistent/bus", &bus), ==, -ENOENT);
    g_assert_null(bus);
    g_setenv(BUS_ADDRESS_VARIABLE, "unix:path=/nonexistent/bus", TRUE);
    g_assert_cmpint(client_open_bus(NULL, &bus), ==, -ENOENT);
    g_assert_null(bus);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/client/paths", test_paths);
    g_test_add_func("/client/foreign-paths", test_foreign_paths);
    g_test_add_func("/client/errors", test_errors);
    g_test_add_func("/client/errno", test_errno);
    g_test_add_func("/client/no-bus", test_no_bus);
    return g_test_run();
}
