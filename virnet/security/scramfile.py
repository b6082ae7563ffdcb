"""The file of SCRAM credentials: salted keys, never a password.

Rules:

  - The first line names the format and holds a random secret. From that come the salts that are shown to
    who asks for a user that does not exist: the same each time, as for a real one. So does how often that
    user's password would be hashed: as often as some real one's is.
  - Then a line a user: the name, and for each mechanism C{NAME$ITERATIONS:SALT$STOREDKEY:SERVERKEY} in
    base64, as RFC 5803 writes them, with tabs in between. A name cannot hold a tab, SASLprep prohibits it.
  - The file is changed by replacing it: a reader sees the old one or the new one. It is made with mode
    0600; one that is there keeps its mode and owner. A lock beside it keeps two writers apart.
  - A server looks whether the file was replaced each time that a client begins to authenticate. One that
    cannot be read lets nobody in.
"""

from __future__ import annotations

import fcntl
import hmac
import os
import secrets
import tempfile
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import contextmanager

from virnet.errors import VirnetError
from virnet.limits import SCRAM_ITERATIONS
from virnet.security.saslscram import MECHANISMS, ScramKeys, makeKeys, prepare

_FORMAT = "virnet-scram-1"
_SECRET_SIZE = 32
_SALT_SIZE = 16
_KEY_SIZES = {"SCRAM-SHA-1": 20, "SCRAM-SHA-256": 32, "SCRAM-SHA-512": 64}

_Users = dict[str, dict[str, ScramKeys]]
_Stamp = tuple[int, int, int]


class CredentialFileError(VirnetError):
    """The file cannot be used; the text says why."""


