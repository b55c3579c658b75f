/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/uapi/iommufd.h"
#include "kernel/uapi/vfio.h"

#include "tests/unit/uapi-table.h"

const UapiRow uapi_ours[] = {
#include "tests/unit/uapi-table.inc"
};
const size_t uapi_n_ours = sizeof(uapi_ours) / sizeof(uapi_ours[0]);
