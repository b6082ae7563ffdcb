"""What opening a URI would do, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.pki import write
from tests.tls import authority
from virnet.errors import URIError
from virnet.security.tlsfiles import defaultFiles
from virnet.transport.config import Caller, ClientConfig
from virnet.transport.endpoints import endpointFor
from virnet.transport.explain import explain
from virnet.transport.process import CommandEndpoint
from virnet.transport.uri import parseURI

CONFIG = ClientConfig("libvirt.conf", {"hail": "qemu+ssh://hail/system?command=/bin/true"}, proxy="netcat")
ROOT = Caller({"PATH": "/usr/bin:/bin", "XDG_RUNTIME_DIR": "/r"}, 0, CONFIG)
USER = ROOT._replace(euid=7)


def values(text: str | None, caller: Caller = ROOT, readonly: bool = False) -> dict[str, Any]:
    """What would be done."""
    return {each.what: each.value for each in explain(text, readonly, caller)}


def reasons(text: str | None, caller: Caller = ROOT) -> dict[str, str]:
    """And why."""
    return {each.what: each.why for each in explain(text, False, caller)}


class Explaining(SynchronousTestCase):
    """Each decision with its reason."""

    def test_a_socket(self) -> None:
        self.assertEqual(
            values("test+unix:///default?socket=/s&a=b", readonly=True),
            {
                "uri": "test+unix:///default?socket=/s&a=b",
                "transport": "unix",
                "socket": "/s",
                "starts": None,
                "name": "test:///default?a=b",
                "readonly": True,
            },
        )

    def test_a_session(self) -> None:
        found = values("qemu:///session", USER)
        self.assertEqual(found["socket"], "/r/libvirt/libvirt-sock")
        self.assertEqual(found["starts"], "/usr/sbin/libvirtd")
        self.assertIn(
            "the user's session: the path /session, and not root", reasons("qemu:///session", USER)["socket"]
        )

    def test_no_uri(self) -> None:
        self.assertEqual(values(None)["name"], "")
        self.assertIn("CONNECT_GET_URI", reasons("")["name"])

    def test_an_alias_over_ssh(self) -> None:
        found, why = values("hail"), reasons("hail")
        self.assertEqual(found["uri"], CONFIG.aliases["hail"])
        self.assertEqual(why["uri"], "the alias 'hail' in libvirt.conf")
        self.assertEqual(found["argv"][:6], ["/bin/true", "-T", "-e", "none", "--", "hail"])
        self.assertEqual(found["there"], found["argv"][-1])
        self.assertIn("proxy netcat: remote_proxy in libvirt.conf", why["there"])

    def test_it_is_what_the_endpoint_is_made_of(self) -> None:
        found = values("hail")
        endpoint = endpointFor(None, parseURI(found["uri"]), caller=ROOT)
        assert isinstance(endpoint, CommandEndpoint)
        self.assertEqual(endpoint.command.argv, tuple(found["argv"]))
        self.assertEqual(endpoint.command.environment, found["environment"])

    def test_a_program_that_is_missing_is_said_to_be(self) -> None:
        found = values("qemu+ext:///x?command=zz")
        self.assertEqual((found["program"], found["argv"]), (None, ["zz"]))
        self.assertEqual(reasons("qemu+ext:///x?command=zz")["program"], "'zz' is not in PATH")

    def test_a_host(self) -> None:
        for uri, host, port in (
            ("qemu+tcp:///system", "localhost", 16509),
            ("qemu://h/system", "h", 16514),
            ("qemu+tls://h:5/system", "h", 5),
        ):
            found = values(uri)
            self.assertEqual((found["host"], found["port"]), (host, port))
        self.assertEqual(reasons("qemu://h/system")["transport"], "the URI has a host")

    def test_certificates(self) -> None:
        found, why = values("qemu+tls://h/system"), reasons("qemu+tls://h/system?no_verify=1")
        self.assertEqual(found["cafile"], defaultFiles("client").authorities)
        self.assertEqual((found["priority"], found["verify"]), ("NORMAL", True))
        self.assertEqual(why["verify"], "the parameter 'no_verify'")
        directory = self.mktemp()
        write(Path(directory), [authority()])
        uri = f"qemu+tls://h/system?pkipath={directory}&tls_priority=SECURE256"
        found, why = values(uri), reasons(uri)
        self.assertEqual(found["keyfile"], f"{directory}/clientkey.pem")
        self.assertEqual(found["priority"], "SECURE256")
        self.assertEqual(why["cafile"], "the parameter 'pkipath'")
        self.assertEqual(why["keyfile"], "the parameter 'pkipath', but there is none")

    def test_ssh_within_the_process(self) -> None:
        found = values("qemu+libssh2://h/system?keyfile=/k&known_hosts=/n&proxy=native")
        self.assertEqual((found["host"], found["port"], found["user"]), ("h", 22, "root"))
        self.assertEqual((found["keys"], found["known_hosts"]), ("/k", "/n"))
        self.assertEqual(found["there"], "sh -c 'virt-ssh-helper 'qemu:///system''")

    def test_what_cannot_be_opened_cannot_be_explained(self) -> None:
        for uri in ("qemu+tcp://h/?keyfile=x", "nonsense", "qemu+ssh://h/?netcat=x&proxy=native"):
            self.assertRaises(URIError, explain, uri, False, ROOT)
