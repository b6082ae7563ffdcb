"""Asking the server's access policy about each call, each listed object and each event.

Rules:

  - The policy (L{virnet.security.access}) is asked once for each call, with what the call names; once more
    where a volume is copied or a domain renamed. It is asked after the provider was found and before it is
    called. What needs no permission is not asked about: closing, and whether a feature is supported.
  - A client may say any name with any uuid. Where the policy looks at objects, the implementation is asked
    for the object first, and a call that describes it otherwise is refused.
  - A call that looks something up is judged by what it found: it changes nothing.
  - Of a list (C{aclFilter}) the client gets what it may see; numbers are counted from that. Events about an
    object whose attributes it may not see do not reach it.
  - A refusal is C{ACCESS_DENIED}, and a warning in the log with who, what and on which object.
"""

from __future__ import annotations

import uuid as uuids
from collections.abc import Callable, Iterator
from types import CoroutineType
from typing import TYPE_CHECKING, Any
from xml.parsers import expat

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import RemoteError
from virnet.programs.base import Procedure
from virnet.programs.values import (
    Domain,
    DomainCheckpoint,
    DomainSnapshot,
    HostInterface,
    Network,
    NetworkPort,
    NodeDevice,
    NWFilter,
    NWFilterBinding,
    Secret,
    StoragePool,
    StorageVol,
)
from virnet.security.access import AccessObject, IAccessPolicy
from virnet.security.permissions import isOwn, needed
from virnet.server.program import notSupported

if TYPE_CHECKING:
    from virnet.server.client import ServerClient

_audit = Logger(namespace="virnet.audit")
_log = Logger()

Method = Callable[..., Any]
Names = tuple[str | None, bytes | None, str | None]
"""Name, uuid, pool."""

_UNKNOWN: Names = (None, None, None)

_NAMES: dict[type, tuple[str, Callable[[Any], Names]]] = {
    Domain: ("domain", lambda it: (it.name, it.uuid, None)),
    DomainSnapshot: ("domain", lambda it: (it.dom.name, it.dom.uuid, None)),
    DomainCheckpoint: ("domain", lambda it: (it.dom.name, it.dom.uuid, None)),
    Network: ("network", lambda it: (it.name, it.uuid, None)),
    NetworkPort: ("network_port", lambda it: (it.net.name, it.net.uuid, None)),
    NWFilter: ("nwfilter", lambda it: (it.name, it.uuid, None)),
    NWFilterBinding: ("nwfilter_binding", lambda it: (it.portdev, None, None)),
    HostInterface: ("interface", lambda it: (it.name, None, None)),
    NodeDevice: ("node_device", lambda it: (it.name, None, None)),
    Secret: ("secret", lambda it: (it.usageID, it.uuid, None)),
    StoragePool: ("storage_pool", lambda it: (it.name, it.uuid, None)),
    StorageVol: ("storage_vol", lambda it: (it.name, None, it.pool)),
}
"""How the values of the protocol are named, and to which kind they belong."""

_BY_UUID = {
    "domain": "domainLookupByUUID",
    "network": "networkLookupByUUID",
    "network_port": "networkLookupByUUID",
    "nwfilter": "nwfilterLookupByUUID",
    "secret": "secretLookupByUUID",
    "storage_pool": "storagePoolLookupByUUID",
}
"""Kind to the procedure that finds one by its uuid, with the name it really has."""

_BY_ENTRY = {
    "domain": "domainLookupByName",
    "interface": "interfaceLookupByName",
    "network": "networkLookupByName",
    "node_device": "nodeDeviceLookupByName",
    "nwfilter": "nwfilterLookupByName",
    "secret": "secretLookupByUUID",
    "storage_pool": "storagePoolLookupByName",
    "storage_vol": "storageVolLookupByName",
}
"""Kind to the procedure that finds what stands in a list of names; of secrets it is one of uuids."""

_FREE = frozenset({"connectSupportsFeature"})
"""What nobody is asked about, though the tables have a permission: libvirtd answers it before any driver."""

