"""
Lists the domains of hosts, asking all of them at once: C{python list_domains.py URI...}.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet.defer import Deferred, TimeoutError, gatherResults
from twisted.internet.task import react

import virnet
from virnet.errors import VirnetError
from virnet.programs.constants import DomainState


async def domains(reactor: Any, uri: str) -> list[str]:
    """A line for each domain of a host."""
    async with await virnet.connect(reactor, uri, readonly=True) as host:
        found = await host.domains()
        states = await gatherResults([domain.state() for domain in found])
        return [
            f"{domain.name} ({DomainState(state).name})" for domain, state in zip(found, states, strict=True)
        ]


async def main(reactor: Any, *uris: str) -> None:
    asked = [Deferred.fromCoroutine(domains(reactor, uri)).addTimeout(5, reactor) for uri in uris]
    for uri, answer in zip(uris, asked, strict=True):
        try:
            lines = await answer
        except (VirnetError, TimeoutError) as error:
            lines = [str(error)]
        print(uri, *lines, sep="\n  ")


if __name__ == "__main__":
    react(main, sys.argv[1:])
