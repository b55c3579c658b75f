/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* With real files in a folder of its own. */
#include "tests/unit/fake-tree.h"

#include "policy/config.h"
#include "policy/size.h"

#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define GIB (UINT64_C(1024) * 1024 * 1024)

typedef struct {
    char *top;
    char *etc;
    char *state;
} Fixture;

static void set_up(Fixture *fixture, gconstpointer data)
{
    fixture->top = tree_new();
    fixture->etc = g_build_filename(fixture->top, "etc", NULL);
    fixture->state = g_build_filename(fixture->top, "state", NULL);
}

static void tear_down(Fixture *fixture, gconstpointer data)
{
    tree_remove(fixture->top);
    g_free(fixture->etc);
    g_free(fixture->state);
}

static void write_bytes(const char *folder, const char *name, const char *data, size_t length)
{
    g_autofree char *path = g_build_filename(folder, name, NULL);
    g_autofree char *parent = g_path_get_dirname(path);
    g_assert_cmpint(g_mkdir_with_parents(parent, 0700), ==, 0);
    g_assert_true(g_file_set_contents(path, data, (gssize)length, NULL));
}

static void write_file(const char *folder, const char *name, const char *text)
{
    write_bytes(folder, name, text, strlen(text));
}

static Config *load(Fixture *fixture)
{
    g_autoptr(GError) error = NULL;
    Config *config = config_load(fixture->etc, fixture->state, &error);
    g_assert_no_error(error);
    return config;
}

/* TOP in message stands for the fixture's folder; a message that ends in "..." is a beginning. */
static void assert_refused(Fixture *fixture, const char *message)
{
    g_autoptr(GError) error = NULL;
    g_assert_null(config_load(fixture->etc, fixture->state, &error));
    g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT);
    g_auto(GStrv) parts = g_strsplit(message, "TOP", -1);
    g_autofree char *expected = g_strjoinv(fixture->top, parts);
    if (g_str_has_suffix(expected, "...")) {
        expected[strlen(expected) - strlen("...")] = '\0';
        error->message[MIN(strlen(error->message), strlen(expected))] = '\0';
    }
    g_assert_cmpstr(error->message, ==, expected);
}

/* ---- what is taken over ---- */

static void test_defaults(Fixture *fixture, gconstpointer data)
{
    g_autoptr(Config) config = load(fixture);
    g_assert_cmpuint(config->budget_percent, ==, 100);
    g_assert_null(config->default_tenant);
    g_assert_cmpuint(config->admission_timeout, ==, 600);
    g_assert_cmpint(config->guard, ==, GUARD_KNOWN);
    g_assert_true(config->require_guard);
    g_assert_true(config->direct_open);
    g_assert_true(g_strv_contains((const char *const *)config->relay_units, "libvirtd.service"));
    g_assert_cmpuint(config->max_iommufds, ==, 4096);
    g_assert_cmpuint(config->max_objects, ==, 65536);
    g_assert_cmpuint(config->max_mappings, ==, 65536);
    g_assert_cmpuint(config->max_processes, ==, 8192);
    g_assert_cmpuint(config->tenants->len, ==, 0);
    g_assert_cmpuint(config_host_budget(config, 64 * GIB), ==, 64 * GIB);
    config_free(NULL);
}

