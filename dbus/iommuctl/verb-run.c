/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A command that is a machine of a tenant, from its admission to the return of its devices.
 *
 * All that can be refused is asked before the command runs, and what was done by then is undone.
 * When we are killed the command runs on: iommud watches it itself and reaps it when it ends.
 */
#include "dbus/iommuctl/verb-run.h"

#include "dbus/client/properties.h"
#include "dbus/iommuctl/base/failure.h"
#include "dbus/iommuctl/base/lookup.h"
#include "dbus/iommuctl/child-process.h"
#include "dbus/iommuctl/options.h"
#include "kernel/base/cleanup.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* What is reserved when it is not said: a small machine, or a program's huge pages. */
#define MEMORY_DEFAULT (G_GUINT64_CONSTANT(1) << 30)
#define VFIO_DRIVER "vfio-pci"
#define VFIO_FOLDER "/dev/vfio/devices/"
/* A simulated host's devices have no files; this one can at least be handed over. */
#define SIMULATED_FILE "/dev/null"

typedef struct {
    char *path; /* of its object */
    char *address;
    bool bound; /* by us, so it is ours to give back */
} RunDevice;

typedef struct {
    Iommuctl *ctl;
    char **arguments; /* tenant, command, its arguments; not owned */
    char *program;
    char *uuid;
    char *name;
    bool simulated;
    bool admitted;
    GPtrArray *devices; /* owned RunDevice */
    GArray *fds;        /* of int, owned: what is handed over, */
    GPtrArray *names;   /* and what each is called; owned */
    Signals signals;
    Command command;
    int interrupted; /* by this signal, before the command ran */
} Run;

static void device_free(void *data)
{
    RunDevice *device = data;

    g_free(device->path);
    g_free(device->address);
    g_free(device);
}

static void clear_fd(void *data)
{
    int *fd = data;

    *fd = close_fd(*fd);
}

static void run_init(Run *run, Iommuctl *ctl, char **arguments)
{
    const Options *options = ctl->options;
    *run = (Run){
        .ctl = ctl,
        .arguments = arguments,
        .uuid = options->uuid ? g_strdup(options->uuid) : g_uuid_string_random(),
        .name = options->name ? g_strdup(options->name) : g_path_get_basename(arguments[1]),
        .devices = g_ptr_array_new_with_free_func(device_free),
        .fds = g_array_new(FALSE, FALSE, sizeof(int)),
        .names = g_ptr_array_new_with_free_func(g_free),
        .signals = SIGNALS_NONE,
        .command = COMMAND_NONE,
    };
    g_array_set_clear_func(run->fds, clear_fd);
}

static void run_clear(Run *run)
{
    command_clear(&run->command);
    signals_release(&run->signals);
    g_ptr_array_unref(run->names);
    g_array_unref(run->fds);
    g_ptr_array_unref(run->devices);
    g_free(run->name);
    g_free(run->uuid);
    g_free(run->program);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Run, run_clear)

/* An answer that did not come in time may still have been a yes. */
static bool may_be_done(int r)
{
    return r >= 0 || r == -ETIMEDOUT;
}

/* ---- the steps ---- */

static int find_devices(Run *run)
{
    Iommuctl *ctl = run->ctl;

    const GPtrArray *devices = ctl->options->devices;

    for (unsigned i = 0; i < devices->len; i++) {
        RunDevice *device = g_new0(RunDevice, 1);
        int r;

        g_ptr_array_add(run->devices, device);
        r = find_device(ctl, devices->pdata[i], &device->path);
        if (r < 0)
            return r;
        device->address = bus_path_device(device->path);
    }
    return 0;
}

static int append_admission(const Run *run, sd_bus_message *message)
{
    g_autoptr(GPtrArray) addresses = g_ptr_array_new();
    const Number *memory = &run->ctl->options->memory;
    int r = sd_bus_message_append(message, "ssst", run->uuid, run->name, run->arguments[0],
                                  memory->given ? memory->value : MEMORY_DEFAULT);

    for (unsigned i = 0; i < run->devices->len; i++)
        g_ptr_array_add(addresses, ((RunDevice *)run->devices->pdata[i])->address);
    g_ptr_array_add(addresses, NULL);
    if (r >= 0)
        r = sd_bus_message_append_strv(message, (char **)addresses->pdata);
    return r < 0 ? r : sd_bus_message_append(message, "a{sv}", 0);
}

/* Who did not say how much shall know that it can be said. */
static int explain_refusal(Iommuctl *ctl, int r)
{
    g_autofree char *text = NULL;

    if (ctl->options->memory.given ||
        !sd_bus_error_has_names(&ctl->error, BUS_ERROR_PREFIX "LimitExceeded",
                                BUS_ERROR_PREFIX "HostBudgetExceeded"))
        return r;
    text = client_error_text(&ctl->error, r);
    return fail(ctl, "%s Or say with --memory how much the command needs.", text);
}

