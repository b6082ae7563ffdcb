"""Reading XML that came from the network: bounded, without DTD, with libvirt's error texts.

Rules:

  - A document has at most C{XML_MAX} bytes, L{XML_DEPTH_MAX} levels, L{XML_ELEMENTS_MAX} elements and
    L{XML_ATTRIBUTES_MAX} attributes; each is judged before anything is built from what lies beyond.
  - A document type declaration is refused, so there are no entities beyond XML's own five, and nothing
    outside the document is ever read.
  - Names keep their prefixes as they were written: what is only passed through comes out as it went in.
  - Comments and processing instructions are dropped.
  - What is not well-formed answers code 35 as libvirt does: C{(WHAT):LINE: REASON}, the line, and a pointer.
"""

from __future__ import annotations

from typing import NamedTuple
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import RemoteError
from virnet.limits import XML_ATTRIBUTES_MAX, XML_DEPTH_MAX, XML_ELEMENTS_MAX, XML_MAX

#: A line longer than this is not repeated in the error about it.
CONTEXT_MAX = 2000


class DocumentKind(NamedTuple):
    """What a document is about.

    @ivar root: the name its root element must have.
    @ivar label: how error texts call it (the file name libvirt pretends there is).
    @ivar domain: who reports that it is not well-formed.
    """

    root: str
    label: str
    domain: ErrorDomain


DOMAIN = DocumentKind("domain", "domain_definition", ErrorDomain.DOMAIN)
NETWORK = DocumentKind("network", "network_definition", ErrorDomain.NETWORK)
POOL = DocumentKind("pool", "storage_pool_definition", ErrorDomain.STORAGE)
VOLUME = DocumentKind("volume", "storage_volume_definition", ErrorDomain.STORAGE)
INTERFACE = DocumentKind("interface", "interface_definition", ErrorDomain.INTERFACE)
SNAPSHOT = DocumentKind("domainsnapshot", "domain_snapshot", ErrorDomain.DOMAIN_SNAPSHOT)


def parseDocument(text: str, kind: DocumentKind) -> Element:
    """Read one document.

    @return: the root element. Tags and attribute names are as written, C{prefix:name} and C{xmlns:prefix}
        included.
    @raise RemoteError: C{XML_DETAIL} for what is not well-formed, C{XML_ERROR} for another root than
        C{kind.root}, for a DTD, and for a document beyond the limits.
    """
    if len(text) > XML_MAX:
        raise xmlError(f"document of {len(text)} characters exceeds {XML_MAX}")
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise xmlError(f"character {error.start} of the document is none of Unicode's") from None
    if len(data) > XML_MAX:
        raise xmlError(f"document of {len(data)} bytes exceeds {XML_MAX}")
    reader = _Reader()
    try:
        reader.parser.Parse(data, True)
    except expat.ExpatError as error:
        raise _notWellFormed(data, error, reader, kind) from None
    except LookupError as error:
        raise RemoteError.of(ErrorNumber.XML_DETAIL, f"({kind.label}):1: {error}", kind.domain) from None
    root = reader.builder.close()
    if root.tag != kind.root:
        raise xmlError(f"expecting root element of '{kind.root}', not '{root.tag}'")
    return root


def xmlError(detail: str, domain: ErrorDomain = ErrorDomain.XML) -> RemoteError:
    """An error in what a document says (C: C{VIR_ERR_XML_ERROR})."""
    return RemoteError.of(ErrorNumber.XML_ERROR, detail, domain)


def internalError(detail: str) -> RemoteError:
    """What libvirt calls an internal error although the document of a domain is at fault."""
    return RemoteError.of(ErrorNumber.INTERNAL_ERROR, detail, ErrorDomain.DOMAIN)


def unsupported(detail: str) -> RemoteError:
    """A configuration of a domain that no hypervisor knows."""
    return RemoteError.of(ErrorNumber.CONFIG_UNSUPPORTED, detail, ErrorDomain.DOMAIN)


class _Reader:
    """Builds the tree from expat's events and stops at the limits.

    @ivar open: name and line of every element that is not closed yet.
    @ivar seen: whether there was any element.
    """

    def __init__(self) -> None:
        self.parser = expat.ParserCreate()
        self.builder = TreeBuilder()
        self.open: list[tuple[str, int]] = []
        self.count = 0
        self.attributes = 0
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self.builder.data
        self.parser.StartDoctypeDeclHandler = self._doctype

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self.count += 1
        if self.count > XML_ELEMENTS_MAX:
            raise xmlError(f"document has more than {XML_ELEMENTS_MAX} elements")
        self.attributes += len(attributes)
        if self.attributes > XML_ATTRIBUTES_MAX:
            raise xmlError(f"document has more than {XML_ATTRIBUTES_MAX} attributes")
        if len(self.open) >= XML_DEPTH_MAX:
            raise xmlError(f"document nests deeper than {XML_DEPTH_MAX} elements")
        self.open.append((name, self.parser.CurrentLineNumber))
        self.builder.start(name, attributes)

    def _end(self, name: str) -> None:
        self.open.pop()
        self.builder.end(name)

    def _doctype(self, name: str, system: str | None, public: str | None, internal: bool) -> None:
        raise xmlError("document type declarations are refused")


