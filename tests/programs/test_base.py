"""Programs, procedures, and classes that provide parts of interfaces."""

from __future__ import annotations

from typing import Any, get_origin

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import Attribute, Interface, implementer
from zope.interface.verify import verifyObject

from virnet.errors import IDLError, XDRError
from virnet.programs.base import (
    HIGH,
    LOW,
    IMethodSource,
    Priority,
    Procedure,
    Program,
    blocking,
    partialImplementer,
)
from virnet.xdr.schema import INT, UINT, Array, String, Struct


class IBase(Interface):
    def greet(name: str, times: int) -> str:
        """Say hello."""


class IGreeter(IBase):
    language = Attribute("Not a method, so no procedure goes with it.")

    def stop() -> None:
        """Say good-bye."""


class IGreeterEvents(Interface):
    def greeted(name: str) -> None:
        """Somebody was greeted."""


GREET = (1, "greet", (("name", String(10)), ("times", UINT)), String(20), HIGH, None, ("greeter:speak",))
STOP = (2, "stop")
GREETED = (3, "greeted", (("name", String(10)),))


def make(*procedures: Any, **changes: Any) -> Program[Any, Any]:
    """A program like the others, but for what is given."""
    arguments: dict[str, Any] = {
        "number": 0x2000, "version": 1, "interface": IGreeter, "events": IGreeterEvents,
        "procedures": procedures or (GREET, STOP, GREETED), "name": "GREETER",
    }  # fmt: skip
    return Program(**{**arguments, **changes})


class ProgramTests(SynchronousTestCase):
    """A table and its interfaces are joined, or the difference is named."""

    def assertRefused(self, reason: str, *procedures: Any, **changes: Any) -> None:
        error = self.assertRaises(ValueError, make, *procedures, **changes)
        self.assertEqual(str(error), reason)

    def test_joined(self) -> None:
        program = make()
        self.assertEqual((program.number, program.version, program.name), (0x2000, 1, "GREETER"))
        self.assertIs(program.interface, IGreeter)
        self.assertIs(program.eventInterface, IGreeterEvents)
        self.assertEqual(list(program.procedures), [1, 2])
        self.assertEqual(list(program.byName), ["greet", "stop"])
        self.assertEqual(list(program.events), [3])
        self.assertEqual(list(program.eventsByName), ["greeted"])
        greet = program.procedures[1]
        self.assertIs(greet.program, program)
        self.assertIs(greet, program.byName["greet"])
        self.assertEqual(greet.parameters, ("name", "times"))
        self.assertEqual((greet.priority, greet.acl, greet.event), (Priority.HIGH, ("greeter:speak",), False))
        self.assertTrue(program.events[3].event)

    def test_eventsAreNotCallable(self) -> None:
        self.assertNotIn("greeted", make().byName)
        self.assertNotIn(3, make().procedures)

    def test_withoutEvents(self) -> None:
        program = make(GREET, STOP, events=None)
        self.assertIs(program.eventInterface, None)
        self.assertEqual(program.events, {})

    def test_proceduresInsteadOfRows(self) -> None:
        stop = Procedure(2, "stop")
        self.assertIs(make(GREET, stop, GREETED).procedures[2], stop)

    def test_withoutNameItIsItsNumber(self) -> None:
        self.assertEqual(make(name="").name, "0x00002000")

    def test_repr(self) -> None:
        self.assertEqual(repr(make()), "<Program GREETER 0x00002000 version 1>")
        self.assertEqual(repr(make().procedures[1]), "<GREETER 1 greet>")
        self.assertEqual(repr(Procedure(2, "stop")), "<Procedure 2 stop>")

    def test_parametersOfTheTypeMayBeLeftOut(self) -> None:
        """The interface of the events need not be said, also where the annotation is evaluated."""
        self.assertIs(get_origin(Program[IGreeter]), Program)
        self.assertIs(get_origin(Program[IGreeter, IGreeterEvents]), Program)

    def test_numberTwice(self) -> None:
        again = (1, "stop")
        self.assertRefused("GREETER 1 stop: the number is taken twice", GREET, again, GREETED)

    def test_numberOfAnEventTwice(self) -> None:
        again = (3, "stop")
        self.assertRefused("GREETER 3 stop: the number is taken twice", GREETED, again)

    def test_nameTwice(self) -> None:
        self.assertRefused("GREETER 4 stop: the name is taken twice", STOP, (4, "stop"))

    def test_eventNameTwice(self) -> None:
        self.assertRefused("GREETER 4 greeted: the name is taken twice", GREETED, (4, *GREETED[1:]))

    def test_noSuchMethod(self) -> None:
        self.assertRefused("GREETER 9 shout: no such method in IGreeter", (9, "shout"))

    def test_anAttributeIsNoMethod(self) -> None:
        self.assertRefused("GREETER 9 language: no such method in IGreeter", (9, "language"))

    def test_otherParameters(self) -> None:
        wrong = (1, "greet", (("name", String(10)), ("count", UINT)))
        self.assertRefused(
            "GREETER 1 greet: the table takes (name, count), IBase says (name, times)", wrong, STOP, GREETED
        )

    def test_parametersInOtherOrder(self) -> None:
        wrong = (1, "greet", (("times", UINT), ("name", String(10))))
        self.assertRefused("GREETER 1 greet: the table takes (times, name), IBase says (name, times)", wrong)

    def test_missingProcedure(self) -> None:
        self.assertRefused("GREETER: no procedure for the method greeted, stop", GREET)

    def test_callAndEvent(self) -> None:
        class IBoth(Interface):
            def stop() -> None:
                """Also a call."""

        self.assertRefused("GREETER 2 stop: both a call and an event", STOP, events=IBoth)

    def test_numbersThatDoNotFit(self) -> None:
        for changes in ({"number": 2**32}, {"number": -1}, {"version": 2**32}, {"version": -1}):
            self.assertRaises(ValueError, make, **changes)
        self.assertRefused(
            "GREETER 2147483648 stop: the number must fit a signed 32-bit word", (2**31, "stop")
        )
        self.assertRaises(ValueError, make, (-(2**31) - 1, "stop"))


