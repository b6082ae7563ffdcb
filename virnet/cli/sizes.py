"""Numbers for people: bytes and times in as many digits as one reads."""

from __future__ import annotations

UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def bytesText(number: float) -> str:
    """Bytes in the largest unit of which there is at least one: C{1.5 GiB}."""
    power = 0
    while abs(number) >= 1024 and power < len(UNITS) - 1:
        number /= 1024
        power += 1
    return f"{number:.1f} {UNITS[power]}" if power else f"{number:.0f} B"


def secondsText(seconds: float) -> str:
    """A time as C{12:34} or C{1:02:03}."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
