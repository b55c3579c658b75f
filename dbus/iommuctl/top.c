/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Tenants or machines and what they do, again and again; keys and options are those of
 * systemd-cgtop(1). */
#include "dbus/iommuctl/iommuctl.h"
#include "dbus/iommuctl/screen.h"
#include "dbus/iommuctl/top-model.h"
#include "policy/size.h"

#include <stdlib.h>
#include <string.h>

/* What a line takes beside the name, when every figure is as wide as it can be. */
#define FIGURES_WIDTH 66
#define NAME_WIDTH_MIN 14

#define QUARTER_SECOND (CLIENT_USEC_PER_SEC / 4)

typedef struct {
    Iommuctl *ctl;
    TopSample sample;
    Screen screen;
    bool tenants;
    TopKey sort;
    uint64_t delay;      /* µs */
    uint64_t iterations; /* 0: no end */
    char *trouble;       /* why there is nothing new, one sentence; NULL: there is */
} Top;

static void top_clear(Top *top)
{
    top_sample_clear(&top->sample);
    g_free(top->trouble);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Top, top_clear)

/* ---- what is shown ---- */

static void print_host(const Top *top, FILE *file)
{
    fprintf(file,
            "%s: %u machines of %u tenants, %" G_GUINT64_FORMAT " calls refused; every %g s\n",
            g_get_host_name(), g_hash_table_size(top->sample.now.machines),
            g_hash_table_size(top->sample.now.tenants), managed_refusals(&top->sample.now),
            (double)top->delay / CLIENT_USEC_PER_SEC);
}

static void print_keys(const Top *top, const Output *output)
{
    fprintf(output->file, "Sort by ");
    for (TopKey key = 0; key < _TOP_KEY_MAX; key++) {
        Mark mark = key == top->sort ? MARK_GOOD : MARK_NONE;

        fprintf(output->file, "%s%s%c %s%s%s", mark_begin(output, mark),
                key == top->sort ? "[" : "", top_key_letter(key), top_key_name(key),
                key == top->sort ? "]" : "", mark_end(output, mark));
        fputs(key + 1 < _TOP_KEY_MAX ? ", " : "\n", output->file);
    }
    fprintf(output->file, "t %s, + - delay, space refresh, q quit\n",
            top->tenants ? "machines" : "tenants");
}

/* The page of a terminal. */
static void show_page(Top *top)
{
    Output output = top->ctl->output;
    g_autoptr(Table) table = NULL;
    char *text = NULL;
    size_t size = 0;
    unsigned lines;
    unsigned columns;

    screen_size(&lines, &columns);
    output.file = open_memstream(&text, &size);
    if (!output.file)
        return;
    table = top_table(&top->sample, top->tenants, top->sort,
                      MAX(columns, FIGURES_WIDTH + NAME_WIDTH_MIN) - FIGURES_WIDTH);
    print_host(top, output.file);
    print_keys(top, &output);
    fprintf(output.file, "%s%s%s\n", mark_begin(&output, MARK_BAD),
            top->trouble ? top->trouble : "", mark_end(&output, MARK_BAD));
    table_print(table, &output);
    fclose(output.file);
    screen_show(&top->screen, text);
    free(text);
}

/* The next lines of a file or a pipe. */
static void print_batch(Top *top, bool first)
{
    const Output *output = &top->ctl->output;
    g_autoptr(Table) table = top_table(&top->sample, top->tenants, top->sort, 0);

    if (!first && output->json == JSON_OFF)
        fputc('\n', output->file);
    table_print(table, output);
    fflush(output->file);
}

/* ---- keys ---- */

/* In steps of a second, below one of a quarter. */
static void change_delay(Top *top, bool longer)
{
    bool small = longer ? top->delay < CLIENT_USEC_PER_SEC : top->delay <= CLIENT_USEC_PER_SEC;
    uint64_t step = small ? QUARTER_SECOND : CLIENT_USEC_PER_SEC;

    if (longer)
        top->delay += step;
    else if (top->delay >= 2 * step)
        top->delay -= step;
}

typedef enum {
    KEY_SHOW,    /* the page is another now */
    KEY_REFRESH, /* ask the service now */
    KEY_QUIT,
} KeyOutcome;