_NAMED_BY_ELEMENT = frozenset({"domain", "network", "storage_pool", "storage_vol"})
"""Kinds whose definition has the name in an element C{name}."""

_NAMED_BY_ATTRIBUTE = frozenset({"interface", "nwfilter"})
"""Kinds whose definition has the name in an attribute of its first element. What others are called is not
known before they are there: C{name} in their definitions is something else, or nothing."""

_ABSENT = frozenset(
    {
        ErrorNumber.NO_DOMAIN,
        ErrorNumber.NO_NETWORK,
        ErrorNumber.NO_NWFILTER,
        ErrorNumber.NO_SECRET,
        ErrorNumber.NO_STORAGE_POOL,
    }
)
"""How an implementation says that nothing has a uuid."""

_DOCUMENTS = ("xml", "xml_desc")
"""Parameters with the definition of what is made."""


class _Lie(Exception):
    """The client describes an object otherwise than it is."""


class Guard:
    """Asks the policy about one client."""

    def __init__(self, client: ServerClient, find: Callable[[Procedure], Method]) -> None:
        """@param find: finds the provider's methods, without asking the policy."""
        self._client = client
        self._find = find
        self._lookups: dict[str, Method] = {}

    @property
    def _policy(self) -> IAccessPolicy:
        """The server's of now: it may be replaced while clients are connected."""
        policy = self._client.server.access
        assert policy is not None, "it may be replaced, not removed"
        return policy

    def guarded(self, procedure: Procedure, method: Method) -> Method:
        """Have the policy asked before a method is called."""
        if procedure.name in _FREE or (not procedure.acl and not isOwn(procedure.program)):
            return method
        finds = "Lookup" in procedure.name and {each.partition(":")[2] for each in procedure.acl} == {
            "getattr"
        }

        async def call(*args: Any) -> Any:
            permissions = needed(procedure, args)
            if finds:
                result = await _value(method(*args))
                self._ask(procedure, _about(result, permissions))
                return result
            kind = _kindOf(permissions)
            names = _claimed(procedure, kind, args)
            if self._policy.looksAtObjects:
                try:
                    names = await self._true(kind, names, args)
                except _Lie:
                    raise self._refusal(procedure, AccessObject(permissions, kind, *names)) from None
            object = AccessObject(permissions, kind, *names)
            self._ask(procedure, object)
            for further in _further(procedure, object, args):
                self._ask(procedure, further)
            if procedure.aclFilter:
                return await self._filtered(procedure, method, args)
            return await _value(method(*args))

        return call

    def _ask(self, procedure: Procedure, object: AccessObject) -> None:
        if not self._policy.allows(self._client.identity, procedure, object):
            raise self._refusal(procedure, object)

    def _refusal(self, procedure: Procedure, object: AccessObject) -> RemoteError:
        _audit.warn(
            "access denied: {identity} ({peer}) called {procedure} on {object}, which needs {permissions}",
            audit="denied",
            identity=self._client.identity,
            peer=self._client.peer,
            client=self._client.id,
            procedure=procedure.name,
            program=procedure.program.name,
            object=object,
            permissions=", ".join(object.permissions),
        )
        return RemoteError.of(ErrorNumber.ACCESS_DENIED, f"'{DENIER}' denied access", ErrorDomain.ACCESS)

    async def _call(self, name: str, *args: Any) -> Any:
        """Have the provider execute a procedure of REMOTE.

        @raise RemoteError: it fails, or the provider does not have it.
        """
        if name not in self._lookups:
            from virnet.programs import REMOTE

            try:
                self._lookups[name] = self._find(REMOTE.byName[name])
            except KeyError:
                raise notSupported(REMOTE.byName[name]) from None
        return await _value(self._lookups[name](*args))

    async def _true(self, kind: str, claimed: Names, args: tuple[Any, ...]) -> Names:
        """What the object of a call is really called.

        @param claimed: what it is called by the client.
        @raise _Lie: the client describes it otherwise.
        @raise RemoteError: there is no such object.
        """
        try:
            for value in args:
                if type(value) is StorageVol and kind == "storage_vol":
                    pool = await self._call("storagePoolLookupByName", value.pool)
                    if await self._call("storageVolLookupByName", pool, value.name) != value:
                        raise _Lie
                elif type(value) is StoragePool and kind == "storage_vol":
                    if await self._call("storagePoolLookupByUUID", value.uuid) != value:
                        raise _Lie
                elif type(value) is HostInterface:
                    if await self._call("interfaceLookupByName", value.name) != value:
                        raise _Lie
            name, uuid, pool = claimed
            if uuid is not None and kind in _BY_UUID:
                found = await self._call(_BY_UUID[kind], uuid)
                if name is not None and _NAMES[type(found)][1](found) != claimed:
                    raise _Lie
        except RemoteError as e:
            if e.code == ErrorNumber.NO_SUPPORT:
                return _UNKNOWN
            if e.code not in _ABSENT or any(type(value) in _NAMES for value in args):
                raise
            # It is about to be made, and is not there yet.
        return claimed

    # Lists

    async def _filtered(self, procedure: Procedure, method: Method, args: tuple[Any, ...]) -> Any:
        """Call what lists objects, and leave out what the client may not see."""
        parameters = procedure.parameters
        kind = _kindOf(procedure.aclFilter)
        if "need_results" in parameters:
            # The number is that of the objects it may see, so they have to be there.
            position = parameters.index("need_results")
            wanted = args[position]
            objects, _ = await _value(method(*args[:position], 1, *args[position + 1 :]))
            seen = [each for each in objects if self._maySee(procedure, kind, each)]
            return (seen if wanted else []), len(seen)
        if "NumOf" in procedure.name:
            return len(await self._entries(procedure.name.replace("NumOf", "List"), procedure, kind, args))
        for limit in ("maxnames", "maxids", "maxuuids"):
            if limit in parameters:
                position = parameters.index(limit)
                if args[position] < 0:
                    break
                rest = (*args[:position], *args[position + 1 :])
                entries = await self._entries(procedure.name, procedure, kind, rest)
                return entries[: args[position]]
        result = await _value(method(*args))
        if isinstance(result, (list, tuple)):
            return [each for each in result if self._maySee(procedure, kind, each.dom)]
        return result

    async def _entries(self, name: str, asked: Procedure, kind: str, args: tuple[Any, ...]) -> list[Any]:
        """What stands in an old list, of names, ids or uuids, as far as the client may see it.

        @param name: the procedure that lists.
        @param args: its arguments without the largest number.
        """
        listing = asked.program.byName[name]
        position = next(i for i, each in enumerate(listing.parameters) if each.startswith("max"))
        assert listing.ret is not None
        most = listing.ret.max  # type: ignore[attr-defined]
        entries = await _value(self._find(listing)(*args[:position], most, *args[position:]))
        if not self._policy.looksAtObjects:
            return entries if self._maySee(asked, kind, None) else []
        return [each for each in entries if self._maySee(asked, kind, await self._entry(kind, each, args))]

    async def _entry(self, kind: str, entry: Any, args: tuple[Any, ...]) -> Any:
        """The object that an entry of an old list stands for.

        @return: C{None} where it cannot be found.
        """
        key: tuple[Any, ...] = (entry,)
        name = _BY_ENTRY[kind]
        if kind == "domain" and isinstance(entry, int):
            name = "domainLookupByID"
        elif kind == "secret":
            key = (uuids.UUID(entry).bytes,)
        elif kind == "storage_vol":
            key = (args[0], entry)
        try:
            return await self._call(name, *key)
        except RemoteError:
            # It has gone since the list was made, or nobody can say what it is.
            return None

    def _maySee(self, procedure: Procedure, kind: str, value: Any) -> bool:
        names = _NAMES[type(value)][1](value) if type(value) in _NAMES else _UNKNOWN
        object = AccessObject(procedure.aclFilter or (f"{kind}:getattr",), kind, *names)
        return self._policy.allows(self._client.identity, procedure, object)

    # Events

    def mayHear(self, event: Procedure, values: tuple[Any, ...]) -> bool:
        """Whether an event may reach the client: it names nothing, or what the client may see.

        A policy that fails does not let it through, nor keep it from other clients.
        """
        for value in values:
            for each in (value, *value) if isinstance(value, tuple) else (value,):
                if type(each) in _NAMES:
                    try:
                        return self._maySee(event, _NAMES[type(each)][0], each)
                    except Exception:
                        _log.failure(
                            "{peer} may not hear {event}: the policy failed",
                            peer=self._client.peer,
                            event=event.name,
                        )
                        return False
        return True


