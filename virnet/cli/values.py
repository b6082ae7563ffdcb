"""Values of options: each function takes what was typed, and says in a few words why it is not one."""

from __future__ import annotations

import argparse
import math
import re
from typing import Any

PROGRAMS = ("REMOTE", "QEMU", "LXC", "ADMIN", "LOCK")
"""Programs with procedures to call; keepalive has none."""


def offer(action: Any, what: str) -> None:
    """Say what a shell offers for an action's value: C{domain}, C{pool}, C{volume}, C{event}, C{file},
    C{procedure} or C{nothing}; for one with choices it offers these.
    """
    action.completes = what


def size(text: str) -> int:
    """Bytes, with or without a unit of 1024."""
    match = re.fullmatch(r"(\d+)([kmgtKMGT]?)(i?[bB])?", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size like 1048576, 512M or 20G")
    return int(match[1]) << 10 * ("kmgt".index(match[2].lower()) + 1 if match[2] else 0)


def programName(text: str) -> str:
    """A program, in any case."""
    if text.upper() not in PROGRAMS:
        raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(PROGRAMS).lower()}")
    return text.upper()


def number(text: str) -> int:
    """0 or more."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return int(text)


def positive(text: str) -> int:
    """1 or more."""
    value = int(text) if text.isascii() and text.isdigit() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")
    return value


def depths(text: str) -> list[int]:
    """Numbers between commas."""
    return [positive(each) for each in text.split(",")]


def escapeKey(text: str) -> str:
    """A key: itself, or with C{^} in front with Ctrl."""
    if len(text) == 2 and text[0] == "^" and 0x3F <= ord(text[1].upper()) <= 0x5F or len(text) == 1:
        return text
    raise argparse.ArgumentTypeError(f"{text!r} is not a key like ^] or ~")


def seconds(text: str) -> float:
    """A time."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value
