"""The table for people who come from libvirt-python: what it says on the right exists and takes that."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

import virnet
from virnet import objects
from virnet.client import Connection, Subscription
from virnet.client.events import EventRegistry
from virnet.client.service import ConnectionService
from virnet.client.stream import ClientStream

PAGE = Path(__file__).resolve().parents[2] / "docs" / "howto" / "from-libvirt-python.rst"

#: What the names on the right stand for.
KINDS: dict[str, Any] = {
    "connection": Connection,
    "domain": objects.Domain,
    "events": objects.Events,
    "network": objects.Network,
    "pool": objects.StoragePool,
    "secret": objects.Secret,
    "service": ConnectionService,
    "snapshot": objects.DomainSnapshot,
    "stream": ClientStream,
    "subscription": Subscription,
    "virnet": virnet,
    "volume": objects.StorageVol,
    "domainEvents": EventRegistry,
}
#: Attributes that instances alone have.
INSTANCE = {"value", "domainEvents"}


def rows() -> list[tuple[str, list[str]]]:
    """The left text and the code on the right of each row."""
    table = PAGE.read_text().split(":class: checked")[1].split("\nWhat is different")[0]
    found = re.findall(r"^   \* - (.*)\n     - (.*)$", table, re.MULTILINE)
    return [(left, re.findall(r"``(.+?)``", right)) for left, right in found[1:]]


def check(code: str) -> int:
    """Look every name up and bind the arguments of every call.

    @return: how many calls there were.
    """
    if code.startswith("async for"):
        code = f"async def loop():\n  {code}: pass"
    else:
        code = f"async def step():\n  {code}"
    calls = 0
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Attribute):
            owner = node.value
            while isinstance(owner, ast.Call):
                owner = owner.func
            name = owner.id if isinstance(owner, ast.Name) else owner.attr  # type: ignore[attr-defined]
            if name in KINDS and node.attr not in INSTANCE:
                getattr(KINDS[name], node.attr)
        if isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Name):
                function = {"ConnectionService": ConnectionService}.get(called.id)
                first: list[Any] = []
            else:
                assert isinstance(called, ast.Attribute)
                owner = called.value
                name = getattr(owner, "id", getattr(owner, "attr", ""))
                function = getattr(KINDS[name], called.attr) if name in KINDS else None
                first = [] if name == "virnet" else [None]
            if function is not None:
                keywords = {each.arg: None for each in node.keywords if each.arg is not None}
                inspect.signature(function).bind(*first, *node.args, **keywords)
                calls += 1
    return calls


class Table(SynchronousTestCase):
    """docs/howto/from-libvirt-python.rst"""

    def test_what_is_on_the_right_exists_and_takes_that(self) -> None:
        found = rows()
        self.assertTrue(len(found) > 50)
        calls = 0
        for left, right in found:
            self.assertTrue(right, left)
            for code in right:
                calls += check(code)
        self.assertTrue(calls > 60, calls)

    def test_a_mistake_would_be_found(self) -> None:
        self.assertRaises(AttributeError, check, "await domain.begin()")
        self.assertRaises(TypeError, check, "await domain.start(5)")
        self.assertRaises(TypeError, check, "await virnet.connect(reactor, uri, blocking=True)")
