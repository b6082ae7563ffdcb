"""The client's configuration: its language, its meaning, and which URI is meant in the end."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from virnet.transport.config import (
    Caller,
    ClientConfig,
    ConfigError,
    configFile,
    loadConfig,
    meantURI,
    parseConfig,
    resolveURI,
)
from virnet.transport.uri import NO_URI

GOOD = """\
# a comment
uri_aliases = [
  "hail=qemu+ssh://root@hail/system",   # another
  "b_-9=test+ssh://b/x?a=b",
]
uri_default = 'hail'
remote_mode="legacy"
  other = -5 ; x.y = []
remote_proxy = \"""native\"""
tls_priority = "NORMAL"
"""

#: text: the error, behind the file's name
BAD = {
    "uri_default = x": ":1: expected a value",
    'a = 1\nuri_default = "x" trailing': ":2: expected the end of the line behind the value of 'uri_default'",
    "uri_default": ":1: expected = behind 'uri_default'",
    "= 5": ":1: expected a name",
    'x = "': ":1: expected a value",
    "x = [1 2]": ":1: expected a comma or ]",
    "x = [": ":1: expected a value",
    "x = [[1]]": ":1: expected a value",
    "uri_default = 5": ": expected a string for 'uri_default'",
    'uri_aliases = "a=b"': ": expected a list of strings for 'uri_aliases'",
    "uri_aliases = [1]": ": expected a list of strings for 'uri_aliases'",
    'uri_aliases = ["axx"]': ": 'axx' in 'uri_aliases' is not ALIAS=URI",
    'uri_aliases = ["a!=x"]': ": 'a!=x' in 'uri_aliases': an alias is a-z, A-Z, 0-9, _ and -",
    'remote_mode = "zz"': ": 'remote_mode' is one of auto, legacy, direct, not 'zz'",
    'remote_proxy = "zz"': ": 'remote_proxy' is one of auto, netcat, native, not 'zz'",
}


class Files(SynchronousTestCase):
    """What a file says."""

    def load(self, text: str) -> ClientConfig:
        """Load this text."""
        self.path = self.mktemp()
        with open(self.path, "w") as file:
            file.write(text)
        return loadConfig(self.path)

    def test_a_file(self) -> None:
        self.assertEqual(
            self.load(GOOD),
            ClientConfig(
                self.path,
                {"hail": "qemu+ssh://root@hail/system", "b_-9": "test+ssh://b/x?a=b"},
                "hail",
                "legacy",
                "native",
                "NORMAL",
            ),
        )

    def test_no_file_is_an_empty_one(self) -> None:
        path = self.mktemp()
        self.assertEqual(loadConfig(path), ClientConfig(path))
        self.assertEqual(self.load(""), ClientConfig(self.path))

    def test_mistakes_are_named_with_their_line(self) -> None:
        for text, wanted in BAD.items():
            error = str(self.assertRaises(ConfigError, self.load, text))
            self.assertIn(self.path + wanted, error)

    def test_a_file_that_cannot_be_read(self) -> None:
        path = self.mktemp()
        os.mkdir(path)
        self.assertIn(path, str(self.assertRaises(ConfigError, loadConfig, path)))

    def test_values(self) -> None:
        text = 'a=1\nb=-2\nc=\'x "y\'\nd="it\'s"\ne="""two\nlines"""\nf=[1,\n\'x\'\n,]\na=3'
        wanted = {"a": 3, "b": -2, "c": 'x "y', "d": "it's", "e": "two\nlines", "f": [1, "x"]}
        self.assertEqual(parseConfig(text, "f"), wanted)

    @given(st.text(alphabet="ab=[]\",'#\n 1-x\0é"))
    def test_any_text_is_a_configuration_or_an_error_of_one_line(self, text: str) -> None:
        try:
            parseConfig(text, "f")
        except ConfigError as e:
            self.assertEqual(len(str(e).splitlines()), 1)


class Places(SynchronousTestCase):
    """Where it is looked for."""

    def test_root_has_the_systems(self) -> None:
        self.assertEqual(configFile({"XDG_CONFIG_HOME": "/c"}, 0), "/etc/libvirt/libvirt.conf")

    def test_others_have_their_own(self) -> None:
        self.assertEqual(configFile({"XDG_CONFIG_HOME": "/c", "HOME": "/h"}, 7), "/c/libvirt/libvirt.conf")
        self.assertEqual(configFile({"HOME": "/h"}, 7), "/h/.config/libvirt/libvirt.conf")


class Resolving(SynchronousTestCase):
    """Which URI is meant."""

    CONFIG = ClientConfig("f", {"hail": "qemu+ssh://hail/system", "x": "hail"}, "hail")

    def resolve(self, text: str | None, config: ClientConfig = CONFIG, **environ: str) -> str:
        """The URI alone."""
        return resolveURI(text, Caller(environ, 0, config))[0]

    def test_aliases(self) -> None:
        self.assertEqual(self.resolve("hail"), "qemu+ssh://hail/system")
        self.assertEqual(self.resolve("Hail"), "Hail")
        self.assertEqual(self.resolve("x"), "hail")
        self.assertEqual(self.resolve("test:///default"), "test:///default")

    def test_no_uri(self) -> None:
        for nothing in (None, ""):
            self.assertEqual(self.resolve(nothing), "qemu+ssh://hail/system")
            self.assertEqual(self.resolve(nothing, LIBVIRT_DEFAULT_URI="test:///x"), "test:///x")
            self.assertEqual(self.resolve(nothing, LIBVIRT_DEFAULT_URI="hail"), "qemu+ssh://hail/system")
            self.assertEqual(self.resolve(nothing, LIBVIRT_DEFAULT_URI=""), "qemu+ssh://hail/system")
            self.assertEqual(self.resolve(nothing, ClientConfig("f")), "")

    def test_it_is_taken_apart(self) -> None:
        caller = Caller({}, 0, self.CONFIG)
        self.assertEqual(meantURI("hail", caller).host, "hail")
        self.assertEqual(meantURI(None, caller).transport, "ssh")
        self.assertEqual(meantURI("", caller._replace(config=ClientConfig("f"))), NO_URI)

    def test_where_it_comes_from_is_told(self) -> None:
        caller = Caller({}, 0, self.CONFIG)
        self.assertEqual(resolveURI(None, caller)[1], ["uri_default in f", "the alias 'hail' in f"])
        self.assertEqual(resolveURI("test:///x", caller)[1], ["as it was given"])
