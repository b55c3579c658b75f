/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The program that libvirt runs when a domain starts and stops:
 *
 *   iommud-libvirt-hook NAME OPERATION SUB-OPERATION EXTRA <DOMAIN-XML
 *
 *   prepare begin    asks the agent whether libvirt has the machine's IOMMUFD, and iommud to admit
 *                    the machine; exit 1 stops the start, and what stands on stderr is the reason
 *                    that the user of virsh sees
 *   start begin      asks iommud again for a domain with <interface type='hostdev'>: libvirt
 * chooses the device of a network's pool only after prepare started begin    tells iommud the
 * machine's leader; never fails, since libvirt would kill the machine: what it can't do the agent
 * does release end      tells iommud that the machine is gone reconnect begin  libvirt has
 * restarted and found the machine running: tells iommud if that does not know; never fails, since
 * libvirt would kill the machine
 *
 * Everything else exits 0. A machine that is to run on its tenant's IOMMUFD fails closed: without
 * the agent's and iommud's yes it does not start. `prepare` is where that can be refused: once
 * libvirt has opened the first device of a start, a start that fails hangs libvirt. One with legacy
 * VFIO devices is refused only when iommud itself says no; when iommud can't be asked it starts.
 *
 * libvirt holds the domain's lock meanwhile and waits without a limit. So: never a call to libvirt,
 * one deadline over everything, and the memory that hostile XML can use is capped.
 */
#include "config.h"
#include "kernel/base/cleanup.h"
#include "kernel/base/text.h"
#include "plugin/libvirt/domain/network.h"
#include "plugin/libvirt/service/agent-calls.h"
#include "plugin/libvirt/service/boot-starts.h"
#include "plugin/libvirt/service/daemon.h"
#include "plugin/libvirt/service/leader.h"
#include "plugin/libvirt/service/service-calls.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define MEMORY_MAX (512u * 1024 * 1024)
/* AdmitMachine can wait until what a dead machine left is reaped. */
#define PREPARE_SECONDS 30
#define STARTED_SECONDS 10
#define RELEASE_SECONDS 15
#define RECONNECT_SECONDS 10
/* How long a restart of iommud may take before a start is refused because of it. */
#define RESTART_USEC (3 * G_USEC_PER_SEC)
#define RETRY_USEC (100 * 1000)
/* Seconds for tests; libvirt gives its hooks an empty environment. */
#define DEADLINE_VARIABLE "IOMMUD_HOOK_DEADLINE"

typedef struct {
    const char *name;  /* of the domain, fit for messages */
    const char *extra; /* why it is released */
    bool may_fail;     /* whether this operation may exit with 1 */
    gint64 begin;      /* g_get_monotonic_time() */
    gint64 deadline;
    sd_bus *bus; /* NULL: not opened yet */
} Hook;

/* ---- the deadline ---- */

/* What the signal handler does when the time is up: it may not decide or format anything. */
static struct {
    char *text;
    size_t length;
    int status;
} timeout;

static void on_deadline(int signal)
{
    ssize_t n = write(STDERR_FILENO, timeout.text, timeout.length);
    (void)n;
    _exit(timeout.status);
}

/* Says what running out of time means from now on: a sentence about the machine, and a status. */
static void set_timeout(const Hook *hook, const char *sentence, int status)
{
    char *text = g_strdup_printf("iommud: The machine %s %s\n", hook->name, sentence);
    char *old = timeout.text;
    sigset_t alarm;

    sigemptyset(&alarm);
    sigaddset(&alarm, SIGALRM);
    sigprocmask(SIG_BLOCK, &alarm, NULL);
    timeout.text = text;
    timeout.length = strlen(text);
    timeout.status = hook->may_fail ? status : 0;
    sigprocmask(SIG_UNBLOCK, &alarm, NULL);
    g_free(old);
}

static bool start_deadline(Hook *hook, unsigned seconds)
{
    const char *override = g_getenv(DEADLINE_VARIABLE);
    struct sigaction action = {.sa_handler = on_deadline};
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
    timer_t timer;

    if (override)
        seconds = (unsigned)CLAMP(g_ascii_strtoull(override, NULL, 10), 1, seconds);
    struct itimerspec time = {.it_value = {.tv_sec = seconds}};
    hook->begin = g_get_monotonic_time();
    hook->deadline = hook->begin + seconds * G_USEC_PER_SEC;
    set_timeout(hook, "can't be checked: its domain XML did not come in time.", 1);
    return sigaction(SIGALRM, &action, NULL) == 0 &&
           timer_create(CLOCK_MONOTONIC, &event, &timer) == 0 &&
           timer_settime(timer, 0, &time, NULL) == 0;
}

