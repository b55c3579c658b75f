/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What iommud needs to know about a libvirt domain, read from its XML. No policy: what may be is
 * iommud's to say.
 *
 * Errors are in the domain XML_ERROR; each message is a sentence for the person who starts the
 * domain.
 */
#pragma once

#include "plugin/libvirt/domain/xml.h"

/* <iommufd enabled='yes' fdgroup='iommud'/>: libvirt shall use the tenant's IOMMUFD. */
#define DOMAIN_FDGROUP "iommud"

/* What can be read from any domain, whether iommud has to do with it or not. */
typedef struct {
    xmlDoc *doc;
    xmlNode *root;

    bool iommufd;  /* <iommufd enabled='yes'> */
    char *fdgroup; /* its fdgroup; NULL: libvirt opens /dev/iommu itself */

    /* PCI functions that the machine gets through VFIO, each once, as 0000:01:00.0, in the order of
     * the document; NULL-terminated. Of <hostdev>, <interface type='hostdev'> and
     * <disk type='nvme'>. */
    char **devices;
    unsigned n_hostdevs;   /* how many of them are a device of the guest: all but NVMe disks */
    unsigned n_nvme;       /* NVMe disks: QEMU itself drives them, each in a container of its own */
    unsigned n_interfaces; /* <interface type='hostdev'> */
    /* Names of the networks that its interfaces are on; NULL-terminated. Whether such an interface
     * is a passed-through device is the network's to say. */
    char **networks;
    unsigned n_legacy; /* with <driver iommufd='no'/>, against what the domain says */
    unsigned n_mdevs;  /* mediated devices: no PCI function, not in devices */
    bool viommu;       /* <iommu>: the guest has an IOMMU of its own */
} DomainXml;

/* INVALID: not a domain, or devices or <iommufd> that libvirt would not accept. */
DomainXml *domain_xml_parse(const char *text, size_t length, GError **error);
/* Accepts NULL. */
void domain_xml_free(DomainXml *xml);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DomainXml, domain_xml_free)

/* Whether it is to run on its tenant's IOMMUFD. */
bool domain_xml_uses_iommud(const DomainXml *xml);
/* Whether iommud must admit it: it uses iommud, or has devices that pin its memory. A domain that
 * uses iommud is admitted even without a device: it can be given one at any time, and no hook of
 * libvirt is run then. */
bool domain_xml_needs_admission(const DomainXml *xml);

/* Its UUID (canonical, lower case) and name; both freed with g_free(). */
gboolean domain_xml_identity(const DomainXml *xml, char **ret_uuid, char **ret_name,
                             GError **error);