class ProcedureTests(SynchronousTestCase):
    """A procedure encodes and decodes what it takes and returns."""

    def setUp(self) -> None:
        self.greet = Procedure(*GREET)
        self.stop = Procedure(*STOP)

    def test_arguments(self) -> None:
        data = self.greet.encodeArgs(("you", 2))
        self.assertEqual(data, bytes.fromhex("00000003 796f7500 00000002"))
        self.assertEqual(self.greet.decodeArgs(data), ("you", 2))
        self.assertEqual(self.greet.decodeArgs(b"head" + data, 4), ("you", 2))
        self.assertEqual(self.greet.decodeArgs(memoryview(data)), ("you", 2))

    def test_returnValue(self) -> None:
        data = self.greet.encodeRet("hello")
        self.assertEqual(data, bytes.fromhex("00000005 68656c6c 6f000000"))
        self.assertEqual(self.greet.decodeRet(data), "hello")
        self.assertEqual(self.greet.decodeRet(b"head" + data, 4), "hello")

    def test_trailingBytesAreIgnored(self) -> None:
        self.assertEqual(self.greet.decodeArgs(self.greet.encodeArgs(("you", 2)) + b"garbage!"), ("you", 2))
        self.assertEqual(self.greet.decodeRet(self.greet.encodeRet("hello") + b"gar"), "hello")
        self.assertEqual(self.stop.decodeArgs(b"garbage"), ())
        self.assertIs(self.stop.decodeRet(b"garbage"), None)

    def test_R025_withoutArgumentsAndReturnValue(self) -> None:
        """Such a procedure, like CLOSE, is no special case."""
        self.assertEqual(self.stop.encodeArgs(()), b"")
        self.assertEqual(self.stop.decodeArgs(b""), ())
        self.assertEqual(self.stop.encodeRet(None), b"")
        self.assertIs(self.stop.decodeRet(b""), None)

    def test_somethingReturnedByAProcedureThatReturnsNothing(self) -> None:
        error = self.assertRaises(XDRError, self.stop.encodeRet, 7)
        self.assertEqual(str(error), "ret: 7 returned by a procedure that returns nothing")

    def test_errorsOfArgumentsNameThePath(self) -> None:
        error = self.assertRaises(XDRError, self.greet.encodeArgs, ("you", -1))
        self.assertEqual(error.path, "args.times")
        error = self.assertRaises(XDRError, self.greet.decodeArgs, bytes.fromhex("0000000b"))
        self.assertEqual(error.path, "args.name")
        error = self.assertRaises(XDRError, self.greet.encodeArgs, ("you",))
        self.assertEqual(error.path, "args")

    def test_errorsOfReturnValuesNameThePath(self) -> None:
        pairs = Procedure(1, "pairs", (), Array(Struct("pair", (("x", INT), ("y", INT))), 3))
        error = self.assertRaises(XDRError, pairs.encodeRet, [(1, 2), (3, "four")])
        self.assertEqual(error.path, "ret[1].y")
        error = self.assertRaises(XDRError, pairs.decodeRet, b"\0\0\0\4")
        self.assertEqual(error.path, "ret")

    def test_codecsAreCompiledOnFirstUseThenDirect(self) -> None:
        for name in ("encodeArgs", "decodeArgs", "encodeRet", "decodeRet"):
            self.assertRaises(AttributeError, object.__getattribute__, self.greet, name)
        self.assertIs(self.greet.encodeArgs, self.greet.encodeArgs)
        self.assertRaises(AttributeError, object.__getattribute__, self.greet, "encodeRet")

    def test_noOtherAttribute(self) -> None:
        error = self.assertRaises(AttributeError, getattr, self.greet, "encode")
        self.assertEqual(str(error), "'Procedure' object has no attribute 'encode'")

    def test_R043_priorityIsLowWhereNothingIsSaid(self) -> None:
        self.assertIs(self.stop.priority, Priority.LOW)
        self.assertEqual((Priority.LOW, Priority.HIGH), (LOW, HIGH))

    def test_defaults(self) -> None:
        stop = self.stop
        self.assertEqual(
            (stop.args, stop.ret, stop.stream, stop.acl, stop.aclFilter), ((), None, None, (), ())
        )
        self.assertEqual((stop.sparse, stop.fds, stop.event), (False, None, False))