/* The answer came in time: only one sentence is printed. */
static void end_deadline(void)
{
    (void)signal(SIGALRM, SIG_IGN);
}

/* ---- saying things ---- */

/* The last thing that an operation does before it ends. */
G_GNUC_PRINTF(1, 2) static void say(const char *format, ...)
{
    va_list args;

    end_deadline();

    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    fprintf(stderr, "iommud: %s\n", text);
}

/* so: what becomes of the machine. */
static void say_unreachable(const Hook *hook, const char *so, const sd_bus_error *error)
{
    g_autofree char *why = client_error_text(error, 0);

    if (g_str_has_suffix(why, "."))
        why[strlen(why) - 1] = '\0';
    say("The machine %s %s, since iommud.service can't be asked (%s): see 'systemctl status "
        "iommud'.",
        hook->name, so, why);
}

static void say_refused(const sd_bus_error *error)
{
    g_autofree char *why = client_error_text(error, 0);
    say("%s", why);
}

/* ---- asking iommud ---- */

/* Opens the bus unless it is open: once, and again when it was lost meanwhile. */
static int open_bus(Hook *hook, sd_bus_error *error)
{
    if (hook->bus && sd_bus_is_open(hook->bus) > 0)
        return 0;
    hook->bus = sd_bus_close_unref(hook->bus);
    int r = client_open_bus(NULL, &hook->bus);
    return r < 0 ? sd_bus_error_set_errno(error, r) : 0;
}

/* Whether to ask again after a call that returned r: nobody answered, and the time end is not
 * near. Waits a moment before. */
static bool try_again(int r, gint64 end, sd_bus_error *error)
{
    if (r >= 0 || iommud_refused(error) || g_get_monotonic_time() + RETRY_USEC >= end)
        return false;
    g_usleep(RETRY_USEC);
    sd_bus_error_free(error);
    return true;
}

static int call_admit(Hook *hook, const DomainRequest *request, uint64_t iommufd, gint64 end,
                      sd_bus_error *error)
{
    int r;

    do {
        r = open_bus(hook, error);
        if (r >= 0)
            r = iommud_admit(hook->bus, request, iommufd, error);
    } while (try_again(r, end, error));
    return r;
}

static int call_start(Hook *hook, const char *uuid, int leader, gint64 end, sd_bus_error *error)
{
    int r;

    do {
        r = open_bus(hook, error);
        if (r >= 0)
            r = iommud_start(hook->bus, uuid, leader, error);
    } while (try_again(r, end, error));
    return r;
}

/* ---- the operations ---- */

static DomainXml *read_domain(const Hook *hook)
{
    g_autoptr(GError) error = NULL;
    size_t length;
    g_autofree char *text = xml_read(STDIN_FILENO, &length, &error);
    DomainXml *xml = text ? domain_xml_parse(text, length, &error) : NULL;

    if (!xml)
        say("%s: %s", hook->name, error->message);
    return xml;
}

/* The exit status: 0 when the machine may start. iommufd: id of the one that libvirt has for it; 0:
 * that was not asked. */
static int admit(Hook *hook, const DomainRequest *request, uint64_t iommufd)
{
    g_auto(sd_bus_error) error = SD_BUS_ERROR_NULL;
    bool required = request->iommufd;
    gint64 end = required ? MIN(hook->begin + RESTART_USEC, hook->deadline) : hook->begin;

    set_timeout(hook,
                required ? "is not started, since iommud.service did not answer in time."
                         : "is not accounted, since iommud.service did not answer in time.",
                required);
    if (call_admit(hook, request, iommufd, end, &error) >= 0)
        return 0;
    if (!iommud_refused(&error)) {
        say_unreachable(hook, required ? "is not started" : "is not accounted", &error);
        return required;
    }
    if (!iommud_refusal_counts(request, &error))
        return 0;
    /* The next start will find it associated anew. */
    if (sd_bus_error_has_name(&error, BUS_ERROR_PREFIX "NotAssociated"))
        agent_ask_again(hook->bus, request->uuid);
    say_refused(&error);
    return 1;
}

static DomainRequest *read_request(const Hook *hook, const DomainXml *xml)
{
    g_autoptr(GError) error = NULL;
    DomainRequest *request = domain_request_new(xml, &error);

    if (!request)
        say("%s: %s", hook->name, error->message);
    return request;
}

