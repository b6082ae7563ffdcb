"""The commands, against the hypervisor in memory: what they ask for, print and refuse."""

from __future__ import annotations

import io
import json
import os
from argparse import Namespace
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, execute
from twisted.trial.unittest import SynchronousTestCase

from virnet._version import __version__
from virnet.cli import definitions
from virnet.cli.arguments import UsageError, parseArguments
from virnet.cli.definitions import readFile
from virnet.cli.events import DETAILS, KINDS, inWords
from virnet.cli.host import dotted
from virnet.cli.options import EVENTS
from virnet.cli.output import Output
from virnet.cli.session import Session, stateName
from virnet.cli.table import COMMANDS, found
from virnet.cli.usage import COUNTERS, Look, summed, usage
from virnet.client import Connection
from virnet.client.transfer import TransferError
from virnet.errors import ConnectionLost, RemoteError, VirnetError
from virnet.hypervisor.memory import MemoryHypervisor
from virnet.hypervisor.session import sessionsOf
from virnet.probes import subscribe
from virnet.programs import REMOTE
from virnet.programs.typedparams import Int, TypedParams, UInt, ULLong
from virnet.programs.values import DomainStatsRecord
from virnet.server import NetServer, ServerProgram
from virnet.testing import ConnectedPair, connectedPair
from virnet.transport.uri import parseURI

URI = "test+unix:///default?socket=/run/x"
UUID = "6695eb01-f6a4-8304-79aa-97f2502e193f"

WEB1 = """
<domain type='test'>
  <name>web1</name>
  <uuid>11111111-2222-3333-4444-555555555555</uuid>
  <memory>1024</memory>
  <os><type>hvm</type></os>
</domain>
"""


class CommandCase(SynchronousTestCase):
    """
    A connection to a hypervisor of its own, in memory.
    """

    def setUp(self) -> None:
        self.pair = connectedPair([ServerProgram(REMOTE, sessionsOf(MemoryHypervisor()))])
        self.connection = self.connect(self.pair)
        self.stdout = io.StringIO()
        self.stderr = io.StringIO()

    def connect(self, pair: ConnectedPair) -> Connection:
        opened = pair.client.program(REMOTE).connectOpen("test:///default", 0)
        pair.flush()
        self.successResultOf(opened)
        return Connection(pair.client, parseURI(URI), frozenset({14, 15}))

    @property
    def server(self) -> NetServer:
        return self.pair.server

    def remote(self, name: str, *arguments: Any) -> Any:
        """Call a procedure directly, for what a test needs around a command."""
        called = getattr(self.connection.remote, name)(*arguments)
        self.pair.flush()
        return self.successResultOf(called)

    def began(self, *words: str, xml: str = "") -> Deferred[None]:
        """Start a command; its words are those behind C{virnet}."""
        options: Namespace = parseArguments(words, {})
        if options.command == "define":
            options.xml = xml
        output = Output(self.stdout, self.stderr, getattr(options, "json", False))
        session = Session(self.pair.clock, options, self.connection, output)
        running: Deferred[None] = Deferred.fromCoroutine(found(COMMANDS[options.command].runs)(session))
        self.pair.flush()
        return running

    def printed(self, *words: str, xml: str = "") -> str:
        """What a command prints that has to succeed."""
        self.successResultOf(self.began(*words, xml=xml))
        return self.taken()

    def taken(self) -> str:
        text = self.stdout.getvalue()
        self.stdout.seek(0)
        self.stdout.truncate()
        return text

    def failure(self, kind: type[Exception], *words: str, xml: str = "") -> str:
        """What a command says that has to fail."""
        error = self.failureResultOf(self.began(*words, xml=xml), kind).value
        self.assertEqual("", self.stdout.getvalue())
        return str(error)


