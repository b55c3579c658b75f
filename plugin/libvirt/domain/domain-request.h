/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What AdmitMachine wants to know of a domain. Errors as in domain-xml.h. */
#pragma once

#include "plugin/libvirt/domain/domain-xml.h"

#include <stdint.h>

typedef struct {
    char *uuid; /* canonical, lower case */
    char *name;
    char *tenant; /* "": the domain names none */
    uint64_t bytes;
    uint64_t unique_bytes; /* with each page counted once */
    char **devices;
    bool iommufd;       /* on the tenant's IOMMUFD */
    bool follows_limit; /* libvirt raises its lock limit by what is plugged in */
} DomainRequest;

/* INVALID: identity, tenant or memory can't be read. */
DomainRequest *domain_request_new(const DomainXml *xml, GError **error);
/* Accepts NULL. */
void domain_request_free(DomainRequest *request);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DomainRequest, domain_request_free)
