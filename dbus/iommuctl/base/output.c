/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/iommuctl/base/output.h"

#include "kernel/base/text.h"

#include <glib.h>
#include <langinfo.h>
#include <string.h>
#include <unistd.h>

void output_init(Output *output)
{
    const char *no_colour = g_getenv("NO_COLOR");
    const char *terminal = g_getenv("TERM");
    *output = (Output){
        .file = stdout,
        .legend = true,
        .colour = isatty(STDOUT_FILENO) && !(no_colour && *no_colour) &&
                  !(terminal && strcmp(terminal, "dumb") == 0),
        .utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0,
    };
}

const char *style_begin(const Output *output, Style style)
{
    static const char *const sequences[] = {
        [STYLE_NONE] = "",          [STYLE_GOOD] = "\033[32m", [STYLE_WARNING] = "\033[33m",
        [STYLE_BAD] = "\033[1;31m", [STYLE_FAINT] = "\033[2m",
    };
    return output->colour ? sequences[style] : "";
}

const char *style_end(const Output *output, Style style)
{
    return output->colour && style != STYLE_NONE ? "\033[0m" : "";
}

char *output_clean(const Output *output, const char *text)
{
    return text_sanitize(text, TEXT_WHOLE, !output->utf8);
}
