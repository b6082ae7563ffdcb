"""Numbers for people, and from them."""

from __future__ import annotations

import argparse

from twisted.trial.unittest import SynchronousTestCase

from virnet.cli.bars import words
from virnet.cli.console import keyByte
from virnet.cli.measure import percentile
from virnet.cli.sizes import bytesText, secondsText
from virnet.cli.values import escapeKey, size
from virnet.client.transfer import Progress


class Shown(SynchronousTestCase):
    def test_bytes(self) -> None:
        for number, text in (
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536 << 20, "1.5 GiB"),
            (1 << 70, "1024.0 EiB"),
        ):
            self.assertEqual(text, bytesText(number))

    def test_seconds(self) -> None:
        for number, text in ((0, "0:00"), (59.6, "1:00"), (754, "12:34"), (3723, "1:02:03")):
            self.assertEqual(text, secondsText(number))

    def test_progress(self) -> None:
        self.assertEqual(
            "1.0 MiB of 4.0 MiB (25 %), 512.0 KiB holes, 1.0 KiB/s, 0:30 left",
            words(Progress(1 << 19, 1 << 19, 1 << 22, 1.0, 1024.0, 30.0)),
        )
        self.assertEqual("5 B, 0 B/s", words(Progress(5, 0, None, 0.0, 0.0, None)))


class Typed(SynchronousTestCase):
    def test_sizes(self) -> None:
        for text, number in (
            ("0", 0),
            ("77", 77),
            ("1k", 1024),
            ("512M", 512 << 20),
            ("20GiB", 20 << 30),
            ("1TB", 1 << 40),
        ):
            self.assertEqual(number, size(text))
        for text in ("", "-1", "1.5G", "G", "1X"):
            self.assertRaises(argparse.ArgumentTypeError, size, text)

    def test_keys(self) -> None:
        for text, byte in (("^]", b"\x1d"), ("^a", b"\x01"), ("^A", b"\x01"), ("~", b"~"), ("^?", b"\x7f")):
            self.assertEqual(byte, keyByte(escapeKey(text)))
        for text in ("", "ab", "^1"):
            self.assertRaises(argparse.ArgumentTypeError, escapeKey, text)


class Percentiles(SynchronousTestCase):
    def test_nearest_rank(self) -> None:
        values = [float(n) for n in range(1, 101)]
        self.assertEqual((50.0, 90.0, 99.0), tuple(percentile(values, p) for p in (50, 90, 99)))
        self.assertEqual(7.0, percentile([7.0], 50))
        self.assertEqual(2.0, percentile([1.0, 2.0], 99))
