"""
Typed parameters between client and hypervisor (wire.md section 14).
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.hypervisor.sessions import Connection, opened
from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import RemoteError
from virnet.hypervisor.session import STRING_OKAY, IHypervisor
from virnet.programs.typedparams import Double, Int, String, TypedParams, UInt
from virnet.programs.values import Domain, DomainGetBlkioParametersRet

TEST = Domain("test", bytes.fromhex("6695eb01f6a4830479aa97f2502e193f"), 1)
BLKIO = [
    "weight",
    "device_weight",
    "device_read_iops_sec",
    "device_write_iops_sec",
    "device_read_bytes_sec",
    "device_write_bytes_sec",
]


@implementer(IHypervisor)
class Answering:
    """
    A hypervisor that has all parameters at once, however many were asked for.
    """

    def __init__(self, later: str) -> None:
        self.later = later

    def open(self, name: str, readonly: bool, client: Any) -> Answering:
        return self

    def domainGetBlkioParameters(self, dom: Domain, nparams: int, flags: int) -> Any:
        params = TypedParams({"a": Int(1), "b": String("x"), "c": Double(0.5), "d": String("y")})
        answer = DomainGetBlkioParametersRet(params, 0)
        if self.later == "deferred":
            return succeed(answer)
        return self._coroutine(answer) if self.later == "coroutine" else answer

    async def _coroutine(self, answer: DomainGetBlkioParametersRet) -> DomainGetBlkioParametersRet:
        return answer


class Queries(SynchronousTestCase):
    """
    Asking for parameters.
    """

    def fields(self, connection: Connection, nparams: int, flags: int) -> tuple[list[str], int]:
        params, available = connection.domainGetBlkioParameters(TEST, nparams, flags)
        return list(params), available

    def test_R156_asking_for_none_tells_how_many_there_are(self) -> None:
        connection = opened()
        for flags in (0, STRING_OKAY):
            self.assertEqual(self.fields(connection, 0, flags), ([], 6))
        self.assertEqual(connection.domainGetMemoryParameters(TEST, 0, 0)[1], 3)

    def test_R155_strings_go_only_to_who_takes_them(self) -> None:
        connection = opened()
        self.assertEqual(self.fields(connection, 6, 0), (["weight"], 0))
        self.assertEqual(self.fields(connection, 6, STRING_OKAY), (BLKIO, 0))

    def test_no_more_than_asked_for(self) -> None:
        connection = opened()
        self.assertEqual(self.fields(connection, 2, STRING_OKAY), (BLKIO[:2], 0))
        self.assertEqual(self.fields(connection, 2, 0), (["weight"], 0))
        self.assertEqual(self.fields(connection, 16, STRING_OKAY), (BLKIO, 0))

    def test_the_rules_hold_for_any_hypervisor_whenever_it_answers(self) -> None:
        for later in ("at once", "deferred", "coroutine"):
            connection = opened(Answering(later))
            self.assertEqual(self.fields(connection, 0, 0), ([], 4))
            self.assertEqual(self.fields(connection, 3, 0), (["a", "c"], 0))
            self.assertEqual(self.fields(connection, 4, STRING_OKAY), (["a", "b", "c", "d"], 0))

    def test_a_domain_that_is_not_there_can_be_asked_how_many(self) -> None:
        self.assertEqual(opened().domainGetBlkioParameters(Domain("x", b"\1" * 16, -1), 0, 0)[1], 6)

    def test_too_many_and_too_few_are_refused(self) -> None:
        connection = opened()
        for nparams, words in ((17, "nparams too large"), (-1, "nparams must be non-negative")):
            calls: list[tuple[Any, tuple[Any, ...]]] = [
                (connection.domainGetBlkioParameters, (TEST, nparams, 0)),
                (connection.domainGetSchedulerParameters, (TEST, nparams)),
            ]
            for call, args in calls:
                error = self.assertRaises(RemoteError, call, *args)
                self.assertEqual(
                    (error.code, error.domain, error.message),
                    (ErrorNumber.INTERNAL_ERROR, ErrorDomain.RPC, f"internal error: {words}"),
                )

    def test_the_scheduler_does_not_say_how_many(self) -> None:
        connection = opened()
        self.assertEqual(connection.domainGetSchedulerType(TEST), ("fair", 1))
        self.assertEqual(connection.domainGetSchedulerParameters(TEST, 5), TypedParams({"weight": UInt(50)}))
        error = self.assertRaises(RemoteError, connection.domainGetSchedulerParameters, TEST, 0)
        self.assertEqual(
            (error.code, error.domain, error.message, error.str1, error.str2, error.int1, error.int2),
            (
                ErrorNumber.INVALID_ARG,
                ErrorDomain.DOMAIN,
                "params in virDomainGetSchedulerParameters must not be NULL",
                "virDomainGetSchedulerParameters",
                "params",
                0,
                0,
            ),
        )

    def test_the_test_driver_takes_no_flags_for_the_scheduler(self) -> None:
        call = opened().domainGetSchedulerParametersFlags
        for flags, shown in ((0, "0x4"), (1, "0x5"), (2, "0x6")):
            error = self.assertRaises(RemoteError, call, TEST, 1, flags)
            function = "testDomainGetSchedulerParametersFlags"
            self.assertEqual(error.message, f"unsupported flags ({shown}) in function {function}")


class Changes(SynchronousTestCase):
    """
    Setting parameters.
    """

    def refused(self, params: Any) -> tuple[int, int, str]:
        error = self.assertRaises(RemoteError, opened().domainSetSchedulerParameters, TEST, params)
        return error.code, error.domain, error.message

    def test_a_weight_is_taken_and_changes_nothing(self) -> None:
        connection = opened()
        connection.domainSetSchedulerParameters(TEST, TypedParams({"weight": UInt(5)}))
        self.assertEqual(connection.domainGetSchedulerParameters(TEST, 1)["weight"], 50)

    def test_the_type_must_be_right(self) -> None:
        for value, name in ((Int(5), "int"), (String("x"), "string")):
            self.assertEqual(
                self.refused(TypedParams({"weight": value})),
                (
                    ErrorNumber.INVALID_ARG,
                    ErrorDomain.NONE,
                    f"invalid argument: invalid type '{name}' for parameter 'weight', expected 'uint'",
                ),
            )

    def test_the_name_must_be_known(self) -> None:
        self.assertEqual(
            self.refused(TypedParams({"foo": UInt(5)})),
            (
                ErrorNumber.ARGUMENT_UNSUPPORTED,
                ErrorDomain.NONE,
                "argument unsupported: parameter 'foo' not supported",
            ),
        )

    def test_the_name_must_come_once(self) -> None:
        self.assertEqual(
            self.refused(TypedParams([("weight", UInt(5)), ("weight", UInt(6))])),
            (
                ErrorNumber.INVALID_ARG,
                ErrorDomain.NONE,
                "invalid argument: parameter 'weight' occurs multiple times",
            ),
        )

    def test_the_name_must_not_be_too_long(self) -> None:
        # What came from a peer is not judged before it gets here.
        longest = opened()
        with self.assertRaises(RemoteError) as caught:
            longest.domainSetSchedulerParameters(TEST, TypedParams({"w" * 79: UInt(5)}))
        self.assertEqual(caught.exception.code, ErrorNumber.ARGUMENT_UNSUPPORTED)
        procedure = longest.session.methodFor(_procedure("domainSetSchedulerParameters"))
        entry = b"\0\0\0\x01" + b"\0\0\0\x50" + b"w" * 80 + b"\0\0\0\x02\0\0\0\x05"
        encoded = _procedure("domainSetSchedulerParameters").encodeArgs((TEST, TypedParams()))
        args = _procedure("domainSetSchedulerParameters").decodeArgs(encoded[:-4] + entry)
        error = self.assertRaises(RemoteError, procedure, *args)
        self.assertEqual(
            (error.code, error.domain, error.message),
            (
                ErrorNumber.INTERNAL_ERROR,
                ErrorDomain.NONE,
                f"internal error: parameter {'w' * 80} too big for destination",
            ),
        )


def _procedure(name: str) -> Any:
    from virnet.programs import REMOTE

    return REMOTE.byName[name]


class Lists(SynchronousTestCase):
    """
    The older lists say how many entries they take.
    """

    def test_no_more_than_asked_for(self) -> None:
        connection = opened()
        self.assertEqual(connection.connectListDomains(0), [])
        self.assertEqual(connection.connectListDomains(16384), [1])
        self.assertEqual(connection.connectListNetworks(10), ["default"])
        self.assertEqual(connection.connectListNetworks(0), [])

    def test_less_than_none_is_refused(self) -> None:
        connection = opened()
        for name, call in (
            ("maxids", connection.connectListDomains),
            ("maxnames", connection.connectListNetworks),
            ("maxnames", connection.connectListDefinedDomains),
            ("maxnames", connection.connectListStoragePools),
        ):
            error = self.assertRaises(RemoteError, call, -1)
            self.assertEqual(
                (error.code, error.domain, error.message),
                (ErrorNumber.RPC, ErrorDomain.RPC, f"{name} must be non-negative"),
            )
