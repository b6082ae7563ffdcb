"""Checks that libvirt's API makes before a driver acts, with its words.

The errors here name the C function and the parameter in C{str1} and C{str2}, as libvirt's do.
"""

from __future__ import annotations

from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import RemoteError


def _invalid(message: str, function: str, parameter: str, domain: ErrorDomain) -> RemoteError:
    return RemoteError(
        ErrorNumber.INVALID_ARG, message, domain, str1=function, str2=parameter, int1=0, int2=0
    )  # fmt: skip


def checkFlags(function: str, flags: int, supported: int = 0) -> None:
    """Refuse bits that mean nothing to a function (C: C{virCheckFlags}).

    @param function: of the test driver.
    @raise RemoteError: there are such bits.
    """
    # int: the complement of a flag has only the bits that its class knows.
    unknown = flags & ~int(supported)
    if unknown:
        message = f"unsupported flags ({unknown:#x}) in function {function}"
        raise _invalid(message, function, "flags", ErrorDomain.TEST)


def checkNotZero(function: str, parameter: str, value: int) -> None:
    """Refuse a zero (C: C{virCheckNonZeroArgGoto}).

    @param function: of libvirt's API.
    """
    if not value:
        message = f"{parameter} in {function} must not be zero"
        raise _invalid(message, function, parameter, ErrorDomain.DOMAIN)


def checkPositive(function: str, parameter: str, value: int) -> None:
    """Refuse what is not above zero (C: C{virCheckPositiveArgGoto})."""
    if value <= 0:
        message = f"{parameter} in {function} must be greater than zero"
        raise _invalid(message, function, parameter, ErrorDomain.DOMAIN)


def checkThere(function: str, parameter: str, there: object) -> None:
    """Refuse something that is empty (C: C{virCheckNonNullArgGoto})."""
    if not there:
        message = f"{parameter} in {function} must not be NULL"
        raise _invalid(message, function, parameter, ErrorDomain.DOMAIN)


def checkNotEmpty(function: str, parameter: str, value: str | None) -> None:
    """Refuse a text without letters (C: C{virCheckNonEmptyStringArgGoto})."""
    checkThere(function, parameter, value is not None)
    if not value:
        message = f"string {parameter} in {function} must not be empty"
        raise _invalid(message, function, parameter, ErrorDomain.DOMAIN)


def checkExclusive(
    function: str,
    parameter: str,
    flags: int,
    first: int,
    second: int,
    names: str,
    domain: ErrorDomain = ErrorDomain.DOMAIN,
) -> None:
    """Refuse two flags at once (C: C{VIR_EXCLUSIVE_FLAGS_GOTO}).

    @param names: of the two flags, with a blank between.
    """
    if flags & first and flags & second:
        one, other = names.split()
        message = f"Flags '{one}' and '{other}' are mutually exclusive"
        raise _invalid(message, function, parameter, domain)


def checkRequires(function: str, flags: int, flag: int, needed: int, names: str) -> None:
    """Refuse a flag without the one it needs (C: C{VIR_REQUIRE_FLAG_GOTO}).

    @param names: of the flag and the one it needs, with a blank between.
    """
    if flags & flag and not flags & needed:
        one, other = names.split()
        message = f"Flag '{other}' is required by flag '{one}'"
        raise _invalid(message, function, "ctl", ErrorDomain.DOMAIN)


def internalError(detail: str) -> RemoteError:
    """What the test driver calls an internal error."""
    return RemoteError.of(ErrorNumber.INTERNAL_ERROR, detail, ErrorDomain.TEST)


def invalidOperation(detail: str | None, domain: ErrorDomain = ErrorDomain.TEST) -> RemoteError:
    """Something that cannot be done in the present state."""
    return RemoteError.of(ErrorNumber.OPERATION_INVALID, detail, domain)


def invalidArgument(detail: str, domain: ErrorDomain = ErrorDomain.TEST) -> RemoteError:
    """A value that cannot be."""
    return RemoteError.of(ErrorNumber.INVALID_ARG, detail, domain)
