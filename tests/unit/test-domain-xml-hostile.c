/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Domain XML that enemies write: what is refused, and what reading it may cost. */
#include "tests/unit/domain-xml.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define TEN(x) x x x x x x x x x x

static const struct {
    const char *what;
    const char *text;
    const char *error; /* part of it */
} hostile[] = {
    {"empty", "", "can't be parsed"},
    {"no XML", "hello", "can't be parsed"},
    {"cut off", "<domain><name>vm", "can't be parsed"},
    {"two roots", "<domain/><domain/>", "can't be parsed"},
    {"another document", "<network><name>vm</name></network>", "root is not <domain>"},
    {"root in a namespace", "<domain xmlns='urn:x'/>", "root is not <domain>"},
    {"billion laughs",
     "<!DOCTYPE lolz [<!ENTITY a \"lol\"><!ENTITY b \"" TEN("&a;") "\"><!ENTITY c \"" TEN(
         "&b;") "\">"
                "<!ENTITY d \"" TEN("&c;") "\"><!ENTITY e \"" TEN("&d;") "\"><!ENTITY f \"" TEN(
                    "&e;") "\">"
                           "<!ENTITY g \"" TEN("&f;") "\"><!ENTITY h \"" TEN(
                               "&g;") "\"><!ENTITY i \"" TEN("&h;") "\">]>"
                                                                    "<domain "
                                                                    "a='&i;'><name>&i;</name></"
                                                                    "domain>",
     "DOCTYPE"},
    {"external entity",
     "<!DOCTYPE d [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><domain><name>&x;</name></domain>",
     "DOCTYPE"},
    {"external DTD", "<!DOCTYPE domain SYSTEM 'http://127.0.0.1:1/x.dtd'><domain/>", "DOCTYPE"},
    {"parameter entity", "<!DOCTYPE d [<!ENTITY % p SYSTEM 'file:///dev/zero'> %p;]><domain/>",
     "DOCTYPE"},
    {"an innocent DOCTYPE", "<!DOCTYPE domain><domain/>", "DOCTYPE"},
    {"an entity that nobody declared", "<domain><name>&x;</name></domain>", "can't be parsed"},
    {"an attribute twice", "<domain a='1' a='2'/>", "can't be parsed"},
    {"broken UTF-8", "<domain><name>\xff\xfe</name></domain>", "UTF-8"},
    {"two iommufd", HEAD FDGROUP FDGROUP END, "more than one <iommufd>"},
    {"a device without address", HEAD DEVICES("<hostdev type='pci'><source/></hostdev>") END,
     "without the device's address"},
    {"a device without source", HEAD DEVICES("<hostdev type='pci'/>") END,
     "without the device's address"},
    {"a bus that no bus has", HEAD DEVICES(PCI("0x100")) END, "bus '0x100'"},
    {"a negative bus", HEAD DEVICES(PCI("-1")) END, "bus '-1'"},
    {"a bus with a tail", HEAD DEVICES(PCI("1 rm")) END, "bus '1 rm'"},
    {"a bus beyond 2^64", HEAD DEVICES(PCI("99999999999999999999999")) END, "bus '999"},
    {"an escape sequence in an error",
     HEAD DEVICES(PCI("&#x9;\xc2\x9b"
                      "31m")) END,
     "bus '\?\?31m'"},
};

static void test_hostile(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(hostile); i++) {
        g_autoptr(GError) error = NULL;
        g_test_message("%s", hostile[i].what);
        g_autoptr(DomainXml) xml =
            domain_xml_parse(hostile[i].text, strlen(hostile[i].text), &error);
        g_assert_null(xml);
        g_assert_nonnull(error);
        if (!strstr(error->message, hostile[i].error))
            g_error("'%s' does not say '%s'", error->message, hostile[i].error);
    }
}

static void refused(const char *text, size_t length, const char *why)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(DomainXml) xml = domain_xml_parse(text, length, &error);

    g_assert_null(xml);
    if (!strstr(error->message, why))
        g_error("'%s' does not say '%s'", error->message, why);
}

static void test_encodings(void)
{
    static const char nul[] = HEAD MEM "\0" END;
    g_autofree char *utf16 = NULL, *utf32 = NULL;
    gsize n16 = 0, n32 = 0;

    utf16 = g_convert(HEAD MEM END, -1, "UTF-16", "UTF-8", NULL, &n16, NULL);
    utf32 = g_convert(HEAD MEM END, -1, "UTF-32", "UTF-8", NULL, &n32, NULL);
    refused(nul, sizeof nul - 1, "NUL");
    refused(utf16, n16, "UTF-8");
    refused(utf32, n32, "UTF-8");

    /* What the document says about its encoding changes nothing. */
    g_autoptr(DomainXml) xml =
        parse("<?xml version='1.0' encoding='EBCDIC-US'?>" HEAD MEM FDGROUP END);
    g_assert_true(domain_xml_uses_iommud(xml));
}