static void test_all(Fixture *fixture, gconstpointer data)
{
    write_file(fixture->etc, "iommud.conf",
               "# the host\n[Host]\nBudget = 90% \n\n[Tenants]\nDefault=acme\n"
               "[Machines]\nAdmissionTimeout=60\n"
               "[Kernel]\nGuard=strict\nRequireGuard=no\nDirectOpen=no\n"
               "FdRelayUnits=mine.service; other@1.service;\n"
               "MaxIommufds=64\nMaxObjects=1000\nMaxMappings=4194304\nMaxProcesses=65\n");
    write_file(fixture->etc, "tenants.d/acme.conf",
               "[Tenant]\nLimit=64G\nCount=unique\nIsolation=machine\nAccounting=user\n"
               "Devices=0000:81:00.*; 10de:*;\n");
    write_file(fixture->etc, "tenants.d/other.conf", "[Tenant]\nId=Zeta\nLimit=infinity\n");
    write_file(fixture->state, "tenants.d/made.conf", "[Tenant]\nDevices=\n");

    g_autoptr(Config) config = load(fixture);
    g_assert_cmpuint(config->budget_percent, ==, 90);
    g_assert_cmpstr(config->default_tenant, ==, "acme");
    g_assert_cmpuint(config->admission_timeout, ==, 60);
    g_assert_cmpint(config->guard, ==, GUARD_STRICT);
    g_assert_false(config->require_guard);
    g_assert_false(config->direct_open);
    g_assert_cmpuint(g_strv_length(config->relay_units), ==, 2);
    g_assert_cmpstr(config->relay_units[1], ==, "other@1.service");
    g_assert_cmpuint(config->max_iommufds, ==, 64);
    g_assert_cmpuint(config->max_objects, ==, 1000);
    g_assert_cmpuint(config->max_mappings, ==, 4194304);
    g_assert_cmpuint(config->max_processes, ==, 65);
    g_assert_cmpuint(config->tenants->len, ==, 3);

    const TenantConfig *zeta = config->tenants->pdata[0];
    g_assert_cmpstr(zeta->id, ==, "Zeta");
    g_assert_cmpuint(zeta->limit, ==, SIZE_INFINITY);
    g_assert_null(zeta->devices);
    g_assert_true(g_str_has_suffix(zeta->source, "/etc/tenants.d/other.conf"));
    const TenantConfig *acme = config->tenants->pdata[1];
    g_assert_cmpstr(acme->id, ==, "acme");
    g_assert_cmpuint(acme->limit, ==, 64 * GIB);
    g_assert_cmpint(acme->count, ==, COUNT_UNIQUE);
    g_assert_cmpint(acme->isolation, ==, ISOLATION_MACHINE);
    g_assert_cmpint(acme->accounting, ==, HOST_ACCOUNTING_USER);
    g_assert_cmpuint(g_strv_length(acme->devices), ==, 2);
    g_assert_cmpstr(acme->devices[1], ==, "10de:*");
    const TenantConfig *made = config->tenants->pdata[2];
    g_assert_cmpstr(made->id, ==, "made");
    g_assert_null(made->source);
    g_assert_nonnull(made->devices);
    g_assert_cmpuint(g_strv_length(made->devices), ==, 0);
}

static void test_budget(Fixture *fixture, gconstpointer data)
{
    write_file(fixture->etc, "iommud.conf", "[Host]\nBudget=64G\n[Tenants]\nDefault=\n");
    g_autoptr(Config) config = load(fixture);
    g_assert_cmpuint(config_host_budget(config, GIB), ==, 64 * GIB);
    g_assert_null(config->default_tenant);
    config->budget = SIZE_INFINITY;
    g_assert_cmpuint(config_host_budget(config, GIB), ==, SIZE_INFINITY);

    config->budget_percent = 90;
    g_assert_cmpuint(config_host_budget(config, 0), ==, 0);
    g_assert_cmpuint(config_host_budget(config, 1), ==, 0);
    g_assert_cmpuint(config_host_budget(config, 999), ==, 899);
    g_assert_cmpuint(config_host_budget(config, UINT64_MAX), ==, UINT64_C(16602069666338596453));
    config->budget_percent = 100;
    g_assert_cmpuint(config_host_budget(config, UINT64_MAX), ==, UINT64_MAX);
}

