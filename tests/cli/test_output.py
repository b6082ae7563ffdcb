"""What is printed, and that nothing a server sends can spoil it."""

from __future__ import annotations

import io
import json

from twisted.trial.unittest import SynchronousTestCase

from virnet.cli.output import Output, shown


class Printing(SynchronousTestCase):
    def setUp(self) -> None:
        self.stdout = io.StringIO()
        self.stderr = io.StringIO()
        self.output = Output(self.stdout, self.stderr)

    def printed(self) -> list[str]:
        self.assertEqual("", self.stderr.getvalue())
        return self.stdout.getvalue().splitlines()

    def test_table(self) -> None:
        self.output.table(("Id", "Name"), [("1", "web1"), ("-", "a much longer name")])
        self.assertEqual(
            [
                "Id   Name",
                "-----------------------",
                "1    web1",
                "-    a much longer name",
            ],
            self.printed(),
        )

    def test_table_without_rows(self) -> None:
        self.output.table(("Id", "Name"), [])
        self.assertEqual(["Id   Name", "---------"], self.printed())

    def test_a_cell_stays_in_its_row(self) -> None:
        self.output.table(("Name",), [("a\nb\x1b[2J",)])
        self.assertEqual(["Name", "-----------", r"a\nb\x1b[2J"], self.printed())

    def test_pairs(self) -> None:
        self.output.pairs([("Name", "web1"), ("CPU time", 3), ("Nothing", "")])
        self.assertEqual(["Name:     web1", "CPU time: 3", "Nothing:"], self.printed())

    def test_documents_are_printed_as_they_are(self) -> None:
        self.output.document("<a>\tü\udcff</a>")
        self.output.document("<b/>\n")
        self.assertEqual("<a>\tü\udcff</a>\n<b/>\n", self.stdout.getvalue())

    def test_JSON_is_ASCII(self) -> None:
        value = {"name": "ü\udcff\x1b"}
        self.output.data(value)
        text = self.stdout.getvalue()
        self.assertTrue(text.isascii())
        self.assertEqual(value, json.loads(text))

    def test_JSON_on_one_line(self) -> None:
        self.output.data({"a": [1]}, indent=None)
        self.assertEqual(['{"a": [1]}'], self.printed())

    def test_an_error_is_one_line(self) -> None:
        self.output.error("XML error:\n  <a>\n  ^\x1b[2J")
        self.assertEqual("virnet: XML error: <a> ^\\x1b[2J\n", self.stderr.getvalue())
        self.assertEqual("", self.stdout.getvalue())


class Shown(SynchronousTestCase):
    def test_what_is_printable_stays(self) -> None:
        for text in ("", "web 1", "grün", "日本"):
            self.assertEqual(text, shown(text))

    def test_what_is_not_is_escaped(self) -> None:
        self.assertEqual(r"a\x00b\u202ec\udcff", shown("a\0b\u202ec\udcff"))


class LongErrors(SynchronousTestCase):
    def test_are_cut(self) -> None:
        stderr = io.StringIO()
        Output(io.StringIO(), stderr).error("x" * 2000)
        self.assertEqual(f"virnet: {'x' * 2000}\n", stderr.getvalue())
        stderr.truncate(0)
        stderr.seek(0)
        Output(io.StringIO(), stderr).error("x" * 2001)
        self.assertEqual(f"virnet: {'x' * 1999}…\n", stderr.getvalue())