class PartialImplementerTests(SynchronousTestCase):
    """A class may have some methods of an interface, but those as the interface says."""

    def assertRefused(self, reason: str, **members: Any) -> None:
        cls = type("Greeter", (), members)
        error = self.assertRaises(TypeError, partialImplementer(IGreeter), cls)
        self.assertEqual(str(error), reason)

    def test_part(self) -> None:
        @partialImplementer(IGreeter, IGreeterEvents)
        class Greeter:
            def stop(self) -> None:
                """Fine."""

            def unrelated(self, anything: int) -> None:
                """Nobody's affair."""

        self.assertTrue(IGreeter.providedBy(Greeter()))
        self.assertTrue(IGreeterEvents.providedBy(Greeter()))

    def test_complete(self) -> None:
        @partialImplementer(IBase)
        class Greeter:
            def greet(self, name: str, times: int) -> str:
                return name * times

        verifyObject(IBase, Greeter())

    def test_inheritedMethodsCount(self) -> None:
        class Half:
            def stop(self, now: bool) -> None:
                """Wrong."""

        error = self.assertRaises(TypeError, partialImplementer(IGreeter), type("Greeter", (Half,), {}))
        self.assertEqual(str(error), "Greeter.stop takes (now), IGreeter says ()")

    def test_otherName(self) -> None:
        def greet(self: Any, who: str, times: int) -> None:
            """Wrong."""

        self.assertRefused("Greeter.greet takes (who, times), IBase says (name, times)", greet=greet)

    def test_tooFew(self) -> None:
        def greet(self: Any, name: str) -> None:
            """Wrong."""

        self.assertRefused("Greeter.greet takes (name), IBase says (name, times)", greet=greet)

    def test_tooMany(self) -> None:
        def stop(self: Any, now: bool) -> None:
            """Wrong."""

        self.assertRefused("Greeter.stop takes (now), IGreeter says ()", stop=stop)

    def test_keywordThatNobodyGives(self) -> None:
        def stop(self: Any, *, now: bool) -> None:
            """Wrong."""

        self.assertRefused("Greeter.stop takes (), IGreeter says ()", stop=stop)

    def test_notCallable(self) -> None:
        self.assertRefused("Greeter.stop is 5, IGreeter says a method", stop=5)

    def test_moreWithDefaults(self) -> None:
        def greet(self: Any, name: str, times: int, loud: bool = False, *, slow: bool = False) -> None:
            """Fine."""

        partialImplementer(IGreeter)(type("Greeter", (), {"greet": greet}))

    def test_anyArguments(self) -> None:
        def greet(self: Any, name: str, *rest: Any, **more: Any) -> None:
            """Fine."""

        def stop(self: Any, *rest: Any) -> None:
            """Fine."""

        partialImplementer(IGreeter)(type("Greeter", (), {"greet": greet, "stop": stop}))

    def test_anyArgumentsAfterAnotherName(self) -> None:
        def greet(self: Any, who: str, *rest: Any) -> None:
            """Wrong."""

        self.assertRefused("Greeter.greet takes (who), IBase says (name, times)", greet=greet)

    def test_staticAndClassMethods(self) -> None:
        def greet(name: str, times: int) -> None:
            """Fine."""

        def stop(cls: Any) -> None:
            """Fine."""

        members = {"greet": staticmethod(greet), "stop": classmethod(stop)}
        partialImplementer(IGreeter)(type("Greeter", (), members))