class Looking(CommandCase):
    def test_list(self) -> None:
        self.assertEqual(
            "Id   Name   State\n-------------------\n1    test   running\n", self.printed("list")
        )

    def test_list_all(self) -> None:
        self.printed("define", "-", xml=WEB1)
        self.assertNotIn("web1", self.printed("list"))
        self.assertEqual(
            ["1    test   running", "-    web1   shut off"], self.printed("list", "--all").splitlines()[2:]
        )

    def test_list_as_JSON(self) -> None:
        self.printed("define", "-", xml=WEB1)
        self.assertEqual(
            [
                {"id": 1, "name": "test", "uuid": UUID, "state": "running"},
                {
                    "id": None,
                    "name": "web1",
                    "uuid": "11111111-2222-3333-4444-555555555555",
                    "state": "shut off",
                },
            ],
            json.loads(self.printed("list", "--all", "--json")),
        )

    def test_info(self) -> None:
        lines = self.printed("info", "test").splitlines()
        self.assertEqual(["Id:          1", "Name:        test", f"UUID:        {UUID}"], lines[:3])
        self.assertIn("State:       running", lines)
        self.assertIn("Max memory:  8388608 KiB", lines)
        self.assertIn("Persistent:  yes", lines)

    def test_info_as_JSON(self) -> None:
        found = json.loads(self.printed("info", "test", "--json"))
        self.assertEqual(("test", 1, UUID, 2), tuple(found[key] for key in ("name", "id", "uuid", "cpus")))
        self.assertIs(False, found["autostart"])
        self.assertIs(True, found["persistent"])

    def test_a_domain_is_found_by_name_id_and_uuid(self) -> None:
        for word in ("test", "1", UUID, UUID.replace("-", "").upper()):
            self.assertIn("Name:        test\n", self.printed("info", word))

    def test_a_name_may_look_like_an_id(self) -> None:
        self.printed("define", "-", xml=WEB1.replace("web1", "77"))
        self.assertIn("Name:        77\n", self.printed("info", "77"))
        self.assertIn("failed to get domain '9999999999'", self.failure(VirnetError, "info", "9999999999"))

    def test_no_such_domain(self) -> None:
        why = self.failure(VirnetError, "info", "nope")
        self.assertEqual("failed to get domain 'nope': Domain not found", why)
        self.assertEqual("the name of the domain is empty", self.failure(UsageError, "info", ""))

    def test_uri(self) -> None:
        self.assertEqual("test:///default\n", self.printed("uri"))
        self.assertEqual('"test:///default"\n', self.printed("uri", "--json"))

    def test_hostname(self) -> None:
        name = self.remote("connectGetHostname")
        self.assertEqual(f"{name}\n", self.printed("hostname"))
        self.assertEqual(name, json.loads(self.printed("hostname", "--json")))

    def test_version(self) -> None:
        self.assertEqual(f"virnet:     {__version__}", self.printed("version").splitlines()[0])
        found = json.loads(self.printed("version", "--json"))
        self.assertEqual(["virnet", "server", "hypervisor", "hypervisorVersion"], list(found))
        self.assertEqual(dotted(self.remote("connectGetLibVersion")), found["server"])

    def test_dumpxml(self) -> None:
        self.assertEqual(
            self.remote("domainGetXMLDesc", self.remote("domainLookupByName", "test"), 0),
            self.printed("dumpxml", "test"),
        )

    def test_ping(self) -> None:
        self.assertRegex(
            self.printed("ping", "-n", "3"),
            r"^3 calls: min \d+\.\d{3} ms, p50 .* ms, p90 .* ms, p99 .* ms, max .* ms, mean .* ms\n$",
        )
        self.assertRegex(self.printed("ping", "-n", "1"), r"^1 call: ")
        found = json.loads(self.printed("ping", "--json"))
        self.assertEqual(10, found["calls"])
        order = [found[key] for key in ("min", "median", "p90", "p99", "max")]
        self.assertEqual(sorted(order), order)


class Changing(CommandCase):
    def test_a_life(self) -> None:
        self.assertEqual("Domain 'web1' defined from standard input\n", self.printed("define", "-", xml=WEB1))
        self.assertEqual("Domain 'web1' started\n", self.printed("start", "web1"))
        self.assertEqual("Domain 'web1' is being shut down\n", self.printed("shutdown", "web1"))
        self.printed("start", "web1")
        self.assertEqual("Domain 'web1' destroyed\n", self.printed("destroy", "web1"))

    def test_errors_are_the_servers(self) -> None:
        self.assertIn("already running", self.failure(RemoteError, "start", "test"))
        self.assertIn("(domain_definition)", self.failure(RemoteError, "define", "-", xml="<domain"))


