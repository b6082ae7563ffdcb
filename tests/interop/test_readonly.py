"""
Every procedure of REMOTE on a read-only connection, called with the least there is to say: what libvirtd
refuses our daemon refuses in the same words, and little besides.
"""

from __future__ import annotations

from inspect import isawaitable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from tests.interop.support import LibvirtDaemon, VirnetDaemon, requireTool
from virnet.client import connect
from virnet.client.stream import ClientStream
from virnet.errorcodes import ErrorNumber
from virnet.errors import RemoteError
from virnet.programs import REMOTE
from virnet.xdr import schema

#: libvirtd has something against the arguments first, or against there being none.
ARGUMENTS_FIRST = {
    "connectBaselineHypervisorCPU",
    "domainFDAssociate",
    "domainOpenGraphics",
    "domainRename",
    "domainSendProcessSignal",
    "domainSetLaunchSecurityState",
}

#: Needs C{connect:write}, which libvirtd's API forgets: whoever may only look could be somebody else.
STRICTER = {"connectSetIdentity"}

#: They make or end what the others are called on.
LEFT_OUT = {"connectOpen", "connectClose"}

Outcome = tuple[int, int, str] | None


def least(node: Any) -> Any:
    """The smallest value of a type that is not nothing."""
    match node:
        case schema.Struct():
            return tuple(least(each) for _, each in node.fields)
        case schema.Mapped():
            return node.load(least(node.node))
        case schema.Ref():
            return least(node.thunk())
        case schema.String():
            return "x"
        case schema.Opaque():
            return b"x"
        case schema.FixedOpaque():
            return bytes(node.size)
        case schema.FixedArray():
            return [least(node.item)] * node.size
        case schema.Array():
            return []
        case schema.Optional() | schema.Void():
            return None
    return 0


class ReadOnlyTests(TestCase):
    """
    libvirtd's verdicts and ours.
    """

    timeout = 100

    async def outcomes(self, uri: str) -> dict[str, Outcome]:
        """Procedure to what becomes of a call: C{None} where it works, or gives a stream."""
        found: dict[str, Outcome] = {}
        async with await connect(reactor, uri, readonly=True) as connection:
            for procedure in REMOTE.procedures.values():
                if procedure.name in LEFT_OUT or procedure.name.startswith("auth"):
                    continue
                args = [least(node) for _, node in procedure.args]
                try:
                    answer = getattr(connection.remote, procedure.name)(*args)
                    if isawaitable(answer) or isinstance(answer, Deferred):
                        answer = await answer
                    if isinstance(answer, ClientStream):
                        answer.abort()
                    found[procedure.name] = None
                except RemoteError as e:
                    found[procedure.name] = int(e.code), int(e.domain), e.message
        return found

    async def test_every_procedure(self) -> None:
        requireTool(self, "libvirtd")
        with LibvirtDaemon() as libvirtd, VirnetDaemon(None) as daemon:
            assert isinstance(libvirtd, LibvirtDaemon)
            theirs = await self.outcomes(f"test+unix:///default?socket={libvirtd.readonlyPath}")
            ours = await self.outcomes(daemon.uri)
        denied = {
            name for name, outcome in theirs.items() if outcome and outcome[0] == ErrorNumber.OPERATION_DENIED
        }
        self.assertGreater(len(denied), 180)
        self.assertEqual({name: ours[name] for name in denied}, {name: theirs[name] for name in denied})
        more = {
            name for name, outcome in ours.items() if outcome and outcome[0] == ErrorNumber.OPERATION_DENIED
        }
        unknown = {
            name for name, outcome in theirs.items() if outcome and outcome[2].startswith("unknown procedure")
        }
        self.assertEqual(more - denied - unknown, ARGUMENTS_FIRST | STRICTER)
