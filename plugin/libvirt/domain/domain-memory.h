/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How much memory of a domain is pinned for its devices. Errors as in domain-xml.h. */
#pragma once

#include "plugin/libvirt/domain/domain-xml.h"

#include <stdint.h>

/* Bytes that the kernel may charge for the machine at the most, and the same with each page counted
 * once; the formula stands in domain-memory.c. INVALID: a size is none, or their sum is beyond what
 * a machine can have. */
gboolean domain_xml_reservation(const DomainXml *xml, uint64_t *ret_bytes, uint64_t *ret_unique,
                                GError **error);

/* Whether libvirt computes the limit of locked memory of its process
 * (qemuDomainGetMemLockLimitBytes()), and so raises it by what is plugged in: not if <hard_limit>
 * or <locked> says what it is. */
bool domain_xml_follows_limit(const DomainXml *xml);
