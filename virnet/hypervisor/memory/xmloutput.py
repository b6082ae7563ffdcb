"""Writing XML as libvirt writes it.

Rules:

  - Two blanks a level, one element a line, apostrophes round attributes; a text stands in its element's line.
  - The five special characters are escaped in texts and attributes alike.
  - An element without content is C{<name/>}; one whose text is C{""} rather than C{None} is two tags, for the
    few that libvirt always opens. Parsing never makes such a text.
  - What is copied through (C{metadata}) is in libxml2's style: quotation marks, and escapes only where
    needed.
"""

from __future__ import annotations

from xml.etree.ElementTree import Element

_MARKUP = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_ESCAPES = str.maketrans({**_MARKUP, '"': "&quot;", "'": "&apos;"})
_COPY_TEXT = str.maketrans({**_MARKUP, "\r": "&#13;"})
_COPY_ATTRIBUTE = str.maketrans({**_MARKUP, '"': "&quot;", "\n": "&#10;", "\t": "&#9;"})


def escape(text: str) -> str:
    """Escape a text or an attribute (C: C{virBufferEscapeString})."""
    return text.translate(_ESCAPES)


def element(tag: str, text: str | None = None, /, **attributes: str | None) -> Element:
    """Make an element; attributes that are C{None} are left out."""
    made = Element(tag, {name: value for name, value in attributes.items() if value is not None})
    made.text = text
    return made


def child(parent: Element, tag: str, text: str | None = None, /, **attributes: str | None) -> Element:
    """Make an element below another one."""
    made = element(tag, text, **attributes)
    parent.append(made)
    return made


def find(parent: Element, tag: str) -> Element:
    """An element that is known to be there."""
    found = parent.find(tag)
    if found is None:
        raise KeyError(tag)
    return found


def replace(root: Element, made: Element) -> None:
    """Put an element in the place of the one of the same name, or at the end."""
    for position, found in enumerate(root):
        if found.tag == made.tag:
            root[position] = made
            return
    root.append(made)


def toText(root: Element) -> str:
    """Write a tree, with a newline at its end."""
    lines: list[str] = []
    _write(root, "", lines)
    return "\n".join(lines) + "\n"


def _write(node: Element, indent: str, lines: list[str]) -> None:
    if node.tag == "metadata":
        _copy(node, indent, lines)
        return
    head = f"{indent}<{node.tag}" + "".join(f" {key}='{escape(value)}'" for key, value in node.items())
    if len(node):
        lines.append(head + ">")
        for below in node:
            _write(below, indent + "  ", lines)
        lines.append(f"{indent}</{node.tag}>")
    elif node.text:
        lines.append(f"{head}>{escape(node.text)}</{node.tag}>")
    elif node.text == "":
        lines += [head + ">", f"{indent}</{node.tag}>"]
    else:
        lines.append(head + "/>")


def _copy(node: Element, indent: str, lines: list[str]) -> None:
    head = indent + _copiedTag(node)
    mixed = (node.text or "").strip() or any((below.tail or "").strip() for below in node)
    if not len(node) and not mixed:
        lines.append(head + "/>")
    elif mixed:
        lines.append(indent + _copiedInline(node))
    else:
        lines.append(head + ">")
        for below in node:
            _copy(below, indent + "  ", lines)
        lines.append(f"{indent}</{node.tag}>")


def _copiedTag(node: Element) -> str:
    items = sorted(node.items(), key=lambda item: not item[0].startswith("xmlns"))
    return f"<{node.tag}" + "".join(f' {key}="{value.translate(_COPY_ATTRIBUTE)}"' for key, value in items)


def _copiedInline(node: Element) -> str:
    inner = (node.text or "").translate(_COPY_TEXT)
    for below in node:
        inner += _copiedInline(below) + (below.tail or "").translate(_COPY_TEXT)
    return f"{_copiedTag(node)}>{inner}</{node.tag}>" if inner else _copiedTag(node) + "/>"