/* As many of part as fit, between head and tail. */
static char *repeat(const char *head, const char *part, const char *tail, size_t bytes)
{
    GString *text = g_string_new(head);
    while (text->len + strlen(part) + strlen(tail) <= bytes)
        g_string_append(text, part);
    g_string_append(text, tail);
    return g_string_free(text, FALSE);
}

/* A sanitizer needs several times as much itself. */
#ifdef __SANITIZE_ADDRESS__
#define PEAK_MAX_KIB (1024 * 1024)
#else
#define PEAK_MAX_KIB (64 * 1024)
#endif

static long peak_kib(void)
{
    struct rusage usage;
    g_assert_cmpint(getrusage(RUSAGE_SELF, &usage), ==, 0);
    return usage.ru_maxrss;
}

static void test_shapes(void)
{
    static const struct {
        const char *head, *part, *tail, *error;
    } shapes[] = {
        {"<domain>", "<a/>", "</domain>", "more elements"},
        {"<domain>", "<a b='' c='' d='' e=''/>", "</domain>", "more elements"},
        {"<domain>", "<a>", "", "can't be parsed"},
        {"<domain", " ", "/>", NULL},
        {"<domain>", "<!---->", "</domain>", NULL},
        {"<domain>", "<?a?>", "</domain>", NULL},
        {"<domain>", "<![CDATA[]]>", "</domain>", NULL},
        {"<domain>", "&amp;", "</domain>", NULL},
        {"<domain a='", "&#65;", "'/>", NULL},
        {"<domain a", "a", "='1'/>", NULL},
    };
    long before = peak_kib();

    for (size_t i = 0; i < G_N_ELEMENTS(shapes); i++) {
        g_autofree char *text =
            repeat(shapes[i].head, shapes[i].part, shapes[i].tail, XML_MAX_BYTES);
        g_test_message("4 MiB of %s", shapes[i].part);
        if (shapes[i].error)
            refused(text, strlen(text), shapes[i].error);
        else
            domain_xml_free(domain_xml_parse(text, strlen(text), NULL));
    }
    g_assert_cmpint(peak_kib() - before, <, PEAK_MAX_KIB);
}

static void test_depth(void)
{
    GString *text = g_string_new("<domain>");

    for (int i = 0; i < 10000; i++)
        g_string_append(text, "<a>");
    for (int i = 0; i < 10000; i++)
        g_string_append(text, "</a>");
    g_string_append(text, "</domain>");
    refused(text->str, text->len, "can't be parsed");
    g_string_free(text, TRUE);
}

/* 50 MB come through a pipe whose writer must not be read to the end. */
static void test_read_limit(void)
{
    int fds[2];
    g_autoptr(GError) error = NULL;
    size_t length = 0, written = 0;

    g_assert_cmpint(pipe2(fds, O_CLOEXEC), ==, 0);
    pid_t pid = fork();
    g_assert_cmpint(pid, >=, 0);
    if (pid == 0) {
        static char block[65536];
        memset(block, ' ', sizeof block);
        close(fds[0]);
        while (written < 50u * 1000 * 1000 && write(fds[1], block, sizeof block) > 0)
            written += sizeof block;
        _exit(written >= 50u * 1000 * 1000);
    }
    close(fds[1]);
    g_assert_null(xml_read(fds[0], &length, &error));
    g_assert_nonnull(strstr(error->message, "larger than 4 MiB"));
    close(fds[0]);
    int status;
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    g_assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
}

static void test_read(void)
{
    int fds[2];
    size_t length = 0;

    g_assert_cmpint(pipe2(fds, O_CLOEXEC), ==, 0);
    g_assert_cmpint(write(fds[1], "<domain/>", 9), ==, 9);
    close(fds[1]);
    g_autofree char *text = xml_read(fds[0], &length, NULL);
    close(fds[0]);
    g_assert_cmpuint(length, ==, 9);
    g_assert_cmpstr(text, ==, "<domain/>");
    g_assert_null(xml_read(-1, &length, NULL));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/domain-xml/hostile", test_hostile);
    g_test_add_func("/domain-xml/encodings", test_encodings);
    g_test_add_func("/domain-xml/shapes", test_shapes);
    g_test_add_func("/domain-xml/depth", test_depth);
    g_test_add_func("/domain-xml/read-limit", test_read_limit);
    g_test_add_func("/domain-xml/read", test_read);
    return g_test_run();
}
