"""Which permissions a call needs: the C{acl} of its procedure, with conditions judged by its arguments.

Rules:

  - A permission is C{object:permission}. One with a condition (C{object:permission:CONDITION}) is needed only
    by a call that meets it.
  - C{FLAG} is met when the flag is set, C{FLAG|FLAG} when one of them is, C{!FLAG|FLAG} when none is,
    C{:PARAMETER:VALUE} when the parameter has that value.
  - A condition on a flag that is not known here counts as met.
  - L{MORE} has the procedures of which the tables ask too little.
  - In a program whose procedures have no permissions at all each procedure is a permission of its own:
    C{THERMOSTAT:setTarget}.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from virnet.programs import constants
from virnet.programs.base import Procedure, Program

VALUES: dict[str, int] = {
    "VIR_DOMAIN_AFFECT_CONFIG": constants.DomainModificationImpact.CONFIG,
    "VIR_DOMAIN_AFFECT_LIVE": constants.DomainModificationImpact.LIVE,
    "VIR_DOMAIN_XML_SECURE": constants.DomainXMLFlags.SECURE,
    "VIR_DOMAIN_XML_MIGRATABLE": constants.DomainXMLFlags.MIGRATABLE,
    "VIR_DOMAIN_SNAPSHOT_XML_SECURE": constants.DomainSnapshotXMLFlags.SECURE,
    "VIR_DOMAIN_SNAPSHOT_CREATE_QUIESCE": constants.DomainSnapshotCreateFlags.QUIESCE,
    "VIR_DOMAIN_CHECKPOINT_XML_SECURE": constants.DomainCheckpointXMLFlags.SECURE,
    "VIR_DOMAIN_CHECKPOINT_CREATE_QUIESCE": constants.DomainCheckpointCreateFlags.QUIESCE,
    "VIR_DOMAIN_SAVE_IMAGE_XML_SECURE": constants.DomainSaveImageXMLFlags.SECURE,
    "VIR_DOMAIN_VCPU_GUEST": constants.DomainVcpuFlags.GUEST,
    "VIR_DOMAIN_REBOOT_GUEST_AGENT": constants.DomainRebootFlagValues.GUEST_AGENT,
    "VIR_DOMAIN_SHUTDOWN_GUEST_AGENT": constants.DomainShutdownFlagValues.GUEST_AGENT,
    "VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT": constants.DomainInterfaceAddressesSource.AGENT,
    "VIR_NETWORK_UPDATE_AFFECT_CONFIG": constants.NetworkUpdateFlags.CONFIG,
    "VIR_NETWORK_UPDATE_AFFECT_LIVE": constants.NetworkUpdateFlags.LIVE,
    "VIR_NODE_DEVICE_UPDATE_AFFECT_CONFIG": constants.NodeDeviceUpdateFlags.CONFIG,
    "VIR_NODE_DEVICE_UPDATE_AFFECT_LIVE": constants.NodeDeviceUpdateFlags.LIVE,
}
"""The numbers behind the names in conditions."""

MORE: dict[str, tuple[str, ...]] = {"domainSetSchedulerParameters": ("domain:write", "domain:save")}
"""Procedure to what it needs besides. libvirt's table has this one as if it only looked; its drivers ask for
what C{domainSetSchedulerParametersFlags} needs without flags."""


def meets(procedure: Procedure, condition: str, args: tuple[Any, ...]) -> bool:
    """Whether the arguments of a call meet a condition."""
    if condition.startswith(":"):
        parameter, _, value = condition[1:].partition(":")
        return value not in VALUES or bool(args[procedure.parameters.index(parameter)] == VALUES[value])
    names = condition.removeprefix("!").split("|")
    if not all(name in VALUES for name in names):
        return True
    flags = args[procedure.parameters.index("flags")]
    mask = 0
    for name in names:
        mask |= VALUES[name]
    return not flags & mask if condition.startswith("!") else bool(flags & mask)


def needed(procedure: Procedure, args: tuple[Any, ...]) -> tuple[str, ...]:
    """The permissions that a call needs, each once: C{object:permission}.

    @return: none: the call is everybody's.
    """
    if not procedure.acl and isOwn(procedure.program):
        return (f"{procedure.program.name}:{procedure.name}",)
    found: dict[str, None] = {}
    for each in procedure.acl:
        kind, permission, *condition = each.split(":", 2)
        if not condition or meets(procedure, condition[0], args):
            found[f"{kind}:{permission}"] = None
    found.update(dict.fromkeys(MORE.get(procedure.name, ())))
    return tuple(found)


def looks(permission: str) -> bool:
    """Whether a permission, without its object, is good for looking alone."""
    return permission in ("getattr", "read") or permission.startswith("search_")


def isOwn(program: Program[Any, Any]) -> bool:
    """Whether a program has no permissions in its tables, so that its procedures stand for themselves."""
    return not any(procedure.acl for procedure in program.procedures.values())


def vocabulary(programs: Iterable[Program[Any, Any]]) -> dict[str, set[str]]:
    """The permissions of programs: those of each kind of object."""
    words: dict[str, set[str]] = {}
    for program in programs:
        own = isOwn(program)
        for procedure in program.procedures.values():
            if own:
                words.setdefault(program.name, set()).add(procedure.name)
            for each in (*procedure.acl, *procedure.aclFilter):
                kind, permission = each.split(":", 2)[:2]
                words.setdefault(kind, set()).add(permission)
    return words
