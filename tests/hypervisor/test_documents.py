"""
Documents in, documents out: what libvirt 9.0.0 made of each was recorded, and must be made of it here.

C{recorded.json} has, by kind, pairs of a document and what libvirt's test driver answered to it: the document
that dumpxml showed, with uuids and generated MAC addresses made the same, or the error (code, domain,
message, str1, str2, int1, int2).
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.hypervisor.sessions import countingBytes
from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import RemoteError
from virnet.hypervisor.memory.domainxml import parseDomain
from virnet.hypervisor.memory.interfacexml import parseInterface
from virnet.hypervisor.memory.networkxml import parseNetwork
from virnet.hypervisor.memory.storagexml import parsePool, parseVolume
from virnet.hypervisor.memory.xmlvalues import cpuSet, formatCPUs, scaled
from virnet.limits import XML_ATTRIBUTES_MAX, XML_DEPTH_MAX, XML_ELEMENTS_MAX, XML_MAX

RECORDED = json.loads((Path(__file__).parent / "recorded.json").read_text())
POOL = "<pool type='dir'><name>default-pool</name><target><path>/default-pool</path></target></pool>"
UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
GENERATED_MAC = re.compile("52:54:00:(?!00:00:)..:..:..")

DOMAIN = (
    "<domain type='test'><name>{name}</name><memory>{memory}</memory><os><type>hvm</type></os>{rest}</domain>"
)


def domain(rest: str = "", name: str = "x", memory: str = "1024") -> str:
    """
    A domain document.
    """
    return DOMAIN.format(name=name, memory=memory, rest=rest)


def dumped(rest: str = "") -> str:
    """
    What becomes of a domain document.
    """
    return parseDomain(domain(rest), countingBytes()).toXML()


def fieldsOf(error: RemoteError) -> list[Any]:
    """
    What was recorded of errors.
    """
    return [
        error.code,
        error.domain,
        error.message,
        error.str1,
        error.str2,
        error.int1,
        error.int2,
    ]


class Recorded(SynchronousTestCase):
    """
    The same as libvirt.
    """

    maxDiff = None

    def check(self, kind: str, convert: Callable[[str], str]) -> None:
        for document, expected in RECORDED[kind]:
            if isinstance(expected, str):
                made = GENERATED_MAC.sub("MAC", UUID.sub("UUID", convert(document)))
                self.assertEqual(made, expected, document)
            else:
                error = self.assertRaises(RemoteError, convert, document)
                self.assertEqual(fieldsOf(error), expected, document)

    def test_domains(self) -> None:
        self.check("domain", lambda text: parseDomain(text, _mixedBytes()).toXML())

    def test_networks(self) -> None:
        self.check("network", lambda text: parseNetwork(text, _mixedBytes()).toXML())

    def test_pools(self) -> None:
        self.check("pool", lambda text: parsePool(text, _mixedBytes()).toXML())

    def test_volumes(self) -> None:
        pool = parsePool(POOL, countingBytes())
        self.check("volume", lambda text: parseVolume(text, pool).toXML())

    def test_interfaces(self) -> None:
        self.check("interface", lambda text: parseInterface(text).toXML())

    def test_what_was_made_can_be_read_and_made_again(self) -> None:
        for document, expected in RECORDED["domain"]:
            if isinstance(expected, str):
                # Not at first: as in libvirt, buses that are written down may change the order of disks.
                once = parseDomain(document, _mixedBytes()).toXML(secure=True)
                twice = parseDomain(once, countingBytes()).toXML(secure=True)
                self.assertEqual(parseDomain(twice, countingBytes()).toXML(secure=True), twice)
                self.assertEqual(sorted(twice.splitlines()), sorted(once.splitlines()))


def _mixedBytes() -> Callable[[int], bytes]:
    """
    Bytes that no test's own addresses begin with.
    """
    return lambda length: b"\xab" * length


class Kept(SynchronousTestCase):
    """
    What libvirt drops and a simulated hypervisor has no reason to.
    """

    def test_elements_unknown_to_libvirt_follow_the_known_ones(self) -> None:
        made = dumped("<odd a='1'><b>c</b></odd><devices><odder x='y'/><input type='tablet'/></devices>")
        self.assertIn("    <input type='tablet' bus='usb'/>\n    <odder x='y'/>\n  </devices>\n", made)
        self.assertIn("  </devices>\n  <odd a='1'>\n    <b>c</b>\n  </odd>\n</domain>\n", made)

    def test_attributes_unknown_to_libvirt_follow_the_known_ones(self) -> None:
        made = dumped("<devices><input odd='1' bus='usb' type='tablet'/></devices>")
        self.assertIn("<input type='tablet' bus='usb' odd='1'/>", made)

    def test_namespaces_keep_their_prefixes(self) -> None:
        text = domain("<metadata><q:a><q:b/></q:a></metadata>").replace("<domain", "<domain xmlns:q='urn:q'")
        made = parseDomain(text, countingBytes()).toXML()
        self.assertIn('  <metadata xmlns:q="urn:q">\n    <q:a>\n      <q:b/>\n    </q:a>\n', made)

    def test_what_must_be_escaped_is_escaped(self) -> None:
        definition = parseDomain(domain(name="&lt;a&gt; &amp; &apos;b&apos; &quot;c&quot;"), countingBytes())
        self.assertEqual(definition.name, "<a> & 'b' \"c\"")
        self.assertIn("<name>&lt;a&gt; &amp; &apos;b&apos; &quot;c&quot;</name>", definition.toXML())

    def test_bytes_that_are_no_text_are_refused_by_the_parser(self) -> None:
        error = self.assertRaises(RemoteError, parseDomain, domain(name="\udcff"), countingBytes())
        self.assertEqual((error.code, error.domain), (ErrorNumber.XML_DETAIL, ErrorDomain.DOMAIN))


class Hostile(SynchronousTestCase):
    """
    Documents that are made to hurt: one clear error each, and soon.
    """

    def refused(self, document: str) -> str:
        began = time.monotonic()
        error = self.assertRaises(RemoteError, parseDomain, document, countingBytes())
        self.assertLess(time.monotonic() - began, 10)
        self.assertEqual((error.code, error.domain), (ErrorNumber.XML_ERROR, ErrorDomain.XML))
        message: str = error.message
        self.assertLess(len(message), 200)
        return message

    def test_a_hundred_megabytes(self) -> None:
        self.assertEqual(
            self.refused("<domain>" + "a" * 100_000_000),
            f"XML error: document of 100000008 characters exceeds {XML_MAX}",
        )

    def test_characters_of_several_bytes_are_counted_as_bytes(self) -> None:
        text = "<domain>" + "\u20ac" * (XML_MAX // 2)
        self.assertIn(f"bytes exceeds {XML_MAX}", self.refused(text))

    def test_the_limit_of_depth(self) -> None:
        def nested(levels: int) -> str:
            return domain("<a>" * (levels - 1) + "</a>" * (levels - 1))

        parseDomain(nested(XML_DEPTH_MAX), countingBytes()).toXML()
        expected = f"XML error: document nests deeper than {XML_DEPTH_MAX} elements"
        self.assertEqual(self.refused(nested(XML_DEPTH_MAX + 1)), expected)
        self.assertEqual(self.refused("<a>" * 1_000_000), expected)

    def test_the_limit_of_elements(self) -> None:
        # domain, name, memory, os and type are five.
        parseDomain(domain("<a/>" * (XML_ELEMENTS_MAX - 5)), countingBytes())
        expected = f"XML error: document has more than {XML_ELEMENTS_MAX} elements"
        self.assertEqual(self.refused(domain("<a/>" * (XML_ELEMENTS_MAX - 4))), expected)

    def test_attributes(self) -> None:
        def spread(count: int) -> str:
            # One is the domain's own.
            return domain(
                "<a b=''/>" * 1000 + "<a " + " ".join(f"b{n}=''" for n in range(count - 1001)) + "/>"
            )

        parseDomain(spread(XML_ATTRIBUTES_MAX), countingBytes())
        expected = f"XML error: document has more than {XML_ATTRIBUTES_MAX} attributes"
        self.assertEqual(self.refused(spread(XML_ATTRIBUTES_MAX + 1)), expected)

    def test_document_types_and_so_entities(self) -> None:
        expected = "XML error: document type declarations are refused"
        laughs = "<!ENTITY a 'ha'>" + "".join(
            f"<!ENTITY {chr(98 + n)} '{f'&{chr(97 + n)};' * 50}'>" for n in range(20)
        )
        for declaration in (
            "<!DOCTYPE domain>",
            f"<!DOCTYPE domain [{laughs}]>",
            "<!DOCTYPE domain [<!ENTITY a SYSTEM 'file:///etc/passwd'>]>",
            "<!DOCTYPE domain SYSTEM 'http://127.0.0.1:1/x.dtd'>",
            "<!DOCTYPE domain [<!ENTITY % a SYSTEM 'file:///etc/passwd'> %a;]>",
        ):
            self.assertEqual(self.refused(declaration + domain(name="&u;")), expected)

    def test_many_devices_take_no_more_than_their_number(self) -> None:
        began = time.monotonic()
        interfaces = "<interface/>" * 8000
        controllers = "<controller type='scsi'/>" * 8000
        parseDomain(domain(f"<devices>{interfaces}{controllers}</devices>"), countingBytes())
        names = ("vd" + a + b + c for a in LETTERS for b in LETTERS for c in LETTERS)
        disks = "".join(
            f"<disk><source file='/a'/><target dev='{name}'/></disk>"
            for name, _ in zip(names, range(5000), strict=False)
        )
        parseDomain(domain(f"<devices>{disks}</devices>"), countingBytes())
        self.assertLess(time.monotonic() - began, 20)

    def test_a_disk_far_into_the_alphabet_brings_no_million_controllers(self) -> None:
        document = domain("<devices><disk><source file='/a'/><target dev='sdzzzzz'/></disk></devices>")
        error = self.assertRaises(RemoteError, parseDomain, document, countingBytes())
        self.assertEqual(error.code, ErrorNumber.CONFIG_UNSUPPORTED)

    def test_numbers_of_many_digits(self) -> None:
        for document in (domain(memory="9" * 100000), domain("<vcpu>" + "9" * 100000 + "</vcpu>")):
            error = self.assertRaises(RemoteError, parseDomain, document, countingBytes())
            self.assertEqual(error.code, ErrorNumber.XML_ERROR)

    def test_sets_of_many_cpus(self) -> None:
        for text in ("0-4000000000", "0-" + "9" * 50, "5-1", "^0-3", "", "0,,1", "-1"):
            error = self.assertRaises(RemoteError, cpuSet, text)
            self.assertEqual(error.message, f"invalid argument: Failed to parse bitmap '{text}'")

    def test_sets_of_cpus_that_say_everything_again_and_again(self) -> None:
        began = time.monotonic()
        self.assertEqual(formatCPUs(cpuSet(",".join(["0-16384", "^7"] * 50000))), "0-6,8-16384")
        every_other = ",".join(map(str, range(0, 16384, 2)))
        self.assertEqual(formatCPUs(cpuSet(every_other)), every_other)
        pins = "".join(f"<vcpupin vcpu='{vcpu}' cpuset='0-16384'/>" for vcpu in range(10000))
        self.assertEqual(
            len(parseDomain(domain(f"<cputune>{pins}</cputune>"), countingBytes()).pinned), 10000
        )
        self.assertLess(time.monotonic() - began, 10)

    def test_not_well_formed_lines_that_are_long_are_not_repeated(self) -> None:
        error = self.assertRaises(
            RemoteError, parseDomain, "<domain>" + "a" * 1_000_000 + "</b>", countingBytes()
        )
        self.assertEqual(error.code, ErrorNumber.XML_DETAIL)
        self.assertEqual(
            error.message, "(domain_definition):1: Opening and ending tag mismatch: domain line 1 and b"
        )

    def test_any_cut_of_a_document_is_an_error_and_nothing_else(self) -> None:
        document = domain(
            "<devices><disk type='file'><source file='/a'/><target dev='vda'/></disk></devices>"
        )
        for end in range(len(document)):
            self.assertRaises(RemoteError, parseDomain, document[:end], countingBytes())

    def test_any_changed_character_is_a_document_or_an_error(self) -> None:
        document = domain("<vcpu cpuset='0-3'>2</vcpu><devices><graphics type='vnc' port='-1'/></devices>")
        for position in range(len(document)):
            for character in "<>&'\"/= \0\x01x0-\ud800\udc80\u20ac":
                changed = document[:position] + character + document[position + 1 :]
                try:
                    parseDomain(changed, countingBytes()).toXML()
                except RemoteError:
                    pass


LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Sizes(SynchronousTestCase):
    """
    Numbers with units.
    """

    def test_units(self) -> None:
        for unit, factor in {
            None: 7,
            "": 7,
            "b": 1,
            "bytes": 1,
            "k": 1024,
            "KiB": 1024,
            "KB": 1000,
            "M": 2**20,
            "MiB": 2**20,
            "mb": 10**6,
            "G": 2**30,
            "GB": 10**9,
            "TiB": 2**40,
            "p": 2**50,
            "E": 2**60,
        }.items():
            self.assertEqual(scaled(3, unit, 7), 3 * factor, unit)

    def test_memory_is_rounded_up_to_kibibytes(self) -> None:
        definition = parseDomain(domain().replace("<memory>1024", "<memory unit='b'>1025"), countingBytes())
        self.assertEqual(definition.memory, 2)

    def test_what_does_not_fit_is_an_overflow(self) -> None:
        self.assertEqual(scaled(7, "E", 1), 7 * 2**60)
        error = self.assertRaises(RemoteError, scaled, 8, "E", 1)
        self.assertEqual(
            (error.code, error.message), (ErrorNumber.OVERFLOW, "numerical overflow: value too large: 8E")
        )


class Definitions(SynchronousTestCase):
    """
    What a definition says besides its document.
    """

    def test_numbers(self) -> None:
        definition = parseDomain(
            domain(
                "<currentMemory unit='b'>4096</currentMemory><vcpu cpuset='1,3-4' current='1'>3</vcpu>"
                "<cputune><vcpupin vcpu='1' cpuset='2'/></cputune><on_reboot>destroy</on_reboot>"
            ),
            countingBytes(),
        )
        self.assertEqual((definition.memory, definition.currentMemory), (1024, 4))
        self.assertEqual((definition.maxVcpus, definition.vcpus), (3, 1))
        self.assertEqual((definition.cpus, definition.pinned), (0b11010, {1: 0b100}))
        self.assertEqual(definition.action("on_reboot"), "destroy")
        self.assertEqual(definition.uuid, bytes.fromhex("00000000000040008000000000000001"))

    def test_changes_show_up_in_the_document(self) -> None:
        definition = parseDomain(domain("<vcpu>2</vcpu>"), countingBytes())
        copied = definition.copy()
        copied.memory, copied.currentMemory, copied.vcpus, copied.name = 4096, 2048, 1, "y"
        made = copied.toXML(domainID=7)
        self.assertTrue(made.startswith("<domain type='test' id='7'>\n  <name>y</name>\n"))
        self.assertIn("<memory unit='KiB'>4096</memory>\n  <currentMemory unit='KiB'>2048<", made)
        self.assertIn("<vcpu placement='static' current='1'>2</vcpu>", made)
        self.assertIn("<memory unit='KiB'>1024</memory>", definition.toXML())

    def test_passwords_are_shown_only_to_who_may_see_them(self) -> None:
        definition = parseDomain(
            domain("<devices><graphics type='vnc' passwd='secret'/></devices>"), countingBytes()
        )
        self.assertNotIn("secret", definition.toXML())
        self.assertIn("passwd='secret'", definition.toXML(secure=True))

    def test_an_id_in_the_document_means_nothing(self) -> None:
        made = parseDomain(domain().replace("<domain", "<domain id='9'"), countingBytes()).toXML()
        self.assertTrue(made.startswith("<domain type='test'>\n"))