DENIER = "virnet"
"""Who denies, in the client's error; libvirtd says its driver's name."""


async def _value(result: Any) -> Any:
    """What a method returns, once it is there."""
    if isinstance(result, (Deferred, CoroutineType)):
        return await result
    return result


def _kindOf(permissions: tuple[str, ...]) -> str:
    """The kind of object that permissions are about: not the connection, if there is anything else."""
    kinds = [each.partition(":")[0] for each in permissions]
    return next((each for each in kinds if each != "connect"), "connect")


def _about(value: Any, permissions: tuple[str, ...]) -> AccessObject:
    """What a call is about that has found something."""
    kind, names = _NAMES.get(type(value), (_kindOf(permissions), lambda _: _UNKNOWN))
    return AccessObject(permissions, kind, *names(value))


def _further(procedure: Procedure, object: AccessObject, args: tuple[Any, ...]) -> Iterator[AccessObject]:
    """What a call is about besides: a volume that is copied, the name that a domain is to get."""
    if procedure.name == "storageVolCreateXMLFrom":
        source = next(each for each in args if type(each) is StorageVol)
        yield AccessObject(("storage_vol:data_read",), "storage_vol", source.name, None, source.pool)
    elif procedure.name == "domainRename" and args[1] is not None:
        yield evolve(object, name=args[1])


