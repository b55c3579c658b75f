/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Keys and options are those of systemd-cgtop(1). */
#include "dbus/iommuctl/top.h"

#include "dbus/iommuctl/base/failure.h"
#include "dbus/iommuctl/options.h"
#include "dbus/iommuctl/screen.h"
#include "dbus/iommuctl/top-model.h"

#include <stdlib.h>
#include <string.h>

/* What a line takes beside the name, when every figure is as wide as it can be. */
#define FIGURES_WIDTH 66
#define NAME_WIDTH_MIN 14

/* How often it asks when it is not told. */
#define DELAY_DEFAULT CLIENT_USEC_PER_SEC
#define QUARTER_SECOND (CLIENT_USEC_PER_SEC / 4)

typedef struct {
    Iommuctl *ctl;
    TopSample sample;
    Screen screen;
    bool tenants;
    TopKey sort;
    uint64_t delay;      /* µs */
    uint64_t iterations; /* 0: no end */
    char *error_text;    /* why there is nothing new, one sentence; NULL: there is */
} Top;

static void top_clear(Top *top)
{
    top_sample_clear(&top->sample);
    g_free(top->error_text);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Top, top_clear)

/* ---- what is shown ---- */

static void print_host(const Top *top, FILE *file)
{
    fprintf(file,
            "%s: %u machines of %u tenants, %" G_GUINT64_FORMAT " calls refused; every %g s\n",
            g_get_host_name(), g_hash_table_size(top->sample.now.machines),
            g_hash_table_size(top->sample.now.tenants), managed_sum(&top->sample.now, "Refusals"),
            (double)top->delay / CLIENT_USEC_PER_SEC);
}

static void print_keys(const Top *top, const Output *output)
{
    fprintf(output->file, "Sort by ");
    for (TopKey key = 0; key < _TOP_KEY_MAX; key++) {
        Style style = key == top->sort ? STYLE_GOOD : STYLE_NONE;

        fprintf(output->file, "%s%s%c %s%s%s", style_begin(output, style),
                key == top->sort ? "[" : "", top_key_letter(key), top_key_names[key],
                key == top->sort ? "]" : "", style_end(output, style));
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
    fprintf(output.file, "%s%s%s\n", style_begin(&output, STYLE_BAD),
            top->error_text ? top->error_text : "", style_end(&output, STYLE_BAD));
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

/* An error is shown and the next time tried again: the service may be restarting. */
static void ask(Top *top)
{
    g_auto(sd_bus_error) error = SD_BUS_ERROR_NULL;
    int r = top_sample(&top->sample, top->ctl->bus, &error);

    g_clear_pointer(&top->error_text, g_free);
    if (r < 0) {
        g_autofree char *text = client_error_text(&error, r);

        top->error_text = output_clean(&top->ctl->output, text);
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

int verb_top(Iommuctl *ctl, char **arguments)
{
    const Options *options = ctl->options;
    g_auto(Top) top = {
        .ctl = ctl,
        .screen = SCREEN_NONE,
        .tenants = options->tenants,
        .sort = options->sort > 0 ? options->sort - 1 : TOP_PINNED,
        .delay = options->delay.given ? options->delay.value : DELAY_DEFAULT,
        .iterations = options->iterations.value,
    };
    bool batch = options->batch || ctl->output.json != JSON_OFF;

    if (options->tenants && options->machines)
        return fail_usage(ctl, "'top' shows --tenants or --machines, not both.");
    bool interactive = !batch && screen_is_there();
    /* --batch has no end by itself; without a terminal and without --batch one table is printed. */
    if (!options->iterations.given && !interactive && !options->batch)
        top.iterations = 1;
    return interactive ? run_interactive(&top) : run_batch(&top);
}