static KeyOutcome on_key(Top *top, int key)
{
    if (key == 'q' || key == 'Q')
        return KEY_QUIT;
    if (key == ' ')
        return KEY_REFRESH;
    if (key == 't')
        top->tenants = !top->tenants;
    if (key == '+' || key == '-')
        change_delay(top, key == '+');
    for (TopKey i = 0; i < _TOP_KEY_MAX; i++) {
        if (key == top_key_letter(i))
            top->sort = i;
    }
    return KEY_SHOW;
}

/* Until it is time to ask again. false: it is time to end. */
static bool wait_for_keys(Top *top, int *ret_signal)
{
    int64_t begin = g_get_monotonic_time();
    int value = 0;

    for (;;) {
        KeyOutcome outcome = KEY_SHOW;

        switch (screen_wait(&top->screen, begin + (int64_t)top->delay, &value)) {
        case SCREEN_TIMEOUT:
            outcome = KEY_REFRESH;
            break;
        case SCREEN_KEY:
            outcome = on_key(top, value);
            break;
        case SCREEN_CHANGED:
            break;
        case SCREEN_END:
            *ret_signal = value;
            outcome = KEY_QUIT;
            break;
        }
        if (outcome != KEY_SHOW)
            return outcome == KEY_REFRESH;
        show_page(top);
    }
}

/* ---- the loops ---- */

/* The service may be restarted while somebody looks on: that is shown, and goes by. */
static void ask(Top *top)
{
    g_auto(sd_bus_error) error = SD_BUS_ERROR_NULL;
    int r = top_sample(&top->sample, top->ctl->bus, &error);

    g_clear_pointer(&top->trouble, g_free);
    if (r < 0) {
        g_autofree char *text = client_error_text(&error, r);

        top->trouble = output_clean(&top->ctl->output, text);
    }
}

static int run_interactive(Top *top)
{
    int number = 0;
    int r = top_sample(&top->sample, top->ctl->bus, &top->ctl->error);

    if (r >= 0)
        r = screen_begin(&top->screen);
    if (r < 0)
        return r;
    show_page(top);
    for (uint64_t i = 1; i != top->iterations && wait_for_keys(top, &number); i++) {
        ask(top);
        show_page(top);
    }
    screen_end(&top->screen, number);
    return 0;
}

static int run_batch(Top *top)
{
    for (uint64_t i = 1;; i++) {
        int r = top_sample(&top->sample, top->ctl->bus, &top->ctl->error);

        if (r < 0)
            return r;
        print_batch(top, i == 1);
        if (i == top->iterations)
            return 0;
        g_usleep(top->delay);
    }
}

static int find_sort(Iommuctl *ctl, TopKey *ret_key)
{
    *ret_key = TOP_PINNED;
    if (!ctl->sort)
        return 0;
    for (TopKey key = 0; key < _TOP_KEY_MAX; key++) {
        if (strcmp(ctl->sort, top_key_name(key)) == 0) {
            *ret_key = key;
            return 0;
        }
    }
    return fail_usage(ctl,
                      "--sort takes name, pinned, limit, share, maps, unmaps, refused or peak, not "
                      "'%s'.",
                      ctl->sort);
}

int verb_top(Iommuctl *ctl, char **arguments)
{
    g_auto(Top) top = {
        .ctl = ctl,
        .screen = SCREEN_NONE,
        .tenants = ctl->given & OPTION_TENANTS,
        .delay = ctl->delay,
        .iterations = ctl->iterations,
    };
    bool batch = (ctl->given & OPTION_BATCH) || ctl->output.json != JSON_OFF;
    bool interactive;
    int r = find_sort(ctl, &top.sort);

    if (r < 0)
        return r;
    if (top.tenants && (ctl->given & OPTION_MACHINES))
        return fail_usage(ctl, "'top' shows --tenants or --machines, not both.");
    interactive = !batch && screen_is_there();
    /* Whoever asks for a batch gets it without end; who has just no terminal wants to see it. */
    if (!(ctl->given & OPTION_ITERATIONS) && !interactive && !(ctl->given & OPTION_BATCH))
        top.iterations = 1;
    return interactive ? run_interactive(&top) : run_batch(&top);
}
