/* SPDX-License-Identifier: LGPL-2.1-or-later */
#if __has_include(<linux/iommufd.h>)
#include <linux/iommufd.h>
#endif
#include <linux/vfio.h>

#include "tests/unit/uapi-table.h"

const UapiRow uapi_system[] = {
#include "tests/unit/uapi-table.inc"
};
const size_t uapi_n_system = sizeof(uapi_system) / sizeof(uapi_system[0]);
