"""
What a session decides itself: opening, features, read-only, what is not there (wire.md 3.3, 3.4).
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.hypervisor.sessions import NOT_OPEN, Connection, memory, opened
from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import RemoteError
from virnet.hypervisor.session import IHypervisor, sessionsOf
from virnet.programs import REMOTE
from virnet.programs.constants import ConnectCloseReason
from virnet.programs.values import Domain

LEASES: tuple[Any, ...] = (("default", b"\0" * 16), None, 0, 0)
TEST = Domain("test", bytes.fromhex("6695eb01f6a4830479aa97f2502e193f"), 1)


class SessionTestCase(SynchronousTestCase):
    """
    Checks errors field by field.
    """

    def assertRefused(self, code: int, domain: int, message: str, call: Any, *args: Any) -> RemoteError:
        error: RemoteError = self.assertRaises(RemoteError, call, *args)
        self.assertEqual((error.code, error.domain, error.message), (code, domain, message))
        return error

    def assertNotOpen(self, call: Any, *args: Any) -> None:
        error = self.assertRefused(ErrorNumber.INTERNAL_ERROR, ErrorDomain.RPC, NOT_OPEN, call, *args)
        self.assertEqual((error.str1, error.str2), ("internal error: %s", "hypervisor connection not open"))


@implementer(IHypervisor)
class Slow:
    """
    A hypervisor that opens when it is told to.
    """

    def __init__(self) -> None:
        self.opening: Deferred[Any] = Deferred()
        self.asked: list[tuple[str, bool]] = []

    def open(self, name: str, readonly: bool, client: Any) -> Deferred[Any]:
        self.asked.append((name, readonly))
        return self.opening


class Opening(SessionTestCase):
    """
    CONNECT_OPEN (wire.md 3.4).
    """

    def test_R050_a_call_before_the_open_is_refused_and_the_connection_stays(self) -> None:
        connection = Connection(memory())
        self.assertNotOpen(connection.connectGetHostname)
        self.assertNotOpen(connection.domainLookupByName, "test")
        self.assertNotOpen(connection.connectIsSecure)
        self.assertNotOpen(connection.connectRegisterCloseCallback)
        self.assertNotOpen(connection.connectDomainEventRegister)
        connection.connectOpen("test:///default", 0)
        self.assertEqual(connection.connectGetHostname(), "host.example")

    def test_R048_a_second_open_is_refused_and_the_first_keeps_working(self) -> None:
        connection = opened()
        self.assertRefused(
            ErrorNumber.INTERNAL_ERROR,
            ErrorDomain.RPC,
            "internal error: connection already open",
            connection.connectOpen,
            "test:///default",
            1,
        )
        self.assertEqual(connection.connectGetHostname(), "host.example")
        connection.domainSuspend(TEST)

    def test_R049_a_failed_open_can_be_tried_again(self) -> None:
        connection = Connection(memory())
        message = "no connection driver available for foo:///bar"
        self.assertRefused(
            ErrorNumber.NO_CONNECT, ErrorDomain.NONE, message, connection.connectOpen, "foo:///bar", 1
        )
        self.assertNotOpen(connection.connectGetURI)
        connection.connectOpen("test:///default", 0)
        self.assertEqual(connection.connectGetURI(), "test:///default")
        self.assertFalse(connection.session.readonly)

    def test_an_empty_name_leaves_the_choice_to_the_server(self) -> None:
        connection = Connection(memory())
        connection.connectOpen("", 0)
        self.assertEqual(connection.connectGetURI(), "test:///default")

    def test_no_name_is_refused(self) -> None:
        message = "internal error: connection not open"
        connection = Connection(memory())
        self.assertRefused(
            ErrorNumber.INTERNAL_ERROR, ErrorDomain.RPC, message, connection.connectOpen, None, 0
        )
        connection.connectOpen("test:///default", 0)

    def test_only_the_lowest_flag_means_something(self) -> None:
        for flags, readonly in ((0, False), (1, True), (6, False), (0xFE, False), (0xFF, True)):
            self.assertEqual(opened(flags=flags).session.readonly, readonly, flags)

    def test_a_read_only_socket_makes_every_connection_read_only(self) -> None:
        self.assertTrue(opened(flags=0, readonly=True).session.readonly)

    def test_the_client_is_told_that_it_asked_for_read_only(self) -> None:
        self.assertTrue(opened(flags=1).client.readonly)

    def test_a_hypervisor_may_take_its_time(self) -> None:
        hypervisor = Slow()
        connection = Connection(hypervisor)
        opening = connection.session.connectOpen("a:///b", 1)
        self.assertEqual(hypervisor.asked, [("a:///b", True)])
        self.assertNoResult(opening)
        self.assertNotOpen(connection.connectGetHostname)
        self.assertRefused(
            ErrorNumber.INTERNAL_ERROR,
            ErrorDomain.RPC,
            "internal error: connection already open",
            connection.connectOpen,
            "a:///b",
            0,
        )
        hypervisor.opening.callback(memory().open("", True, None))
        self.assertIsNone(self.successResultOf(opening))
        self.assertEqual(connection.connectGetHostname(), "host.example")

    def test_one_provider_needs_no_tuple(self) -> None:
        hypervisor = Slow()
        hypervisor.opening.callback(memory().open("", False, None)[0])
        self.assertEqual(opened(hypervisor).connectGetType(), "TEST")

    def test_sessions_of_a_hypervisor_share_it(self) -> None:
        hypervisor = memory()
        one, other = opened(hypervisor), opened(hypervisor)
        one.domainSuspend(TEST)
        self.assertEqual(other.domainGetState(TEST, 0), (3, 1))

    def test_the_factory_makes_a_session_for_each_connection(self) -> None:
        factory = sessionsOf(memory())
        client = Connection(memory()).client
        self.assertIsNot(factory(client), factory(client))


class Closing(SessionTestCase):
    """
    CONNECT_CLOSE (wire.md 3.4, 3.6).
    """

    def test_close_before_open_is_legal(self) -> None:
        connection = Connection(memory())
        self.assertIsNone(connection.connectClose())
        self.assertTrue(connection.client.closing)

    def test_close_ends_the_connection_after_its_reply(self) -> None:
        connection = opened()
        self.assertFalse(connection.client.closing)
        connection.connectClose()
        self.assertTrue(connection.client.closing)

    def test_the_close_callback_is_told_why(self) -> None:
        connection = opened()
        connection.session.hypervisorClosed(ConnectCloseReason.EOF)
        connection.connectRegisterCloseCallback()
        connection.session.hypervisorClosed(ConnectCloseReason.EOF)
        connection.connectUnregisterCloseCallback()
        connection.session.hypervisorClosed(ConnectCloseReason.EOF)
        self.assertEqual(connection.sent, [("connectEventConnectionClosed", 1)])


class Features(SessionTestCase):
    """
    CONNECT_SUPPORTS_FEATURE (wire.md 3.3).
    """

    def test_features_of_an_open_connection(self) -> None:
        connection = opened()
        there = [feature for feature in range(25) if connection.connectSupportsFeature(feature)]
        self.assertEqual(there, [8, 9, 10, 14, 15, 16])

    def test_before_the_open_only_keepalive_may_be_asked_for(self) -> None:
        connection = Connection(memory())
        self.assertEqual(connection.connectSupportsFeature(10), 1)
        for feature in (0, 2, 8, 9, 14, 15, 16, 99):
            self.assertNotOpen(connection.connectSupportsFeature, feature)

    def test_a_driver_says_itself_what_it_can(self) -> None:
        class Driver:
            def connectSupportsFeature(self, feature: int) -> int:
                return int(feature in (3, 14))

        hypervisor = Slow()
        hypervisor.opening.callback(Driver())
        connection = opened(hypervisor)
        there = [feature for feature in range(25) if connection.connectSupportsFeature(feature)]
        self.assertEqual(there, [3, 8, 10, 14, 15])


class ReadOnly(SessionTestCase):
    """
    What a read-only connection may do.
    """

    def assertPrevented(self, function: str, domain: int, call: Any, *args: Any) -> None:
        message = f"operation forbidden: read only access prevents {function}"
        error = self.assertRefused(ErrorNumber.OPERATION_DENIED, domain, message, call, *args)
        self.assertEqual(error.str1, "operation forbidden: %s")

    def test_changes_are_refused_in_the_name_of_their_function(self) -> None:
        connection = opened(flags=1)
        network, pool = ("default", b"\x11" * 16), ("default-pool", b"\x11" * 16)
        for function, domain, call, args in (
            ("virDomainCreate", ErrorDomain.DOMAIN, connection.domainCreate, (TEST,)),
            ("virDomainDefineXML", ErrorDomain.DOMAIN, connection.domainDefineXML, ("",)),
            ("virDomainReboot", ErrorDomain.DOMAIN, connection.domainReboot, (TEST, 0)),
            ("virNetworkDestroy", ErrorDomain.NETWORK, connection.networkDestroy, (network,)),
            ("virStoragePoolRefresh", ErrorDomain.STORAGE, connection.storagePoolRefresh, (pool, 0)),
            ("virStorageVolCreateXML", ErrorDomain.STORAGE, connection.storageVolCreateXML, (pool, "", 0)),
            ("virInterfaceChangeBegin", ErrorDomain.INTERFACE, connection.interfaceChangeBegin, (0,)),
            (
                "virDomainSnapshotCreateXML",
                ErrorDomain.DOMAIN_SNAPSHOT,
                connection.domainSnapshotCreateXML,
                (TEST, "", 0),
            ),
        ):
            self.assertPrevented(function, domain, call, *args)
        self.assertEqual(connection.domainGetState(TEST, 0), (1, 0))

    def test_what_only_looks_is_answered(self) -> None:
        connection = opened(flags=1)
        self.assertEqual(connection.domainLookupByName("test"), TEST)
        self.assertEqual(connection.domainGetXMLDesc(TEST, 2)[:7], "<domain")
        self.assertEqual(connection.domainGetVcpusFlags(TEST, 0), 2)
        connection.connectDomainEventCallbackRegisterAny(0, None)

    def test_setting_the_scheduler_is_refused_although_its_permission_is_to_read(self) -> None:
        connection = opened(flags=1)
        self.assertPrevented(
            "virDomainSetSchedulerParameters",
            ErrorDomain.DOMAIN,
            connection.domainSetSchedulerParameters,
            TEST,
            {"weight": 5},
        )

    def test_flags_that_ask_for_secrets_are_refused(self) -> None:
        connection = opened(flags=1)
        for flags in (1, 8):
            message = "operation forbidden: virDomainGetXMLDesc with secure flag"
            self.assertRefused(
                ErrorNumber.OPERATION_DENIED,
                ErrorDomain.DOMAIN,
                message,
                connection.domainGetXMLDesc,
                TEST,
                flags,
            )

    def test_flags_that_ask_the_guest_are_refused(self) -> None:
        connection = opened(flags=1)
        self.assertPrevented(
            "virDomainGetVcpusFlags", ErrorDomain.DOMAIN, connection.domainGetVcpusFlags, TEST, 8
        )

    def test_what_the_hypervisor_lacks_is_refused_as_well(self) -> None:
        connection = opened(flags=1)
        secret = (b"\0" * 16, 0, "")
        self.assertPrevented("virSecretUndefine", ErrorDomain.SECRET, connection.secretUndefine, secret)

    def test_what_libvirt_refuses_is_refused(self) -> None:
        # Asked of a read-only connection of libvirt 9.0.0, procedure by procedure.
        refused = set()
        session = opened(flags=1).session
        for procedure in REMOTE.procedures.values():
            try:
                session.methodFor(procedure)
            except RemoteError as error:
                if error.code == ErrorNumber.OPERATION_DENIED:
                    refused.add(procedure.number)
        known: set[int] = set()
        for run in REFUSED.split():
            first, _, last = run.partition("-")
            known.update(range(int(first), int(last or first) + 1))
        newer = set(range(444, 1000))
        self.assertEqual(refused - newer - NOT_JUDGED - IDENTITY, known)


#: Procedures of 9.0 that libvirt refuses on a read-only connection: asked one by one.
REFUSED = (
    "8-13 26-35 39-42 48-49 53-55 58 61-63 75-83 90 93-94 103-104 108-109 118-120 123-125 131-136 "
    "142 144-146 148 160-161 164-166 174 180-182 184-185 192-193 196-197 199 201 204-205 207-211 "
    "213-222 225-226 231-237 239-240 242 245 250-252 254 256 258-261 264 266-267 277 279 288 290-291 "
    "294 296 300-310 334-338 342-343 345 347 349-350 352 355-357 364 366 371-372 384 386 389-390 "
    "392-393 395-396 399-400 402 406 408 410-411 417-418 420-421 424-425 427-434 437 440-442"
)
#: Procedures that were not asked with arguments good enough to get so far.
NOT_JUDGED = {249, 295, 358, 394, 439, 443}
#: CONNECT_SET_IDENTITY, which libvirt's proxy daemon makes and nobody else may.
IDENTITY = {419}


class Lacking(SessionTestCase):
    """
    What a hypervisor does not provide.
    """

    def test_it_answers_in_the_name_of_its_function_and_its_part_of_libvirt(self) -> None:
        connection = opened()
        calls: list[tuple[str, int, Any, tuple[Any, ...]]] = [
            ("virNetworkGetDHCPLeases", ErrorDomain.NETWORK, connection.networkGetDHCPLeases, LEASES),
            ("virConnectNumOfNWFilters", ErrorDomain.NWFILTER, connection.connectNumOfNWFilters, ()),
            ("virNWFilterLookupByName", ErrorDomain.NWFILTER, connection.nwfilterLookupByName, ("x",)),
            ("virConnectListAllSecrets", ErrorDomain.SECRET, connection.connectListAllSecrets, (1, 0)),
            ("virNodeGetMemoryStats", ErrorDomain.DOMAIN, connection.nodeGetMemoryStats, (0, 0, 0)),
            ("virDomainGetJobInfo", ErrorDomain.DOMAIN, connection.domainGetJobInfo, (TEST,)),
            ("virNodeDeviceReset", ErrorDomain.NODEDEV, connection.nodeDeviceReset, ("x",)),
        ]
        for function, domain, call, args in calls:
            message = f"this function is not supported by the connection driver: {function}"
            error = self.assertRefused(ErrorNumber.NO_SUPPORT, domain, message, call, *args)
            self.assertEqual(error.str2, function)

    def test_a_hypervisor_without_events_says_so(self) -> None:
        hypervisor = Slow()
        hypervisor.opening.callback(())
        connection = opened(hypervisor)
        function = "virConnectDomainEventRegisterAny"
        self.assertRefused(
            ErrorNumber.NO_SUPPORT,
            ErrorDomain.DOMAIN,
            f"this function is not supported by the connection driver: {function}",
            connection.connectDomainEventCallbackRegisterAny,
            0,
            None,
        )

    def test_the_connection_is_secure_unless_the_hypervisor_knows_better(self) -> None:
        class Insecure:
            def connectIsSecure(self) -> int:
                return 0

        self.assertEqual(opened().connectIsSecure(), 1)
        hypervisor = Slow()
        hypervisor.opening.callback(Insecure())
        self.assertEqual(opened(hypervisor).connectIsSecure(), 0)
