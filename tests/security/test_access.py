"""Who may do what: rules in lines."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import tempfile
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.echo import ECHO
from virnet.programs import LXC, QEMU, REMOTE
from virnet.security.access import AccessObject, AllowAll, RuleError, RuleFile
from virnet.security.identity import Identity
from virnet.security.permissions import needed, vocabulary

PROGRAMS = (REMOTE, QEMU, LXC)
ALICE = Identity(transport="tls", saslUser="alice", x509dname="CN=alice,O=ACME Ltd,C=GB")
UUID = bytes(range(16))
PROCEDURE = REMOTE.byName["domainCreate"]


def domain(*permissions: str, **names: Any) -> AccessObject:
    """What a call on a domain wants."""
    return AccessObject(tuple(f"domain:{each}" for each in permissions or ("start",)), "domain", **names)


class RulesCase(SynchronousTestCase):
    """Rules, and who asks."""

    def assertAnswers(
        self, answer: bool, rules: str, object: AccessObject, identity: Identity = ALICE
    ) -> None:
        """What the rules say."""
        self.assertEqual(RuleFile(rules, PROGRAMS).allows(identity, PROCEDURE, object), answer, rules)

    def allows(self, rules: str, object: AccessObject, identity: Identity = ALICE) -> None:
        """The rules permit it."""
        self.assertAnswers(True, rules, object, identity)

    def denies(self, rules: str, object: AccessObject, identity: Identity = ALICE) -> None:
        """The rules do not."""
        self.assertAnswers(False, rules, object, identity)


class Order(RulesCase):
    """Which rule decides."""

    def test_without_a_rule_the_answer_is_no(self) -> None:
        self.denies("", domain())
        self.denies("# permit any *\n\n   # nothing else", domain())

    def test_the_first_that_fits(self) -> None:
        self.allows("permit any domain:start\ndeny any *", domain())
        self.denies("deny any *\npermit any domain:start", domain())

    def test_all_permissions_are_needed_and_each_has_its_own_rule(self) -> None:
        rules = "permit any domain:write\npermit any domain:save"
        self.allows(rules, domain("write", "save"))
        self.denies(rules, domain("write", "save", "start"))

    def test_nothing_is_needed(self) -> None:
        self.allows("", AccessObject((), "domain"))


class Who(RulesCase):
    """About whom a rule is."""

    def test_sasl(self) -> None:
        self.allows("permit sasl:alice domain:start", domain())
        self.allows("permit sasl:a* domain:start", domain())
        self.denies("permit sasl:bob domain:start", domain())
        self.denies("permit sasl:* domain:start", domain(), Identity(userName="alice"))

    def test_a_distinguished_name_with_blanks(self) -> None:
        self.allows("permit 'dn:*,O=ACME Ltd,C=GB' domain:start", domain())
        self.denies("permit 'dn:*,O=Other,C=GB' domain:start", domain())

    def test_a_comma_in_a_distinguished_name_separates_nothing(self) -> None:
        """Who may choose the common name cannot choose the organization with it."""
        spoof = Identity(x509dname=r"C=GB,O=Other,CN=x\,O=ACME")
        self.denies("permit dn:*,O=ACME domain:start", domain(), spoof)
        self.denies("permit dn:*+O=ACME *", domain(), Identity(x509dname=r"CN=x\+O=ACME"))
        self.allows("permit 'dn:*,CN=x\\,O=ACME' domain:start", domain(), spoof)
        self.allows("permit dn:*O=Other,CN=* domain:start", domain(), spoof)
        # Here the backslash is the value's last character.
        true = Identity(x509dname="CN=x\\\\,O=ACME")
        self.denies("deny dn:*,O=ACME *\npermit any *", domain(), true)
        self.allows("permit dn:*,O=ACME *", domain(), true)

    def test_uid(self) -> None:
        self.allows("permit uid:1000 *", domain(), Identity(uid=1000))
        self.denies("permit uid:1000 *", domain(), Identity(uid=0))
        self.denies("permit uid:0 *", domain(), Identity())

    def test_user_and_group_by_name(self) -> None:
        user, group = pwd.getpwuid(0).pw_name, grp.getgrgid(0).gr_name
        self.allows(f"permit user:{user} *", domain(), Identity(uid=0))
        self.denies(f"permit user:{user} *", domain(), Identity(uid=1, saslUser=user))
        self.allows(f"permit group:{group} *", domain(), Identity(gid=0))
        self.allows(f"permit group:{group} *", domain(), Identity(gid=5, groups=frozenset({0, 7})))
        self.denies(f"permit group:{group} *", domain(), Identity(gid=5, groups=frozenset({7})))

    def test_transport(self) -> None:
        self.allows("permit transport:tls *", domain())
        self.denies("permit transport:unix *", domain())

    def test_any(self) -> None:
        self.allows("permit any *", domain(), Identity())


class What(RulesCase):
    """About which permissions."""

    def test_words(self) -> None:
        for word in ("domain:start", "domain:{getattr,start}", "domain:*", "domain:st*", "*:start", "*"):
            self.allows(f"permit any {word}", domain("start"))
            self.denies(f"permit any {word}", AccessObject(("connect:nonsense",)))

    def test_several(self) -> None:
        self.allows("permit any connect:getattr domain:{start,stop}", domain("stop"))

    def test_a_program_of_ones_own(self) -> None:
        rules = RuleFile("permit any ECHO:ping", [ECHO])
        ping, other = (
            next(p for p in ECHO.procedures.values() if (p.name == "ping") is it) for it in (True, False)
        )
        for procedure, answer in ((ping, True), (other, False)):
            object = AccessObject(needed(procedure, ()), "ECHO")
            self.assertEqual(rules.allows(ALICE, procedure, object), answer)

    def test_every_permission_of_the_tables_can_be_said(self) -> None:
        for kind, words in vocabulary(PROGRAMS).items():
            for word in words:
                self.allows(f"permit any {kind}:{word}", AccessObject((f"{kind}:{word}",), kind))


class Conditions(RulesCase):
    """About which objects."""

    def test_names(self) -> None:
        rule = "permit sasl:alice domain:{getattr,read,start} name=web-*"
        self.allows(rule, domain(name="web-1"))
        self.denies(rule, domain(name="db-1"))
        self.denies(rule, domain("stop", name="web-1"))

    def test_uuids(self) -> None:
        rule = "permit any domain:start uuid=00010203-0405-0607-0809-0a0b0c0d0e0f"
        self.allows(rule, domain(name="x", uuid=UUID))
        self.denies(rule, domain(name="x", uuid=bytes(16)))

    def test_pools(self) -> None:
        rule = "permit any storage_vol:* pool=scratch name=*.img"
        wanted = ("storage_vol:delete",)
        self.allows(rule, AccessObject(wanted, "storage_vol", "a.img", pool="scratch"))
        self.denies(rule, AccessObject(wanted, "storage_vol", "a.img", pool="other"))
        self.denies(rule, AccessObject(wanted, "storage_vol", "a.iso", pool="scratch"))

    def test_what_is_not_known_is_not_permitted(self) -> None:
        for condition in ("name=*", "uuid=00010203-0405-0607-0809-0a0b0c0d0e0f"):
            self.denies(f"permit any domain:start {condition}", domain())

    def test_and_is_denied(self) -> None:
        for condition in ("name=secret", "uuid=00010203-0405-0607-0809-0a0b0c0d0e0f"):
            rules = f"deny any domain:start {condition}\npermit any *"
            self.denies(rules, domain())
            self.allows(rules, domain(name="other", uuid=bytes(16)))

    def test_they_limit_only_what_can_have_them(self) -> None:
        rules = "deny any * name=secret\npermit any *"
        self.allows(rules, AccessObject(("connect:getattr",)))
        self.denies(rules, domain(name="secret"))
        rules = "deny any * pool=secret\npermit any *"
        self.allows(rules, domain(name="secret"))

    def test_whether_objects_have_to_be_looked_at(self) -> None:
        self.assertFalse(RuleFile("permit any *", PROGRAMS).looksAtObjects)
        self.assertTrue(RuleFile("permit any *\npermit any domain:* name=x", PROGRAMS).looksAtObjects)
        self.assertFalse(AllowAll().looksAtObjects)


class Mistakes(SynchronousTestCase):
    """What a file must not contain, and in which line it does."""

    def refused(self, why: str, line: str) -> None:
        """The line is refused, behind two that are not."""
        error = self.assertRaises(RuleError, RuleFile, f"permit any *\n# {line}\n{line}\n", PROGRAMS, "rules")
        self.assertEqual(str(error)[: len(why) + 9], f"rules:3: {why}")

    def test_words(self) -> None:
        self.refused("'allow' is neither permit nor deny", "allow any *")
        self.refused("permit whom?", "permit")
        self.refused("permit any what?", "permit any")
        self.refused("permit any what?", "permit any name=x")
        self.refused("No closing quotation", "permit 'dn:x domain:start")

    def test_who(self) -> None:
        self.refused(
            "'alice' is nobody: say sasl:…, dn:…, uid:…, user:…, group:…, transport:… or any",
            "permit alice *",
        )
        self.refused("'sasl:' is nobody", "permit sasl: *")
        self.refused("'root' is not the number of a user", "permit uid:root *")
        self.refused("there is no user 'frob'", "permit user:frob *")
        self.refused("there is no group 'frob'", "permit group:frob *")
        self.refused("'ssh' is not one of unix, tcp, tls, other", "permit transport:ssh *")

    def test_what(self) -> None:
        self.refused("there is no 'domian'; did you mean domain?", "permit any domian:start")
        self.refused("there is no 'vm'; there are connect, domain, interface", "permit any vm:start")
        self.refused("there is no domain:strat; did you mean start?", "permit any domain:strat")
        self.refused("there is no domain:kill; there are block_read, block_write", "permit any domain:kill")
        self.refused("there is no domain:strat", "permit any domain:{start,strat}")
        self.refused(
            "there is no domain:start,stop; several are domain:{start,stop}", "permit any domain:start,stop"
        )
        self.refused("there is no domain:", "permit any domain")

    def test_conditions(self) -> None:
        self.refused("'id' is not one of name=, uuid=, pool=", "permit any domain:* id=1")
        self.refused("name= is there twice", "permit any domain:* name=a name=b")
        self.refused("'1' is no uuid", "permit any domain:* uuid=1")
        self.refused("name= what?", "permit any domain:* name= web")
        self.refused(
            "connect:getattr has no name: it takes a line of its own",
            "permit any connect:getattr domain:* name=a",
        )
        self.refused("domain:* has no pool: it takes a line of its own", "permit any domain:* pool=a")


class Files(SynchronousTestCase):
    """Where rules are."""

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="virnet-"))
        self.addCleanup(shutil.rmtree, self.directory)

    def test_it_is_read(self) -> None:
        path = self.directory / "rules"
        path.write_text("permit any *\n")
        self.assertTrue(RuleFile.fromPath(path, PROGRAMS).allows(ALICE, PROCEDURE, domain()))

    def test_mistakes_name_the_file(self) -> None:
        path = self.directory / "rules"
        path.write_text("\npermit\n")
        error = self.assertRaises(RuleError, RuleFile.fromPath, path, PROGRAMS)
        self.assertEqual(str(error), f"{path}:2: permit whom?")

    def test_it_is_not_there(self) -> None:
        error = self.assertRaises(RuleError, RuleFile.fromPath, "/nonexistent", PROGRAMS)
        self.assertEqual(str(error), f"cannot read /nonexistent: {os.strerror(2)}")

    def test_it_is_no_text(self) -> None:
        path = self.directory / "rules"
        path.write_bytes(b"permit \xff")
        self.assertRaises(RuleError, RuleFile.fromPath, path, PROGRAMS)


class Needed(SynchronousTestCase):
    """Which permissions a call needs."""

    def needs(self, name: str, *args: Any) -> set[str]:
        """By the procedure's name."""
        return set(needed(REMOTE.byName[name], args))

    def test_conditions_on_flags(self) -> None:
        self.assertEqual(self.needs("domainGetXMLDesc", None, 0), {"domain:read"})
        self.assertEqual(self.needs("domainGetXMLDesc", None, 1), {"domain:read", "domain:read_secure"})
        self.assertEqual(self.needs("domainSetVcpusFlags", None, 1, 0), {"domain:write", "domain:save"})
        self.assertEqual(self.needs("domainSetVcpusFlags", None, 1, 1), {"domain:write"})
        self.assertEqual(self.needs("domainSetVcpusFlags", None, 1, 3), {"domain:write", "domain:save"})

    def test_conditions_on_values(self) -> None:
        self.assertEqual(self.needs("domainInterfaceAddresses", None, 0, 0), {"domain:read"})
        self.assertEqual(self.needs("domainInterfaceAddresses", None, 1, 0), {"domain:read", "domain:write"})

    def test_none(self) -> None:
        for name in ("connectClose", "connectIsSecure", "authList"):
            self.assertEqual(self.needs(name), set())

    def test_each_condition_in_the_tables_is_understood(self) -> None:
        for program in PROGRAMS:
            for procedure in program.procedures.values():
                for flags in (0, 0xFFFFFFFF):
                    needed(procedure, (flags,) * len(procedure.parameters))
