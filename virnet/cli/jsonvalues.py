"""Values of any XDR type as JSON, without loss and in both directions.

What a type is in JSON::

  integers            a number, however large; JSON sets no limit, some readers do (2**53)
  enums               their number; a member's name is taken as well
  float, double       a number, or "NaN", "Infinity", "-Infinity"
  bool                true, false
  string              a string; bytes that are no UTF-8 are lone surrogates, U+DC80 to U+DCFF
  opaque[16]          a UUID like "6695eb01-f6a4-8304-79aa-97f2502e193f": libvirt has no other
  any other opaque    {"base64": "aGk="}
  arrays              an array
  an optional         the value or null
  a structure         an object by field names; an optional field may be left out
  a union             {"case": 4, "value": ...} with the discriminant and its arm
  typed parameters    {"weight": {"type": "uint", "value": 5}}; where a name is repeated an array of
                      {"name": "weight", "type": "uint", "value": 5}. Both are taken, and so is
                      {"weight": 5}: a plain value gets the type that fits.
  nothing             null

Input that does not fit raises L{XDRError} with the path to it, as the codecs do. Ranges are the codecs'
affair.
"""

from __future__ import annotations

import json
import math
import uuid
from base64 import b64decode, b64encode
from typing import Any, NoReturn

from virnet.errors import XDRError
from virnet.programs.typedparams import Typed, TypedParams, TypedParamType
from virnet.xdr.schema import (
    Array,
    Bool,
    Enum,
    FixedArray,
    FixedOpaque,
    Integer,
    Mapped,
    Node,
    Opaque,
    Optional,
    Real,
    String,
    Struct,
    Union,
    Void,
    resolve,
)

UUID_SIZE = 16
"""C: C{VIR_UUID_BUFLEN}."""

TYPES = {type.name.lower(): type for type in TypedParamType}
"""Types of typed parameters by the name they have in JSON."""

_UNREAL = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def toJSON(node: Node, value: Any) -> Any:
    """Convert a value of a type to what C{json.dumps} takes."""
    match resolve(node):
        case Bool():
            return bool(value)
        case Integer() | Enum():
            return int(value)
        case Real():
            return _fromReal(value)
        case String():
            return str(value)
        case FixedOpaque(size=size) if size == UUID_SIZE:
            return str(uuid.UUID(bytes=bytes(value)))
        case Opaque() | FixedOpaque():
            return {"base64": b64encode(value).decode()}
        case Array() | FixedArray() as array:
            if array.chars is not None:
                return {"base64": b64encode(value).decode()}
            return [toJSON(array.item, each) for each in value]
        case Optional(item=item):
            return None if value is None else toJSON(item, value)
        case Struct(fields=fields):
            return {name: toJSON(kind, each) for (name, kind), each in zip(fields, value, strict=True)}
        case Union(switch=switch) as union:
            case, inner = value
            arm = union.arms.get(case, union.default)
            assert arm is not None
            return {"case": toJSON(switch, case), "value": toJSON(arm[1], inner)}
        case Mapped() as mapped:
            if _areTypedParams(mapped):
                return _fromTypedParams(value)
            return toJSON(mapped.node, mapped.dump(value))
        case Void():
            return None
        case other:
            raise TypeError(f"{other!r} is no type of this module's table")


def fromJSON(node: Node, data: Any, path: str = "") -> Any:
    """Convert what C{json.loads} gave to a value of a type.

    @param path: where C{data} is, for errors.
    @raise XDRError: it is of another shape than the type.
    """
    match resolve(node):
        case Bool():
            if not isinstance(data, bool):
                _refuse("true or false", data, path)
            return data
        case Enum(members=members) if isinstance(data, str):
            if data not in members:
                raise XDRError(
                    f"{data!r} is not one of {', '.join(members) or 'the names, there are none'}", path
                )
            return members[data]
        case Integer() | Enum():
            if not isinstance(data, int) or isinstance(data, bool):
                _refuse("a whole number", data, path)
            return data
        case Real():
            return _toReal(data, path)
        case String():
            if not isinstance(data, str):
                _refuse("a string", data, path)
            return data
        case FixedOpaque(size=size) if size == UUID_SIZE:
            return _toUUID(data, path)
        case Opaque() | FixedOpaque():
            return _toBytes(data, path)
        case Array() | FixedArray() as array:
            if array.chars is not None:
                return _toBytes(data, path)
            if not isinstance(data, list):
                _refuse("an array", data, path)
            return [fromJSON(array.item, each, f"{path}[{i}]") for i, each in enumerate(data)]
        case Optional(item=item):
            return None if data is None else fromJSON(item, data, path)
        case Struct() as struct:
            return _toStruct(struct, data, path)
        case Union() as union:
            return _toUnion(union, data, path)
        case Mapped() as mapped:
            if _areTypedParams(mapped):
                return _toTypedParams(data, path)
            try:
                return mapped.load(fromJSON(mapped.node, data, path))
            except XDRError:
                raise
            except Exception as e:
                raise XDRError(str(e), path) from e
        case Void():
            if data is not None:
                _refuse("null", data, path)
            return None
        case other:
            raise TypeError(f"{other!r} is no type of this module's table")


