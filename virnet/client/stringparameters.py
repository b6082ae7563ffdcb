"""Queries of typed parameters that ask for those that are strings too.

A server leaves such parameters out unless the flags of the query say that the caller takes them (C:
C{VIR_TYPED_PARAM_STRING_OKAY}), and takes that flag only if it knows feature 9. Callers need not care: on an
open L{Connection<virnet.client.connection.Connection>} the flag is added as libvirt's own client adds it.
"""

from __future__ import annotations

from typing import Any

from virnet.programs import REMOTE
from virnet.programs.base import Procedure
from virnet.programs.constants import TypedParameterFlags


def _isQuery(procedure: Procedure) -> bool:
    named = procedure.parameters
    return ("nparams" in named and "flags" in named) or procedure.name == "domainGetLaunchSecurityInfo"


_FLAGS = {
    procedure: procedure.parameters.index("flags")
    for procedure in REMOTE.procedures.values()
    if _isQuery(procedure)
}
"""Where the flags are among the arguments of the queries."""


def askForStrings(procedure: Procedure, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments of a call, with the flag added where it is a query of parameters."""
    position = _FLAGS.get(procedure)
    if position is None or position >= len(args) or not isinstance(args[position], int):
        # What is wrong with them is said by who encodes them.
        return args
    flags = args[position] | TypedParameterFlags.STRING_OKAY.value
    return (*args[:position], flags, *args[position + 1 :])
