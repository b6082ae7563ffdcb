"""Who opens a connection, and what the client's own configuration says: C{libvirt.conf}.

  - Root's is C{/etc/libvirt/libvirt.conf}, everybody else's C{libvirt/libvirt.conf} below C{$XDG_CONFIG_HOME}
    (by default C{~/.config}); there is one or the other, never both. No file is an empty one.
  - It may have C{uri_aliases}, C{uri_default}, C{remote_mode}, C{remote_proxy} and C{tls_priority}; what else
    is in it is left alone. What a URI says itself wins.
  - Without a URI: C{LIBVIRT_DEFAULT_URI}, else C{uri_default}, else none at all. An alias stands for the URI
    behind it wherever a URI is expected, but not for another alias.

The language is that of all of libvirt's configuration files (C: C{virConfReadFile}): C{name = value} a line,
values are numbers, strings in one or two quotes (three: over several lines) and lists of them, C{#} begins a
comment.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import NamedTuple

from virnet.errors import VirnetError
from virnet.transport.uri import ConnectionURI, parseURI

SYSTEM_CONFIG = "/etc/libvirt/libvirt.conf"

_TOKEN = re.compile(
    r"(?P<blank>[ \t\r]+|\#[^\n]*)|(?P<line>[\n;])|(?P<word>[A-Za-z_][A-Za-z0-9_.-]*)|(?P<number>-?[0-9]+)"
    r'|(?P<sign>[=\[\],])|"""(?P<long>.*?)"""|"(?P<double>[^"\n]*)"|\'(?P<single>[^\'\n]*)\'',
    re.DOTALL,
)
_ALIAS = re.compile(r"[A-Za-z0-9_-]+")

Value = str | int | list[str | int]


class ConfigError(VirnetError, ValueError):
    """A configuration file that cannot be used; the text says where and why."""


class ClientConfig(NamedTuple):
    """What C{libvirt.conf} says.

    @ivar filename: where it was read, or would have been.
    @ivar aliases: name to URI.
    @ivar default: the URI where the application gives none.
    @ivar mode: C{remote_mode}: which socket, see L{virnet.transport.sockets}.
    @ivar proxy: C{remote_proxy}: how a host is crossed, see L{virnet.transport.ssh}.
    @ivar tlsPriority: C{tls_priority}: which versions and ciphers.
    """

    filename: str
    aliases: Mapping[str, str] = {}
    default: str | None = None
    mode: str | None = None
    proxy: str | None = None
    tlsPriority: str | None = None


class Caller(NamedTuple):
    """Who opens a connection: all that decides besides the URI itself.

    @ivar environ: the environment.
    @ivar euid: the effective user id.
    @ivar config: what the configuration says.
    """

    environ: Mapping[str, str]
    euid: int
    config: ClientConfig

    @classmethod
    def current(cls) -> Caller:
        """This process.

        @raise ConfigError: its configuration is broken.
        """
        environ, euid = os.environ, os.geteuid()
        return cls(environ, euid, loadConfig(configFile(environ, euid)))


def userDirectory(environ: Mapping[str, str], variable: str, default: str) -> str:
    """libvirt's own directory of a user (C: C{virGetUserConfigDirectory} and others).

    @param variable: names the directory it is in, like C{XDG_CONFIG_HOME}.
    @param default: below the home directory, where that is not set.
    """
    above = environ.get(variable) or os.path.join(environ.get("HOME") or os.path.expanduser("~"), default)
    return f"{above}/libvirt"


def configFile(environ: Mapping[str, str], euid: int) -> str:
    """The path of the client's configuration."""
    if euid == 0:
        return SYSTEM_CONFIG
    return userDirectory(environ, "XDG_CONFIG_HOME", ".config") + "/libvirt.conf"


def loadConfig(filename: str) -> ClientConfig:
    """Read the client's configuration.

    @raise ConfigError: it cannot be read, or makes no sense.
    """
    try:
        with open(filename, encoding="utf-8", errors="surrogateescape") as file:
            values = parseConfig(file.read(), filename)
    except FileNotFoundError:
        return ClientConfig(filename)
    except OSError as e:
        raise ConfigError(f"{filename}: {e.strerror}") from e
    words: dict[str, str | None] = {}
    for name in ("uri_default", "remote_mode", "remote_proxy", "tls_priority"):
        value = values.get(name)
        if value is not None and not isinstance(value, str):
            raise ConfigError(f"{filename}: expected a string for {name!r}")
        words[name] = value
    for name, known in (
        ("remote_mode", ("auto", "legacy", "direct")),
        ("remote_proxy", ("auto", "netcat", "native")),
    ):
        if words[name] is not None and words[name] not in known:
            raise ConfigError(f"{filename}: {name!r} is one of {', '.join(known)}, not {words[name]!r}")
    return ClientConfig(
        filename,
        _aliases(values.get("uri_aliases", []), filename),
        words["uri_default"] or None,
        words["remote_mode"],
        words["remote_proxy"],
        words["tls_priority"],
    )