def _claimed(procedure: Procedure, kind: str, args: tuple[Any, ...]) -> Names:
    """What the object of a call is called by the client."""
    given = dict(zip(procedure.parameters, args, strict=False))
    document = next((given[each] for each in _DOCUMENTS if each in given), None)
    pool = next((each.name for each in args if type(each) is StoragePool), None)
    if kind == "storage_vol" and pool is not None:
        return (_namesInXML(document, kind)[0] if document is not None else None), None, pool
    for value in args:
        if type(value) in _NAMES:
            found, names = _NAMES[type(value)]
            if found == kind or kind == "network_port":
                return names(value)
    name = given.get("name") or given.get("dname")
    if name is None and document is not None:
        return (*_namesInXML(document, kind), None)
    return name if isinstance(name, str) and name else None, None, None


def _namesInXML(document: Any, kind: str) -> tuple[str | None, bytes | None]:
    """Name and uuid in the definition of an object; C{None} for what is absent, doubled or doubtful."""
    depth = 0
    inside = ""
    texts: dict[str, list[str]] = {"name": [], "uuid": []}

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth, inside
        depth += 1
        if depth == 1 and kind in _NAMED_BY_ATTRIBUTE and "name" in attributes:
            texts["name"].append(attributes["name"])
        elif depth == 2:
            inside = tag if tag in texts else ""
            if inside:
                texts[inside].append("")
        elif depth == 3 and inside:
            # Text with elements in it is no name.
            raise expat.ExpatError("an element in a name")

    def end(tag: str) -> None:
        nonlocal depth, inside
        depth -= 1
        if depth == 1:
            inside = ""

    def text(data: str) -> None:
        if inside:
            texts[inside][-1] += data

    def doctype(*ignored: object) -> None:
        raise expat.ExpatError("no document types here")

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(document, True)
        (name,) = texts["name"] or [""]
        (uuid,) = texts["uuid"] or [""]
        binary = uuids.UUID(uuid).bytes if uuid else None
    except (expat.ExpatError, ValueError, TypeError):
        return None, None
    isKnown = name == name.strip() and kind in _NAMED_BY_ELEMENT | _NAMED_BY_ATTRIBUTE
    return (name if name and isKnown else None), binary
