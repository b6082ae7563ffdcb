"""libvirt's programs: their interfaces, types and tables.

C{REMOTE}, C{QEMU}, C{LXC}, C{ADMIN}, C{KEEPALIVE} and C{LOCK} are
L{Program<virnet.programs.base.Program>}s; the interfaces (C{IRemote} and its parts like C{IDomain},
C{IRemoteEvents}, C{IQemu}, …) are here as well. The values that methods take and return are in
L{virnet.programs.values} and L{virnet.programs.typedparams}, libvirt's enums and macros in
L{virnet.programs.constants}.

A program is built when its name is first looked up, as building all takes longer than most users need any.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from virnet.programs.base import IMethodSource, Priority, Procedure, Program, blocking, partialImplementer

if TYPE_CHECKING:
    from virnet.programs._interfaces.admin import *  # noqa: F403
    from virnet.programs._interfaces.keepalive import *  # noqa: F403
    from virnet.programs._interfaces.lock import *  # noqa: F403
    from virnet.programs._interfaces.lxc import *  # noqa: F403
    from virnet.programs._interfaces.qemu import *  # noqa: F403
    from virnet.programs._interfaces.remote import *  # noqa: F403
    from virnet.programs._tables.admin import ADMIN as ADMIN
    from virnet.programs._tables.keepalive import KEEPALIVE as KEEPALIVE
    from virnet.programs._tables.lock import LOCK as LOCK
    from virnet.programs._tables.lxc import LXC as LXC
    from virnet.programs._tables.qemu import QEMU as QEMU
    from virnet.programs._tables.remote import REMOTE as REMOTE
else:

    def __getattr__(name: str) -> Any:
        if name.lower() in _PROGRAMS and name.isupper():
            found = getattr(import_module(f"virnet.programs._tables.{name.lower()}"), name)
        else:
            found = _interface(name)
        globals()[name] = found
        return found


_PROGRAMS = ("keepalive", "lock", "lxc", "qemu", "admin", "remote")


def _interface(name: str) -> Any:
    if name.startswith("I") and name[1:2].isupper():
        for program in _PROGRAMS:
            module = import_module(f"virnet.programs._interfaces.{program}")
            if name in vars(module) and name != "Interface":
                return vars(module)[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["IMethodSource", "Priority", "Procedure", "Program", "blocking", "partialImplementer"]