class Lives(CommandCase):
    """
    Each command says what it did.
    """

    def state(self, name: str) -> str:
        found = json.loads(self.printed("info", name, "--json"))["state"]
        assert isinstance(found, str)
        return found

    def test_suspend_and_resume(self) -> None:
        self.assertEqual("Domain 'test' suspended\n", self.printed("suspend", "test"))
        self.assertEqual("paused", self.state("test"))
        self.assertEqual("Domain 'test' resumed\n", self.printed("resume", "test"))
        self.assertEqual("running", self.state("test"))

    def test_reboot(self) -> None:
        self.assertEqual("Domain 'test' is being rebooted\n", self.printed("reboot", "test"))

    def test_start_paused(self) -> None:
        self.printed("define", "-", xml=WEB1)
        # Like libvirt's, the test driver has no such thing: it was asked for it.
        why = self.failure(RemoteError, "start", "web1", "--paused")
        self.assertIn("unsupported flags (0x1)", why)

    def test_undefine(self) -> None:
        self.printed("define", "-", xml=WEB1)
        self.assertEqual("Domain 'web1' has been undefined\n", self.printed("undefine", "web1"))
        self.assertIn("failed to get domain 'web1'", self.failure(VirnetError, "info", "web1"))

    def test_what_it_will_be(self) -> None:
        self.assertIn("id='1'", self.printed("dumpxml", "test"))
        self.assertNotIn("id='1'", self.printed("dumpxml", "--inactive", "test"))


class Editing(CommandCase):
    """
    Nobody loses what he typed.
    """

    def setUp(self) -> None:
        super().setUp()
        self.printed("define", "-", xml=WEB1)
        self.typed: Any = lambda text: text
        self.patch(definitions, "runEditor", self.editor)
        self.patch(definitions, "deferToThreadPool", lambda reactor, pool, call, *args: execute(call, *args))
        self.pair.clock.getThreadPool = lambda: None  # type: ignore[attr-defined]

    def editor(self, path: str) -> None:
        """Stands for the user's."""
        self.path = Path(path)
        self.path.write_text(self.typed(self.path.read_text()))

    def test_a_change(self) -> None:
        self.typed = lambda text: text.replace("1024", "2048")
        self.assertEqual("Domain 'web1' changed\n", self.printed("edit", "web1"))
        self.assertEqual(2048, json.loads(self.printed("info", "web1", "--json"))["maxMemory"])
        self.assertFalse(self.path.exists())

    def test_no_change(self) -> None:
        self.assertEqual("Domain 'web1' not changed\n", self.printed("edit", "web1"))
        self.assertFalse(self.path.exists())

    def test_what_is_refused_is_kept(self) -> None:
        self.typed = lambda text: "<domain"
        why = self.failure(VirnetError, "edit", "web1")
        self.addCleanup(self.path.unlink)
        self.assertTrue(why.endswith(f"; your text is in {self.path}"), why)
        self.assertEqual("<domain", self.path.read_text())

    def test_what_somebody_else_has_changed_is_not_overwritten(self) -> None:
        def typed(text: str) -> str:
            self.remote("domainDefineXML", WEB1.replace("1024", "4096"))
            return text.replace("1024", "2048")

        self.typed = typed
        why = self.failure(VirnetError, "edit", "web1")
        self.addCleanup(self.path.unlink)
        self.assertEqual(f"domain 'web1' was changed by somebody else; your text is in {self.path}", why)
        self.assertEqual(4096, json.loads(self.printed("info", "web1", "--json"))["maxMemory"])


class Editors(SynchronousTestCase):
    """
    Which program is the editor, and what becomes of its failure.
    """

    def edit(self, command: str) -> str:
        path = self.mktemp()
        Path(path).write_text("one")
        self.patch(os, "environ", {**os.environ, "VISUAL": command})
        definitions.runEditor(path)
        return Path(path).read_text()

    def test_a_command_with_options(self) -> None:
        self.assertEqual("two", self.edit("sed -i s/one/two/"))

    def test_one_that_fails(self) -> None:
        error = self.assertRaises(VirnetError, self.edit, "false")
        self.assertEqual("the editor 'false' ended with status 1; nothing was changed", str(error))

    def test_none(self) -> None:
        error = self.assertRaises(VirnetError, self.edit, "/nonexistent/ed")
        self.assertEqual("cannot run the editor '/nonexistent/ed': No such file or directory", str(error))
        self.assertRaises(UsageError, self.edit, "'")


