/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Signals as something to read, for programs that must put things in order before they end. */
#pragma once

#include <errno.h>
#include <glib.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/signalfd.h>

typedef struct {
    int fd; /* readable when one has come */
    sigset_t before;
} Signals;

#define SIGNALS_NONE ((Signals){.fd = -EBADF})

/* Holds back those of the set that are not ignored: who started us said that these shall not
 * matter. A negative errno. */
int signals_hold(const sigset_t *set, Signals *ret_signals);
/* Takes the next one; false: none has come. */
bool signals_take(Signals *signals, struct signalfd_siginfo *ret_info);
/* Has them work again as before. Those that came and were not taken are forgotten. */
void signals_release(Signals *signals);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Signals, signals_release)