def _aliases(entries: Value, filename: str) -> dict[str, str]:
    aliases: dict[str, str] = {}
    for entry in entries if isinstance(entries, list) else [0]:
        if not isinstance(entry, str):
            raise ConfigError(f"{filename}: expected a list of strings for 'uri_aliases'")
        alias, sign, uri = entry.partition("=")
        if not sign:
            raise ConfigError(f"{filename}: {entry!r} in 'uri_aliases' is not ALIAS=URI")
        if not _ALIAS.fullmatch(alias):
            raise ConfigError(f"{filename}: {entry!r} in 'uri_aliases': an alias is a-z, A-Z, 0-9, _ and -")
        aliases.setdefault(alias, uri)
    return aliases


def parseConfig(text: str, filename: str) -> dict[str, Value]:
    """Read the language of libvirt's configuration files.

    @param filename: for errors.
    @return: the values by name; of a name that comes twice, the last.
    @raise ConfigError: it is not of the language.
    """
    return _Parser(text, filename).parse()


class _Parser:
    def __init__(self, text: str, filename: str) -> None:
        self._text = text
        self._filename = filename
        self._at = 0
        self._kind: str | None = None
        self._word = ""
        self._next()

    def _next(self) -> None:
        """Go to the next token that is no blank; at the end there is none."""
        while self._at < len(self._text):
            found = _TOKEN.match(self._text, self._at)
            if found is None:
                self._kind = "other"
                return
            self._at = found.end()
            self._kind = found.lastgroup
            self._word = found[found.lastgroup or 0]
            if self._kind != "blank":
                return
        self._kind = None

    def _wrong(self, expected: str) -> ConfigError:
        line = self._text.count("\n", 0, max(self._at - 1, 0)) + 1
        return ConfigError(f"{self._filename}:{line}: expected {expected}")

    def _sign(self, sign: str) -> bool:
        """Whether this sign is next; then it is passed by."""
        if self._kind != "sign" or self._word != sign:
            return False
        self._next()
        return True

    def parse(self) -> dict[str, Value]:
        values: dict[str, Value] = {}
        while self._kind is not None:
            if self._kind == "line":
                self._next()
                continue
            if self._kind != "word":
                raise self._wrong("a name")
            name = self._word
            self._next()
            if not self._sign("="):
                raise self._wrong(f"= behind {name!r}")
            values[name] = self._list() if self._sign("[") else self._value()
            if self._kind not in ("line", None):
                raise self._wrong(f"the end of the line behind the value of {name!r}")
        return values

    def _value(self) -> str | int:
        if self._kind not in ("number", "long", "double", "single"):
            raise self._wrong("a value: a number, a string in quotes or a list in brackets")
        value = int(self._word) if self._kind == "number" else self._word
        self._next()
        return value

    def _list(self) -> list[str | int]:
        values: list[str | int] = []
        while True:
            self._lines()
            if self._sign("]"):
                return values
            values.append(self._value())
            self._lines()
            if not self._sign(",") and not (self._kind == "sign" and self._word == "]"):
                raise self._wrong("a comma or ]")

    def _lines(self) -> None:
        while self._kind == "line":
            self._next()


def resolveURI(text: str | None, caller: Caller) -> tuple[str, list[str]]:
    """Find the URI that is meant.

    @param text: what the application gave: a URI, an alias, nothing.
    @return: the URI, empty where there is none at all; and where it comes from, in words.
    """
    config = caller.config
    reasons: list[str] = []
    if not text:
        text = caller.environ.get("LIBVIRT_DEFAULT_URI")
        if text:
            reasons.append("LIBVIRT_DEFAULT_URI in the environment")
        elif config.default:
            text = config.default
            reasons.append(f"uri_default in {config.filename}")
        else:
            return "", ["no URI is given, nor LIBVIRT_DEFAULT_URI, nor uri_default: the server finds out"]
    if text in config.aliases:
        reasons.append(f"the alias {text!r} in {config.filename}")
        text = config.aliases[text]
    return text, reasons or ["as it was given"]


def meantURI(text: str | None, caller: Caller | None = None) -> ConnectionURI:
    """Find the URI that is meant, and take it apart.

    @param text: what the application gave: a URI, an alias, nothing.
    @param caller: by default this process.
    @raise URIError: it is no URI that can be used.
    @raise ConfigError: the client's configuration is broken.
    """
    return parseURI(resolveURI(text, caller or Caller.current())[0])