def parseJSON(text: str, path: str = "") -> Any:
    """Read one JSON value.

    @raise XDRError: the text is not JSON, or an object has a name twice.
    """
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
    except RecursionError:
        raise XDRError("is nested too deeply", path) from None
    except ValueError as e:
        raise XDRError(f"not JSON: {e}", path) from e


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice!r} is there twice")
    return found


def _constant(name: str) -> NoReturn:
    raise ValueError(f'{name} is no JSON; write "{name}"')


def _refuse(wanted: str, data: Any, path: str) -> NoReturn:
    found = json.dumps(data)
    if len(found) > 40:
        found = found[:37] + "..."
    raise XDRError(f"expected {wanted}, not {found}", path)


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _fromReal(value: float) -> float | str:
    if math.isfinite(value):
        return float(value)
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _toReal(data: Any, path: str) -> float:
    if isinstance(data, str) and data in _UNREAL:
        return _UNREAL[data]
    if not isinstance(data, int | float) or isinstance(data, bool):
        _refuse("a number", data, path)
    try:
        return float(data)
    except OverflowError:
        raise XDRError("the number is too large", path) from None


def _toUUID(data: Any, path: str) -> bytes:
    try:
        return uuid.UUID(data).bytes
    except (ValueError, AttributeError, TypeError):
        _refuse("a UUID", data, path)


def _toBytes(data: Any, path: str) -> bytes:
    if not isinstance(data, dict) or list(data) != ["base64"] or not isinstance(data["base64"], str):
        _refuse('{"base64": "…"}', data, path)
    try:
        return b64decode(data["base64"], validate=True)
    except ValueError as e:
        raise XDRError(f"not base64: {e}", path) from e


def _toStruct(struct: Struct, data: Any, path: str) -> Any:
    if not isinstance(data, dict):
        _refuse(f"an object with {', '.join(name for name, _ in struct.fields)}", data, path)
    values = fieldsFromJSON(struct.fields, data, path)
    return tuple(values) if struct.factory is None else struct.factory(*values)


def fieldsFromJSON(fields: tuple[tuple[str, Node], ...], data: dict[str, Any], path: str = "") -> list[Any]:
    """Convert an object to values in the order of C{fields}.

    @raise XDRError: a name is missing or unknown, or a value does not fit.
    """
    names = [name for name, _ in fields]
    for name in data:
        if name not in names:
            raise XDRError(f"there is no {name!r} here, only {', '.join(names) or 'nothing'}", path)
    values = []
    for name, kind in fields:
        if name not in data and not isinstance(resolve(kind), Optional):
            raise XDRError("is missing", _below(path, name))
        values.append(fromJSON(kind, data.get(name), _below(path, name)))
    return values


def _toUnion(union: Union, data: Any, path: str) -> tuple[Any, Any]:
    if not isinstance(data, dict) or not {"case"} <= set(data) <= {"case", "value"}:
        _refuse('{"case": …, "value": …}', data, path)
    case = fromJSON(union.switch, data["case"], _below(path, "case"))
    arm = union.arms.get(case, union.default)
    if arm is None:
        known = ", ".join(str(each) for each in union.arms)
        raise XDRError(f"{case} is not one of {known}", _below(path, "case"))
    return case, fromJSON(arm[1], data.get("value"), _below(path, "value"))


def _areTypedParams(mapped: Mapped) -> bool:
    inner = resolve(mapped.node)
    item = resolve(inner.item) if isinstance(inner, Array) else None
    return isinstance(item, Struct) and item.name.endswith("_typed_param")


def _fromTypedParams(params: TypedParams) -> Any:
    entries = params.entries
    names = {entry.field for entry in entries}
    described = [
        {
            "name": entry.field,
            "type": entry.type.name.lower(),
            "value": _fromReal(entry.value) if isinstance(entry.value, float) else entry.value,
        }
        for entry in entries
    ]
    if len(names) < len(entries):
        return described
    return {str(each.pop("name")): each for each in described}


def _toTypedParams(data: Any, path: str) -> TypedParams:
    params = TypedParams()
    if isinstance(data, dict):
        for name, described in data.items():
            _addParam(params, name, described, _below(path, name))
    elif isinstance(data, list):
        for i, described in enumerate(data):
            where = f"{path}[{i}]"
            if not isinstance(described, dict) or not isinstance(described.get("name"), str):
                _refuse('{"name": …, "type": …, "value": …}', described, where)
            rest = {key: value for key, value in described.items() if key != "name"}
            _addParam(params, described["name"], rest, where)
    else:
        _refuse("an object or an array of typed parameters", data, path)
    return params


def _addParam(params: TypedParams, name: str, described: Any, path: str) -> None:
    value: Any = described
    if isinstance(described, dict):
        if set(described) != {"type", "value"} or str(described["type"]) not in TYPES:
            _refuse(f'{{"type": one of {", ".join(TYPES)}, "value": …}}', described, path)
        type, value = TYPES[described["type"]], described["value"]
        if type is TypedParamType.DOUBLE:
            value = _toReal(value, _below(path, "value"))
        value = Typed(type, value)
    elif not isinstance(described, str | int | float):
        _refuse("a value or an object with type and value", described, path)
    try:
        params.add(name, value)
    except ValueError as e:
        raise XDRError(str(e), path) from e
