"""Facts about libvirt's programs that the C{.x} language cannot say. One line and one reason each.

The generator and L{Program.fromIDL<virnet.programs.base.Program.fromIDL>} take them from here, by program
number, so that a newer upstream file gets them too. This module imports nothing of virnet: the
generator reads it as a file before the generated modules exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

REMOTE: Final = 0x20008086
QEMU: Final = 0x20008087
LXC: Final = 0x00068000
ADMIN: Final = 0x06900690
KEEPALIVE: Final = 0x6B656570

Key = tuple[int, int]
"""(program, procedure number)"""


class Overrides(NamedTuple):
    """What the generator is told beside the C{.x} text. Without any of it, only the text counts."""

    words: Mapping[str, str] = {}
    """How a word of a lower-case name is spelt inside a mixed-case one."""
    methods: Mapping[Key, str] = {}
    """Method names that the words do not give."""
    methodPrefixes: Mapping[int, str] = {}
    """What every method of a program begins with."""
    streams: Mapping[Key, Literal["read", "write", "duplex"]] = {}
    """Streams that the annotations do not say, or say too little about."""
    descriptors: Mapping[Key, Literal["call", "reply"]] = {}
    """Procedures whose call or reply carries file descriptors."""
    events: frozenset[Key] = frozenset()
    """Messages that have no C{_msg} structure to be known by."""
    classes: Mapping[str, str] = {}
    """Names of value classes that the words do not give."""
    classPrefixes: tuple[str, ...] = ()
    """Prefixes of structure names that say nothing in Python."""
    families: Mapping[int, tuple[tuple[str, tuple[str, ...]], ...]] = {}
    """Program -> (interface, name parts): a procedure belongs to the first that has a part of its name."""
    cNames: frozenset[int] = frozenset()
    """Programs whose methods are C functions with C{vir} in front."""
    memberPrefixes: Mapping[str, tuple[str, ...]] = {}
    """Prefixes of enum members where the common one is not meant."""
    flags: frozenset[str] = frozenset()
    """Enums that are bit sets although neither name nor values say so."""


WORDS: Final = {
    # Spelt as in the names of libvirt's public functions; every other word only gets a capital.
    "cpu": "CPU",
    "dhcp": "DHCP",
    "fd": "FD",
    "fsfreeze": "FSFreeze",
    "fsinfo": "FSInfo",
    "fsthaw": "FSThaw",
    "fstrim": "FSTrim",
    "id": "ID",
    "io": "IO",
    "iothread": "IOThread",
    "ip": "IP",
    "mac": "MAC",
    "nic": "NIC",
    "nmi": "NMI",
    "nwfilter": "NWFilter",
    "nwfilters": "NWFilters",
    "os": "OS",
    "pm": "PM",
    "pmsuspend": "PMSuspend",
    "pmwakeup": "PMWakeup",
    "rtc": "RTC",
    "sasl": "SASL",
    "scsi": "SCSI",
    "sev": "SEV",
    "ssh": "SSH",
    "threadpool": "ThreadPool",
    "uri": "URI",
    "uuid": "UUID",
    "wwn": "WWN",
    "xml": "XML",
}

METHODS: Final = {
    (REMOTE, 252): "domainSetBlockIoTune",  # C spells Io here, and IO everywhere else
    (REMOTE, 253): "domainGetBlockIoTune",  # the same
    (QEMU, 1): "domainQemuMonitorCommand",  # the public function names the hypervisor, the procedure does not
    (QEMU, 2): "domainQemuAttach",  # the same
    (QEMU, 3): "domainQemuAgentCommand",  # the same
    (QEMU, 4): "connectDomainQemuMonitorEventRegister",  # the same
    (QEMU, 5): "connectDomainQemuMonitorEventDeregister",  # the same
    (QEMU, 6): "domainQemuMonitorEvent",  # the same
    (QEMU, 7): "domainQemuMonitorCommandWithFiles",  # the same
    (LXC, 1): "domainLxcOpenNamespace",  # the same
}

METHOD_PREFIXES: Final = {
    ADMIN: "adm",  # C: virAdmConnectOpen beside virConnectOpen
}

STREAMS: Final[Mapping[Key, Literal["read", "write", "duplex"]]] = {
    (REMOTE, 201): "duplex",  # a console is typed into as well; the annotation only knows one direction
    (REMOTE, 296): "duplex",  # so is a channel
    (REMOTE, 304): "write",  # tunnelled migration data; upstream handles it by hand, without annotation
}

DESCRIPTORS: Final[Mapping[Key, Literal["call", "reply"]]] = {
    (REMOTE, 249): "call",  # domainOpenGraphics: the socket to attach to the display
    (REMOTE, 309): "call",  # domainCreateXMLWithFiles: files for the guest's init
    (REMOTE, 310): "call",  # domainCreateWithFiles: the same
    (REMOTE, 343): "reply",  # domainOpenGraphicsFD: a socket connected to the display
    (REMOTE, 443): "call",  # domainFDAssociate: files that stand for disk images
    (QEMU, 7): "call",  # domainQemuMonitorCommandWithFiles: descriptors for the monitor
    (LXC, 1): "reply",  # domainLxcOpenNamespace: the namespaces
}

EVENTS: Final = frozenset(
    {
        (KEEPALIVE, 1),  # ping: a message without a body
        (KEEPALIVE, 2),  # pong: the same
    }
)

CLASSES: Final = {
    "remote_nonnull_interface": "HostInterface",  # Interface would read as zope's
    "remote_error": "ErrorValue",  # Error would read as an exception
    "admin_nonnull_server": "AdminServer",  # nullability is in the type
    "admin_nonnull_client": "AdminClient",  # the same
}

CLASS_PREFIXES: Final = (
    "remote_nonnull_",  # the main program's names are the plain ones; nullability is in the type
    "remote_",
    "vir",  # C's name space
)

# The parts of the main program. The first row that fits counts, so the narrow ones stand first.
FAMILIES: Final = {
    REMOTE: (
        ("IAuth", ("auth_",)),
        (
            "IEventRegistration",
            ("event_register", "event_deregister", "event_callback_register", "event_callback_deregister"),
        ),
        ("IConnect", ("close_callback",)),
        ("IDomainSnapshot", ("snapshot",)),
        ("IDomainCheckpoint", ("checkpoint",)),
        ("IDomainMigration", ("migrate",)),
        ("IDomainBlock", ("domain_block", "domain_get_block", "domain_set_block", "throttle_group")),
        ("INWFilterBinding", ("nwfilter_binding",)),
        ("INWFilter", ("nwfilter",)),
        ("INetworkPort", ("network_port", "network_list_all_ports")),
        ("INodeDevice", ("node_device", "node_num_of_devices", "node_list_devices")),
        ("IStorageVol", ("storage_vol",)),
        ("IStoragePool", ("storage_pool",)),
        ("IDomain", ("domain",)),
        ("INetwork", ("network",)),
        ("IHostInterface", ("interface",)),
        ("ISecret", ("secret",)),
        ("INode", ("node_",)),
        ("IConnect", ("connect_",)),
    ),
}

C_NAMES: Final = frozenset({REMOTE, QEMU, LXC, ADMIN})

MEMBER_PREFIXES: Final = {
    "virErrorNumber": ("VIR_ERR_", "VIR_"),  # VIR_WAR_NO_NETWORK and VIR_ERR_NO_NETWORK are two codes
    "virErrorLevel": ("VIR_ERR_",),
}

FLAGS: Final = frozenset(
    {
        "virDomainModificationImpact",  # 0, 1, 2, meant to be or-ed
    }
)

OVERRIDES: Final = Overrides(
    words=WORDS,
    methods=METHODS,
    methodPrefixes=METHOD_PREFIXES,
    streams=STREAMS,
    descriptors=DESCRIPTORS,
    events=EVENTS,
    classes=CLASSES,
    classPrefixes=CLASS_PREFIXES,
    families=FAMILIES,
    cNames=C_NAMES,
    memberPrefixes=MEMBER_PREFIXES,
    flags=FLAGS,
)
