/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/iommuctl/base/signals.h"

#include "kernel/base/cleanup.h"

int signals_hold(const sigset_t *set, Signals *ret_signals)
{
    Signals signals = SIGNALS_NONE;
    sigset_t held;

    sigemptyset(&held);
    for (int number = 1; number < NSIG; number++) {
        struct sigaction action;

        if (sigismember(set, number) == 1 && sigaction(number, NULL, &action) == 0 &&
            action.sa_handler != SIG_IGN)
            sigaddset(&held, number);
    }
    signals.fd = signalfd(-1, &held, SFD_CLOEXEC | SFD_NONBLOCK);
    if (signals.fd < 0)
        return -errno;
    sigprocmask(SIG_BLOCK, &held, &signals.before);
    *ret_signals = signals;
    return 0;
}

bool signals_take(Signals *signals, struct signalfd_siginfo *ret_info)
{
    return read(signals->fd, ret_info, sizeof(*ret_info)) == sizeof(*ret_info);
}

void signals_release(Signals *signals)
{
    struct signalfd_siginfo info;

    if (signals->fd < 0)
        return;
    while (signals_take(signals, &info))
        ;
    signals->fd = close_fd(signals->fd);
    sigprocmask(SIG_SETMASK, &signals->before, NULL);
}
