/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What iommud reads from domain XML: what people and Nova write. */
#include "tests/unit/domain-xml.h"

#include "plugin/libvirt/domain/domain-memory.h"
#include "plugin/libvirt/domain/domain-request.h"
#include "plugin/libvirt/domain/domain-tenant.h"

#include <string.h>

static char *join(char **list)
{
    return g_strjoinv(" ", list);
}

/* ---- devices and <iommufd> ---- */

static const struct {
    const char *what;
    const char *text;
    const char *devices; /* joined with blanks */
    bool uses_iommud;
    bool needs_admission;
} facts[] = {
    {"plain", HEAD MEM END, "", false, false},
    {"fdgroup without device", HEAD MEM FDGROUP END, "", true, true},
    {"another fdgroup", HEAD "<iommufd enabled='yes' fdgroup='x'/>" END, "", false, false},
    {"libvirt's own iommufd", HEAD "<iommufd enabled='yes'/>" END, "", false, false},
    {"disabled", HEAD "<iommufd enabled='no' fdgroup='iommud'/>" END, "", false, false},
    {"fdgroup in another place", HEAD META("<iommufd enabled='yes' fdgroup='iommud'/>") END, "",
     false, false},
    {"fdgroup in a namespace", HEAD "<x:iommufd xmlns:x='y' enabled='yes' fdgroup='iommud'/>" END,
     "", false, false},
    {"one device", HEAD DEVICES(PCI("0x01")) END, "0000:01:00.0", false, true},
    {"order, decimal and short forms",
     HEAD DEVICES(PCI("0x81") "<hostdev type='pci'><source><address bus='5' slot='0x1f' "
                              "function='7'/></source></hostdev>") END,
     "0000:81:00.0 0000:05:1f.7", false, true},
    {"a long PCI domain",
     HEAD DEVICES("<hostdev mode='subsystem' type='pci'><source><address domain='0x10001' "
                  "bus='0' slot='0' function='0'/></source></hostdev>") END,
     "10001:00:00.0", false, true},
    {"interface",
     HEAD DEVICES("<interface type='hostdev' managed='yes'><mac address='00:11:22:33:44:55'/>"
                  "<source><address type='pci' domain='0x0000' bus='0x03' slot='0x10' "
                  "function='0x2'/></source></interface>") END,
     "0000:03:10.2", false, true},
    {"interfaces that are none of ours",
     HEAD DEVICES("<interface type='hostdev'><source><address type='usb' bus='1' device='2'/>"
                  "</source></interface><interface type='bridge'/>") END,
     "", false, false},
    {"NVMe disks of one controller",
     HEAD DEVICES("<disk type='nvme' device='disk'><source type='pci' namespace='1'><address "
                  "domain='0' bus='4' slot='0' function='0'/></source></disk>"
                  "<disk type='nvme' device='disk'><source type='pci' namespace='2'><address "
                  "domain='0' bus='4' slot='0' function='0'/></source></disk>") END,
     "0000:04:00.0", false, true},
    {"not PCI",
     HEAD DEVICES("<hostdev mode='subsystem' type='usb'><source><address bus='1' device='2'/>"
                  "</source></hostdev><hostdev mode='capabilities' type='misc'/>"
                  "<hostdev mode='subsystem' type='mdev' model='vfio-pci'><source><address "
                  "uuid='" UUID "'/></source></hostdev>") END,
     "", false, false},
    {"a guest's address is not a device",
     HEAD DEVICES("<controller type='pci'><address type='pci' bus='7'/></controller>") END, "",
     false, false},
};

static void test_facts(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(facts); i++) {
        g_test_message("%s", facts[i].what);
        g_autoptr(DomainXml) xml = parse(facts[i].text);
        g_autofree char *devices = join(xml->devices);
        g_assert_cmpstr(devices, ==, facts[i].devices);
        g_assert_cmpint(domain_xml_uses_iommud(xml), ==, facts[i].uses_iommud);
        g_assert_cmpint(domain_xml_needs_admission(xml), ==, facts[i].needs_admission);
    }
}

