"""libvirt's connection URIs, as a table of texts and what they mean."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from virnet.errors import URIError
from virnet.transport.uri import parseURI

#: text: (driver, transport, host, port)
PLACES = {
    "test:///default": ("test", "unix", "", None),
    "qemu:///system": ("qemu", "unix", "", None),
    "qemu://host/system": ("qemu", "tls", "host", 16514),
    "qemu+unix:///system": ("qemu", "unix", "", None),
    "qemu+tcp://host/system": ("qemu", "tcp", "host", 16509),
    "qemu+tcp:///system": ("qemu", "tcp", "", 16509),
    "qemu+tcp://host:1234/system": ("qemu", "tcp", "host", 1234),
    "qemu+tls://host:1/system": ("qemu", "tls", "host", 1),
    "qemu+tcp://[::1]:1234/system": ("qemu", "tcp", "::1", 1234),
    "qemu+ssh://host/system": ("qemu", "ssh", "host", None),
    "qemu+libssh://host/system": ("qemu", "libssh", "host", 22),
    "qemu+libssh2://host/system": ("qemu", "libssh2", "host", 22),
    "qemu+ext:///system?command=/bin/x": ("qemu", "ext", "", None),
    "qemu+TCP://host/system": ("qemu", "tcp", "host", 16509),
    "QEMU+tcp://host/system": ("QEMU", "tcp", "host", 16509),
    "test:/default": ("test", "unix", "", None),
    "": ("", "unix", "", None),
    "qemu+ssh://u@Build-Host:0/system": ("qemu", "ssh", "Build-Host", None),
    "qemu+tcp://[FE80::1]/system": ("qemu", "tcp", "FE80::1", 16509),
    "qemu+ssh://u%3Ap@ss@host:22/system": ("qemu", "ssh", "host", 22),
}

#: text: the name that CONNECT_OPEN sends
NAMES = {
    "test+unix:///default?socket=S&a=b%20c&d=%26": "test:///default?a=b%20c&d=%26",
    "qemu+ssh://u@h:22/system": "qemu:///system",
    "test:///default": "test:///default",
    "qemu://host:1/system": "qemu:///system",
    "test+unix:///default?socket=S": "test:///default",
    "test+unix:///default?SOCKET=S&Mode=legacy&x=1": "test:///default?x=1",
    "test+unix:///default?x&y=&socket=S&z=3": "test:///default?x=&y=&z=3",
    "test:///default#fragment": "test:///default#fragment",
    "test:///default?x=1#fragment": "test:///default?x=1#fragment",
    "test:///default?name=qemu%3A///session": "qemu:///session",
    "test:///default?name=": "",
    "remote+tcp://host/": "",
    "remote://host/system": "",
    "remote+unix:///?socket=S": "",
    "QEMU+tcp://host/system": "QEMU:///system",
    "esx://host/?no_verify=1&auto_answer=1": "esx:///?auto_answer=1",
    # The rest as libvirt's client sends it.
    "qemu:///system?x=a/b%2F:+~,@-_.*()%C3%A9": "qemu:///system?x=a%2Fb%2F%3A%2B~%2C%40-_.%2A%28%29%C3%A9",
    "qemu:///system?&&x=1&mode=auto&": "qemu:///system?x=1",
    "qemu:///system?x=1=2": "qemu:///system?x=1%3D2",
    "qemu:///system?x=1;mode=auto": "qemu:///system?x=1",
    "qemu:///system?x=1;mode=auto&y=2;=3;z": "qemu:///system?x=1%3Bmode%3Dauto&y=2&z=",
    "qemu://host": "qemu://",
    "test:///default?name=a&name=b": "b",
}

#: text: what its refusal says
REFUSED = {
    "default": "'default' is not a libvirt URI",
    "/run/libvirt/libvirt-sock": "is not a libvirt URI",
    " test:///default": "it has a blank or a control character in it",
    "te st:///default": "it has a blank or a control character in it",
    "qemu+ssh://root%00@host/system": "it has a zero character in it",
    "qemu+ssh://host/system?name=a%00b": "it has a zero character in it",
    "qemu+ext:///system?command=/bin/true%00x": "it has a zero character in it",
    "test+foo:///default": "transport 'foo' is not one of ext, libssh, libssh2, ssh, tcp, tls, unix",
    "test+:///default": "transport '' is not one of",
    "test+unix://host/default": "using unix socket and remote server 'host' is not supported",
    "qemu+tcp://host:port/system": "is not a URI",
    "qemu+tcp://host:99999/system": "is not a URI",
    "qemu+tcp://[::1/system": "is not a URI",
    "qemu+tcp://host/system?socket=S": "parameter 'socket' does not go with the transport 'tcp'",
    "qemu+tcp://host/system?KeyFile=k": (
        "parameter 'KeyFile' does not go with the transport 'tcp', only with libssh, libssh2 and ssh;"
        " leave it out or take another transport"
    ),
    "qemu+ssh://host/system?pkipath=/x": "'pkipath' does not go with the transport 'ssh', only with tls;",
    "qemu+tls://host/system?command=/x": "does not go with the transport 'tls', only with ext and ssh;",
    "qemu+ssh://host/system?known_hosts=/x": "only with libssh and libssh2;",
    "qemu:///system?mode=modern": "parameter 'mode' is auto, legacy or direct, not 'modern'",
    "qemu+ssh://host/system?proxy=": "parameter 'proxy' is auto, netcat or native, not ''",
    "qemu+ssh://host/system?mode=direct": "mode 'direct' does not go with the transport 'ssh': name the",
    "qemu+ssh://host/system?no_tty=": "parameter 'no_tty' is a number, 0 for no, 1 for yes, not ''",
    "qemu+tls://host/system?no_verify=yes": "'no_verify' is a number, 0 for no, 1 for yes, not 'yes'",
    "qemu+libssh://h/system?known_hosts_verify=no": "is normal, auto or ignore, not 'no'",
    "qemu+libssh2://h/system?sshauth=agent,key": (
        "parameter 'sshauth' lists agent, privkey, password and keyboard-interactive, not 'key'"
    ),
    "qemu+ext:///system": "the transport 'ext' needs the parameter 'command'",
}


class URIs(SynchronousTestCase):
    """What a URI means."""

    def test_where_it_leads(self) -> None:
        for text, wanted in PLACES.items():
            uri = parseURI(text)
            self.assertEqual((uri.driver, uri.transport, uri.host, uri.port), wanted, text)

    def test_R140_the_name_keeps_all_but_what_is_for_the_client(self) -> None:
        for text, name in NAMES.items():
            self.assertEqual(parseURI(text).name, name, text)

    def test_parameters_are_found_in_any_case_and_unquoted(self) -> None:
        uri = parseURI("test+unix:///default?SOCKET=%2Ftmp%2Fa%20b&x=1&AuthFile=f")
        self.assertEqual(uri.params, {"socket": "/tmp/a b", "authfile": "f"})

    def test_numbers_that_mean_yes_and_no(self) -> None:
        for value, wanted in (("1", True), ("-1", True), ("0", False), ("00", False), ("%201", True)):
            self.assertIs(parseURI(f"qemu+ssh://h/system?no_tty={value}").flag("no_tty"), wanted, value)
        self.assertIs(parseURI("qemu+ssh://h/system").flag("no_tty"), False)

    def test_user_and_path(self) -> None:
        uri = parseURI("qemu+ssh://me%40home@host/session")
        self.assertEqual((uri.user, uri.path), ("me@home", "/session"))
        self.assertIs(parseURI("qemu+ssh://host/session").user, None)

    def test_a_password_is_refused_and_not_shown(self) -> None:
        for text in (
            "test+tcp://alice:secret@host/default",
            "test+tcp://a:se cret@host",
            "x+tls://:secret@[::1]/",
        ):
            error = str(self.assertRaises(URIError, parseURI, text))
            self.assertIn("must not have a password in it", error)
            self.assertNotIn("cret", error)
        self.assertEqual(parseURI("qemu+tcp://a%3Ab@[::1]:1/system?x=y:z@").user, "a:b")

    def test_the_text_is_kept_for_messages(self) -> None:
        self.assertEqual(parseURI("test:///default").text, "test:///default")

    def test_what_cannot_be_used_is_refused_in_one_line_that_quotes_it(self) -> None:
        for text, wanted in REFUSED.items():
            error = str(self.assertRaises(URIError, parseURI, text))
            self.assertIn(wanted, error)
            self.assertIn(text, error)
            self.assertNotIn("\n", error)

    def test_control_characters_are_refused_and_shown_escaped(self) -> None:
        for text in ("te\nst:///", "test:///\n", "\0test:///", "test:///\x7f", "test:///\u2028"):
            error = str(self.assertRaises(URIError, parseURI, text))
            self.assertTrue(error.isprintable(), error)

    @given(
        st.text(max_size=60)
        | st.builds(
            "{}://{}/{}?{}".format,
            st.sampled_from(["test", "qemu+tcp", "qemu+unix", "x+ssh", "a b", "+"]),
            st.text(max_size=10),
            st.text(max_size=10),
            st.text(max_size=20),
        )
    )
    def test_any_text_is_a_uri_or_a_uri_error(self, text: str) -> None:
        try:
            uri = parseURI(text)
        except URIError as e:
            self.assertEqual(len(str(e).splitlines()), 1)
        else:
            self.assertEqual(uri.text, text)
            self.assertTrue(text.startswith(uri.driver))
