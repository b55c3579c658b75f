/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/libvirt/domain/xml.h"

#include "kernel/base/text.h"

#include <errno.h>
#include <libxml/parser.h>
#include <libxml/SAX2.h>
#include <string.h>
#include <unistd.h>

/* The tree costs libxml2 about 120 bytes per element or attribute: with this cap a hostile
 * document of XML_MAX_BYTES stays below 16 MiB of memory, and a machine with 500 disks passes. */
#define XML_MAX_NODES 100000

G_DEFINE_QUARK(iommud - libvirt - xml - error, xml_error)

gboolean xml_invalid(GError **error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_propagate_error(error, g_error_new_valist(XML_ERROR, XML_ERROR_INVALID, format, args));
    va_end(args);
    return FALSE;
}

static gboolean too_large(GError **error)
{
    return xml_invalid(error, "The domain XML is larger than %u MiB, which no domain is.",
                       XML_MAX_BYTES / 1024 / 1024);
}

char *xml_read(int fd, size_t *ret_length, GError **error)
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    guint8 chunk[16 * 1024];

    for (;;) {
        ssize_t n = read(fd, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            g_set_error(error, XML_ERROR, XML_ERROR_IO, "The domain XML can't be read: %s.",
                        g_strerror(errno));
            return NULL;
        }
        if (n == 0)
            break;
        if (bytes->len + (size_t)n > XML_MAX_BYTES) {
            too_large(error);
            return NULL;
        }
        g_byte_array_append(bytes, chunk, (guint)n);
    }

    *ret_length = bytes->len;
    g_byte_array_append(bytes, (const guint8 *)"", 1);
    return (char *)g_byte_array_free(g_steal_pointer(&bytes), FALSE);
}

/* What the SAX handlers below found wrong, and what they count. */
typedef struct {
    const char *refusal;
    unsigned n_nodes;
} Watch;

static void refuse(xmlParserCtxt *parser, const char *refusal)
{
    Watch *watch = parser->_private;
    watch->refusal = refusal;
    xmlStopParser(parser);
}

static void on_doctype(void *ctx, const xmlChar *name, const xmlChar *external_id,
                       const xmlChar *system_id)
{
    refuse(ctx, "The domain XML has a DOCTYPE, which libvirt never writes.");
}

static void on_start_element(void *ctx, const xmlChar *name, const xmlChar *prefix,
                             const xmlChar *uri, int n_namespaces, const xmlChar **namespaces,
                             int n_attributes, int n_defaulted, const xmlChar **attributes)
{
    xmlParserCtxt *parser = ctx;
    Watch *watch = parser->_private;

    watch->n_nodes += 1 + (unsigned)n_attributes + (unsigned)n_namespaces;
    if (watch->n_nodes > XML_MAX_NODES) {
        refuse(parser, "The domain XML has more elements and attributes than any domain has.");
        return;
    }
    xmlSAX2StartElementNs(ctx, name, prefix, uri, n_namespaces, namespaces, n_attributes,
                          n_defaulted, attributes);
}

static void set_parse_error(xmlParserCtxt *parser, const Watch *watch, GError **error)
{
    if (watch->refusal) {
        xml_invalid(error, "%s", watch->refusal);
        return;
    }
    /* libxml2's sentence repeats what the document says: it goes out in one clean line. */
    const xmlError *why = xmlCtxtGetLastError(parser);
    g_autofree char *text = g_strdup(why && why->message ? why->message : "not well-formed");
    g_autofree char *clean = text_sanitize(g_strchomp(text), TEXT_QUOTED_MAX, false);
    xml_invalid(error, "The domain XML can't be parsed: line %d: %s.", why ? why->line : 0, clean);
}

xmlDoc *xml_parse(const char *text, size_t length, GError **error)
{
    if (length > XML_MAX_BYTES) {
        too_large(error);
        return NULL;
    }
    /* Also refuses NUL bytes, and with them UTF-16: one encoding, one meaning. */
    if (!g_utf8_validate_len(text, length, NULL)) {
        xml_invalid(error, "The domain XML is not UTF-8 text without NUL bytes.");
        return NULL;
    }

    xmlParserCtxt *parser = xmlNewParserCtxt();
    if (!parser)
        g_error("out of memory");
    Watch watch = {0};
    parser->_private = &watch;
    parser->sax->internalSubset = on_doctype;
    parser->sax->externalSubset = on_doctype;
    parser->sax->startElementNs = on_start_element;
    parser->sax->comment = NULL;
    parser->sax->processingInstruction = NULL;
    xmlDoc *doc = xmlCtxtReadMemory(parser, text, (int)length, NULL, "UTF-8",
                                    XML_PARSE_NONET | XML_PARSE_NOCDATA | XML_PARSE_NOERROR |
                                        XML_PARSE_NOWARNING);
    if (!doc || watch.refusal) {
        set_parse_error(parser, &watch, error);
        g_clear_pointer(&doc, xmlFreeDoc);
    }
    xmlFreeParserCtxt(parser);
    return doc;
}

bool xml_is(const xmlNode *node, const char *name, const char *ns)
{
    return node->type == XML_ELEMENT_NODE && g_str_equal(node->name, name) &&
           g_strcmp0(node->ns ? (const char *)node->ns->href : NULL, ns) == 0;
}

xmlNode *xml_first(xmlNode *node, const char *name, const char *ns)
{
    while (node && !xml_is(node, name, ns))
        node = node->next;
    return node;
}

/* libxml2's allocator is not GLib's by contract: hand out GLib's. */
static char *steal_text(xmlChar *text)
{
    char *copy = g_strdup((const char *)text);
    xmlFree(text);
    return copy;
}

char *xml_attribute(xmlNode *node, const char *name)
{
    return steal_text(xmlGetNoNsProp(node, (const xmlChar *)name));
}

bool xml_attribute_is(xmlNode *node, const char *name, const char *value)
{
    g_autofree char *text = xml_attribute(node, name);
    return g_strcmp0(text, value) == 0;
}

char *xml_text(xmlNode *node)
{
    return steal_text(xmlNodeGetContent(node));
}
