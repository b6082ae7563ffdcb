"""The snapshots of one domain: a forest by name, and which one is current.

Rules:

  - A new snapshot is below the current one and becomes current.
  - What is below a snapshot that goes moves up to the one above it, unless it goes too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element

from virnet.programs.constants import DomainState

if TYPE_CHECKING:
    from virnet.hypervisor.memory.domainxml import DomainDefinition


@dataclass
class Snapshot:
    """One snapshot.

    @ivar state: what the domain did.
    @ivar created: seconds since the epoch.
    @ivar parent: the name of the one above; C{None} for a root.
    @ivar definition: what the domain was.
    @ivar disks: the C{disks} element.
    """

    name: str
    description: str | None
    state: DomainState
    created: int
    parent: str | None
    definition: DomainDefinition
    disks: Element

    @property
    def running(self) -> bool:
        """Whether the domain ran, be it paused."""
        return self.state in (DomainState.RUNNING, DomainState.PAUSED)


class SnapshotTree:
    """All snapshots of one domain.

    @ivar current: the name of the current one; C{None} for none.
    """

    def __init__(self) -> None:
        self._byName: dict[str, Snapshot] = {}
        self.current: str | None = None

    def __len__(self) -> int:
        return len(self._byName)

    def __iter__(self) -> Iterator[Snapshot]:
        return iter(list(self._byName.values()))

    def get(self, name: str) -> Snapshot | None:
        """Find by name."""
        return self._byName.get(name)

    def add(self, made: Snapshot) -> None:
        """Take a snapshot in and make it current."""
        self._byName[made.name] = made
        self.current = made.name

    def children(self, name: str | None) -> list[Snapshot]:
        """Those right below one; of C{None} the roots."""
        return [each for each in self._byName.values() if each.parent == name]

    def descendants(self, name: str | None) -> list[Snapshot]:
        """All below one, each after the one above it; of C{None} all there are."""
        below: dict[str | None, list[Snapshot]] = {}
        for each in self._byName.values():
            below.setdefault(each.parent, []).append(each)
        found, waiting = [], list(reversed(below.get(name, [])))
        while waiting:
            each = waiting.pop()
            found.append(each)
            waiting += reversed(below.get(each.name, []))
        return found

    def delete(self, name: str) -> None:
        """Let one go; those below move up."""
        gone = self._byName.pop(name)
        for each in self.children(name):
            each.parent = gone.parent
        if self.current == name:
            self.current = gone.parent

    def deleteDescendants(self, name: str) -> None:
        """Let all below one go; if the current one was among them, this one is it now."""
        for each in self.descendants(name):
            del self._byName[each.name]
            if self.current == each.name:
                self.current = name