static int admit(Run *run)
{
    Iommuctl *ctl = run->ctl;
    g_autoptr(sd_bus_message) message = NULL;
    int r = sd_bus_message_new_method_call(ctl->bus, &message, BUS_NAME, BUS_PATH,
                                           BUS_INTERFACE_MANAGER, "AdmitMachine");

    if (r >= 0)
        r = append_admission(run, message);
    if (r < 0)
        return r;
    /* A machine of that UUID that died just now is waited for. */
    r = client_call_message(ctl->bus, message, CLIENT_TIMEOUT_REAP, &ctl->error, NULL);
    run->admitted = may_be_done(r);
    return r < 0 ? explain_refusal(ctl, r) : r;
}

static int get_device(Iommuctl *ctl, const RunDevice *device, Properties **ret_properties)
{
    return properties_get(ctl->bus, BUS_NAME, device->path, BUS_INTERFACE_DEVICE, CLIENT_TIMEOUT,
                          &ctl->error, ret_properties);
}

/* A device that has a VFIO driver already keeps it, also after the command has ended. */
static int bind_device(Iommuctl *ctl, RunDevice *device)
{
    g_autoptr(Properties) properties = NULL;
    int r = get_device(ctl, device, &properties);

    if (r < 0 || strstr(properties_string(properties, "Driver"), "vfio"))
        return r;
    r = client_call(ctl->bus, device->path, BUS_INTERFACE_DEVICE, "Bind", CLIENT_TIMEOUT,
                    &ctl->error, NULL, "s", VFIO_DRIVER);
    device->bound = may_be_done(r);
    return r;
}

static int bind_devices(Run *run)
{
    int r = 0;

    for (unsigned i = 0; r >= 0 && i < run->devices->len; i++)
        r = bind_device(run->ctl, run->devices->pdata[i]);
    return r;
}

/* Takes fd. */
static void hand_over(Run *run, int fd, const char *name)
{
    g_array_append_val(run->fds, fd);
    /* In LISTEN_FDNAMES a colon ends a name. */
    g_ptr_array_add(run->names, g_strdelimit(g_strdup(name), ":", '_'));
}

static int open_iommufd(Run *run)
{
    Iommuctl *ctl = run->ctl;
    g_autofree char *path = NULL;
    g_autoptr(sd_bus_message) reply = NULL;
    int fd;
    int r = find_tenant(ctl, run->arguments[0], &path);

    if (r >= 0)
        r = client_call(ctl->bus, path, BUS_INTERFACE_TENANT, "Open", CLIENT_TIMEOUT, &ctl->error,
                        &reply, NULL);
    if (r >= 0)
        r = sd_bus_message_read(reply, "h", &fd);
    if (r < 0)
        return r;
    fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (fd < 0)
        return -errno;
    hand_over(run, fd, "iommufd");
    return 0;
}

