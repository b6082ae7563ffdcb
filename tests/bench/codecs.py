from __future__ import annotations

from tests.bench.rounds import Case


def codecCases() -> list[Case]:
    return []