static void test_ignored_files(Fixture *fixture, gconstpointer data)
{
    write_file(fixture->etc, "tenants.d/README", "nonsense");
    write_file(fixture->etc, "tenants.d/acme.conf~", "nonsense");
    write_file(fixture->etc, "tenants.d/acme.conf.ABC123", "nonsense");
    write_file(fixture->etc, "tenants.d/.#acme.conf", "nonsense");
    write_file(fixture->etc, "tenants.d/acme.conf", "[Tenant]\n");
    g_autoptr(Config) config = load(fixture);
    g_assert_cmpuint(config->tenants->len, ==, 1);
}

static void test_config_wins(Fixture *fixture, gconstpointer data)
{
    write_file(fixture->etc, "tenants.d/a.conf", "[Tenant]\nId=acme\nLimit=1G\n");
    write_file(fixture->state, "tenants.d/acme.conf", "[Tenant]\nLimit=2G\n");
    g_autoptr(Config) config = load(fixture);
    g_assert_cmpuint(config->tenants->len, ==, 1);
    const TenantConfig *acme = config->tenants->pdata[0];
    g_assert_cmpuint(acme->limit, ==, 1 * GIB);
    g_assert_true(g_str_has_suffix(acme->source, "/etc/tenants.d/a.conf"));
}

/* ---- what is refused ---- */

static void test_values(Fixture *fixture, gconstpointer data)
{
    static const struct {
        const char *text;
        const char *message;
    } files[] = {
        {"[Host]\nBudget=200%\n", "File TOP/etc/iommud.conf, group [Host], key Budget: \"200%\" is "
                                  "not a share of the host's memory: write 1% to 100%."},
        {"[Host]\nBudget=0%\n", "File TOP/etc/iommud.conf, group [Host], key Budget: \"0%\"..."},
        {"[Host]\nBudget=-5%\n", "File TOP/etc/iommud.conf, group [Host], key Budget: \"-5%\"..."},
        {"[Host]\nBudget=9.5%\n", "File TOP/etc/iommud.conf, group [Host], key Budget: \"9.5%..."},
        {"[Host]\nBudget=%\n", "File TOP/etc/iommud.conf, group [Host], key Budget: \"%\" is..."},
        {"[Host]\nBudget=\n", "File TOP/etc/iommud.conf, group [Host], key Budget: \"\" is not..."},
        {"[Host]\nBudget=64X\n", "File TOP/etc/iommud.conf, group [Host], key Budget: \"64X\" is "
                                 "not a size: ..."},
        {"[Host]\nBudget=64\\q\n", "File TOP/etc/iommud.conf, group [Host], key Budget: \"64\\q\" "
                                   "is not a value that can be read: correct its backslashes."},
        {"[Host]\nbudget=64G\n", "File TOP/etc/iommud.conf, group [Host] has an unknown key "
                                 "\"budget\": remove it, or correct its name."},
        {"[Host]\nBudget[de]=64G\n", "File TOP/etc/iommud.conf, group [Host] has an unknown key "
                                     "\"Budget[de]\": remove it, or correct its name."},
        {"[host]\n",
         "File TOP/etc/iommud.conf has an unknown group \"host\": remove it, or correct "
         "its name."},
        {"[Host]\nBudget=1G\n[Tenant]\nId=a\n", "File TOP/etc/iommud.conf has an unknown group..."},
        {"[Tenants]\nDefault=a/b\n", "File TOP/etc/iommud.conf, group [Tenants], key Default: "
                                     "\"a/b\" can't be the id of a tenant: ..."},
        {"[Machines]\nAdmissionTimeout=0\n", "File TOP/etc/iommud.conf, group [Machines], key "
                                             "AdmissionTimeout: \"0\" is not a time: write 1 to "
                                             "86400 seconds."},
        {"[Machines]\nAdmissionTimeout=86401\n", "File TOP/etc/iommud.conf, group [Machines]..."},
        {"[Machines]\nAdmissionTimeout=10s\n", "File TOP/etc/iommud.conf, group [Machines]..."},
        {"[Machines]\nAdmissionTimeout=99999999999999999999\n",
         "File TOP/etc/iommud.conf, group [Machines]..."},
        {"[Kernel]\nGuard=on\n", "File TOP/etc/iommud.conf, group [Kernel], key Guard: \"on\" is "
                                 "not a guard: write off, known or strict."},
        {"[Kernel]\nRequireGuard=1\n", "File TOP/etc/iommud.conf, group [Kernel], key "
                                       "RequireGuard: \"1\" is not an answer: write yes or no."},
        {"[Kernel]\nFdRelayUnits=libvirtd.service;../x.service\n",
         "File TOP/etc/iommud.conf, group [Kernel], key FdRelayUnits: \"../x.service\" is not the "
         "name "
         "of a systemd unit, such as libvirtd.service."},
        {"[Kernel]\nFdRelayUnits=a/b.service\n",
         "File TOP/etc/iommud.conf, group [Kernel], key..."},
        {"[Kernel]\nMaxMappings=63\n", "File TOP/etc/iommud.conf, group [Kernel], key MaxMappings: "
                                       "\"63\" is not a size: write 64 "
                                       "to 4194304 entries."},
        {"[Kernel]\nMaxObjects=4194305\n", "File TOP/etc/iommud.conf, group [Kernel], key..."},
        {"[Kernel]\nMaxIommufds=none\n", "File TOP/etc/iommud.conf, group [Kernel], key..."},
        {"[Kernel]\nMaxProcesses=\n", "File TOP/etc/iommud.conf, group [Kernel], key..."},
        {"[Kernel]\nFdRelayUnits=libvirtd\n", "File TOP/etc/iommud.conf, group [Kernel], key..."},
        {"Budget=1G\n", "File TOP/etc/iommud.conf can't be read: ..."},
        {"[Host]\nnonsense\n", "File TOP/etc/iommud.conf can't be read: ..."},
        {"[Host\n", "File TOP/etc/iommud.conf can't be read: ..."},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(files); i++) {
        write_file(fixture->etc, "iommud.conf", files[i].text);
        assert_refused(fixture, files[i].message);
    }
}