static void test_counts(void)
{
    g_autoptr(DomainXml) xml =
        parse(HEAD DEVICES(PCI("1") "<hostdev type='pci'><driver iommufd='no'/><source><address "
                                    "bus='2'/></source></hostdev>"
                                    "<hostdev mode='subsystem' type='mdev'/>"
                                    "<iommu model='intel'/>") FDGROUP END);

    g_assert_cmpuint(xml->n_hostdevs, ==, 2);
    g_assert_cmpuint(xml->n_legacy, ==, 1);
    g_assert_cmpuint(xml->n_mdevs, ==, 1);
    g_assert_cmpuint(xml->n_interfaces, ==, 0);
    g_assert_true(xml->viommu);
}

/* ---- tenants ---- */

static const struct {
    const char *what;
    const char *text;
    const char *tenant; /* NULL: none */
    const char *error;  /* part of it, NULL: none */
} tenants[] = {
    {"no metadata", HEAD END, NULL, NULL},
    {"empty metadata", HEAD META("") END, NULL, NULL},
    {"iommud", HEAD META(ACME) END, "acme", NULL},
    {"iommud beside others", HEAD META("<a xmlns='b'><c/></a>" ACME) END, "acme", NULL},
    {"two owners", HEAD META(ACME ACME) END, NULL, "ambiguous"},
    {"two metadata", HEAD META(ACME) META("") END, NULL, "ambiguous"},
    {"no id", HEAD META("<iommud:tenant " IOMMUD "/>") END, NULL, "no id"},
    {"an empty id", HEAD META("<iommud:tenant " IOMMUD " id=''/>") END, NULL, "no id"},
    {"wrong namespace", HEAD META("<iommud:tenant xmlns:iommud='urn:evil' id='acme'/>") END, NULL,
     NULL},
    {"no namespace", HEAD META("<tenant id='acme'/>") END, NULL, NULL},
    {"deeper", HEAD META("<x xmlns='y'>" ACME "</x>") END, NULL, NULL},
    {"outside of metadata", HEAD ACME END, NULL, NULL},
    {"in devices", HEAD DEVICES(ACME) END, NULL, NULL},
    {"Nova 1.1",
     HEAD META("<nova:instance " NOVA "><nova:owner><nova:project uuid='p1'>n</nova:project>"
               "</nova:owner></nova:instance>") END,
     "p1", NULL},
    {"Nova 1.0",
     HEAD META("<nova:instance " NOVA10 "><nova:owner><nova:user uuid='u'/><nova:project "
               "uuid='p0'/></nova:owner></nova:instance>") END,
     "p0", NULL},
    {"iommud wins",
     HEAD META("<nova:instance " NOVA "><nova:owner><nova:project uuid='p1'/></nova:owner>"
               "</nova:instance>" ACME) END,
     "acme", NULL},
    {"iommud wins over a Nova instance without project",
     HEAD META("<nova:instance " NOVA "><nova:owner/></nova:instance>" ACME) END, "acme", NULL},
    {"Nova without project", HEAD META("<nova:instance " NOVA "><nova:owner/></nova:instance>") END,
     NULL, "names no project"},
    {"Nova without owner", HEAD META("<nova:instance " NOVA "/>") END, NULL, "names no project"},
    {"Nova with an empty project",
     HEAD META("<nova:instance " NOVA "><nova:owner><nova:project uuid=''/></nova:owner>"
               "</nova:instance>") END,
     NULL, "names no project"},
    {"two Nova projects",
     HEAD META("<nova:instance " NOVA "><nova:owner><nova:project uuid='a'/><nova:project "
               "uuid='b'/></nova:owner></nova:instance>") END,
     NULL, "ambiguous"},
    {"two Nova owners",
     HEAD META("<nova:instance " NOVA "><nova:owner><nova:project uuid='a'/></nova:owner>"
               "<nova:owner/></nova:instance>") END,
     NULL, "ambiguous"},
    {"two Nova versions",
     HEAD META("<nova:instance " NOVA "><nova:owner><nova:project uuid='a'/></nova:owner>"
               "</nova:instance><nova:instance " NOVA10 "/>") END,
     NULL, "ambiguous"},
    {"a project that is not the owner's",
     HEAD META("<nova:instance " NOVA "><nova:image><nova:project uuid='evil'/></nova:image>"
               "<nova:project uuid='evil'/><nova:owner><nova:project uuid='good'/></nova:owner>"
               "</nova:instance><nova:owner " NOVA "><nova:project uuid='evil'/></nova:owner>") END,
     "good", NULL},
    {"a name that looks like a tag",
     HEAD META("<nova:instance " NOVA "><nova:name>&lt;iommud:tenant id='evil'/></nova:name>"
               "<nova:owner><nova:project uuid='good'/></nova:owner></nova:instance>") END,
     "good", NULL},
    {"only a comment", HEAD META("<!-- " ACME " -->") END, NULL, NULL},
};

