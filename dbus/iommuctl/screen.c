/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/iommuctl/screen.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* If the terminal does not say its size. */
#define DEFAULT_LINES 24
#define DEFAULT_COLUMNS 80

#define HIDE_CURSOR "\033[?25l"
#define SHOW_CURSOR "\033[?25h"
/* What does not fit into a line is cut, not wrapped. */
#define WRAP_OFF "\033[?7l"
#define WRAP_ON "\033[?7h"
#define CLEAR "\033[2J"
#define HOME "\033[H"
#define CLEAR_LINE "\033[K"
#define CLEAR_BELOW "\033[J"

bool screen_is_there(void)
{
    return isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
}

static void take_terminal(Screen *screen)
{
    struct termios raw;

    if (screen->ours || tcgetattr(STDIN_FILENO, &screen->before) < 0)
        return;
    raw = screen->before;
    /* Keys come at once and unseen; ^C and ^Z go on making signals. */
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    if (tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) < 0)
        return;
    screen->ours = true;
    fputs(HIDE_CURSOR WRAP_OFF CLEAR, stdout);
    fflush(stdout);
}

static void give_terminal(Screen *screen)
{
    if (!screen->ours)
        return;
    fputs("\n" WRAP_ON SHOW_CURSOR, stdout);
    fflush(stdout);
    (void)tcsetattr(STDIN_FILENO, TCSADRAIN, &screen->before);
    screen->ours = false;
}

int screen_begin(Screen *screen)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGWINCH};
    sigset_t set;
    int r;

    *screen = SCREEN_NONE;
    sigemptyset(&set);
    for (size_t i = 0; i < G_N_ELEMENTS(numbers); i++)
        sigaddset(&set, numbers[i]);
    r = signals_hold(&set, &screen->signals);
    if (r >= 0)
        take_terminal(screen);
    return r;
}

void screen_end(Screen *screen, int number)
{
    give_terminal(screen);
    signals_release(&screen->signals);
    if (number > 0)
        (void)raise(number);
}

void screen_size(unsigned *ret_lines, unsigned *ret_columns)
{
    struct winsize size = {0};

    (void)ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
    *ret_lines = size.ws_row > 0 ? size.ws_row : DEFAULT_LINES;
    *ret_columns = size.ws_col > 0 ? size.ws_col : DEFAULT_COLUMNS;
}

void screen_show(const Screen *screen, const char *text)
{
    unsigned lines;
    unsigned columns;

    if (!screen->ours)
        return;
    screen_size(&lines, &columns);
    fputs(HOME, stdout);
    for (unsigned i = 0; i < lines && *text; i++) {
        size_t length = strcspn(text, "\n");

        /* No newline after the last, or the first would be gone. */
        fprintf(stdout, "%s%.*s" CLEAR_LINE, i > 0 ? "\n" : "", (int)length, text);
        text += length + (text[length] == '\n');
    }
    fputs(CLEAR_BELOW, stdout);
    fflush(stdout);
}

static ScreenEvent on_signal(Screen *screen, int *ret_value)
{
    struct signalfd_siginfo info;

    if (!signals_take(&screen->signals, &info))
        return SCREEN_TIMEOUT;
    if (info.ssi_signo == SIGWINCH)
        return SCREEN_CHANGED;
    if (info.ssi_signo == SIGTSTP) {
        give_terminal(screen);
        (void)raise(SIGSTOP);
        take_terminal(screen);
        return SCREEN_CHANGED;
    }
    *ret_value = (int)info.ssi_signo;
    return SCREEN_END;
}

static ScreenEvent on_input(int *ret_value)
{
    unsigned char key;

    if (read(STDIN_FILENO, &key, 1) == 1) {
        *ret_value = key;
        return SCREEN_KEY;
    }
    *ret_value = 0;
    return SCREEN_END;
}

ScreenEvent screen_wait(Screen *screen, int64_t until, int *ret_value)
{
    struct pollfd polled[] = {
        {.fd = screen->signals.fd, .events = POLLIN},
        {.fd = STDIN_FILENO, .events = POLLIN},
    };
    int64_t left = MAX(until - g_get_monotonic_time(), 0);

    if (poll(polled, G_N_ELEMENTS(polled), (int)MIN((left + 999) / 1000, G_MAXINT)) <= 0)
        return SCREEN_TIMEOUT;
    return polled[0].revents ? on_signal(screen, ret_value) : on_input(ret_value);
}
