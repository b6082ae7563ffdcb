"""libvirt-python, the binding that applications use, against our server.

Each test is a script for the system's own Python, which has the binding; it runs as a process of its own
against our daemon and prints what it saw as JSON. The same script is run against a real libvirtd, and both
must have seen the same.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.binding import LOOP, daemons, printed
from tests.interop.support import Daemon, LibvirtDaemon, VirnetDaemon


class _Case(SynchronousTestCase):
    maxDiff = None

    def said(self, daemon: Daemon, script: str, uri: str | None = None) -> Any:
        """Run a script against a daemon and return what it said."""
        return [json.loads(line) for line in printed(self, script, uri or daemon.uri).splitlines()]

    def both(self, script: str) -> Any:
        """Run a script against both daemons; return what it said, the same of both."""
        ours, theirs = (self.said(each, script) for each in daemons(self))
        self.assertEqual(ours, theirs)
        return ours


class WithoutEventLoop(_Case):
    """R054: a bare script has no event loop; calls work, keepalive and events are off."""

    def test_R054_opening_and_what_there_is(self) -> None:
        (seen,) = self.both("""
c = libvirt.open(uri)
test = c.lookupByName("test")
say([c.getType(), c.getURI().split("?")[0], c.isAlive(), c.isSecure(), c.isEncrypted(),
     [d.name() for d in c.listAllDomains()], test.ID(), test.isActive(), test.state()[0], test.info()[:4],
     [n.name() for n in c.listAllNetworks()], [p.name() for p in c.listAllStoragePools()],
     c.getInfo(), c.getMaxVcpus("test"), test.OSType(), test.maxMemory(), test.hasCurrentSnapshot()])
c.close()
""")
        self.assertEqual(seen[5], ["test"])

    def test_R054_keepalive_and_events_are_off(self) -> None:
        keepalive, event = self.both("""
c = libvirt.open(uri)
say(refused(c.setKeepAlive, 1, 2))
say(refused(c.domainEventRegisterAny, None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, lambda *_: None, None))
c.close()
""")
        self.assertIn("missing event loop implementation", str(keepalive))
        self.assertIn("could not initialize", str(event))

    def test_a_domain_is_defined_started_destroyed_and_undefined(self) -> None:
        self.both("""
c = libvirt.open(uri)
d = c.defineXML(XML % "binding")
say([d.name(), d.UUIDString(), d.ID(), d.isActive(), d.isPersistent(), d.autostart()])
d.create()
say([d.ID() > 1, d.isActive(), d.state()])
d.suspend(); say(d.state())
d.resume(); say(d.state())
d.setAutostart(1); say(d.autostart())
say(refused(d.create))
say(refused(c.createXML, XML % "binding"))
d.destroy()
say([d.ID(), d.isActive(), d.state()])
say(refused(d.destroy))
d.undefine()
say(refused(d.info))
say(refused(c.lookupByName, "binding"))
say(refused(c.lookupByUUIDString, "12345678-1234-1234-1234-123456789abc"))
""")

    def test_errors_field_by_field(self) -> None:
        self.both("""
c = libvirt.open(uri)
d = c.lookupByName("test")
say(refused(c.lookupByName, "nosuch"))
say(refused(c.lookupByID, 4711))
say(refused(c.defineXML, "<domain"))
say(refused(c.defineXML, "<nonsense/>"))
say(refused(c.defineXML, "<domain type='test'/>"))
say(refused(c.networkLookupByName, "nosuch"))
say(refused(c.storagePoolLookupByName, "nosuch"))
say(refused(d.setMemory, 99999999))
say(refused(d.XMLDesc, 1 << 30))
say(refused(d.blockPull, "vda", 0, 0))
""")

    def test_read_only_connections_refuse_changes(self) -> None:
        self.both("""
c = libvirt.openReadOnly(uri)
d = c.lookupByName("test")
say(d.name())
say(refused(d.destroy))
say(refused(d.suspend))
say(refused(c.defineXML, XML % "x"))
say(refused(d.setAutostart, 1))
""")

    def test_R049_a_driver_that_is_not_there(self) -> None:
        script = "say(refused(libvirt.open, uri))"
        ours, theirs = (
            self.said(each, script, each.uri.replace("test+", "nosuch+", 1)) for each in daemons(self)
        )
        self.assertEqual(ours, theirs)

    def test_two_connections_of_one_process_see_the_same_domains(self) -> None:
        self.both("""