static void test_tenants(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(tenants); i++) {
        g_test_message("%s", tenants[i].what);
        g_autoptr(DomainXml) xml = parse(tenants[i].text);
        g_autofree char *tenant = NULL;
        g_autoptr(GError) error = NULL;
        gboolean ok = domain_xml_tenant(xml, &tenant, &error);
        g_assert_cmpint(ok, ==, tenants[i].error == NULL);
        g_assert_cmpstr(tenant, ==, tenants[i].tenant);
        if (tenants[i].error)
            g_assert_nonnull(strstr(error->message, tenants[i].error));
    }
}

/* ---- sizes ---- */

static const struct {
    const char *what;
    const char *text;
    uint64_t bytes; /* reservation; 0: refused */
} sizes[] = {
    {"KiB by default", HEAD "<memory>262144</memory>" END, 260 * MIB},
    {"unit KiB", HEAD "<memory unit='KiB'> 262144\n</memory>" END, 260 * MIB},
    {"unit k", HEAD "<memory unit='k'>1024</memory>" END, 5 * MIB},
    {"unit KB", HEAD "<memory unit='KB'>1000</memory>" END, 4 * MIB + 1000000},
    {"unit b", HEAD "<memory unit='b'>4096</memory>" END, 4 * MIB + 4096},
    {"unit bytes", HEAD "<memory unit='bytes'>4096</memory>" END, 4 * MIB + 4096},
    {"unit M", HEAD "<memory unit='M'>1</memory>" END, 5 * MIB},
    {"unit mib", HEAD "<memory unit='mib'>1</memory>" END, 5 * MIB},
    {"unit GiB", HEAD "<memory unit='GiB'>2</memory>" END, 2 * GIB + 4 * MIB},
    {"unit GB", HEAD "<memory unit='GB'>2</memory>" END, 2000000000 + 4 * MIB},
    {"unit TiB", HEAD "<memory unit='TiB'>1</memory>" END, 1024 * GIB + 4 * MIB},
    {"no such unit", HEAD "<memory unit='X'>1</memory>" END, 0},
    {"no such unit", HEAD "<memory unit='KiBi'>1</memory>" END, 0},
    {"no memory", HEAD END, 0},
    {"memory twice", HEAD MEM MEM END, 0},
    {"empty", HEAD "<memory/>" END, 0},
    {"zero", HEAD "<memory>0</memory>" END, 0},
    {"negative", HEAD "<memory>-1</memory>" END, 0},
    {"signed", HEAD "<memory>+1</memory>" END, 0},
    {"hexadecimal", HEAD "<memory>0x100</memory>" END, 0},
    {"a fraction", HEAD "<memory unit='GiB'>1.5</memory>" END, 0},
    {"2^64 KiB", HEAD "<memory>18446744073709551615</memory>" END, 0},
    {"over 2^64", HEAD "<memory unit='b'>18446744073709551616</memory>" END, 0},
    {"over 2^60", HEAD "<memory unit='b'>1152921504606846977</memory>" END, 0},
    {"2^60 leaves no room for overhead", HEAD "<memory unit='EiB'>1</memory>" END, 0},
    {"overflow by unit", HEAD "<memory unit='EiB'>16</memory>" END, 0},
    {"16 EiB as TiB", HEAD "<memory unit='TiB'>16777216</memory>" END, 0},
    /* libvirt's <memory> holds what its memory devices have. */
    {"a memory device",
     HEAD "<memory unit='MiB'>768</memory>" DEVICES(
         "<memory model='dimm'><target><size unit='MiB'>512</size></target></memory>") END,
     772 * MIB},
    {"memory devices larger than all memory",
     HEAD "<memory unit='MiB'>256</memory>" DEVICES(
         "<memory model='dimm'><target><size unit='MiB'>512</size></target></memory>") END,
     0},
    {"a memory device without size", HEAD MEM DEVICES("<memory model='dimm'/>") END, 0},
    {"video that doesn't say", HEAD MEM DEVICES("<video><model type='virtio'/></video>") END,
     276 * MIB},
    {"video without model", HEAD MEM DEVICES("<video/>") END, 276 * MIB},
    {"video none", HEAD MEM DEVICES("<video><model type='none'/></video>") END, 260 * MIB},
    {"video that says",
     HEAD MEM DEVICES("<video><model type='qxl' ram='65536' vram='65536' vgamem='16384'/></video>"
                      "<video><model type='vga' vram='16384'/></video>") END,
     (260 + 64 + 64 + 16 + 16) * MIB},
    {"absurd video", HEAD MEM DEVICES("<video><model vram='9999999999999999999'/></video>") END, 0},
    {"shared memory",
     HEAD MEM DEVICES("<shmem name='a'><size unit='M'>8</size></shmem><shmem name='b'/>") END,
     272 * MIB},
    {"firmware in flash", HEAD MEM "<os><loader readonly='yes' type='pflash'>/f</loader></os>" END,
     276 * MIB},
    {"firmware efi", HEAD MEM "<os firmware='efi'/>" END, 276 * MIB},
    {"BIOS", HEAD MEM "<os><loader type='rom'>/f</loader></os>" END, 260 * MIB},
    {"two devices", HEAD MEM DEVICES(PCI("1") PCI("2")) END, 260 * MIB},
    {"vIOMMU without device", HEAD MEM DEVICES("<iommu model='intel'/>") END, 260 * MIB},
    {"vIOMMU and two devices", HEAD MEM DEVICES(PCI("1") PCI("2") "<iommu model='intel'/>") END,
     520 * MIB},
    {"an NVMe disk beside a device",
     HEAD MEM DEVICES(PCI("1") "<disk type='nvme'><source><address bus='9'/></source></disk>") END,
     520 * MIB},
    {"too much in all address spaces",
     HEAD "<memory unit='PiB'>1000</memory>" DEVICES(PCI("1") PCI("2") "<iommu/>") END, 0},
};

