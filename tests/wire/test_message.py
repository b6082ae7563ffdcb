"""Headers and error payloads, and what a client makes of the errors of other servers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.wire.messages import message
from virnet.errorcodes import ErrorDomain, ErrorLevel, ErrorNumber
from virnet.errors import (
    DomainValue,
    LocalProtocolError,
    NetworkValue,
    RemoteError,
    XDRError,
)
from virnet.limits import MESSAGE_MAX, MESSAGE_MIN, PAYLOAD_MAX, STRING_MAX
from virnet.wire.message import (
    CALL,
    CALL_WITH_FDS,
    CONTINUE,
    ERROR_PAYLOAD,
    MessageHeader,
    decodeError,
    decodeHeader,
    encodeError,
    encodeMessage,
    rpcError,
)

UUID = bytes(range(16))


class Headers(SynchronousTestCase):
    """Six words behind the length: two unsigned, two signed, one unsigned, one signed."""

    def test_fields_are_in_the_order_of_the_wire(self) -> None:
        header = decodeHeader(bytes.fromhex("0000001c 00000001 00000002 00000003 00000004 00000005 00000006"))
        self.assertEqual(
            header,
            MessageHeader(length=28, program=1, version=2, procedure=3, type=4, serial=5, status=6),
        )

    def test_procedure_type_and_status_are_signed_the_others_are_not(self) -> None:
        header = decodeHeader(b"\xff" * 28)
        self.assertEqual(header, (0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, -1, -1, 0xFFFFFFFF, -1))

    def test_the_payload_behind_it_is_not_looked_at(self) -> None:
        data = message((1, 2, 3, 4, 5, 6), b"payload")
        self.assertEqual(decodeHeader(data)[1:], (1, 2, 3, 4, 5, 6))


class Sizes(SynchronousTestCase):
    """The largest message that may be sent."""

    def test_the_largest_payload_is_sent(self) -> None:
        made = encodeMessage(1, 1, 1, 3, 0, 2, bytes(PAYLOAD_MAX))
        self.assertEqual(len(made), MESSAGE_MAX + 4)
        self.assertEqual(int.from_bytes(made[:4], "big"), 33554436)

    def test_a_call_with_a_status_is_the_callers_mistake(self) -> None:
        for type in (CALL, CALL_WITH_FDS):
            self.assertRaises(LocalProtocolError, encodeMessage, 1, 2, 3, type, 5, CONTINUE)

    def test_one_byte_more_is_the_callers_mistake(self) -> None:
        error = self.assertRaises(LocalProtocolError, encodeMessage, 1, 1, 1, 3, 0, 2, bytes(PAYLOAD_MAX + 1))
        self.assertEqual(str(error), "message of 33554433 bytes is too long to send, the maximum is 33554432")


def received(
    code: int,
    domain: int = ErrorDomain.TEST,
    text: str | None = "text",
    level: int = ErrorLevel.ERROR,
) -> RemoteError:
    """What a client raises for an error payload."""
    fields = (code, domain, text, level, None, None, None, None, -1, -1, None)
    return decodeError(ERROR_PAYLOAD.codec.encode(fields), 0)


class Errors(SynchronousTestCase):
    """The error payload, field by field."""

    def test_every_field_survives(self) -> None:
        sent = RemoteError(
            ErrorNumber.NO_DOMAIN,
            "Domain not found: x",
            ErrorDomain.TEST,
            level=ErrorLevel.WARNING,
            str1="Domain not found: %s",
            str2="x",
            str3="third",
            int1=1,
            int2=-2,
            dom=DomainValue("dom", UUID, -1),
            net=NetworkValue("net", UUID),
        )
        got = decodeError(encodeError(sent), 0)
        self.assertEqual(vars(got), vars(sent))
        self.assertIsInstance(got.dom, DomainValue)
        self.assertIsInstance(got.net, NetworkValue)

    def test_ordinary_errors_carry_template_and_detail(self) -> None:
        error = RemoteError.of(ErrorNumber.INTERNAL_ERROR, "X", ErrorDomain.TEST)
        fields, _ = ERROR_PAYLOAD.codec.decode(encodeError(error))
        self.assertEqual(
            fields, (1, 12, "internal error: X", 2, None, "internal error: %s", "X", None, -1, -1, None)
        )

    def test_errors_without_detail_carry_the_bare_text(self) -> None:
        error = RemoteError.of(ErrorNumber.NO_DOMAIN, None, ErrorDomain.TEST)
        fields, _ = ERROR_PAYLOAD.codec.decode(encodeError(error))
        self.assertEqual(
            fields, (42, 12, "Domain not found", 2, None, "Domain not found", None, None, -1, -1, None)
        )

    def test_system_errors_carry_errno(self) -> None:
        error = RemoteError.ofSystem(28, "cannot write: No space left on device", ErrorDomain.STORAGE)
        fields, _ = ERROR_PAYLOAD.codec.decode(encodeError(error))
        text = "cannot write: No space left on device"
        self.assertEqual(fields, (38, 18, text, 2, None, "%s", text, None, 28, -1, None))

    def test_the_rpc_layers_own_errors_have_no_prefix(self) -> None:
        error = rpcError("unknown procedure: 0")
        fields, _ = ERROR_PAYLOAD.codec.decode(encodeError(error))
        self.assertEqual(
            fields,
            (39, 7, "unknown procedure: 0", 2, None, "%s", "unknown procedure: 0", None, -1, -1, None),
        )

    def test_numbers_become_enumerations_where_they_are_known(self) -> None:
        error = received(42, 12)
        self.assertIs(error.code, ErrorNumber.NO_DOMAIN)
        self.assertIs(error.domain, ErrorDomain.TEST)
        self.assertIs(error.level, ErrorLevel.ERROR)

    def test_numbers_of_a_newer_libvirt_stay_numbers(self) -> None:
        error = received(100_000, 100_001, level=9)
        self.assertEqual((error.code, error.domain, error.level), (100_000, 100_001, 9))
        self.assertIn("100000", repr(error))
        self.assertIn("domain=100001", repr(error))

    def test_R013_texts_beyond_the_string_limit_are_cut_not_refused(self) -> None:
        for unit, size in (("x", 1), ("é", 2), ("中", 3), ("🙂", 4), ("\udcff", 1)):
            error = RemoteError.of(ErrorNumber.INTERNAL_ERROR, unit * (STRING_MAX // size + 1))
            got = decodeError(encodeError(error), 0)
            self.assertTrue(got.message.startswith("internal error: "), unit)
            self.assertTrue(got.message.endswith("…"), unit)
            assert got.str2 is not None
            for text in (got.message, got.str2):
                length = len(text.encode("utf-8", "surrogateescape"))
                self.assertTrue(length <= STRING_MAX, (unit, length))

    def test_R013_a_character_without_an_encoding_is_written_out(self) -> None:
        for count in (1, STRING_MAX):
            got = decodeError(encodeError(RemoteError(1, "a lone \ud800 " * count)), 0)
            self.assertTrue(got.message.startswith(r"a lone \ud800 "), count)

    def test_R013_a_text_of_exactly_the_limit_arrives_whole(self) -> None:
        text = "é" * (STRING_MAX // 2)
        self.assertEqual(decodeError(encodeError(RemoteError(1, text)), 0).message, text)

    def test_R010_bytes_behind_an_error_are_ignored(self) -> None:
        payload = encodeError(rpcError("text")) + b"garbage!"
        self.assertEqual(decodeError(payload, 0).message, "text")

    def test_an_error_cut_short_is_no_error(self) -> None:
        payload = encodeError(rpcError("text"))
        for end in range(len(payload)):
            self.assertRaises(XDRError, decodeError, payload[:end], 0)

    def test_bytes_that_are_not_utf8_survive(self) -> None:
        text = b"caf\xe9".decode("utf-8", "surrogateescape")
        self.assertEqual(decodeError(encodeError(RemoteError(1, text)), 0).message, text)

    @given(st.binary(max_size=200))
    def test_any_bytes_are_an_error_or_an_xdr_error(self, payload: bytes) -> None:
        try:
            decodeError(payload, 0)
        except XDRError:
            pass


class Rewriting(SynchronousTestCase):
    """What libvirt's clients make of errors that other servers word or number differently."""

    def test_R018_unknown_procedure_becomes_no_support(self) -> None:
        for domain in (ErrorDomain.RPC, ErrorDomain.REMOTE):
            error = received(ErrorNumber.RPC, domain, "unknown procedure: 9")
            self.assertEqual(error.code, ErrorNumber.NO_SUPPORT)
            self.assertEqual(error.domain, domain)
            self.assertEqual(error.message, "unknown procedure: 9")

    def test_R018_of_another_domain_level_or_text_it_stays(self) -> None:
        for domain, level, text in (
            (20, 2, "unknown procedure: 9"),
            (7, 1, "unknown procedure: 9"),
            (7, 2, "an unknown procedure: 9"),
        ):
            error = received(ErrorNumber.RPC, domain, text, level)
            self.assertEqual(error.code, ErrorNumber.RPC, (domain, level, text))

    def test_R018_of_another_code_it_stays(self) -> None:
        error = received(ErrorNumber.INTERNAL_ERROR, ErrorDomain.RPC, "unknown procedure: 9")
        self.assertEqual(error.code, ErrorNumber.INTERNAL_ERROR)

    def test_R019_the_numbers_of_one_age_of_servers_become_todays(self) -> None:
        for code, domain, today in (
            (60, 12, 60),
            (61, 12, 65),
            (62, 12, 66),
            (63, 12, 67),
            (61, 33, 61),
            (62, 33, 62),
            (63, 33, 63),
            (64, 10, 68),
            (64, 12, 64),
            (65, 1, 69),
            (65, 12, 65),
            (66, 12, 66),
        ):
            self.assertEqual(received(code, domain).code, today, (code, domain))

    def test_an_absent_text_gets_one(self) -> None:
        self.assertEqual(received(1, text=None).message, "Unknown error")

    def test_a_code_of_zero_is_still_an_error(self) -> None:
        for text in ("text", None):
            error = received(0, text=text)
            self.assertEqual(error.code, ErrorNumber.INTERNAL_ERROR)
            self.assertEqual(error.message, "An error occurred, but the cause is unknown")