class Listings(CommandCase):
    """
    Tables for people, JSON with the same for programs.
    """

    def setUp(self) -> None:
        super().setUp()
        self.pool = self.remote("storagePoolLookupByName", "default-pool")
        for name, size in (("b", 1 << 30), ("a", 1000)):
            xml = f"<volume><name>{name}</name><capacity>{size}</capacity><allocation>0</allocation></volume>"
            self.remote("storageVolCreateXML", self.pool, xml, 0)

    def test_pools(self) -> None:
        self.assertEqual(
            [
                "Name           State     Autostart    Capacity   Allocation   Available",
                "-----------------------------------------------------------------------",
                "default-pool   running   no          100.0 GiB          0 B   100.0 GiB",
            ],
            self.printed("pool-list").splitlines(),
        )
        (pool,) = json.loads(self.printed("pool-list", "--json"))
        self.assertEqual(
            ["name", "uuid", "state", "autostart", "capacity", "allocation", "available"], list(pool)
        )

    def test_pools_that_are_not_active(self) -> None:
        self.remote("storagePoolDestroy", self.pool)
        self.assertNotIn("default-pool", self.printed("pool-list"))
        self.assertIn("inactive", self.printed("pool-list", "--all"))

    def test_volumes(self) -> None:
        self.assertEqual(
            [
                "Name   Type   Capacity   Allocation   Path",
                "-----------------------------------------------------",
                "a      file     1000 B          0 B   /default-pool/a",
                "b      file    1.0 GiB          0 B   /default-pool/b",
            ],
            self.printed("vol-list", "default-pool").splitlines(),
        )
        self.assertIn("default-pool   a      file", self.printed("vol-list"))
        volumes = json.loads(self.printed("vol-list", "--json"))
        self.assertEqual(["pool", "name", "path", "type", "capacity", "allocation"], list(volumes[0]))
        self.assertEqual([1000, 1 << 30], [each["capacity"] for each in volumes])

    def test_no_such_pool(self) -> None:
        self.assertIn(
            "failed to get pool 'x': Storage pool not found", self.failure(VirnetError, "vol-list", "x")
        )

    def test_networks(self) -> None:
        self.assertEqual(
            "default   active   no          yes          virbr0", self.printed("net-list").splitlines()[2]
        )
        (network,) = json.loads(self.printed("net-list", "--json"))
        self.assertEqual(["name", "uuid", "state", "autostart", "persistent", "bridge"], list(network))
        self.remote("networkDestroy", self.remote("networkLookupByName", "default"))
        self.assertNotIn("default", self.printed("net-list"))
        self.assertIn("inactive", self.printed("net-list", "--all"))