static void test_sizes(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
        g_test_message("%s", sizes[i].what);
        g_autoptr(DomainXml) xml = parse(sizes[i].text);
        g_autoptr(GError) error = NULL;
        uint64_t bytes = 0, unique = 0;
        gboolean ok = domain_xml_reservation(xml, &bytes, &unique, &error);
        g_assert_cmpint(ok, ==, sizes[i].bytes != 0);
        g_assert_cmpuint(bytes, ==, sizes[i].bytes);
        /* In one address space nothing is mapped twice. */
        g_assert_true(ok ? bytes % unique == 0 : unique == 0);
        if (!ok)
            g_assert_true(g_str_has_suffix(error->message, "."));
    }
}

/* ---- identity ---- */

static const struct {
    const char *text;
    const char *uuid; /* NULL: refused */
    const char *name;
} identities[] = {
    {HEAD END, UUID, "vm"},
    {"<domain><uuid>9B2CFCDC60054DE0A6ACAAA68D1917C0</uuid><name>a b&amp;c\xc3\xa9</name></domain>",
     UUID, "a b&c\xc3\xa9"},
    {"<domain><uuid>" UUID "</uuid></domain>", NULL, NULL},
    {"<domain><name>vm</name></domain>", NULL, NULL},
    {"<domain><name>vm</name><name>vm2</name><uuid>" UUID "</uuid></domain>", NULL, NULL},
    {"<domain><name/><uuid>" UUID "</uuid></domain>", NULL, NULL},
    {"<domain><name>a&#10;b</name><uuid>" UUID "</uuid></domain>", NULL, NULL},
    {"<domain><name>a&#x85;b</name><uuid>" UUID "</uuid></domain>", NULL, NULL},
    {"<domain><name>../x</name><uuid>" UUID "</uuid></domain>", NULL, NULL},
    {"<domain><name>vm</name><uuid>" UUID "0</uuid></domain>", NULL, NULL},
    {"<domain><name>vm</name><uuid>9b2cfcdc</uuid></domain>", NULL, NULL},
    {"<domain><name>vm</name><uuid>gb2cfcdc-6005-4de0-a6ac-aaa68d1917c0</uuid></domain>", NULL,
     NULL},
};