/* libvirt 12.8 itself goes down when it takes a device from a network's pool for a domain with
 * <iommufd>, which it does after `prepare`. */
static bool check_networks(const Hook *hook, const DomainXml *xml)
{
    for (char **network = xml->networks; xml->iommufd && *network; network++) {
        if (!network_passes_devices(*network))
            continue;
        g_autofree char *name = text_sanitize(*network, TEXT_QUOTED_MAX, false);
        say("The machine %s is not started: it has <iommufd> and takes a device from the pool of "
            "the network %s, and libvirt itself crashes then. Give it the device by <interface "
            "type='hostdev'>, with the device's own address.",
            hook->name, name);
        return false;
    }
    return true;
}

static void say_no_agent(const Hook *hook, const sd_bus_error *error)
{
    g_autofree char *why = client_error_text(error, 0);

    if (g_str_has_suffix(why, "."))
        why[strlen(why) - 1] = '\0';
    say("The machine %s is not started, since iommud-libvirt.service can't be asked whether "
        "libvirt "
        "has its IOMMUFD (%s): see 'systemctl status iommud-libvirt'.",
        hook->name, why);
}

/* Whether libvirt has an IOMMUFD for this start, and which. */
static bool ask_agent(Hook *hook, const char *uuid, uint64_t *ret_iommufd)
{
    g_auto(sd_bus_error) error = SD_BUS_ERROR_NULL;
    g_autoptr(GError) why = NULL;
    AgentStart start = {0};

    set_timeout(hook, "is not started, since iommud-libvirt.service did not answer in time.", 1);
    int r = open_bus(hook, &error);
    if (r >= 0)
        r = agent_ask_start(hook->bus, uuid, &start, &error);
    if (r < 0 && iommud_refused(&error))
        say_refused(&error);
    else if (r < 0)
        say_no_agent(hook, &error);
    if (r < 0) {
        boot_start_refused(uuid);
        return false;
    }
    if (!daemon_check_peer(getppid(), start.socket, &why)) {
        say("The machine %s is not started: %s.", hook->name, why->message);
        return false;
    }
    *ret_iommufd = start.iommufd;
    return true;
}

static int hook_prepare(Hook *hook)
{
    g_autoptr(DomainXml) xml = read_domain(hook);

    /* What can't be read might use iommud: it is not started. */
    if (!xml)
        return 1;
    if (!check_networks(hook, xml))
        return 1;
    if (!domain_xml_needs_admission(xml))
        return 0;
    g_autoptr(DomainRequest) request = read_request(hook, xml);
    uint64_t iommufd = 0;
    if (!request || (request->iommufd && !ask_agent(hook, request->uuid, &iommufd)))
        return 1;
    return admit(hook, request, iommufd);
}

static int hook_start(Hook *hook)
{
    g_autoptr(DomainXml) xml = read_domain(hook);

    if (!xml)
        return 1;
    if (xml->n_interfaces == 0)
        return 0;
    g_autoptr(DomainRequest) request = read_request(hook, xml);
    return request ? admit(hook, request, 0) : 1;
}

/* required: it must be known to iommud. Its charge is taken: if iommud can't be told of its leader
 * now, the agent tells it later. */
static void start(Hook *hook, const char *uuid, int leader, bool required)
{
    g_auto(sd_bus_error) error = SD_BUS_ERROR_NULL;

    set_timeout(hook, "is not watched yet, since iommud.service did not answer in time.", 0);
    if (call_start(hook, uuid, leader, required ? hook->deadline : hook->begin, &error) >= 0)
        return;
    if (!iommud_refused(&error))
        say_unreachable(hook, "is not watched yet", &error);
    else if (required || !sd_bus_error_has_name(&error, BUS_ERROR_PREFIX "NoSuchMachine"))
        say_refused(&error);
}

static int hook_started(Hook *hook)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(DomainXml) xml = read_domain(hook);
    g_autofree char *uuid = NULL, *name = NULL;
    autoclose int leader = -EBADF;

    if (!xml || !domain_xml_needs_admission(xml))
        return 0;
    bool required = domain_xml_uses_iommud(xml);
    if (domain_xml_identity(xml, &uuid, &name, &error))
        leader = leader_open(name, uuid, &error);
    if (leader < 0)
        say("%s", error->message);
    else
        start(hook, uuid, leader, required);
    return 0;
}

