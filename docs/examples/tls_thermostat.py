"""
A house and a panel that trust nobody else: C{python tls_thermostat.py DIRECTORY_WITH_CERTIFICATES}.
"""

from __future__ import annotations

import sys
from typing import Any

from thermostat import THERMOSTAT
from thermostat_server import House, Panel
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString
from twisted.internet.task import react

from virnet.client import NetClient
from virnet.security.tlscontext import TLSContext
from virnet.server import IServerClient, NetServer, ServerProgram, ServerService


async def main(reactor: Any, pki: str) -> None:
    house = House()

    def panel(client: IServerClient) -> Panel:
        print("a panel of", client.identity.x509dname)
        return Panel(house, client)

    server = NetServer(reactor, [ServerProgram(THERMOSTAT, panel)])
    context = TLSContext.forServer(pkipath=pki, allowedDNs=["CN=alice"])
    service = ServerService(server, "tcp:0:interface=127.0.0.1", tls=context)
    server.startService()
    address: Any = (await service.whenListening()).getHost()

    endpoint = clientFromString(reactor, f"libvirt-tls:localhost:port={address.port}:pkipath={pki}")
    client = await NetClient.overEndpoint(endpoint)
    print("the study is to have", await client.program(THERMOSTAT).target("study"), "°C")

    context.reload()  # for the panels to come
    print("and the kitchen", await client.program(THERMOSTAT).target("kitchen"), "°C")
    await client.close()
    await server.stopService()


if __name__ == "__main__":
    react(lambda reactor, pki: Deferred.fromCoroutine(main(reactor, pki)), sys.argv[1:])