static void test_identities(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(identities); i++) {
        g_test_message("%s", identities[i].text);
        g_autoptr(DomainXml) xml = parse(identities[i].text);
        g_autofree char *uuid = NULL, *name = NULL;
        g_autoptr(GError) error = NULL;
        gboolean ok = domain_xml_identity(xml, &uuid, &name, &error);
        g_assert_cmpint(ok, ==, identities[i].uuid != NULL);
        g_assert_cmpstr(uuid, ==, identities[i].uuid);
        g_assert_cmpstr(name, ==, identities[i].name);
    }
}

static void test_long_name(void)
{
    g_autofree char *name = g_strnfill(256, 'n');
    g_autofree char *text =
        g_strdup_printf("<domain><name>%s</name><uuid>" UUID "</uuid></domain>", name);
    g_autoptr(DomainXml) xml = parse(text);
    g_autofree char *ret_uuid = NULL, *ret_name = NULL;

    g_assert_false(domain_xml_identity(xml, &ret_uuid, &ret_name, NULL));
}

static void test_request(void)
{
    g_autoptr(DomainXml) xml = parse(HEAD MEM FDGROUP META(ACME) DEVICES(PCI("1")) END);
    g_autoptr(DomainXml) other = parse(HEAD MEM DEVICES(PCI("1")) END);
    g_autoptr(DomainRequest) request = domain_request_new(xml, NULL);
    g_autoptr(DomainRequest) legacy = domain_request_new(other, NULL);

    g_assert_cmpstr(request->uuid, ==, UUID);
    g_assert_cmpstr(request->name, ==, "vm");
    g_assert_cmpstr(request->tenant, ==, "acme");
    g_assert_cmpuint(request->bytes, ==, 260 * MIB);
    g_assert_cmpstr(request->devices[0], ==, "0000:01:00.0");
    g_assert_null(request->devices[1]);
    g_assert_true(request->iommufd);
    g_assert_cmpstr(legacy->tenant, ==, "");
    g_assert_false(legacy->iommufd);
}

/* ---- what Nova 34 really writes ---- */

static void test_nova34(void)
{
    g_autofree char *path = g_build_filename(TEST_DATA, "nova34-domain.xml", NULL);
    g_autofree char *text = NULL;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    g_autoptr(DomainXml) xml = parse(text);
    g_autoptr(DomainRequest) request = domain_request_new(xml, NULL);
    g_autofree char *devices = join(request->devices);

    g_assert_cmpstr(request->uuid, ==, "9b2cfcdc-6005-4de0-a6ac-aaa68d1917c0");
    g_assert_cmpstr(request->name, ==, "instance-00000001");
    g_assert_cmpstr(request->tenant, ==, "3b5c57d6102f4c2bbb6361807ae1368c");
    g_assert_cmpstr(devices, ==, "0000:81:00.0 0000:81:01.0");
    g_assert_true(xml->viommu);
    g_assert_false(request->iommufd);
    g_assert_cmpuint(request->bytes, ==, 2 * (2 * GIB + 4 * MIB + 16 * MIB));
}

/* ---- enabling ---- */

static void test_enable(void)
{
    static const char *const texts[] = {
        HEAD MEM END,
        HEAD MEM META("<x xmlns='y'/>") DEVICES(PCI("1")) END,
        HEAD MEM "<iommufd enabled='yes'/>" END,
        HEAD MEM FDGROUP END,
        HEAD MEM META(ACME) END,
        HEAD MEM META("<nova:instance " NOVA "><nova:owner><nova:project uuid='acme'/>"
                      "</nova:owner></nova:instance>") END,
    };

    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *once = domain_xml_enable(texts[i], "acme", &error);
        g_assert_no_error(error);
        g_autofree char *twice = domain_xml_enable(once, "acme", &error);
        g_assert_no_error(error);
        g_assert_cmpstr(once, ==, twice);

        g_autoptr(DomainXml) xml = parse(once);
        g_autoptr(DomainRequest) request = domain_request_new(xml, &error);
        g_assert_no_error(error);
        g_assert_true(request->iommufd);
        g_assert_cmpstr(request->tenant, ==, "acme");
        g_assert_nonnull(strstr(once, UUID));
        g_assert_cmpint(strstr(texts[i], "<x ") != NULL, ==, strstr(once, "<x ") != NULL);
    }
}