static int hook_release(Hook *hook)
{
    g_autoptr(DomainXml) xml = read_domain(hook);
    g_autofree char *uuid = NULL, *name = NULL;
    g_auto(sd_bus_error) error = SD_BUS_ERROR_NULL;

    if (!xml || !domain_xml_needs_admission(xml) || !domain_xml_identity(xml, &uuid, &name, NULL))
        return 0;
    set_timeout(hook, "is released later: iommud.service did not answer in time.", 0);
    int r = open_bus(hook, &error);
    if (r >= 0)
        r = iommud_release(hook->bus, uuid, hook->extra, &error);
    if (r < 0 && !sd_bus_error_has_name(&error, BUS_ERROR_PREFIX "NoSuchMachine"))
        say_refused(&error);
    return 0;
}

/* Whether iommud has the machine, but not its leader. One that it does not know is admitted. */
static bool needs_leader(Hook *hook, const DomainRequest *request)
{
    g_auto(sd_bus_error) error = SD_BUS_ERROR_NULL;
    g_autoptr(IommudMachine) machine = NULL;
    int r = open_bus(hook, &error);

    if (r >= 0)
        r = iommud_get_machine(hook->bus, request->uuid, &machine, &error);
    if (r >= 0)
        return !g_str_equal(machine->state, "running");
    return sd_bus_error_has_name(&error, BUS_ERROR_PREFIX "NoSuchMachine") &&
           admit(hook, request, 0) == 0;
}

static int hook_reconnect(Hook *hook)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(DomainXml) xml = read_domain(hook);
    autoclose int leader = -EBADF;

    if (!xml || !domain_xml_needs_admission(xml))
        return 0;
    g_autoptr(DomainRequest) request = domain_request_new(xml, &error);
    if (request)
        leader = leader_open(request->name, request->uuid, &error);
    if (leader < 0) {
        say("%s", error->message);
        return 0;
    }
    set_timeout(hook, "runs, but iommud.service did not answer in time.", 0);
    if (needs_leader(hook, request))
        start(hook, request->uuid, leader, false);
    return 0;
}

static const struct {
    const char *operation;
    const char *sub_operation;
    unsigned seconds;
    bool may_fail;
    int (*run)(Hook *hook);
} operations[] = {
    {"prepare", "begin", PREPARE_SECONDS, true, hook_prepare},
    {"start", "begin", PREPARE_SECONDS, true, hook_start},
    {"started", "begin", STARTED_SECONDS, false, hook_started},
    {"release", "end", RELEASE_SECONDS, false, hook_release},
    {"reconnect", "begin", RECONNECT_SECONDS, false, hook_reconnect},
};

static void limit_memory(void)
{
/* A sanitizer's shadow memory alone is larger than any limit. */
#ifndef __SANITIZE_ADDRESS__
    struct rlimit limit = {MEMORY_MAX, MEMORY_MAX};
    (void)setrlimit(RLIMIT_AS, &limit);
#endif
}

static int usage(const char *argument)
{
    if (g_strcmp0(argument, "--version") == 0) {
        puts("iommud-libvirt-hook " VERSION);
        return 0;
    }
    puts("Usage: iommud-libvirt-hook NAME OPERATION SUB-OPERATION EXTRA <DOMAIN-XML\n\n"
         "libvirt runs this program when a domain starts and stops; it asks iommud\n"
         "whether the machine may start, and tells it what became of it.");
    return g_strcmp0(argument, "--help") == 0 || g_strcmp0(argument, "-h") == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    if (argc < 4)
        return usage(argv[1]);
    limit_memory();
    g_autofree char *name = text_sanitize(argv[1], TEXT_QUOTED_MAX, false);
    for (size_t i = 0; i < G_N_ELEMENTS(operations); i++) {
        if (!g_str_equal(argv[2], operations[i].operation) ||
            !g_str_equal(argv[3], operations[i].sub_operation))
            continue;
        Hook hook = {
            .name = name,
            .extra = argc > 4 ? argv[4] : "-",
            .may_fail = operations[i].may_fail,
        };
        int status = 1;
        if (start_deadline(&hook, operations[i].seconds))
            status = operations[i].run(&hook);
        else
            say("The machine %s can't be checked: no timer can be set (%s).", name,
                g_strerror(errno));
        end_deadline();
        sd_bus_close_unref(hook.bus);
        return hook.may_fail ? status : 0;
    }
    return 0;
}
