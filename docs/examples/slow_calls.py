"""
Tells how long each call of a program took: C{python slow_calls.py URI}.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet.task import react

from virnet import connect
from virnet.probes import Probe, subscribe
from virnet.programs import REMOTE


async def main(reactor: Any, uri: str) -> None:
    asked: dict[tuple[object, int], float] = {}

    def heard(probe: Probe, values: tuple[Any, ...]) -> None:
        fields = dict(zip(probe.fields, values, strict=True))
        call = (fields["client"], fields["serial"])
        if probe.name == "rpc_client_msg_tx_queue":
            asked[call] = reactor.seconds()
        elif call in asked:
            took = (reactor.seconds() - asked.pop(call)) * 1000
            print(f"{REMOTE.procedures[fields['proc']].name}: {took:.1f} ms")

    stop = subscribe("rpc_client_msg_*", heard)
    async with await connect(reactor, uri) as connection:
        await connection.remote.connectGetHostname()
        stop()


if __name__ == "__main__":
    react(main, sys.argv[1:])
