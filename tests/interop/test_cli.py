"""
The C{virnet} command as people run it, on a real libvirtd and on our own daemon: each command, and each way
to use it badly.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from threading import Timer
from typing import Any, ClassVar

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.support import ROOT, LibvirtDaemon, VirnetDaemon, freePort, requireTool

UUID = "6695eb01-f6a4-8304-79aa-97f2502e193f"

#: Seconds after which a command hangs.
PATIENCE = 60.0

WEB1 = """\
<domain type='test'>
  <name>web1</name>
  <uuid>11111111-2222-3333-4444-555555555555</uuid>
  <memory>1024</memory>
  <os><type>hvm</type></os>
</domain>
"""


def environment(**variables: str) -> dict[str, str]:
    """
    What the command runs in: nothing of the user's own defaults.
    """
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    kept = {name: value for name, value in os.environ.items() if name != "LIBVIRT_DEFAULT_URI"}
    return {**kept, "PYTHONPATH": path, "PYTHONWARNINGS": "error::ResourceWarning", **variables}


def started(*words: str, stdin: int = subprocess.DEVNULL, **variables: str) -> subprocess.Popen[str]:
    """
    Start the command.
    """
    return subprocess.Popen(
        [sys.executable, "-m", "virnet.cli", *words],
        env=environment(**variables),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="surrogateescape",
    )


def ran(*words: str, given: str | None = None, **variables: str) -> tuple[int, str, str]:
    """
    Run the command.

    @param given: its standard input.
    @return: its status, and what it printed on standard output and on standard error.
    """
    process = started(*words, stdin=subprocess.DEVNULL if given is None else subprocess.PIPE, **variables)
    try:
        output, errors = process.communicate(given, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return process.returncode, output, errors


class CommandCase(SynchronousTestCase):
    """
    Tests of commands on one server.
    """

    uri: ClassVar[str]

    def printed(self, *words: str, given: str | None = None) -> str:
        """
        What a command prints that has to succeed, with nothing on standard error.
        """
        status, output, errors = ran("-c", self.uri, *words, given=given)
        self.assertEqual((0, ""), (status, errors), words)
        return output

    def data(self, *words: str) -> Any:
        return json.loads(self.printed(*words))

    def fails(self, status: int, line: str, *words: str, **variables: str) -> None:
        """
        A command says one line on standard error, nothing on standard output, and ends with a status.
        """
        found = ran(*words, **variables)
        self.assertEqual((status, "", f"virnet: {line}\n"), found, words)


class _OnServer(CommandCase):
    """
    What holds on every server; subclasses say on which.
    """

    server: ClassVar[LibvirtDaemon | VirnetDaemon | None] = None

    @classmethod
    def makeServer(cls) -> LibvirtDaemon | VirnetDaemon:
        """
        The server of all tests of the class; it ends with the process.
        """
        raise NotImplementedError

    def setUp(self) -> None:
        cls = type(self)
        if cls.server is None:
            server = self.makeServer()
            server.start()
            cls.server, cls.uri = server, server.uri
            # libvirt's test driver forgets everything with its last connection.
            keeper = started("-c", cls.uri, "events", "--follow")
            atexit.register(keeper.communicate)
            atexit.register(keeper.terminate)
            assert keeper.stderr is not None
            keeper.stderr.readline()
        directory = tempfile.mkdtemp(prefix="virnet-")
        self.addCleanup(shutil.rmtree, directory)
        self.file = Path(directory) / "web1.xml"
        self.file.write_text(WEB1)

    # Each command does its work.

    def test_looking(self) -> None:
        self.assertEqual(
            "Id   Name   State\n-------------------\n1    test   running\n", self.printed("list")
        )
        self.assertEqual(
            [{"id": 1, "name": "test", "uuid": UUID, "state": "running"}], self.data("list", "--json")
        )
        self.assertIn(f"UUID:        {UUID}\n", self.printed("info", "test"))
        self.assertEqual(2, self.data("info", "--json", UUID)["cpus"])
        self.assertEqual("test:///default\n", self.printed("uri"))
        self.assertEqual(f"{socket.gethostname()}\n", self.printed("hostname"))
        self.assertEqual("<name>test</name>", self.printed("dumpxml", "test").splitlines()[1].strip())
        self.assertEqual("TEST", self.data("version", "--json")["hypervisor"])
        self.assertRegex(self.printed("ping", "-n", "2"), "^2 calls: min ")

    def test_bench(self) -> None:
        found = self.data("bench", "--json", "--depth", "1,8", "--time", "0.05", "connectGetHostname")
        self.assertEqual("connectGetHostname", found["procedure"])
        self.assertEqual([1, 8], [row["depth"] for row in found["results"]])
        for row in found["results"]:
            self.assertGreaterEqual(row["calls"], row["depth"])
            self.assertGreater(row["rate"], 0)
            order = [row[key] for key in ("min", "p50", "p90", "p99", "max")]
            self.assertEqual(sorted(order), order)

    def test_changing(self) -> None:
        self.assertEqual(f"Domain 'web1' defined from {self.file}\n", self.printed("define", str(self.file)))
        self.addCleanup(self.printed, "call", "domainUndefine", "web1")
        self.assertEqual("Domain 'web1' started\n", self.printed("start", "web1"))
        self.assertEqual("Domain 'web1' is being shut down\n", self.printed("shutdown", "web1"))
        self.assertIn("-    web1   shut off\n", self.printed("list", "--all"))
        self.printed("start", "web1")
        self.assertEqual("Domain 'web1' destroyed\n", self.printed("destroy", "web1"))
        self.assertEqual(
            "Domain 'web1' defined from standard input\n", self.printed("define", "-", given=WEB1)
        )

    def test_events(self) -> None:
        self.printed("define", str(self.file))
        self.addCleanup(self.printed, "call", "domainUndefine", "web1")
        waiting = started("-c", self.uri, "events", "--json", "-n", "2", "-d", "web1", "-t", str(PATIENCE))
        self.addCleanup(waiting.communicate)
        self.addCleanup(waiting.kill)
        assert waiting.stderr is not None
        self.assertEqual(f"waiting for events of {self.uri}\n", waiting.stderr.readline())
        self.printed("start", "web1")
        self.printed("destroy", "web1")
        output, errors = waiting.communicate(timeout=PATIENCE)
        self.assertEqual((0, ""), (waiting.returncode, errors))
        events = [json.loads(line) for line in output.splitlines()]
        self.assertEqual(["lifecycle", "lifecycle"], [each["event"] for each in events])
        self.assertEqual(
            [(2, 0), (5, 1)], [(each["args"]["event"], each["args"]["detail"]) for each in events]
        )

    def test_call(self) -> None:
        domain = {"name": "test", "uuid": UUID, "id": 1}
        self.assertEqual(domain, self.data("call", "domainLookupByName", "test"))
        self.assertEqual(domain, self.data("call", "virDomainLookupByUUID", UUID))
        self.assertEqual(domain, self.data("call", "domain_lookup_by_id", "1"))
        for word in ("test", json.dumps(domain)):
            found = self.data("call", "domainGetInfo", word)
            self.assertEqual(["state", "maxMem", "memory", "nrVirtCpu", "cpuTime"], list(found))
        weight = {"weight": {"type": "uint", "value": 50}}
        self.assertEqual(weight, self.data("call", "domainGetSchedulerParameters", "test", "1"))
        self.assertEqual(
            weight,
            self.data("call", "domainGetSchedulerParameters", "--args", '{"dom": "test", "nparams": 1}'),
        )
        self.assertIsNone(self.data("call", "domainSetSchedulerParameters", "test", json.dumps(weight)))
        self.assertEqual([0], self.data("call", "--bare", "authList"))
        self.assertIsNone(self.data("call", "connectClose"))

    def test_what_the_server_refuses(self) -> None:
        c = ("-c", self.uri)
        self.fails(1, "failed to get domain 'nope': Domain not found", *c, "info", "nope")
        self.fails(1, "Domain not found", *c, "call", "domainLookupByName", "nope")
        self.fails(1, "domainLookupByName of 'nope': Domain not found", *c, "call", "domainGetInfo", "nope")
        self.fails(1, "internal error: Domain 'test' is already running", *c, "start", "test")
        self.fails(
            1, "operation forbidden: read only access prevents virDomainDestroy", *c, "-r", "destroy", "test"
        )
        self.fails(
            1,
            "this function is not supported by the connection driver: virDomainQemuMonitorCommand",
            *(*c, "call", "domainQemuMonitorCommand", "test", "info"),
        )
        self.fails(
            1,
            "invalid argument: invalid type 'int' for parameter 'weight', expected 'uint'",
            *(*c, "call", "domainSetSchedulerParameters", "test", '{"weight": 5}'),
        )
        self.fails(1, "internal error: hypervisor connection not open", *c, "call", "--bare", "connectGetURI")
        self.fails(
            2,
            "domainSetMemory: memory: unsigned hyper must be between 0 and 18446744073709551615, not -1",
            *(*c, "call", "domainSetMemory", "test", "-1"),
        )


class OnLibvirtd(_OnServer):
    """
    On a real libvirtd.
    """

    def setUp(self) -> None:
        requireTool(self, "libvirtd")
        super().setUp()

    @classmethod
    def makeServer(cls) -> LibvirtDaemon:
        return LibvirtDaemon(tcpPort=0)

    def test_over_TCP(self) -> None:
        assert isinstance(self.server, LibvirtDaemon)
        self.assertEqual((0, "test:///default\n", ""), ran("-c", self.server.tcpURI, "uri"))

    def test_the_admin_program_on_its_own_socket(self) -> None:
        assert self.server is not None
        path = Path(self.server.socketPath).with_name("libvirt-admin-sock")
        status, output, errors = ran(
            "-c", f"test+unix:///?socket={path}", "call", "admConnectListServers", "1"
        )
        self.assertEqual((0, ""), (status, errors))
        self.assertEqual(
            ["admin", "libvirtd"], sorted(each["name"] for each in json.loads(output)["servers"])
        )
        status, output, errors = ran(
            "-c", f"test+unix:///?socket={path}", "call", "admServerGetThreadpoolParameters", "libvirtd"
        )
        self.assertEqual({"type": "uint", "value": 20}, json.loads(output)["maxWorkers"])

    def test_the_admin_program_on_another_socket(self) -> None:
        self.fails(
            1,
            f"Cannot find program {0x06900690} version 1",
            *("-c", self.uri, "call", "admConnectListServers", "1"),
        )


class OnVirnet(_OnServer):
    """
    On our own daemon.
    """

    @classmethod
    def makeServer(cls) -> VirnetDaemon:
        return VirnetDaemon()

    def test_the_default_URI(self) -> None:
        self.assertEqual((0, "test:///default\n", ""), ran("uri", LIBVIRT_DEFAULT_URI=self.uri))

    def test_the_readonly_socket(self) -> None:
        assert isinstance(self.server, VirnetDaemon)
        uri = f"test+unix:///default?socket={self.server.readonlyPath}"
        self.fails(
            1, "operation forbidden: read only access prevents virDomainDestroy", "-c", uri, "destroy", "test"
        )


# Its tests are those of the two above.
del _OnServer


class Ending(CommandCase):
    """
    A command that waits ends when it is told to.
    """

    def setUp(self) -> None:
        self.server = VirnetDaemon()
        self.server.start()
        self.addCleanup(self.server.stop)
        self.process = started("-c", self.server.uri, "events", "--follow")
        self.addCleanup(self.process.communicate)
        self.addCleanup(self.process.kill)
        timer = Timer(PATIENCE, self.process.kill)
        timer.start()
        self.addCleanup(timer.cancel)
        assert self.process.stderr is not None
        self.assertIn("waiting for events", self.process.stderr.readline())

    def end(self) -> tuple[int, str, str]:
        output, errors = self.process.communicate()
        return self.process.returncode, output, errors

    def test_by_Ctrl_C(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.assertEqual((130, "", ""), self.end())

    def test_by_SIGTERM(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.assertEqual((143, "", ""), self.end())

    def test_when_nobody_reads_any_more(self) -> None:
        assert self.process.stdout is not None and self.process.stderr is not None
        self.process.stdout.close()
        ran("-c", self.server.uri, "destroy", "test")
        errors = self.process.stderr.read()
        self.assertEqual((141, ""), (self.process.wait(), errors))

    def test_when_the_server_ends(self) -> None:
        self.server.stop()
        status, output, errors = self.end()
        self.assertEqual((1, ""), (status, output))
        self.assertRegex(errors, r"^virnet: the connection to .* was closed by the server\n$")


class BadUse(CommandCase):
    """
    What cannot work says why in one line, whatever it is, before or without a server.
    """

    def test_no_URI(self) -> None:
        expected = "'frob' is not a libvirt URI: expected DRIVER[+TRANSPORT]://[HOST]/PATH"
        self.fails(1, expected, "-c", "frob", "list")

    def test_an_unknown_transport(self) -> None:
        self.fails(
            1,
            "test+frob:///x: transport 'frob' is not one of ext, libssh, libssh2, ssh, tcp, tls, unix",
            *("-c", "test+frob:///x", "list"),
        )

    def test_refused(self) -> None:
        port = freePort()
        uri = f"test+tcp://127.0.0.1:{port}/default"
        self.fails(
            1,
            f"{uri}: unable to connect to server at '127.0.0.1:{port}': Connection refused",
            *("-c", uri, "list"),
        )

    def test_no_socket(self) -> None:
        uri = "test+unix:///default?socket=/nonexistent/s"
        self.fails(
            1,
            f"{uri}: Failed to connect socket to '/nonexistent/s': No such file or directory",
            *("-c", uri, "call", "connectGetURI"),
        )

    def test_no_server_where_ours_would_be(self) -> None:
        """
        Root's socket is one for the whole machine: the test gives it another place.
        """
        command = (
            "import sys; from virnet.transport import defaults; "
            "defaults.ROOT_DIRECTORY = '/nonexistent/virnet'; "
            "from virnet.cli.main import main; sys.exit(main(['list']))"
        )
        done = subprocess.run(
            [sys.executable, "-c", command],
            env=environment(XDG_RUNTIME_DIR="/nonexistent"),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        self.assertEqual((1, ""), (done.returncode, done.stdout))
        self.assertEqual(
            "virnet: test+unix:///default?socket=/nonexistent/virnet/virnet-sock: Failed to connect "
            "socket to '/nonexistent/virnet/virnet-sock': No such file or directory; "
            "is it running? 'twistd -n virnet' starts one, -c URI means another\n",
            done.stderr,
        )

    def test_a_path_too_long(self) -> None:
        path = "/tmp/" + "x" * 103
        uri = f"test+unix:///default?socket={path}"
        self.fails(
            1,
            f"{uri}: Path {path} too long for unix socket, the system allows 107 bytes",
            *("-c", uri, "list"),
        )

    def test_someone_who_is_no_libvirt_server(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            uri = f"test+tcp://127.0.0.1:{listener.getsockname()[1]}/default"
            process = started("-c", uri, "list")
            self.addCleanup(process.communicate)
            self.addCleanup(process.kill)
            client, _ = listener.accept()
            with client:
                client.recv(1)
                client.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n" * 9)
                output, errors = process.communicate(timeout=PATIENCE)
        self.assertEqual((1, ""), (process.returncode, output))
        self.assertEqual(1, errors.count("\n"))
        self.assertTrue(errors.startswith("virnet: "), errors)
        self.assertNotIn("internal error", errors)

    def test_usage(self) -> None:
        help = "; see 'virnet --help'"
        self.fails(2, f"no command{help}")
        self.fails(2, f"there is no command 'frob'{help}", "frob")
        self.fails(2, "unexpected argument '--frob'; see 'virnet list --help'", "list", "--frob")
        self.fails(2, "there is no procedure 'frob'", "call", "frob")
        self.fails(2, "domainGetInfo(dom: domain) takes 1 argument, not 2", "call", "domainGetInfo", "1", "2")
        self.fails(
            2,
            "domainSetMemory: memory: expected a whole number, not 1.5",
            *("call", "domainSetMemory", "test", "1.5"),
        )
        self.fails(
            2,
            "domainSetMemory: memory: not JSON: Expecting value: line 1 column 1 (char 0)",
            *("call", "domainSetMemory", "test", "much"),
        )
        self.fails(1, "cannot read /nonexistent: No such file or directory", "define", "/nonexistent")

    def test_help_is_no_bad_use(self) -> None:
        for words in (("--help",), ("call", "--help"), ("--version",), ("call", "--list")):
            status, output, errors = ran(*words)
            self.assertEqual((0, ""), (status, errors))
            self.assertNotEqual("", output)

    def test_a_reader_of_much_output_that_goes_away(self) -> None:
        process = started("call", "--list")
        self.addCleanup(process.kill)
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()
        process.stderr.close()
        self.assertEqual("", errors)
        self.assertEqual(141, process.wait())

    def test_a_reader_of_help_that_was_never_there(self) -> None:
        process = started("call", "--help")
        self.addCleanup(process.kill)
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        errors = process.stderr.read()
        process.stderr.close()
        self.assertEqual("", errors)
        # argparse itself may have ignored that nobody reads.
        self.assertIn(process.wait(), (0, 141))