class Watching(CommandCase):
    """
    C{top} as a program sees it.
    """

    def test_as_JSON(self) -> None:
        self.printed("define", "-", xml=WEB1)
        running = self.began("top", "--json", "--all", "--delay", "1")
        self.pair.clock.advance(1)
        self.pair.flush()
        self.successResultOf(running)
        rows = json.loads(self.taken())
        self.assertEqual({"test", "web1"}, {row["name"] for row in rows})
        self.assertEqual(
            ["id", "name", "uuid", "state", "cpus", "cpuTime", "cpu", "memory", *COUNTERS], list(rows[0])
        )

    def test_one_bulk_call_tells_all(self) -> None:
        domain = self.remote("domainLookupByName", "test")

        class Statistics:
            """Tells everything at once, of three domains."""

            def open(self, name: str, readonly: bool, client: Any) -> Any:
                return self

            def connectGetAllDomainStats(self, doms: Any, stats: int, flags: int) -> Any:
                params = TypedParams({"state.state": Int(1), "cpu.time": ULLong(5), "vcpu.current": UInt(2)})
                return [DomainStatsRecord(domain, params)] * 3

        pair = connectedPair([ServerProgram(REMOTE, sessionsOf(Statistics()))])
        self.pair, self.connection = pair, self.connect(pair)
        asked: list[int] = []
        self.addCleanup(subscribe("rpc_client_msg_tx_queue", lambda probe, values: asked.append(values[4])))
        rows = json.loads(self.printed("top", "--json", "--delay", "0"))
        told = [(row["state"], row["cpus"], row["cpuTime"]) for row in rows]
        self.assertEqual([("running", 2, 5)] * 3, told)
        self.assertEqual([REMOTE.byName["connectGetAllDomainStats"].number], asked)

    def test_rates(self) -> None:
        """
        Differences of what every disk and card has moved.
        """
        domain = self.remote("domainLookupByName", "test")

        def look(cpuTime: int, factor: int) -> Look:
            params = TypedParams()
            for key in ("block.0.rd.bytes", "block.1.rd.bytes", "net.0.rx.bytes"):
                params.add(key, ULLong(factor * 100))
            params.add("block.0.rd.bytes.other", ULLong(7))
            totals = {name: summed(params, *counter) for name, counter in COUNTERS.items()}
            return Look(domain, 1, 2, cpuTime, 5, totals)

        row = usage(look(3 * 10**9, 3), look(10**9, 1), 2.0)
        self.assertEqual(100.0, row["cpu"])
        self.assertEqual((200.0, None, 100.0, None), tuple(row[name] for name in COUNTERS))
        first = usage(look(3 * 10**9, 3), None, 2.0)
        self.assertEqual((None, None), (first["cpu"], first["diskRead"]))
        anew = usage(look(10**9, 1), look(3 * 10**9, 3), 2.0)
        self.assertEqual((None, None), (anew["cpu"], anew["diskRead"]))


class Transferring(CommandCase):
    """
    C{vol-upload} and C{vol-download} for programs; what is shown to people is tested at a terminal.
    """

    def setUp(self) -> None:
        super().setUp()
        self.file = Path(self.mktemp())
        self.file.write_bytes(b"data" * 100000)

    def test_a_volume_that_is_made_for_it(self) -> None:
        words = ("vol-upload", "a<b", "--pool", "default-pool", "--create", "1M", "--checksum", "md5")
        said = json.loads(self.printed(*words, str(self.file), "--json"))
        self.assertEqual(["pool", "volume", "data", "holes", "seconds", "checksum", "resumed"], list(said))
        self.assertEqual(("a<b", 400000), (said["volume"], said["data"] + said["holes"]))
        target = Path(self.mktemp())
        said = json.loads(
            self.printed("vol-download", "/default-pool/a<b", str(target), "--length", "400000", "--json")
        )
        self.assertEqual(self.file.read_bytes(), target.read_bytes())

    def test_it_goes_when_it_fails(self) -> None:
        words = (
            "vol-upload",
            "a",
            "--pool",
            "default-pool",
            "--create",
            "1M",
            "--size",
            "5",
            "-q",
            str(self.file),
        )
        self.assertIn("has 400000 bytes, not 5", self.failure(TransferError, *words))
        self.assertNotIn("default-pool/a", self.printed("vol-list"))

    def test_what_does_not_go_together(self) -> None:
        def refused(*words: str) -> str:
            options = parseArguments(words, {})
            check = found(COMMANDS[options.command].prepare)
            error = self.assertRaises(VirnetError, check, options, Output(self.stdout, self.stderr))
            return str(error)

        self.assertIn("either a file or --from", refused("vol-upload", "v"))
        self.assertIn("either a file or --from", refused("vol-upload", "v", "f", "--from", "http://x/"))
        self.assertIn("is not a URL", refused("vol-upload", "v", "--from", "file"))
        self.assertIn("--create needs --pool", refused("vol-upload", "v", "f", "--create", "1M"))
        self.assertIn("there is no checksum 'x'", refused("vol-download", "v", "f", "--checksum", "x"))
        self.assertIn("cannot read /nonexistent: No such", refused("vol-upload", "v", "/nonexistent"))

    def test_which_volume(self) -> None:
        why = self.failure(UsageError, "vol-download", "v", "f")
        self.assertEqual("which volume 'v'? give its --pool, or its path", why)
        self.assertIn("failed to get volume '/x'", self.failure(VirnetError, "vol-download", "/x", "f"))


