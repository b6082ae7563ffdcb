"""The generator: C{python -m virnet.idl}, and the modules it writes."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from virnet.idl import __main__ as command
from virnet.idl.modules import oneModule
from virnet.idl.parser import parse
from virnet.programs.base import HIGH, Program
from virnet.programs.overrides import OVERRIDES, Overrides
from virnet.programs.typedparams import TypedParams, UInt

HELLO = """\
const HELLO_NAME_MAX = 20;
typedef string hello_name<HELLO_NAME_MAX>;
enum hello_mood { HELLO_MOOD_GOOD = 1, HELLO_MOOD_BAD = 2 };
struct hello_person { hello_name name; int age; hello_person *friend; };
struct hello_greet_args { hello_person who; hello_mood mood; };
struct hello_greet_ret { hello_name greeting; };
struct hello_meet_ret { hello_person people<5>; unsigned hyper total; };
struct hello_left_msg { hello_name name; };
const HELLO_PROGRAM = 0x20009000;
const HELLO_PROTOCOL_VERSION = 1;
enum hello_procedure {
    /**
     * @priority: high
     * @acl: person:talk
     */
    HELLO_PROC_GREET = 1,
    HELLO_PROC_MEET = 2,
    HELLO_PROC_LEFT = 3
};
"""


def load(source: str, directory: str) -> ModuleType:
    """Import a generated module."""
    path = Path(directory) / "generated.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location("generated", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _parametersOf(method: Any) -> tuple[str, ...]:
    return tuple(method.getSignatureInfo()["positional"])


class ModuleTests(SynchronousTestCase):
    """What a text becomes."""

    def module(self, text: str, rules: Overrides = OVERRIDES, name: str | None = None) -> ModuleType:
        directory = self.mktemp()
        os.makedirs(directory)
        return load(oneModule(parse(text), "hello.x", rules, name), directory)

    def test_program(self) -> None:
        hello = self.module(HELLO)
        program = hello.HELLO
        self.assertIsInstance(program, Program)
        self.assertEqual((program.number, program.version, program.name), (0x20009000, 1, "HELLO"))
        self.assertIs(program.interface, hello.IHello)
        self.assertIs(program.eventInterface, hello.IHelloEvents)
        self.assertEqual(program.byName["greet"].acl, ("person:talk",))
        self.assertIs(program.byName["greet"].priority, HIGH)
        self.assertEqual(list(program.eventsByName), ["left"])

    def test_values(self) -> None:
        hello = self.module(HELLO)
        ann = hello.HelloPerson("ann", 30, hello.HelloPerson("bob", 31, None))
        greet = hello.HELLO.byName["greet"]
        mood = hello.HelloMood.GOOD
        self.assertEqual(greet.decodeArgs(greet.encodeArgs((ann, mood))), (ann, 1))
        meet = hello.HELLO.byName["meet"]
        met = meet.decodeRet(meet.encodeRet(hello.HelloMeetRet([ann], 7)))
        self.assertEqual((met.people, met.total), ([ann], 7))
        self.assertIsInstance(met.people[0].friend, hello.HelloPerson)

    def test_lines(self) -> None:
        """One line a procedure, without the defaults at its end."""
        lines = oneModule(parse(HELLO), "hello.x", OVERRIDES).splitlines()
        self.assertIn("HELLO_NAME_MAX = 20", lines)
        self.assertIn("NAME = String(HELLO_NAME_MAX)", lines)
        self.assertIn(
            '    (1, "greet", (("who", PERSON), ("mood", MOOD)), NAME, HIGH, None, ("person:talk",)),', lines
        )
        self.assertIn('    (2, "meet", (), MEET_RET),', lines)
        self.assertIn('    (3, "left", (("name", NAME),)),', lines)
        self.assertIn("    def greet(who: HelloPerson, mood: int) -> Deferred[str]:", lines)
        self.assertIn("    def left(name: str) -> None:", lines)

    def test_otherName(self) -> None:
        self.assertEqual(self.module(HELLO, name="SALUT").SALUT.interface.__name__, "ISalut")

    def test_severalPrograms(self) -> None:
        text = "program P { version A { int P_X(int) = 1; } = 1; version B { int P_X(int) = 1; } = 2; } = 7;"
        module = self.module(text)
        self.assertEqual((module.P_A.version, module.P_B.version), (1, 2))
        self.assertEqual(list(module.P_B.byName), ["x"])

    def test_onlyTypes(self) -> None:
        module = self.module("struct point { int x; int y; }; const ORIGIN = 0;")
        self.assertEqual(module.POINT.codec.decode(bytes(8)), (module.Point(0, 0), 8))

    def test_typedParameters(self) -> None:
        """libvirt's, under whatever name, become TypedParams; what only looks alike does not."""
        text = """
            union any_value switch (int type) {
                case 1: int i; case 2: unsigned int ui; case 3: hyper l; case 4: unsigned hyper ul;
                case 5: double d; case 6: int b; case 7: string s<>;
            };
            struct any_param { string field<>; any_value value; };
            typedef any_param many<4>;
            struct x_set_args { any_param params<3>; };
            struct x_get_ret { many params; };
            struct x_one_ret { any_param param; };
            struct other_param { string name<>; any_value value; };
            struct x_other_ret { other_param params<3>; };
            const X_PROGRAM = 1; const X_PROTOCOL_VERSION = 1;
            enum x_procedure { X_PROC_SET = 1, X_PROC_GET = 2, X_PROC_ONE = 3, X_PROC_OTHER = 4 };
        """
        program = self.module(text).X
        params = TypedParams({"weight": UInt(5)})
        for encode, decode in (
            (program.byName["set"].encodeArgs, program.byName["set"].decodeArgs),
            (program.byName["get"].encodeRet, program.byName["get"].decodeRet),
        ):
            value = (params,) if encode is program.byName["set"].encodeArgs else params
            self.assertEqual(decode(encode(value)), value)
        one = program.byName["one"]
        self.assertEqual(one.decodeRet(one.encodeRet(("weight", (2, 5)))), ("weight", (2, 5)))
        other = program.byName["other"]
        self.assertEqual(other.decodeRet(other.encodeRet([("weight", (2, 5))])), [("weight", (2, 5))])

    def test_recursion(self) -> None:
        text = """
            union expr switch (int kind) { case 0: hyper number; case 1: pair both; };
            struct pair { expr *left; expr *right; };
            program P { version V { expr P_X(pair) = 1; } = 1; } = 1;
        """
        procedure = self.module(text).P.byName["x"]
        value = (1, ((0, 1), (1, ((0, 2), None))))
        self.assertEqual(procedure.decodeRet(procedure.encodeRet(value)), value)

    def test_namesThatCollide(self) -> None:
        """Nothing in a text can hide what the module itself needs."""
        text = """
            const None = 1; const Any = 2; const INT = 3; const Struct = 4; const QUOTE = "it's \\ here";
            struct struct_ { int count; int index; int _x; int from; int from_; int self; int x<None>; };
            struct array { struct_ next<INT>; };
            struct Array { int a; };
            struct i_import { int class; };
            enum color { RED, mro, None_, True };
            struct program { color c; };
            program import {
                version V {
                    struct_ X_NULL(void) = 0; array X_class(struct_, string) = 1; Array X_9(i_import) = 2;
                } = Any;
            } = 0x20;
        """
        module = self.module(text)
        program = module.import_
        self.assertEqual(list(program.byName), ["null", "class_", "procedure9"])
        self.assertEqual(module.QUOTE, "it's \\ here")
        null = program.byName["null"]
        value = null.decodeRet(null.encodeRet((1, 2, 3, 4, 5, 6, [7])))
        self.assertEqual((value.x_, value.from_, value.from__, value.self_), (3, 4, 5, 6))

    def test_fileNamesAreOnlyText(self) -> None:
        source = oneModule(parse("const A = 1;"), '"""\nimport os\\.x', OVERRIDES)
        compile(source, "generated", "exec")
        self.assertNotIn('"""\nimport os', source)

    def test_emptyStructures(self) -> None:
        module = self.module(
            "struct nothing {}; program P { version V { nothing P_X(nothing) = 1; } = 1; } = 1;"
        )
        procedure = module.P.byName["x"]
        self.assertEqual(procedure.parameters, ())
        self.assertEqual(procedure.decodeRet(procedure.encodeRet(())), ())

    def test_withoutOverrides(self) -> None:
        """The rules of libvirt's names are overrides too."""
        text = HELLO.replace("_GREET", "_GET_XML").replace("_greet", "_get_xml")
        self.assertIn("getXml", self.module(text, Overrides()).HELLO.byName)
        self.assertIn("getXML", self.module(text).HELLO.byName)

    def test_overrides(self) -> None:
        number = 0x20009000
        rules = Overrides(
            methods={(number, 1): "welcome"},
            methodPrefixes={number: "my"},
            streams={(number, 2): "duplex"},
            descriptors={(number, 1): "call"},
            events=frozenset({(number, 2)}),
            classes={"hello_person": "Human"},
            classPrefixes=("hello_",),
            families={number: (("IPolite", ("greet",)),)},
        )
        module = self.module(HELLO, rules)
        self.assertEqual(list(module.HELLO.byName), ["welcome"])
        self.assertEqual(list(module.HELLO.eventsByName), ["myMeet", "myLeft"])
        self.assertEqual(module.HELLO.events[2].stream, "duplex")
        self.assertEqual(module.HELLO.byName["welcome"].fds, "call")
        self.assertEqual(_parametersOf(module.IHello["welcome"])[-1], "fds")
        self.assertEqual((module.Human.__name__, module.MeetRet.__name__), ("Human", "MeetRet"))
        self.assertTrue(module.IHello.extends(module.IPolite))

    def test_proceduresOfNoFamily(self) -> None:
        """A newer text has procedures that no row of the overrides knows; they get an interface as well."""
        rules = Overrides(families={0x20009000: (("IPolite", ("greet",)),)})
        module = self.module(HELLO, rules)
        self.assertEqual(sorted(module.IHelloOther), ["meet"])