/* What was put in is taken out, and nothing else. */
static void test_disable(void)
{
    static const struct {
        const char *text, *left;
    } cases[] = {
        {HEAD MEM END, NULL},
        {HEAD MEM "<iommufd enabled='yes'/>" END, NULL},
        {HEAD MEM "<iommufd enabled='yes' fdgroup='other'/>" END, NULL},
        {HEAD MEM META("<nova:instance " NOVA "><nova:owner><nova:project uuid='p'/></nova:owner>"
                       "</nova:instance>") END,
         NULL},
        {HEAD MEM FDGROUP DEVICES(PCI("1")) END, "<hostdev"},
        {HEAD MEM META(ACME) DEVICES(PCI("1")) END, "<hostdev"},
        {HEAD MEM META(ACME ACME "<x xmlns='y'/>") FDGROUP END, "<x xmlns=\"y\"/>"},
        {HEAD MEM "<iommufd enabled='no' fdgroup='iommud'/>" END, "<memory"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *out = domain_xml_disable(cases[i].text, &error);
        g_assert_no_error(error);
        g_assert_cmpint(*out != '\0', ==, cases[i].left != NULL);
        if (!cases[i].left)
            continue;
        g_assert_nonnull(strstr(out, cases[i].left));
        g_assert_null(strstr(out, "iommud"));
        g_autofree char *again = domain_xml_disable(out, &error);
        g_assert_cmpstr(again, ==, "");
        g_autoptr(DomainXml) xml = parse(out);
        g_assert_false(domain_xml_uses_iommud(xml));
    }
    g_autoptr(GError) error = NULL;
    g_assert_null(domain_xml_disable("<domain", &error));
    g_assert_nonnull(error);
}

static void test_enable_refused(void)
{
    static const struct {
        const char *text, *error;
    } cases[] = {
        {HEAD MEM "<iommufd enabled='no'/>" END, "enabled='no'"},
        {HEAD MEM "<iommufd enabled='yes' fdgroup='other'/>" END, "fdgroup 'other'"},
        {HEAD MEM META("<iommud:tenant " IOMMUD " id='globex'/>") END, "tenant 'globex'"},
        {HEAD MEM META("<nova:instance " NOVA "><nova:owner><nova:project uuid='p'/></nova:owner>"
                       "</nova:instance>") END,
         "tenant 'p'"},
        {HEAD MEM META(ACME ACME) END, "ambiguous"},
        {"<domain", "can't be parsed"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_null(domain_xml_enable(cases[i].text, "acme", &error));
        if (!strstr(error->message, cases[i].error))
            g_error("'%s' does not say '%s'", error->message, cases[i].error);
    }
}

/* A tenant's name is text in the document, never markup. */
static void test_enable_escapes(void)
{
    g_autofree char *once = domain_xml_enable(HEAD MEM END, "a'\"<&>", NULL);
    g_autoptr(DomainXml) xml = parse(once);
    g_autofree char *tenant = NULL;

    g_assert_true(domain_xml_tenant(xml, &tenant, NULL));
    g_assert_cmpstr(tenant, ==, "a'\"<&>");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/domain-xml/facts", test_facts);
    g_test_add_func("/domain-xml/counts", test_counts);
    g_test_add_func("/domain-xml/tenants", test_tenants);
    g_test_add_func("/domain-xml/sizes", test_sizes);
    g_test_add_func("/domain-xml/identities", test_identities);
    g_test_add_func("/domain-xml/long-name", test_long_name);
    g_test_add_func("/domain-xml/request", test_request);
    g_test_add_func("/domain-xml/nova34", test_nova34);
    g_test_add_func("/domain-xml/enable", test_enable);
    g_test_add_func("/domain-xml/disable", test_disable);
    g_test_add_func("/domain-xml/enable-refused", test_enable_refused);
    g_test_add_func("/domain-xml/enable-escapes", test_enable_escapes);
    return g_test_run();
}