class ScramFile:
    """A file of SCRAM credentials.

    @ivar path: where it is.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Nothing is read yet."""
        self.path = os.fspath(path)
        self._stamp: _Stamp | None = None
        self._users: _Users = {}
        self._secret = b""
        self._iterations: dict[str, set[int]] = {}

    def __repr__(self) -> str:
        return f"<ScramFile {self.path}>"

    def refresh(self) -> None:
        """Read the file if it is another than the one that was read last.

        @raise CredentialFileError: it is not there, cannot be read, or is none.
        """
        try:
            with open(self.path, encoding="utf-8") as file:
                status = os.fstat(file.fileno())
                stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
                if stamp == self._stamp:
                    return
                text = file.read()
        except OSError as e:
            raise CredentialFileError(f"{self.path}: {e.strerror}") from e
        except UnicodeDecodeError:
            raise CredentialFileError(f"{self.path} is no file of SCRAM credentials") from None
        self._secret, self._users = self._parse(text)
        # Not when somebody asks: how long that takes must not say for whom it was.
        self._iterations = {
            each: {keys[each].iterations for keys in self._users.values() if each in keys}
            for each in MECHANISMS
        }
        self._stamp = stamp

    def mechanisms(self) -> tuple[str, ...]:
        """The mechanisms for which it has keys, the strongest first."""
        return MECHANISMS

    def users(self) -> list[str]:
        """The names in it, in order, as they were read last."""
        return sorted(self._users)

    def keys(self, mechanism: str, user: str) -> ScramKeys:
        """What the server's end of an exchange needs.

        @return: for a user that is not there keys that fit no password.
        """
        found = self._users.get(user, {}).get(mechanism)
        if found is not None:
            return found

        def drawn(*what: object) -> bytes:
            return hmac.digest(self._secret, " ".join(map(str, (mechanism, user, *what))).encode(), "sha256")

        size = _KEY_SIZES[mechanism]
        iterations = max(self._iterations.get(mechanism) or {SCRAM_ITERATIONS}, key=drawn)
        return ScramKeys(
            drawn()[:_SALT_SIZE], secrets.token_bytes(size), secrets.token_bytes(size), iterations
        )

    # Changing it

    def setPassword(self, user: str, password: str, iterations: int = SCRAM_ITERATIONS) -> bool:
        """Give a user a password; makes the file if there is none.

        @param iterations: how often it is hashed.
        @return: whether the user is new.
        @raise SASLError: the name or the password is not allowed.
        @raise CredentialFileError: the file cannot be used.
        """
        user = prepare(user)
        salts = {each: secrets.token_bytes(_SALT_SIZE) for each in MECHANISMS}
        keys = {each: makeKeys(each, password, iterations, salts[each]) for each in MECHANISMS}
        with self._changing(True):
            new = user not in self._users
            self._users[user] = keys
        return new

    def delete(self, user: str) -> None:
        """Remove a user.

        @raise CredentialFileError: there is none of that name, or the file cannot be used.
        """
        user = prepare(user)
        with self._changing(False):
            if self._users.pop(user, None) is None:
                raise CredentialFileError(f"{self.path} has no user {user!r}")

    @contextmanager
    def _changing(self, mayMake: bool) -> Iterator[None]:
        """Read the file, let it be changed, and write it."""
        try:
            if not mayMake and not os.path.exists(self.path):
                raise CredentialFileError(f"{self.path}: there is no such file")
            lock = os.open(self.path + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                self._stamp = None
                if os.path.exists(self.path):
                    self.refresh()
                else:
                    self._secret, self._users = secrets.token_bytes(_SECRET_SIZE), {}
                yield
                self._write()
            finally:
                os.close(lock)
        except OSError as e:
            raise CredentialFileError(f"{e.filename or self.path}: {e.strerror}") from e

    def _write(self) -> None:
        # A symbolic link stays one.
        path = os.path.realpath(self.path)
        handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".virnet-scram-")
        try:
            with open(handle, "w", encoding="utf-8") as file:
                if os.path.exists(path):
                    old = os.stat(path)
                    os.fchmod(handle, old.st_mode & 0o777)
                    if (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
                        os.fchown(handle, old.st_uid, old.st_gid)
                file.write(self._format())
                file.flush()
                os.fsync(handle)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
        self._stamp = None

    # Its lines

    def _format(self) -> str:
        lines = [f"{_FORMAT} {_encode(self._secret)}"]
        for user, keys in sorted(self._users.items()):
            lines.append("\t".join([user, *(_formatKeys(each, keys[each]) for each in keys)]))
        return "".join(f"{line}\n" for line in lines)

    def _parse(self, text: str) -> tuple[bytes, _Users]:
        lines = text.split("\n")
        name, _, secret = lines[0].partition(" ")
        if name != _FORMAT:
            raise CredentialFileError(f"{self.path} is no file of SCRAM credentials")
        users: _Users = {}
        number = 0
        try:
            for line in lines:
                number += 1
                if line and number > 1:
                    user, *fields = line.split("\t")
                    users[user] = dict(map(_parseKeys, fields))
            return _decode(secret), users
        except (KeyError, ValueError):
            # Not what stands there, not even in a traceback: keys are nearly as good as the password.
            raise CredentialFileError(f"{self.path}:{number}: not a line of SCRAM credentials") from None


def _formatKeys(mechanism: str, keys: ScramKeys) -> str:
    salt, storedKey, serverKey = (_encode(each) for each in keys[:3])
    return f"{mechanism}${keys.iterations}:{salt}${storedKey}:{serverKey}"


def _parseKeys(field: str) -> tuple[str, ScramKeys]:
    mechanism, parameters, pair = field.split("$")
    iterations, salt = parameters.split(":")
    storedKey, serverKey = map(_decode, pair.split(":"))
    if {len(storedKey), len(serverKey)} != {_KEY_SIZES[mechanism]}:
        raise ValueError("keys of a wrong size")
    return mechanism, ScramKeys(_decode(salt), storedKey, serverKey, int(iterations))


def _encode(data: bytes) -> str:
    return b64encode(data).decode("ascii")


def _decode(text: str) -> bytes:
    return b64decode(text, validate=True)
