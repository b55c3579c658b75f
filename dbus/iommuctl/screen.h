/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A terminal that shows one page of text after the other and gives keys as they are typed. It is
 * as it was before whenever we do not have it: at the end, when a signal ends us, and while we are
 * stopped.
 */
#pragma once

#include "dbus/iommuctl/base/signals.h"

#include <stdint.h>
#include <termios.h>

typedef struct {
    bool ours; /* the terminal is set as we need it */
    struct termios before;
    Signals signals;
} Screen;

#define SCREEN_NONE ((Screen){.signals = SIGNALS_NONE})

typedef enum {
    SCREEN_TIMEOUT,
    SCREEN_KEY,
    SCREEN_CHANGED, /* it has another size, or was somebody else's meanwhile */
    SCREEN_END,     /* it is gone, or a signal wants us to end */
} ScreenEvent;

/* Whether there is one: standard input and output are a terminal. */
bool screen_is_there(void);
int screen_begin(Screen *screen);
/* Gives it back. The signal that ended us, if one did, then ends us indeed. */
void screen_end(Screen *screen, int number);
/* How much fits. */
void screen_size(unsigned *ret_lines, unsigned *ret_columns);
/* Shows as much of the text as fits. */
void screen_show(const Screen *screen, const char *text);
/* Waits until CLOCK_MONOTONIC is so late in µs. SCREEN_KEY: *ret_value is the key; SCREEN_END: it
 * is the signal's number, or 0. */
ScreenEvent screen_wait(Screen *screen, int64_t until, int *ret_value);
