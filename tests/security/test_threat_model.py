"""The page of promises names tests that are there."""

from __future__ import annotations

import re

from twisted.python.reflect import namedAny
from twisted.trial.unittest import SynchronousTestCase

from tests.test_docs import DOCS

NAMED = re.compile(r"``(tests\.[\w.]+)``")


class ThreatModelTests(SynchronousTestCase):
    """``docs/design/threat-model.rst``."""

    def test_each_promise_is_held_by_a_test_that_exists(self) -> None:
        page = (DOCS / "design" / "threat-model.rst").read_text()
        promises = page.count("\n   * - ") - page.count("\n   * - promise")
        self.assertEqual(page.count("\n     - ``tests."), promises)
        for name in NAMED.findall(page):
            # Raises for what is not there.
            namedAny(name)