static void test_tenant_values(Fixture *fixture, gconstpointer data)
{
    static const struct {
        const char *text;
        const char *message;
    } files[] = {
        {"", "File TOP/etc/tenants.d/acme.conf has no group [Tenant]: write one, or remove the "
             "file."},
        {"# nothing\n", "File TOP/etc/tenants.d/acme.conf has no group [Tenant]: write one, or "
                        "remove the file."},
        {"[Tenant]\nId=\n", "File TOP/etc/tenants.d/acme.conf, group [Tenant], key Id: \"\"..."},
        {"[Tenant]\nId=../x\n", "File TOP/etc/tenants.d/acme.conf, group [Tenant], key Id: ..."},
        {"[Tenant]\nLimit=lots\n", "File TOP/etc/tenants.d/acme.conf, group [Tenant], key Limit: "
                                   "\"lots\" is not a size: ..."},
        {"[Tenant]\nIsolation=none\n", "File TOP/etc/tenants.d/acme.conf, group [Tenant], key "
                                       "Isolation: \"none\" is not an isolation: write tenant or "
                                       "machine."},
        {"[Tenant]\nCount=all\n", "File TOP/etc/tenants.d/acme.conf, group [Tenant], key Count: "
                                  "\"all\" is not a way to count: write charged or unique."},
        {"[Tenant]\nAccounting=mm\n", "File TOP/etc/tenants.d/acme.conf, group [Tenant], key "
                                      "Accounting: \"mm\" is not an accounting: write user or "
                                      "process."},
        {"[Tenant]\nDevices=10de:*;81:00.*\n", "File TOP/etc/tenants.d/acme.conf, group [Tenant], "
                                               "key Devices: \"81:00.*\" matches no device: ..."},
        {"[Tenant]\nColour=red\n", "File TOP/etc/tenants.d/acme.conf, group [Tenant] has an "
                                   "unknown key \"Colour\": remove it, or correct its name."},
        {"[Host]\nBudget=1G\n", "File TOP/etc/tenants.d/acme.conf has an unknown group \"Host\": "
                                "remove it, or correct its name."},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(files); i++) {
        write_file(fixture->etc, "tenants.d/acme.conf", files[i].text);
        assert_refused(fixture, files[i].message);
    }
}