one, two = libvirt.open(uri), libvirt.open(uri)
d = one.defineXML(XML % "shared")
say(two.lookupByName("shared").UUIDString())
d.undefine()
say(refused(two.lookupByName, "shared"))
one.close()
say(two.isAlive())
""")

    def test_R028_a_qemu_call_to_a_hypervisor_that_is_none(self) -> None:
        self.both("""
import libvirt_qemu
c = libvirt.open(uri)
d = c.lookupByName("test")
say(refused(libvirt_qemu.qemuMonitorCommand, d, "info", 0))
say(d.name())
""")


class WithEventLoop(_Case):
    """An application with an event loop: events, keepalive, close callbacks."""

    def test_lifecycle_events_of_a_domain(self) -> None:
        seen = self.both(
            LOOP
            + """
heard = []
def hear(conn, dom, event, detail, opaque):
    heard.append([dom.name(), event, detail, opaque])
c = libvirt.open(uri)
number = c.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, hear, "opaque")
d = c.defineXML(XML % "eventful")
d.create(); d.suspend(); d.resume(); d.destroy(); d.undefine()
until(lambda: heard and heard[-1][1] == libvirt.VIR_DOMAIN_EVENT_UNDEFINED)
c.domainEventDeregisterAny(number)
c.defineXML(XML % "eventful").undefine()
c.getHostname()
for each in heard:
    say(each)
"""
        )
        self.assertEqual(len(seen), 6)

    def test_events_of_one_domain_only(self) -> None:
        self.both(
            LOOP
            + """
heard = []
def hear(conn, dom, event, detail, opaque):
    heard.append([dom.name(), event, detail])
c = libvirt.open(uri)
d = c.defineXML(XML % "watched")
other = c.lookupByName("test")
c.domainEventRegisterAny(d, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, hear, None)
other.suspend(); other.resume()
d.create(); d.destroy(); d.undefine()
until(lambda: heard and heard[-1][1] == libvirt.VIR_DOMAIN_EVENT_UNDEFINED)
say(heard)
"""
        )

    def test_events_of_networks_and_pools(self) -> None:
        self.both(
            LOOP
            + """
heard = []
def hear(conn, it, event, detail, kind):
    heard.append([kind, it.name(), event, detail])
c = libvirt.open(uri)
c.networkEventRegisterAny(None, libvirt.VIR_NETWORK_EVENT_ID_LIFECYCLE, hear, "network")
c.storagePoolEventRegisterAny(None, libvirt.VIR_STORAGE_POOL_EVENT_ID_LIFECYCLE, hear, "pool")
net, pool = c.networkLookupByName("default"), c.storagePoolLookupByName("default-pool")
net.destroy(); net.create()
pool.destroy(); pool.create()
until(lambda: len(heard) >= 4)
say(sorted(heard))
"""
        )

    def test_keepalive_can_be_turned_on_and_the_connection_lives_on(self) -> None:
        self.both(
            LOOP
            + """
c = libvirt.open(uri)
say(c.setKeepAlive(1, 2))
before = time.monotonic()
until(lambda: time.monotonic() - before > 1.5)
say(c.isAlive())
say(c.lookupByName("test").name())
"""
        )

    def test_every_domain_event_can_be_registered_and_deregistered(self) -> None:
        self.both(
            LOOP
            + """
c = libvirt.open(uri)
numbers = [c.domainEventRegisterAny(None, event, lambda *_: None, None)
           for event in range(libvirt.VIR_DOMAIN_EVENT_ID_MEMORY_DEVICE_SIZE_CHANGE + 1)]
say(len(numbers))
for number in numbers:
    c.domainEventDeregisterAny(number)
say(refused(c.domainEventDeregisterAny, numbers[0])[:2])
"""
        )

    def test_a_close_callback_hears_of_a_server_that_stops(self) -> None:
        for kind in (VirnetDaemon, LibvirtDaemon):
            daemons(self)
            doomed = kind()
            doomed.start()
            self.addCleanup(doomed.stop)
            (reason,) = self.said(
                doomed,
                LOOP
                + f"""
import os, signal
reasons = []
c = libvirt.open(uri)
c.registerCloseCallback(lambda conn, reason, opaque: reasons.append(reason), None)
os.kill({doomed.pid}, signal.SIGTERM)
until(lambda: reasons)
say(reasons[0])
""",
            )
            # VIR_CONNECT_CLOSE_REASON_EOF
            self.assertEqual(reason, 1, kind)