class CommandTests(SynchronousTestCase):
    """C{python -m virnet.idl}"""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir(parents=True)
        self.file = self.directory / "hello.x"
        self.file.write_text(HELLO)

    def run_(self, *arguments: object) -> tuple[int, str, str]:
        """Run the command here.

        @return: status, standard output, standard error.
        """
        output, errors = StringIO(), StringIO()
        with redirect_stdout(output), redirect_stderr(errors):
            try:
                status = command.main([str(argument) for argument in arguments])
            except SystemExit as exit:
                assert isinstance(exit.code, int)
                status = exit.code
        return status, output.getvalue(), errors.getvalue()

    def test_writes(self) -> None:
        target = self.directory / "out" / "hello.py"
        status, output, errors = self.run_("-o", target.parent, self.file)
        self.assertEqual((status, output, errors), (0, f"wrote {target}\n", ""))
        self.assertEqual(load(target.read_text(), str(self.directory)).HELLO.name, "HELLO")

    def test_writesOnlyWhatIsNew(self) -> None:
        self.run_("-o", self.directory, self.file)
        self.assertEqual(self.run_("-o", self.directory, self.file), (0, "", ""))

    def test_check(self) -> None:
        """Missing, current, stale."""
        target = self.directory / "hello.py"
        stale = (1, f"{target} is not current; run python -m virnet.idl\n", "")
        self.assertEqual(self.run_("--check", "-o", self.directory, self.file), stale)
        self.assertFalse(target.exists())
        self.run_("-o", self.directory, self.file)
        self.assertEqual(self.run_("--check", "-o", self.directory, self.file), (0, "", ""))
        self.file.write_text(HELLO.replace("= 20;", "= 21;"))
        self.assertEqual(self.run_("--check", "-o", self.directory, self.file), stale)

    def test_committedProgramsAreCurrent(self) -> None:
        """If this fails: run C{python -m virnet.idl} and commit what it writes."""
        self.assertEqual(self.run_("--check"), (0, "", ""))

    def test_staleProgramsAreNamed(self) -> None:
        """And written, just as they are committed."""
        committed = command.PACKAGE
        self.patch(command, "PACKAGE", self.directory)
        status, output, _ = self.run_("--check")
        self.assertEqual(status, 1)
        names = ["errorcodes.py", "programs/constants.py", "programs/values.py", "programs/_tables/remote.py"]
        for name in names:
            self.assertIn(f"{self.directory / name} is not current; run python -m virnet.idl\n", output)
        self.assertEqual(self.run_()[0], 0)
        for name in names:
            self.assertEqual((self.directory / name).read_bytes(), (committed / name).read_bytes(), name)

    def test_R024_outputIsTheSameWhereverItIsRun(self) -> None:
        """Whatever the directory, the way the file is named, and the seed of hashes."""
        (self.directory / "elsewhere").mkdir()
        runs = [
            ("0", self.directory, "hello.x"),
            ("4711", self.directory / "elsewhere", "../hello.x"),
            ("1", Path("/"), str(self.file.resolve())),
        ]
        outputs = set()
        for seed, cwd, file in runs:
            target = (self.directory / f"out{seed}").resolve()
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
            environment["PYTHONHASHSEED"] = seed
            arguments = [sys.executable, "-m", "virnet.idl", "-o", str(target), file]
            subprocess.run(
                arguments, cwd=cwd, env=environment, check=True, timeout=60, stdout=subprocess.DEVNULL
            )
            outputs.add((target / "hello.py").read_bytes())
        subprocess.run([*arguments[:3], "--check"], cwd=cwd, env=environment, check=True, timeout=60)
        self.assertEqual(len(outputs), 1)
        [output] = outputs
        self.assertNotIn(str(self.directory.resolve()).encode(), output)

    def test_name(self) -> None:
        self.run_("--name", "SALUT", "-o", self.directory, self.file)
        self.assertIn("SALUT: Program[ISalut, ISalutEvents]", (self.directory / "hello.py").read_text())

    def test_includesAreLookedForBesideTheFile(self) -> None:
        (self.directory / "more.x").write_text('%#include "hello.h"\nstruct more { hello_name x; };')
        self.assertEqual(self.run_("-o", self.directory, self.directory / "more.x")[0], 0)
        self.assertIn("class More", (self.directory / "more.py").read_text())

    def test_errorsInTexts(self) -> None:
        self.file.write_text("struct x {")
        wanted = (1, "", f"{self.file}:1:11: found the end of the file, expected a type or '}}'\n")
        self.assertEqual(self.run_(self.file), wanted)

    def test_filesThatCannotBeRead(self) -> None:
        status, output, errors = self.run_(self.directory / "no.x")
        self.assertEqual((status, output, errors.count("\n")), (1, "", 1))
        self.assertIn("no.x", errors)

    def test_twoFilesOfOneName(self) -> None:
        status, output, errors = self.run_("-o", self.directory, self.file, self.file)
        target = self.directory / "hello.py"
        self.assertEqual(status, 1)
        self.assertEqual(errors, f"python -m virnet.idl: two files would be written to {target}\n")

    def test_wrongUse(self) -> None:
        for arguments in (["--name", "X"], ["--name", "no name", self.file], ["--unknown"]):
            status, _, errors = self.run_(*arguments)
            self.assertEqual(status, 2)
            self.assertIn("usage:", errors)

    def test_withoutLark(self) -> None:
        """Only this command needs it, so it may be missing."""
        code = (
            "import runpy, sys\nsys.modules['lark'] = None\n"
            "runpy.run_module('virnet.idl', run_name='__main__')"
        )
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, timeout=60, capture_output=True, text=True
        )
        wanted = "python -m virnet.idl: lark is not installed; it comes with: pip install 'virnet[idl]'\n"
        self.assertEqual((done.returncode, done.stderr), (1, wanted))

    def test_help(self) -> None:
        status, output, _ = self.run_("--help")
        self.assertEqual(status, 0)
        for said in (
            "FILE.x",
            "--check",
            "--output",
            "virnet/programs/x",
            "exit status 1",
            "python -m virnet.idl",
        ):
            self.assertIn(said, output)