class MarkTests(SynchronousTestCase):
    """What providers say about themselves."""

    def test_blocking(self) -> None:
        @blocking
        def stop() -> None:
            """Takes its time."""

        self.assertTrue(stop.blocking)  # type: ignore[attr-defined]

    def test_methodSource(self) -> None:
        @implementer(IMethodSource)
        class Source:
            def methodFor(self, procedure: Procedure) -> None:
                return None

        verifyObject(IMethodSource, Source())


class FromIDLTests(SynchronousTestCase):
    """A program from a text at run time."""

    TEXT = """
        struct hello_greet_args { string name<10>; unsigned int from; };
        struct hello_greet_ret { string greeting<20>; };
        struct hello_count_ret { int greeted; int left; };
        struct hello_greeted_msg { string name<10>; };
        const HELLO_PROGRAM = 0x12345;
        const HELLO_PROTOCOL_VERSION = 2;
        enum hello_procedure {
            /** @priority: high */
            HELLO_PROC_GREET = 1,
            HELLO_PROC_COUNT = 2,
            HELLO_PROC_GREETED = 3
        };
    """

    def test_program(self) -> None:
        program = Program.fromIDL(self.TEXT)
        self.assertEqual((program.number, program.version, program.name), (0x12345, 2, "HELLO"))
        self.assertEqual(list(program.byName), ["greet", "count"])
        self.assertEqual(list(program.eventsByName), ["greeted"])
        self.assertEqual(program.byName["greet"].parameters, ("name", "from_"))
        self.assertIs(program.byName["greet"].priority, HIGH)

    def test_interfaces(self) -> None:
        program = Program.fromIDL(self.TEXT)

        @partialImplementer(program.interface)
        class Hello:
            def greet(self, name: str, from_: int) -> str:
                return f"hello {name}"

        self.assertTrue(program.interface.providedBy(Hello()))
        self.assertEqual(program.interface.__name__, "IHello")
        self.assertEqual(program.eventInterface.__name__, "IHelloEvents")

    def test_values(self) -> None:
        count = Program.fromIDL(self.TEXT).byName["count"]
        value = count.decodeRet(count.encodeRet((3, 4)))
        self.assertEqual((value.greeted, value.left), (3, 4))

    def test_otherName(self) -> None:
        self.assertEqual(Program.fromIDL(self.TEXT, name="SALUT").name, "SALUT")
        self.assertRaises(ValueError, Program.fromIDL, self.TEXT, name="no name")

    def test_include(self) -> None:
        files = {"common.x": "typedef string name<10>;"}
        text = (
            '%#include "common.h"\n'
            "program ONE { version FIRST { void ONE_GREET(name) = 1; name ONE_NAME(void) = 2; } = 1; } = 7;"
        )
        program = Program.fromIDL(text, include=files.get)
        self.assertEqual(program.byName["greet"].encodeArgs(("you",)), bytes.fromhex("00000003 796f7500"))

    def test_errorsNameThePlace(self) -> None:
        error = self.assertRaises(IDLError, Program.fromIDL, "struct x {", "hello.x")
        self.assertEqual(str(error)[:13], "hello.x:1:11:")

    def test_noProgram(self) -> None:
        error = self.assertRaises(IDLError, Program.fromIDL, "const A = 1;", "hello.x")
        self.assertEqual(str(error), "hello.x:1:1: found no program, expected one program")

    def test_severalPrograms(self) -> None:
        text = "program P { version A { void X(void) = 1; } = 1; version B { void X(void) = 1; } = 2; } = 7;"
        error = self.assertRaises(IDLError, Program.fromIDL, text, "hello.x")
        self.assertEqual(str(error), "hello.x:1:1: found P_A, P_B, expected one program")
        self.assertEqual(Program.fromIDL(text, name="P_B").version, 2)