static int open_device(Run *run, const RunDevice *device)
{
    g_autoptr(Properties) properties = NULL;
    g_autofree char *file = NULL;
    const char *cdev;
    int fd;
    int r = get_device(run->ctl, device, &properties);

    if (r < 0)
        return r;
    cdev = properties_string(properties, "Cdev");
    if (!*cdev)
        return fail(run->ctl,
                    "Device %s has no VFIO character device: 'iommuctl doctor' says what this "
                    "kernel lacks.",
                    device->address);
    file = run->simulated ? g_strdup(SIMULATED_FILE) : g_strconcat(VFIO_FOLDER, cdev, NULL);
    fd = open(file, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return fail(run->ctl, "Device %s could not be opened: %s: %s.", device->address, file,
                    g_strerror(errno));
    hand_over(run, fd, device->address);
    return 0;
}

static int open_devices(Run *run)
{
    g_autoptr(Properties) manager = NULL;
    int r = properties_get(run->ctl->bus, BUS_NAME, BUS_PATH, BUS_INTERFACE_MANAGER, CLIENT_TIMEOUT,
                           &run->ctl->error, &manager);

    if (r < 0)
        return r;
    run->simulated = properties_has(manager, "Features", "simulated");
    for (unsigned i = 0; r >= 0 && i < run->devices->len; i++)
        r = open_device(run, run->devices->pdata[i]);
    return r;
}

static int fork_command(Run *run)
{
    int r =
        command_fork((int *)(void *)run->fds->data, (const char *const *)run->names->pdata,
                     run->fds->len, run->program, run->arguments + 1, &run->signals, &run->command);

    /* From here on they are the command's alone. */
    g_array_set_size(run->fds, 0);
    return r;
}

static int name_leader(Run *run)
{
    Iommuctl *ctl = run->ctl;

    return client_call(ctl->bus, BUS_PATH, BUS_INTERFACE_MANAGER, "StartMachine", CLIENT_TIMEOUT,
                       &ctl->error, NULL, "sv", run->uuid, "h", run->command.pidfd);
}

static int prepare(Run *run)
{
    static int (*const steps[])(Run *) = {
        find_devices, admit, bind_devices, open_iommufd, open_devices, fork_command, name_leader,
    };
    struct signalfd_siginfo info;

    for (size_t i = 0; i < G_N_ELEMENTS(steps); i++) {
        int r = steps[i](run);

        if (r < 0)
            return r;
        if (signals_take(&run->signals, &info)) {
            run->interrupted = (int)info.ssi_signo;
            return fail(run->ctl, "%s came before the command was started: it was not started.",
                        strsignal(run->interrupted));
        }
    }
    return 0;
}

/* ---- the way back ---- */

/* Prints what could not be undone. */
static bool check_undone(Run *run, int r, const sd_bus_error *error, const char *what)
{
    g_autofree char *text = NULL;

    if (r >= 0)
        return true;
    text = client_error_text(error, r);
    r = fail(run->ctl, "%s: %s", what, text);
    print_failure(run->ctl, r);
    return false;
}

static bool release(Run *run)
{
    g_auto(sd_bus_error) error = SD_BUS_ERROR_NULL;
    g_autofree char *what =
        g_strdup_printf("Machine %s (%s) is not released", run->name, run->uuid);
    int r = client_call(run->ctl->bus, BUS_PATH, BUS_INTERFACE_MANAGER, "ReleaseMachine",
                        CLIENT_TIMEOUT_REAP, &error, NULL, "ss", run->uuid, "iommuctl run");

    /* iommud saw it end and has done it all. */
    if (sd_bus_error_has_name(&error, BUS_ERROR_PREFIX "NoSuchMachine"))
        return true;
    return check_undone(run, r, &error, what);
}

static bool restore(Run *run, const RunDevice *device)
{
    g_auto(sd_bus_error) error = SD_BUS_ERROR_NULL;
    g_autofree char *what =
        g_strdup_printf("Device %s is not given back to the host", device->address);
    int r = client_call(run->ctl->bus, device->path, BUS_INTERFACE_DEVICE, "Restore",
                        CLIENT_TIMEOUT, &error, NULL, NULL);

    return check_undone(run, r, &error, what);
}

/* A command may run for weeks, and the connection may not have lasted as long. */
static int connect_again(Iommuctl *ctl)
{
    ctl->bus = sd_bus_flush_close_unref(ctl->bus);
    return client_open_bus(ctl->options->bus, &ctl->bus);
}

/* The machine first: its devices are its own until it is gone. */
static bool give_back(Run *run)
{
    bool all;
    int r;

    if (!run->admitted)
        return true;
    r = connect_again(run->ctl);
    if (r < 0)
        return check_undone(run, r, NULL, "Nothing is given back");
    all = release(run);
    for (unsigned i = run->devices->len; i > 0; i--) {
        const RunDevice *device = run->devices->pdata[i - 1];

        if (device->bound && !restore(run, device))
            all = false;
    }
    return all;
}

/* ---- the verb ---- */

static int refuse_command(Run *run, int error)
{
    int r =
        fail(run->ctl, "Command '%s' could not be run: %s.", run->arguments[1], g_strerror(-error));

    print_failure(run->ctl, r);
    return command_status(error);
}

static int start_and_wait(Run *run)
{
    int r = prepare(run);

    if (r < 0) {
        print_failure(run->ctl, r);
        return run->interrupted > 0 ? COMMAND_SIGNALLED + run->interrupted : COMMAND_FAILED;
    }
    r = command_start(&run->command);
    return r < 0 ? refuse_command(run, r) : command_wait(&run->command, &run->signals);
}

static int hold_signals(Run *run)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGQUIT);
    return signals_hold(&set, &run->signals);
}

int verb_run(Iommuctl *ctl, char **arguments)
{
    g_auto(Run) run;
    int status;
    int r;

    run_init(&run, ctl, arguments);
    r = command_find(arguments[1], &run.program);
    if (r < 0)
        return refuse_command(&run, r);
    r = ctl->bus ? hold_signals(&run) : ctl->bus_error;
    if (r < 0) {
        print_failure(ctl, r);
        return COMMAND_FAILED;
    }
    status = start_and_wait(&run);
    /* A process that still waits to be started ends here: iommud releases no machine whose process
     * lives. */
    command_clear(&run.command);
    if (!give_back(&run) && status == 0)
        status = COMMAND_FAILED;
    return status;
}
