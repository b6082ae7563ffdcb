"""The command lines of ssh, as recorded from libvirt's own client (9.0.0) with C{command=} a program that
writes them down.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from virnet.errors import URIError
from virnet.transport.config import Caller, ClientConfig
from virnet.transport.ssh import Command, externalCommand, remoteCommand, shellQuoted, sshCommand
from virnet.transport.uri import parseURI

HOME = {"XDG_RUNTIME_DIR": "/run/user/7", "HOME": "/home/me"}
ROOT = Caller(HOME, 0, ClientConfig("libvirt.conf"))
USER = Caller(HOME, 7, ClientConfig("libvirt.conf"))

NETCAT = (
    "if 'nc' -q 2>&1 | grep \"requires an argument\" >/dev/null 2>&1; then ARG=-q0;else ARG=;fi;"
    "'nc' $ARG -U /var/run/libvirt/libvirt-sock"
)


def auto(helper: str, netcat: str = NETCAT) -> str:
    """What the host gets when it shall look itself."""
    return (
        "sh -c 'which virt-ssh-helper 1>/dev/null 2>&1; if test $? = 0; then     virt-ssh-helper "
        f"{helper}; else    {netcat}; fi'"
    )


#: URI: the words behind ssh, up to the host
OPTIONS = {
    "qemu+ssh://host/system": "-T -e none -- host",
    "qemu+ssh:///system": "-T -e none -- localhost",
    "qemu+ssh://host:0/system": "-T -e none -- host",
    "qemu+ssh://host:22/system": "-p 22 -T -e none -- host",
    "qemu+ssh://[::1]/system": "-T -e none -- ::1",
    "qemu+ssh://us%40er@host/system": "-l us@er -T -e none -- host",
    "qemu+ssh://u@host:2222/system?keyfile=/k&no_tty=1&no_verify=1": (
        "-p 2222 -l u -i /k -T -e none -o BatchMode=yes -o StrictHostKeyChecking=no -- host"
    ),
    "qemu+ssh://host/system?no_tty=0&no_verify=-1": "-T -e none -o StrictHostKeyChecking=no -- host",
    "qemu+ssh://-oProxyCommand=x/system": "-T -e none -- -oProxyCommand=x",
}

#: (caller, read-only, URI): what the host's shell gets
REMOTE = [
    (ROOT, False, "qemu+ssh://host/system", auto("'qemu:///system'")),
    (ROOT, True, "qemu+ssh://host/system", auto("-r 'qemu:///system'", f"{NETCAT}-ro")),
    (ROOT, False, "qemu+ssh://host/session", auto("'qemu:///session'")),
    (USER, False, "qemu+ssh://host/system", auto("'qemu:///system'")),
    (ROOT, False, "remote+ssh://host/", auto("'''\\'''\\''''")),
    (ROOT, False, "qemu+ssh://host/system?name=foo:///bar%20b", auto("'''\\''foo:///bar b'\\''''")),
    (
        ROOT,
        False,
        "qemu+ssh://host/system?x=a%20b%27c&mode=legacy",
        auto("'''\\''qemu:///system?x=a%20b%27c'\\''''"),
    ),
    (ROOT, False, "qemu+ssh://host/sys%20tem#frag%20x", auto("'''\\''qemu:///sys%20tem#frag%20x'\\''''")),
    (
        ROOT,
        False,
        "qemu+ssh://host/system?socket=/a&proxy=auto",
        auto("'qemu:///system'", NETCAT.replace("/var/run/libvirt/libvirt-sock", "/a")),
    ),
    (ROOT, False, "qemu+ssh://host/system?proxy=netcat", f"sh -c '{NETCAT}'"),
    (ROOT, True, "qemu+ssh://host/system?proxy=netcat", f"sh -c '{NETCAT}-ro'"),
    (
        ROOT,
        False,
        "qemu+ssh://host/system?socket=/a",
        f"sh -c '{NETCAT.replace('/var/run/libvirt/libvirt-sock', '/a')}'",
    ),
    (
        ROOT,
        False,
        "qemu+ssh://host/system?netcat=/x/nc&proxy=auto",
        f"sh -c '{NETCAT.replace(chr(39) + 'nc' + chr(39), chr(39) + '/x/nc' + chr(39))}'",
    ),
    (ROOT, False, "qemu+ssh://host/system?proxy=native", "sh -c 'virt-ssh-helper 'qemu:///system''"),
    (ROOT, True, "qemu+ssh://host/system?proxy=native", "sh -c 'virt-ssh-helper -r 'qemu:///system''"),
    (
        ROOT,
        False,
        "qemu+ssh://host/system?socket=/a&proxy=native",
        "sh -c 'virt-ssh-helper 'qemu:///system''",
    ),
    (ROOT, False, "qemu+ssh://host?proxy=native", "sh -c 'virt-ssh-helper 'qemu://''"),
    (USER, False, "qemu+ssh://host/session", "sh -c 'virt-ssh-helper 'qemu:///session''"),
    (USER, True, "qemu+ssh://host/session", "sh -c 'virt-ssh-helper -r 'qemu:///session''"),
    (USER, False, "test+ssh://host/default", "sh -c 'virt-ssh-helper 'test:///default''"),
    (
        USER,
        False,
        "qemu+ssh://host/session?proxy=netcat",
        f"sh -c '{NETCAT.replace('/var/run/libvirt', '/run/user/7/libvirt')}'",
    ),
    (
        USER,
        True,
        "qemu+ssh://host/session?proxy=auto",
        auto("-r 'qemu:///session'", NETCAT.replace("/var/run/libvirt", "/run/user/7/libvirt")),
    ),
]


def made(uri: str, caller: Caller = ROOT, readonly: bool = False) -> Command:
    """The command of a URI."""
    return sshCommand(parseURI(uri), readonly, caller)


class Commands(SynchronousTestCase):
    """What is run."""

    def test_options(self) -> None:
        for uri, wanted in OPTIONS.items():
            argv = made(uri).argv
            self.assertEqual(argv[:-1], ("ssh", *wanted.split()), uri)

    def test_the_hosts_command(self) -> None:
        for caller, readonly, uri, wanted in REMOTE:
            self.assertEqual(remoteCommand(parseURI(uri), readonly, caller)[0], wanted, uri)
            self.assertEqual(made(uri, caller, readonly).argv[-1], wanted, uri)

    def test_R134_no_verify_accepts_new_hosts_and_turns_nothing_else_off(self) -> None:
        argv = made("qemu+ssh://host/system?no_verify=1").argv
        self.assertIn("StrictHostKeyChecking=no", argv)
        self.assertEqual([each for each in argv if "KnownHosts" in each], [])
        self.assertNotIn("StrictHostKeyChecking=no", made("qemu+ssh://host/system").argv)

    def test_R135_who_asks_for_passwords_is_passed_on(self) -> None:
        ssh = {
            "SSH_ASKPASS": "/bin/ask",
            "DISPLAY": ":7",
            "XAUTHORITY": "/x",
            "SSH_AUTH_SOCK": "/a",
            "KRB5CCNAME": "k",
            "OPENSSL_CONF": "o",
            "XDG_RUNTIME_DIR": "/r",
        }
        common = {
            "PATH": "/bin",
            "HOME": "/h",
            "USER": "me",
            "LOGNAME": "me",
            "TMPDIR": "/t",
            "LD_LIBRARY_PATH": "/l",
            "LD_PRELOAD": "p",
        }
        caller = Caller({**ssh, **common, "LC_ALL": "de_DE", "FOO": "bar", "LANG": "de"}, 0, ROOT.config)
        self.assertEqual(made("qemu+ssh://host/system", caller).environment, {**ssh, **common, "LC_ALL": "C"})
        external = externalCommand(parseURI("qemu+ext:///system?command=/x"), caller)
        self.assertEqual(external.environment, {**common, "LC_ALL": "C"})

    def test_R138_both_shells_see_one_word(self) -> None:
        for netcat, wanted in (
            ("/opt/my%20nc", "'''\\''/opt/my nc'\\''''"),
            ("/opt/it%27s", "'''\\''/opt/it'\\''\\'\\'''\\''s'\\''''"),
            ("", "'''\\'''\\''''"),
        ):
            command = made(f"qemu+ssh://host/system?netcat={netcat}").argv[-1]
            self.assertIn(f"if {wanted} -q 2>&1", command)
            self.assertIn(f";{wanted} $ARG -U ", command)

    def test_R139_a_host_that_looks_like_an_option_is_none(self) -> None:
        argv = made("qemu+ssh://-oProxyCommand=touch%20x/system").argv
        self.assertEqual(argv[argv.index("--") + 1][:2], "-o")

    def test_a_socket_is_quoted_where_that_is_needed(self) -> None:
        self.assertTrue(
            made("qemu+ssh://host/system?socket=/a%20b%3Breboot")
            .argv[-1]
            .endswith("-U '''\\''/a b;reboot'\\'''''")
        )

    def test_characters_that_need_quotes(self) -> None:
        needed = "".join(each for each in map(chr, range(32, 127)) if shellQuoted(each) != each)
        self.assertEqual(needed, " !\"#$&'()*;<>?[\\]^`{|}~")

    def test_the_configuration_decides_where_the_uri_does_not(self) -> None:
        caller = Caller(HOME, 0, ClientConfig("f", proxy="netcat"))
        self.assertEqual(made("qemu+ssh://host/system", caller).argv[-1], f"sh -c '{NETCAT}'")
        uri = "qemu+ssh://host/system?proxy=native"
        self.assertEqual(made(uri, caller).argv[-1], "sh -c 'virt-ssh-helper 'qemu:///system''")
        direct = Caller(HOME, 0, ClientConfig("f", mode="direct"))
        error = str(self.assertRaises(URIError, made, "qemu+ssh://host/system", direct))
        self.assertIn("mode 'direct' (f) does not go with the transport 'ssh'", error)
        made("qemu+ssh://host/system?mode=auto", direct)
        made(uri, direct)

    def test_netcat_and_native_contradict_each_other(self) -> None:
        for caller, uri in (
            (ROOT, "qemu+ssh://host/system?netcat=/x&proxy=native"),
            (USER, "qemu+ssh://host/session?netcat=/x"),
        ):
            error = str(self.assertRaises(URIError, made, uri, caller))
            self.assertIn("netcat path not valid with native proxy mode", error)

    def test_another_program_takes_the_place_of_ssh(self) -> None:
        self.assertEqual(made("qemu+ssh://host/system?command=/opt/ssh").argv[0], "/opt/ssh")
        command = externalCommand(parseURI("qemu+ext:///system?command=/opt/tunnel"), ROOT)
        self.assertEqual(command.argv, ("/opt/tunnel",))

    def test_a_program_that_is_not_there(self) -> None:
        command = Command(("no-such-program",), {"PATH": "/bin"})
        error = str(self.assertRaises(URIError, command.program))
        self.assertEqual(error, "Cannot find 'no-such-program' in PATH: is it installed?")
