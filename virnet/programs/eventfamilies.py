"""Which messages carry which events, by family: what an interface cannot say (``wire.md`` section 13)."""

from __future__ import annotations

from typing import NamedTuple

# Event id: (number of the message without callback id, or None; number of the one with it).
DOMAIN_EVENTS: dict[int, tuple[int | None, int]] = {
    0: (107, 318),
    1: (169, 319),
    2: (170, 320),
    3: (171, 321),
    4: (172, 322),
    5: (173, 323),
    6: (195, 324),
    7: (224, 325),
    8: (241, 326),
    9: (248, 327),
    10: (268, 328),
    11: (269, 329),
    12: (270, 330),
    13: (276, 331),
    14: (292, 332),
    15: (311, 333),
    16: (None, 339),
    17: (None, 346),
    18: (None, 348),
    19: (None, 354),
    20: (None, 359),
    21: (None, 363),
    22: (None, 367),
    23: (None, 379),
    24: (None, 385),
    25: (None, 423),
    26: (None, 438),
    27: (None, 453),
}
NETWORK_EVENTS: dict[int, tuple[int | None, int]] = {0: (None, 315), 1: (None, 446)}
STORAGE_POOL_EVENTS: dict[int, tuple[int | None, int]] = {0: (None, 370), 1: (None, 373)}
NODE_DEVICE_EVENTS: dict[int, tuple[int | None, int]] = {0: (None, 376), 1: (None, 377)}
SECRET_EVENTS: dict[int, tuple[int | None, int]] = {0: (None, 382), 1: (None, 383)}


class Family(NamedTuple):
    """The procedures of one family of events, by number.

    @ivar registry: the attribute of a connection that takes subscriptions.
    @ivar ids: the name of the enum of its events in L{virnet.programs.constants}, which takes a while to
        load.
    @ivar register: registers with a callback id.
    @ivar deregister: its opposite.
    @ivar events: event id to the messages that carry it.
    @ivar plain: the pair that registers without callback id, where there is one.
    """

    name: str
    registry: str
    ids: str
    register: int
    deregister: int
    events: dict[int, tuple[int | None, int]]
    plain: tuple[int, int] | None = None


DOMAIN = Family("domain", "domainEvents", "DomainEventID", 316, 317, DOMAIN_EVENTS, (167, 168))
NETWORK = Family("network", "networkEvents", "NetworkEventID", 313, 314, NETWORK_EVENTS)
STORAGE_POOL = Family(
    "storage pool", "storagePoolEvents", "StoragePoolEventID", 368, 369, STORAGE_POOL_EVENTS
)
NODE_DEVICE = Family("node device", "nodeDeviceEvents", "NodeDeviceEventID", 374, 375, NODE_DEVICE_EVENTS)
SECRET = Family("secret", "secretEvents", "SecretEventID", 380, 381, SECRET_EVENTS)

FAMILIES = (DOMAIN, NETWORK, STORAGE_POOL, NODE_DEVICE, SECRET)
