/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/state/numbers.h"

#include "dbus/state/records.h"

struct Numbers {
    WriterItem item; /* first: see numbers_save() */
    Writer *writer;
    char *runtime_dir;
    uint32_t last_tenant;
    uint32_t last_machine;
};

static gboolean numbers_save(WriterItem *item, GError **error)
{
    const Numbers *numbers = (const Numbers *)item;
    return numbers_record_save(numbers->runtime_dir, numbers->last_tenant, numbers->last_machine,
                               error);
}

Numbers *numbers_new(const char *runtime_dir, Writer *writer)
{
    Numbers *numbers = g_new0(Numbers, 1);
    numbers->item.save = numbers_save;
    numbers->writer = writer;
    numbers->runtime_dir = g_strdup(runtime_dir);
    numbers_record_load(runtime_dir, &numbers->last_tenant, &numbers->last_machine);
    return numbers;
}

void numbers_free(Numbers *numbers)
{
    if (!numbers)
        return;
    writer_forget(numbers->writer, &numbers->item);
    g_free(numbers->runtime_dir);
    g_free(numbers);
}

static uint32_t next(Numbers *numbers, uint32_t *last)
{
    writer_mark(numbers->writer, &numbers->item);
    return ++*last;
}

void numbers_note(Numbers *numbers, uint32_t tenant, uint32_t machine)
{
    if (tenant <= numbers->last_tenant && machine <= numbers->last_machine)
        return;
    numbers->last_tenant = MAX(numbers->last_tenant, tenant);
    numbers->last_machine = MAX(numbers->last_machine, machine);
    writer_mark(numbers->writer, &numbers->item);
}

uint32_t numbers_next_tenant(Numbers *numbers)
{
    return next(numbers, &numbers->last_tenant);
}

uint32_t numbers_next_machine(Numbers *numbers)
{
    return next(numbers, &numbers->last_machine);
}
