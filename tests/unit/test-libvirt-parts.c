/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Parts of the libvirt plugin that stand alone: autostart, leaders, refusals. */
#include "plugin/libvirt/agent/autostart.h"
#include "plugin/libvirt/service/boot-starts.h"
#include "plugin/libvirt/service/leader.h"
#include "plugin/libvirt/service/service-calls.h"

#include <glib/gstdio.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <utime.h>

#define A "11111111-1111-1111-1111-111111111111"
#define B "22222222-2222-2222-2222-222222222222"

static char *new_folder(void)
{
    return g_dir_make_tmp("iommud-test-XXXXXX", NULL);
}

static void remove_folder(char *dir)
{
    const char *argv[] = {"rm", "-rf", dir, NULL};
    g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL,
                 NULL);
    g_free(dir);
}

/* ---- autostart ---- */

/* libvirt's folder, with the files that it writes when its driver begins (so long ago) and when it
 * starts what is to be started at boot; -1: it has not. */
static void write_libvirt(const char *dir, int began, int autostarted)
{
    const struct {
        const char *name;
        int seconds;
    } files[] = {{"driver.pid", began}, {"autostarted", autostarted}};

    g_setenv(LEADER_DIR_VARIABLE, dir, TRUE);
    g_setenv(BOOT_STARTS_VARIABLE, dir, TRUE);
    for (size_t i = 0; i < G_N_ELEMENTS(files); i++) {
        g_autofree char *path = g_build_filename(dir, files[i].name, NULL);
        struct utimbuf times = {.modtime = time(NULL) - files[i].seconds};
        g_remove(path);
        if (files[i].seconds < 0)
            continue;
        g_assert_true(g_file_set_contents(path, "", 0, NULL));
        g_assert_cmpint(utime(path, &times), ==, 0);
    }
}

static void test_autostart_once(void)
{
    char *dir = new_folder();
    g_autofree char *marks = g_build_filename(dir, "started", NULL);
    g_autoptr(Autostart) autostart = autostart_new(marks);

    write_libvirt(dir, 10, 5);
    g_assert_false(autostart_take(autostart, A));
    boot_start_refused(A);
    g_assert_true(autostart_take(autostart, A));
    g_assert_false(autostart_take(autostart, A));
    g_assert_false(autostart_take(autostart, B));
    /* The agent restarts. The machine was stopped, or failed: it stays. */
    g_autoptr(Autostart) next = autostart_new(marks);
    g_assert_false(autostart_take(next, A));
    remove_folder(dir);
}

/* A start that somebody asks for, and is refused, is his to repeat. */
static void test_autostart_only_at_boot(void)
{
    static const struct {
        int began, autostarted;
    } others[] = {{10, -1},      /* it has not come so far */
                  {-1, 5},       /* nor that far */
                  {5, 10},       /* another libvirtd did it, before this one */
                  {7000, 6000}}; /* it is long over */

    for (size_t i = 0; i < G_N_ELEMENTS(others); i++) {
        char *dir = new_folder();
        write_libvirt(dir, others[i].began, others[i].autostarted);
        boot_start_refused(A);
        g_assert_false(boot_start_was_refused(A));
        remove_folder(dir);
    }
}

/* What an operator has stopped stays stopped, whatever restarts. */
static void test_autostart_has_run(void)
{
    char *dir = new_folder();
    g_autofree char *marks = g_build_filename(dir, "started", NULL);

    write_libvirt(dir, 10, 5);
    boot_start_refused(A);
    for (int restart = 0; restart < 2; restart++) {
        g_autoptr(Autostart) autostart = autostart_new(marks);
        if (restart == 0)
            autostart_ran(autostart, A);
        g_assert_false(autostart_take(autostart, A));
    }
    remove_folder(dir);
}

/* What can't be remembered isn't begun: it would be done again and again. */
static void test_autostart_no_folder(void)
{
    char *dir = new_folder();
    g_autoptr(Autostart) autostart = autostart_new("/proc/self/no-folder");

    write_libvirt(dir, 10, 5);
    boot_start_refused(A);
    g_assert_false(autostart_take(autostart, A));
    g_setenv(BOOT_STARTS_VARIABLE, "/proc/self/no-folder", TRUE);
    boot_start_refused(A);
    g_assert_false(boot_start_was_refused(A));
    remove_folder(dir);
}

/* ---- leaders ---- */

