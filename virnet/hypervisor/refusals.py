"""What a connection may not do, and which C function says so.

Rules:

  - On a read-only connection a procedure is refused if it needs, whatever its arguments, a permission that is
    more than looking: anything but C{getattr}, C{read} and C{search_…}. The permissions are the C{acl} of the
    program's table; libvirt itself decides function by function, L{CHANGES} and L{LOOKS} are where it
    differs.
  - A permission with a condition (C{object:permission:FLAG}) refuses only a call that meets it.
  - A procedure that the hypervisor does not provide answers C{NO_SUPPORT}.
  - Errors name the function of libvirt's API and the part of libvirt it belongs to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import RemoteError
from virnet.programs.base import Procedure
from virnet.security.permissions import looks, meets

Method = Callable[..., Any]

#: Procedures that only need to look by their permissions but that libvirt refuses; the first one does change.
CHANGES = frozenset(
    "domainSetSchedulerParameters nodeGetSEVInfo domainGetLaunchSecurityInfo nodeDeviceGetAutostart".split()
)
#: Procedures that need more by their permissions but only look.
LOOKS = frozenset({"domainMigrateGetCompressionCache", "domainMigrateGetMaxDowntime"})

#: Part of a method's name -> who reports its errors; the first that fits.
_REPORTERS = (
    ("NWFilter", ErrorDomain.NWFILTER),
    ("Checkpoint", ErrorDomain.DOMAIN_CHECKPOINT),
    ("Snapshot", ErrorDomain.DOMAIN_SNAPSHOT),
    ("virDomain", ErrorDomain.DOMAIN),
    ("Secret", ErrorDomain.SECRET),
    ("NodeDevice", ErrorDomain.NODEDEV),
    ("NumOfDevices", ErrorDomain.NODEDEV),
    ("ListDevices", ErrorDomain.NODEDEV),
    ("Storage", ErrorDomain.STORAGE),
    ("Interface", ErrorDomain.INTERFACE),
    ("Network", ErrorDomain.NETWORK),
)


def functionName(procedure: Procedure) -> str:
    """The function of libvirt's API that a procedure calls."""
    name = procedure.name
    if name.startswith("nwfilter"):
        return "virNWFilter" + name.removeprefix("nwfilter")
    # Only on the wire do events with ids have procedures of their own.
    name = name.replace("DomainEventCallback", "DomainEvent")
    return f"vir{name[:1].upper()}{name[1:]}"


def reporter(procedure: Procedure) -> ErrorDomain:
    """The part of libvirt that a procedure's function is in."""
    function = functionName(procedure)
    return next((domain for part, domain in _REPORTERS if part in function), ErrorDomain.DOMAIN)


def notSupported(procedure: Procedure) -> RemoteError:
    """What a procedure answers that the hypervisor does not have."""
    return RemoteError.of(ErrorNumber.NO_SUPPORT, functionName(procedure), reporter(procedure))


def onlyLooking(procedure: Procedure, method: Method) -> Method:
    """Restrict a method to what a read-only connection may do.

    @return: the method, or one that judges the arguments first.
    @raise RemoteError: the procedure is refused whatever its arguments are.
    """
    needed = [permission.split(":", 2) for permission in procedure.acl]
    if procedure.name in CHANGES or (
        procedure.name not in LOOKS and any(len(each) == 2 and not looks(each[1]) for each in needed)
    ):
        raise _denied(procedure, f"read only access prevents {functionName(procedure)}")
    conditional = [each for each in needed if len(each) == 3 and not looks(each[1])]
    if not conditional:
        return method

    def judged(*args: Any) -> Any:
        for _, permission, condition in conditional:
            if meets(procedure, condition, args):
                if permission == "read_secure":
                    raise _denied(procedure, f"{functionName(procedure)} with secure flag")
                raise _denied(procedure, f"read only access prevents {functionName(procedure)}")
        return method(*args)

    return judged


def _denied(procedure: Procedure, detail: str) -> RemoteError:
    return RemoteError.of(ErrorNumber.OPERATION_DENIED, detail, reporter(procedure))