static void test_file_names(Fixture *fixture, gconstpointer data)
{
    write_file(fixture->etc, "tenants.d/our tenant.conf", "[Tenant]\nLimit=1G\n");
    assert_refused(fixture, "File TOP/etc/tenants.d/our tenant.conf, group [Tenant], key Id: "
                            "\"our tenant\" can't be the id of a tenant: ...");
    write_file(fixture->etc, "tenants.d/our tenant.conf", "[Tenant]\nId=ours\n");
    g_autoptr(Config) config = load(fixture);
    g_assert_cmpuint(config->tenants->len, ==, 1);
}

static void test_twice(Fixture *fixture, gconstpointer data)
{
    static const char *const folders[] = {"etc", "state"};
    for (size_t i = 0; i < G_N_ELEMENTS(folders); i++) {
        g_autofree char *folder = g_build_filename(fixture->top, folders[i], NULL);
        write_file(folder, "tenants.d/acme.conf", "[Tenant]\n");
        write_file(folder, "tenants.d/copy.conf", "[Tenant]\nId=acme\n");
        g_autofree char *message =
            g_strdup_printf("File TOP/%s/tenants.d/copy.conf, group [Tenant], key Id: tenant acme "
                            "is defined in TOP/%s/tenants.d/acme.conf already: remove one of the "
                            "two files, or change its Id.",
                            folders[i], folders[i]);
        assert_refused(fixture, message);
        tree_remove(g_steal_pointer(&folder));
    }
}

static void test_not_text(Fixture *fixture, gconstpointer data)
{
    write_file(fixture->etc, "iommud.conf", "[Host]\nBudget=\xff\n");
    assert_refused(fixture, "File TOP/etc/iommud.conf is not UTF-8 text: save it as such.");
    static const char nul[] = "[Host]\nBudget=1G\0\n";
    write_bytes(fixture->etc, "iommud.conf", nul, sizeof(nul) - 1);
    assert_refused(fixture, "File TOP/etc/iommud.conf is not UTF-8 text: save it as such.");
}

static void test_large(Fixture *fixture, gconstpointer data)
{
    g_autofree char *text = g_strnfill(1024 * 1024 + 1, '#');
    write_file(fixture->etc, "iommud.conf", text);
    assert_refused(fixture, "File TOP/etc/iommud.conf can't be read: it is larger than 1 MiB: "
                            "correct or remove it.");
    text[1024 * 1024] = '\0';
    write_file(fixture->etc, "iommud.conf", text);
    g_autoptr(Config) config = load(fixture);
    g_assert_cmpuint(config->budget_percent, ==, 100);
}

/* A FIFO would block whoever opens it, a folder can't be read. */
static void test_not_a_file(Fixture *fixture, gconstpointer data)
{
    g_autofree char *tenants = g_build_filename(fixture->etc, "tenants.d", NULL);
    g_autofree char *fifo = g_build_filename(tenants, "acme.conf", NULL);
    g_assert_cmpint(g_mkdir_with_parents(tenants, 0700), ==, 0);
    g_assert_cmpint(mkfifo(fifo, 0600), ==, 0);
    assert_refused(fixture, "File TOP/etc/tenants.d/acme.conf can't be read: it is not a regular "
                            "file: correct or remove it.");
    g_assert_cmpint(unlink(fifo), ==, 0);
    g_assert_cmpint(mkdir(fifo, 0700), ==, 0);
    assert_refused(fixture, "File TOP/etc/tenants.d/acme.conf can't be read: it is not a regular "
                            "file: correct or remove it.");
    g_assert_cmpint(rmdir(fifo), ==, 0);
    g_assert_cmpint(symlink("/nowhere/at/all", fifo), ==, 0);
    assert_refused(fixture, "File TOP/etc/tenants.d/acme.conf can't be read: No such file or "
                            "directory: correct or remove it.");
    g_assert_cmpint(unlink(fifo), ==, 0);
    g_assert_cmpint(rmdir(tenants), ==, 0);
    write_file(fixture->etc, "tenants.d", "a file");
    assert_refused(fixture, "Folder TOP/etc/tenants.d can't be read: ...");
}