class Wording(SynchronousTestCase):
    """How libvirt introduces what happened, by code."""

    def test_the_codes_of_this_layer_have_libvirts_prefixes(self) -> None:
        for code, message_ in (
            (1, "internal error: X"),
            (5, "no connection driver available for X"),
            (8, "invalid argument: X"),
            (29, "operation forbidden: X"),
            (38, "X"),
            (39, "X"),
            (42, "Domain not found: X"),
            (45, "authentication failed: X"),
            (67, "unsupported configuration: X"),
            (84, "Operation not supported: X"),
            (94, "authentication unavailable: X"),
        ):
            error = RemoteError.of(code, "X")
            self.assertEqual(error.message, message_)
            self.assertEqual(error.str2, "X")
            assert error.str1 is not None
            self.assertEqual(error.str1.replace("%s", "X"), message_)

    def test_a_percent_sign_in_the_detail_stays(self) -> None:
        self.assertEqual(RemoteError.of(1, "100%s").message, "internal error: 100%s")

    def test_repr_names_code_domain_and_text(self) -> None:
        self.assertEqual(
            repr(RemoteError.of(42, "no domain 'x'", 12)),
            "<RemoteError NO_DOMAIN domain=TEST: Domain not found: no domain 'x'>",
        )

    def test_the_payload_starts_behind_the_header_unless_told_otherwise(self) -> None:
        data = bytes(MESSAGE_MIN) + encodeError(rpcError("text"))
        self.assertEqual(decodeError(data).message, "text")