class Files(SynchronousTestCase):
    def test_bytes_are_kept(self) -> None:
        path = self.mktemp()
        with open(path, "wb") as file:
            file.write(b"\xc3\xbc\xff")
        self.assertEqual("ü\udcff", readFile(path))

    def test_what_cannot_be_read(self) -> None:
        error = self.assertRaises(VirnetError, readFile, "/nonexistent/x.xml")
        self.assertEqual("cannot read /nonexistent/x.xml: No such file or directory", str(error))
        error = self.assertRaises(VirnetError, readFile, "/")
        self.assertEqual("cannot read /: Is a directory", str(error))


class Words(SynchronousTestCase):
    def test_states(self) -> None:
        self.assertEqual("running", stateName(1))
        self.assertEqual("state 99", stateName(99))

    def test_versions(self) -> None:
        self.assertEqual("9.0.0", dotted(9000000))
        self.assertEqual("12.6.1", dotted(12006001))


class Events(CommandCase):
    """
    C{events} goes on until enough have come, or the time is over.
    """

    def setUp(self) -> None:
        super().setUp()
        self.remote("domainDefineXML", WEB1)
        self.web1 = self.remote("domainLookupByName", "web1")

    def test_ends_with_the_first(self) -> None:
        running = self.began("events")
        self.assertNoResult(running)
        self.assertEqual(f"waiting for events of {URI}\n", self.stderr.getvalue())
        self.remote("domainCreate", self.web1)
        self.successResultOf(running)
        self.assertEqual("event 'lifecycle' for domain 'web1': started booted\n", self.taken())

    def test_counts(self) -> None:
        running = self.began("events", "-n", "2", "-e", "lifecycle")
        self.remote("domainCreate", self.web1)
        self.assertNoResult(running)
        self.remote("domainDestroy", self.web1)
        self.successResultOf(running)
        self.assertEqual(2, len(self.taken().splitlines()))

    def test_follows_until_the_time_is_over(self) -> None:
        running = self.began("events", "--follow", "--timeout", "5")
        for _ in range(3):
            self.remote("domainCreate", self.web1)
            self.remote("domainDestroy", self.web1)
        self.pair.clock.advance(4.9)
        self.assertNoResult(running)
        self.pair.clock.advance(0.2)
        self.successResultOf(running)
        self.assertEqual(6, len(self.taken().splitlines()))

    def test_too_few_in_time_is_a_failure(self) -> None:
        running = self.began("events", "-n", "2", "-t", "1.5")
        self.remote("domainCreate", self.web1)
        self.pair.clock.advance(1.6)
        error = self.failureResultOf(running, VirnetError).value
        self.assertEqual("timed out after 1.5 s: 1 of 2 events", str(error))

    def test_enough_in_time_leaves_no_timer(self) -> None:
        running = self.began("events", "-t", "3600")
        self.remote("domainCreate", self.web1)
        self.successResultOf(running)
        self.assertEqual([], [call for call in self.pair.clock.getDelayedCalls() if call.getTime() > 3000])

    def test_of_one_domain(self) -> None:
        running = self.began("events", "--domain", "test")
        self.remote("domainCreate", self.web1)
        self.assertNoResult(running)
        self.remote("domainSuspend", self.remote("domainLookupByName", "test"))
        self.successResultOf(running)
        self.assertEqual("event 'lifecycle' for domain 'test': suspended paused\n", self.taken())

    def test_of_other_families(self) -> None:
        running = self.began("events")
        self.remote("networkDestroy", self.remote("networkLookupByName", "default"))
        self.successResultOf(running)
        self.assertEqual("event 'network-lifecycle' for network 'default': stopped\n", self.taken())

    def test_as_JSON(self) -> None:
        running = self.began("events", "--json")
        self.remote("domainCreate", self.web1)
        self.successResultOf(running)
        text = self.taken()
        self.assertEqual(1, text.count("\n"))
        event = json.loads(text)
        self.assertEqual(("lifecycle", ["dom", "event", "detail"]), (event["event"], list(event["args"])))
        self.assertEqual((2, 0), (event["args"]["event"], event["args"]["detail"]))
        self.assertEqual("web1", event["args"]["dom"]["name"])

    def test_what_the_server_does_not_have_is_an_error_only_where_it_was_asked_for(self) -> None:
        self.assertNoResult(self.began("events"))
        why = self.failure(VirnetError, "events", "-e", "secret-lifecycle")
        self.assertTrue(why.startswith("secret-lifecycle: this function is not supported"), why)

    def test_a_domain_has_only_events_of_domains(self) -> None:
        why = self.failure(UsageError, "events", "-d", "test", "-e", "network-lifecycle")
        self.assertEqual(
            "'network-lifecycle' is not an event of a domain, so it does not go with --domain", why
        )

    def test_no_such_domain(self) -> None:
        self.assertIn("failed to get domain 'nope'", self.failure(VirnetError, "events", "-d", "nope"))

    def test_a_lost_connection_is_a_failure(self) -> None:
        running = self.began("events", "--follow")
        self.pair.serverClient.close()
        self.pair.flush()
        self.assertIn("closed by the server", str(self.failureResultOf(running, ConnectionLost).value))

    def test_what_prevents_printing_is_a_failure(self) -> None:
        running = self.began("events", "--follow")
        self.stdout.close()
        called = self.connection.remote.domainCreate(self.web1)
        self.pair.flush()
        self.successResultOf(called)
        self.failureResultOf(running, ValueError)


