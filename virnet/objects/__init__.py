"""libvirt's objects: C{await connection.domains()}, C{await domain.start()}, C{await volume.upload(…)}.

A thin layer over the programs: each method is one procedure, named by rule, and its docstring says which C
function it is. See L{virnet.objects.generate} for the rules.
"""

from virnet.objects.events import Event, Events, Gap, Overflow
from virnet.objects.kinds import (
    Domain,
    DomainCheckpoint,
    DomainSnapshot,
    Host,
    HostInterface,
    Network,
    NetworkPort,
    NodeDevice,
    NWFilter,
    NWFilterBinding,
    Secret,
    StoragePool,
    StorageVol,
)

__all__ = [
    "Domain",
    "DomainCheckpoint",
    "DomainSnapshot",
    "Event",
    "Events",
    "Gap",
    "Host",
    "HostInterface",
    "NWFilter",
    "NWFilterBinding",
    "Network",
    "NetworkPort",
    "NodeDevice",
    "Overflow",
    "Secret",
    "StoragePool",
    "StorageVol",
]