/* One wrong file among many, in the folder that is read last: nothing comes back. */
static void test_nothing_by_halves(Fixture *fixture, gconstpointer data)
{
    write_file(fixture->etc, "iommud.conf", "[Host]\nBudget=50%\n");
    write_file(fixture->etc, "tenants.d/acme.conf", "[Tenant]\n");
    write_file(fixture->state, "tenants.d/acme.conf", "[Tenant]\nLimit=x\n");
    assert_refused(fixture, "File TOP/state/tenants.d/acme.conf, group [Tenant], key Limit: ...");
}

/* ---- writing ---- */

static unsigned mode_of(const char *path)
{
    struct stat st;
    g_assert_cmpint(lstat(path, &st), ==, 0);
    return st.st_mode & 07777;
}

static void test_save(Fixture *fixture, gconstpointer data)
{
    g_autoptr(TenantConfig) tenant = tenant_config_new("acme");
    tenant->limit = 64 * GIB + 1;
    tenant->isolation = ISOLATION_MACHINE;
    tenant->accounting = HOST_ACCOUNTING_USER;
    tenant->count = COUNT_UNIQUE;
    tenant->devices = g_strsplit("0000:81:1[0-7].*;10de:*", ";", -1);
    g_autoptr(GError) error = NULL;
    mode_t before = umask(0);
    g_assert_true(tenant_config_save(tenant, fixture->state, &error));
    umask(before);
    g_assert_no_error(error);

    g_autofree char *folder = g_build_filename(fixture->state, "tenants.d", NULL);
    g_autofree char *path = g_build_filename(folder, "acme.conf", NULL);
    g_assert_cmpuint(mode_of(path), ==, 0600);
    g_assert_cmpuint(mode_of(folder), ==, 0700);
    g_assert_cmpuint(mode_of(fixture->state), ==, 0700);

    g_autoptr(Config) config = load(fixture);
    g_assert_cmpuint(config->tenants->len, ==, 1);
    const TenantConfig *read = config->tenants->pdata[0];
    g_assert_cmpstr(read->id, ==, "acme");
    g_assert_cmpuint(read->limit, ==, 64 * GIB + 1);
    g_assert_cmpint(read->isolation, ==, ISOLATION_MACHINE);
    g_assert_cmpint(read->accounting, ==, HOST_ACCOUNTING_USER);
    g_assert_cmpint(read->count, ==, COUNT_UNIQUE);
    g_assert_cmpstrv(read->devices, tenant->devices);

    /* Again, over what is there, and without a limit and rules. */
    tenant->limit = SIZE_INFINITY;
    g_clear_pointer(&tenant->devices, g_strfreev);
    g_assert_cmpint(g_chmod(path, 0644), ==, 0);
    g_assert_true(tenant_config_save(tenant, fixture->state, &error));
    g_assert_cmpuint(mode_of(path), ==, 0600);
    g_autoptr(Config) again = load(fixture);
    read = again->tenants->pdata[0];
    g_assert_cmpuint(read->limit, ==, SIZE_INFINITY);
    g_assert_null(read->devices);
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    g_assert_cmpstr(g_dir_read_name(dir), ==, "acme.conf");
    g_assert_null(g_dir_read_name(dir));
}