class EventsInWords(SynchronousTestCase):
    """
    A line for people.
    """

    dom = {"name": "web1", "uuid": UUID, "id": 1}

    def test_lifecycle(self) -> None:
        self.assertEqual(
            "event 'lifecycle' for domain 'web1': stopped crashed",
            inWords("lifecycle", {"dom": self.dom, "event": 5, "detail": 2}),
        )

    def test_numbers_of_newer_servers(self) -> None:
        self.assertEqual(
            "event 'lifecycle' for domain 'web1': 99",
            inWords("lifecycle", {"dom": self.dom, "event": 99, "detail": 2}),
        )
        self.assertEqual(
            "event 'lifecycle' for domain 'web1': stopped 99",
            inWords("lifecycle", {"dom": self.dom, "event": 5, "detail": 99}),
        )

    def test_lifecycle_of_the_other_families_has_no_detail(self) -> None:
        self.assertEqual(
            "event 'pool-lifecycle' for storage pool 'p': started",
            inWords("pool-lifecycle", {"pool": {"name": "p", "uuid": UUID}, "event": 2, "detail": 0}),
        )

    def test_others_say_their_fields(self) -> None:
        self.assertEqual(
            "event 'tray-change' for domain 'web1': devAlias=ide0 reason=1",
            inWords("tray-change", {"dom": self.dom, "devAlias": "ide0", "reason": 1}),
        )
        self.assertEqual("event 'reboot' for domain 'web1'", inWords("reboot", {"dom": self.dom}))

    def test_an_object_without_a_name(self) -> None:
        self.assertEqual(
            f"event 'secret-value-changed' for secret '{UUID}'",
            inWords("secret-value-changed", {"secret": {"uuid": UUID, "usageType": 0}}).split(":")[0],
        )

    def test_every_lifecycle_event_of_a_domain_has_words_for_its_detail(self) -> None:
        lifecycle = KINDS["lifecycle"].lifecycle
        assert lifecycle is not None
        self.assertEqual(set(lifecycle), set(DETAILS))


class Subscribers(CommandCase):
    """
    What a subscriber of each kind is called with has names and types.
    """

    def test_every_kind(self) -> None:
        from virnet.cli.events import _registry, fieldsOf

        for word, kind in KINDS.items():
            fields = fieldsOf(_registry(self.connection, kind.family), kind)
            self.assertIn(fields[0][0], ("dom", "net", "pool", "dev", "secret"), word)
            self.assertNotIn("callbackID", [name for name, _ in fields], word)

    def test_the_words_that_may_be_typed(self) -> None:
        self.assertEqual(list(KINDS), EVENTS)