def _notWellFormed(data: bytes, error: expat.ExpatError, reader: _Reader, kind: DocumentKind) -> RemoteError:
    """Say what expat found in libxml2's words, where the two agree on what it is."""
    reason, at = _reason(data, error.code, reader)
    line = data.count(b"\n", 0, at) + 1
    start = data.rfind(b"\n", 0, at) + 1
    stop = data.find(b"\n", at)
    context = data[start : stop if stop >= 0 else len(data)].decode("utf-8", "surrogateescape")
    message = f"({kind.label}):{line}: {reason}"
    if len(context) <= CONTEXT_MAX:
        # libvirt prints a null pointer where the text ends before the line begins
        message += f"\n{context or '(null)'}\n{'-' * (at - start)}^"
    return RemoteError.of(ErrorNumber.XML_DETAIL, message, kind.domain)


def _reason(data: bytes, code: int, reader: _Reader) -> tuple[str, int]:
    """What is wrong, and the offset of the byte to point at."""
    at = reader.parser.ErrorByteIndex
    blanks = len(data) - len(data.lstrip())
    if not data:
        return "Document is empty", 0
    if not data.startswith(b"<", blanks):
        return "Start tag expected, '<' not found", blanks
    if code == _TAG_MISMATCH:
        end = data.find(b">", at) + 1
        opened, line = reader.open[-1]
        return f"Opening and ending tag mismatch: {opened} line {line} and {_word(data[at : end - 1])}", end
    if code == _UNCLOSED and data[at + 1 : at + 2] not in (b"!", b"/", b"?"):
        line = data.count(b"\n", 0, at) + 1
        return f"Couldn't find end of Start Tag {_word(data[at + 1 :])} line {line}", len(data)
    if code in (_UNCLOSED, _NO_ELEMENTS) and reader.open:
        name, line = reader.open[-1]
        return f"Premature end of data in tag {name} line {line}", len(data)
    if code == _JUNK:
        return "Extra content at the end of the document", at
    if code == _ENTITY:
        end = data.find(b";", at)
        return f"Entity '{_word(data[at + 1 : end])}' not defined", end + 1
    if code == _DUPLICATE:
        equals = data.find(b"=", at)
        quote = len(data) - len(data[equals + 1 :].lstrip())
        end = data.find(data[quote : quote + 1], quote + 1) + 1
        return f"Attribute {_word(data[at:equals])} redefined", end
    if code == _TOKEN:
        return _invalidToken(data, at), at
    return expat.errors.messages.get(code, "not well-formed"), at


def _word(data: bytes) -> str:
    """The first word of some bytes."""
    return (data[:256].split() or [b""])[0].decode("utf-8", "replace")


def _invalidToken(data: bytes, at: int) -> str:
    before, byte = data[at - 1 : at], data[at : at + 1]
    if before == b"&":
        return "xmlParseEntityRef: no name"
    if before == b"=":
        return "AttValue: \" or ' expected"
    if before == b"<" or (byte == b"<" and before not in (b"'", b'"')):
        return "StartTag: invalid element name"
    if byte == b"<":
        return "Unescaped '<' not allowed in attributes values"
    if byte < b" ":
        return f"PCDATA invalid Char value {byte[0] if byte else 0}"
    return "not well-formed (invalid token)"


_CODES = expat.errors.codes
_TAG_MISMATCH = _CODES[expat.errors.XML_ERROR_TAG_MISMATCH]
_UNCLOSED = _CODES[expat.errors.XML_ERROR_UNCLOSED_TOKEN]
_NO_ELEMENTS = _CODES[expat.errors.XML_ERROR_NO_ELEMENTS]
_JUNK = _CODES[expat.errors.XML_ERROR_JUNK_AFTER_DOC_ELEMENT]
_ENTITY = _CODES[expat.errors.XML_ERROR_UNDEFINED_ENTITY]
_DUPLICATE = _CODES[expat.errors.XML_ERROR_DUPLICATE_ATTRIBUTE]
_TOKEN = _CODES[expat.errors.XML_ERROR_INVALID_TOKEN]