static void test_remove(Fixture *fixture, gconstpointer data)
{
    g_autoptr(TenantConfig) tenant = tenant_config_new("acme");
    g_autoptr(GError) error = NULL;
    g_assert_true(tenant_config_save(tenant, fixture->state, &error));
    g_assert_true(tenant_config_remove("acme", fixture->state, &error));
    g_autoptr(Config) config = load(fixture);
    g_assert_cmpuint(config->tenants->len, ==, 0);
    g_assert_true(tenant_config_remove("acme", fixture->state, &error));
    g_assert_no_error(error);
    g_assert_false(tenant_config_remove("../../x", fixture->state, &error));
    g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT);
}

static void test_save_fails(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(TenantConfig) tenant = tenant_config_new("acme");
    write_file(fixture->top, "state", "a file where the folder should be");
    g_assert_false(tenant_config_save(tenant, fixture->state, &error));
    g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_KERNEL_REFUSED);
    g_assert_true(g_str_has_prefix(error->message, "The file of tenant acme can't be written: "));
    g_clear_error(&error);
    g_assert_false(tenant_config_remove("acme", fixture->state, &error));
    g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_KERNEL_REFUSED);
    g_clear_error(&error);
    g_free(tenant->id);
    tenant->id = g_strdup("../acme");
    g_assert_false(tenant_config_save(tenant, fixture->state, &error));
    g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT);
}

/* No room on the disk: the old file stays whole, and nothing is left beside it. */
static void test_save_without_room(Fixture *fixture, gconstpointer data)
{
    g_autoptr(TenantConfig) tenant = tenant_config_new("acme");
    tenant->limit = 1 * GIB;
    g_assert_true(tenant_config_save(tenant, fixture->state, NULL));
    tenant->limit = 2 * GIB;
    struct rlimit before;
    g_assert_cmpint(getrlimit(RLIMIT_FSIZE, &before), ==, 0);
    const struct rlimit tight = {.rlim_cur = 8, .rlim_max = before.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    g_assert_cmpint(setrlimit(RLIMIT_FSIZE, &tight), ==, 0);
    g_autoptr(GError) error = NULL;
    gboolean saved = tenant_config_save(tenant, fixture->state, &error);
    g_assert_cmpint(setrlimit(RLIMIT_FSIZE, &before), ==, 0);
    g_assert_false(saved);
    g_assert_true(g_str_has_prefix(error->message, "The file of tenant acme can't be written: "));
    g_assert_true(g_str_has_suffix(
        error->message, ": File too large: make room or correct its folder, and try again."));

    g_autoptr(Config) config = load(fixture);
    const TenantConfig *read = config->tenants->pdata[0];
    g_assert_cmpuint(read->limit, ==, 1 * GIB);
    g_autofree char *folder = g_build_filename(fixture->state, "tenants.d", NULL);
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    g_assert_cmpstr(g_dir_read_name(dir), ==, "acme.conf");
    g_assert_null(g_dir_read_name(dir));
}

#define ADD(path, function) g_test_add(path, Fixture, NULL, set_up, function, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("/config/defaults", test_defaults);
    ADD("/config/all", test_all);
    ADD("/config/budget", test_budget);
    ADD("/config/ignored-files", test_ignored_files);
    ADD("/config/config-wins", test_config_wins);
    ADD("/config/values", test_values);
    ADD("/config/tenant-values", test_tenant_values);
    ADD("/config/file-names", test_file_names);
    ADD("/config/twice", test_twice);
    ADD("/config/not-text", test_not_text);
    ADD("/config/large", test_large);
    ADD("/config/not-a-file", test_not_a_file);
    ADD("/config/nothing-by-halves", test_nothing_by_halves);
    ADD("/config/save", test_save);
    ADD("/config/remove", test_remove);
    ADD("/config/save-fails", test_save_fails);
    ADD("/config/save-without-room", test_save_without_room);
    return g_test_run();
}