/* A process that looks like QEMU by its command line; it has stopped itself. */
static pid_t spawn_qemu(const char *uuid)
{
    int status;
    pid_t pid = fork();

    g_assert_cmpint(pid, >=, 0);
    if (pid == 0) {
        execl("/bin/sh", "sh", "-c", "kill -STOP $$", "-uuid", uuid, NULL);
        _exit(127);
    }
    g_assert_cmpint(waitpid(pid, &status, WUNTRACED), ==, pid);
    g_assert_true(WIFSTOPPED(status));
    return pid;
}

static void end(pid_t pid)
{
    kill(pid, SIGKILL);
    g_assert_cmpint(waitpid(pid, NULL, 0), ==, pid);
}

static void write_pid_file(const char *dir, const char *name, const char *text)
{
    g_autofree char *path = g_strdup_printf("%s/%s.pid", dir, name);
    g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

static void assert_no_leader(const char *name, const char *uuid, const char *why)
{
    g_autoptr(GError) error = NULL;

    g_assert_cmpint(leader_open(name, uuid, &error), ==, -1);
    if (!strstr(error->message, why))
        g_error("'%s' does not say '%s'", error->message, why);
}

static void test_leader(void)
{
    char *dir = new_folder();
    pid_t pid = spawn_qemu(A);
    g_autofree char *number = g_strdup_printf("%d", pid), *line = g_strdup_printf("%d\n", pid);

    g_setenv(LEADER_DIR_VARIABLE, dir, TRUE);
    write_pid_file(dir, "vm", number);
    write_pid_file(dir, "a b", line);
    write_pid_file(dir, "empty", "");
    write_pid_file(dir, "text", "1 2");
    write_pid_file(dir, "negative", "-1");
    write_pid_file(dir, "none", "999999999");

    int leader = leader_open("vm", A, NULL);
    g_assert_cmpint(leader, >=, 0);
    struct pollfd watch = {.fd = leader, .events = POLLIN};
    g_assert_cmpint(poll(&watch, 1, 0), ==, 0);
    int same = leader_open("a b", A, NULL);
    g_assert_cmpint(same, >=, 0);
    close(same);

    assert_no_leader("vm", B, "-uuid " B);
    assert_no_leader("missing", A, "No such file");
    assert_no_leader("empty", A, "no process id");
    assert_no_leader("text", A, "no process id");
    assert_no_leader("negative", A, "no process id");
    assert_no_leader("none", A, "No such process");
    assert_no_leader("../vm", A, "slash");

    end(pid);
    g_assert_cmpint(poll(&watch, 1, 1000), ==, 1);
    close(leader);
    assert_no_leader("vm", A, "No such process");
    g_unsetenv(LEADER_DIR_VARIABLE);
    remove_folder(dir);
}

/* ---- refusals ---- */

static void test_refusals(void)
{
    static const struct {
        bool iommufd;
        const char *tenant;
        const char *error;
        bool counts;
    } cases[] = {
        /* Who uses iommud or names a tenant has to do with it, whatever it says. */
        {true, "", BUS_ERROR_PREFIX "NoSuchTenant", true},
        {false, "acme", BUS_ERROR_PREFIX "NoSuchTenant", true},
        {false, "acme", SD_BUS_ERROR_ACCESS_DENIED, true},
        {false, "acme", SD_BUS_ERROR_SERVICE_UNKNOWN, true},
        /* Else only what iommud says of a default tenant that there is. */
        {false, "", BUS_ERROR_PREFIX "LimitExceeded", true},
        {false, "", BUS_ERROR_PREFIX "NoSuchTenant", false},
        {false, "", SD_BUS_ERROR_ACCESS_DENIED, false},
        {false, "", SD_BUS_ERROR_SERVICE_UNKNOWN, false},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        DomainRequest request = {.tenant = (char *)cases[i].tenant, .iommufd = cases[i].iommufd};
        sd_bus_error error = SD_BUS_ERROR_MAKE_CONST(cases[i].error, "No.");
        g_assert_cmpint(iommud_refusal_counts(&request, &error), ==, cases[i].counts);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/libvirt/autostart/once", test_autostart_once);
    g_test_add_func("/libvirt/autostart/has-run", test_autostart_has_run);
    g_test_add_func("/libvirt/autostart/only-at-boot", test_autostart_only_at_boot);
    g_test_add_func("/libvirt/autostart/no-folder", test_autostart_no_folder);
    g_test_add_func("/libvirt/leader", test_leader);
    g_test_add_func("/libvirt/refusals", test_refusals);
    return g_test_run();
}
