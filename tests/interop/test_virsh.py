"""
virsh cannot tell our hypervisor from libvirt's test driver.

Each command is given to a virsh connected to our daemon and to one connected to a real libvirtd, and must
have the same exit status and print the same on standard output and standard error. Only what cannot be the
same is made so before: uuids, generated MAC addresses, times, and the names of sockets and files.
"""

from __future__ import annotations

import atexit
import re
import shlex
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.support import LibvirtDaemon, Listener, VirnetDaemon, Virsh, requireTool


def small(
    type: str = "test",
    name: str = "<name>x</name>",
    memory: str = "<memory>1024</memory>",
    os: str = "<os><type>hvm</type></os>",
    rest: str = "",
) -> str:
    """
    A short domain document.
    """
    return f"<domain type='{type}'>{name}{memory}{os}{rest}</domain>\n"


DOCUMENTS = {
    "d1.xml": """
<domain type='test'>
  <name>d1</name>
  <memory>524288</memory>
  <vcpu>1</vcpu>
  <os><type>hvm</type></os>
</domain>
""",
    "transient.xml": """
<domain type='test'>
  <name>transient</name>
  <memory>1024</memory>
  <os><type>hvm</type></os>
  <on_reboot>destroy</on_reboot>
</domain>
""",
    "restarting.xml": """
<domain type='test'>
  <name>restarting</name>
  <uuid>11111111-1111-1111-1111-111111111112</uuid>
  <memory>1024</memory>
  <os><type>hvm</type></os>
  <on_poweroff>restart</on_poweroff>
</domain>
""",
    "machine.xml": """
<domain type='test'>
  <name>machine</name>
  <title>A machine</title>
  <description>Made by hand,
 with &lt;care&gt;.</description>
  <metadata>
    <os:libosinfo xmlns:os="http://libosinfo.org/xmlns/libvirt/domain/1.0"><os:os id="x"/></os:libosinfo>
  </metadata>
  <memory unit='GiB'>2</memory>
  <currentMemory unit='MiB'>1024</currentMemory>
  <vcpu cpuset='0-3,^2' current='1'>2</vcpu>
  <os><boot dev='hd'/><boot dev='cdrom'/><type machine='pc-q35-7.2' arch='x86_64'>hvm</type></os>
  <features><pae/><apic/><acpi/></features>
  <cpu mode='host-passthrough' migratable='on' check='none'/>
  <clock offset='utc'>
    <timer tickpolicy='catchup' name='rtc'/>
    <timer name='hpet' present='no'/>
  </clock>
  <on_crash>restart</on_crash>
  <pm><suspend-to-mem enabled='no'/></pm>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file'>
      <target bus='virtio' dev='vda'/>
      <source file='/images/a.qcow2'/>
      <driver type='qcow2' name='qemu'/>
    </disk>
    <disk type='file' device='cdrom'><target dev='sda' bus='sata'/></disk>
    <disk type='block'><source dev='/dev/sdx'/><target dev='hdb'/></disk>
    <disk type='network'>
      <source protocol='rbd' name='a/b'><host name='h' port='1'/></source>
      <target dev='vdb' bus='virtio'/>
    </disk>
    <controller type='usb' model='qemu-xhci' ports='15'/>
    <interface type='network'>
      <source network='default'/><mac address='52:54:00:00:00:01'/><model type='virtio'/>
    </interface>
    <interface type='bridge'><source bridge='br0'/></interface>
    <interface type='user'/>
    <console type='pty'/>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <input type='tablet' bus='usb'/>
    <graphics type='vnc' port='-1' passwd='secret'/>
    <graphics type='spice' autoport='yes'><listen type='address' address='127.0.0.1'/></graphics>
    <sound model='ich6'/>
    <video><model type='qxl'/></video>
    <hostdev mode='subsystem' type='pci'>
      <source><address domain='0' bus='1' slot='2' function='3'/></source>
    </hostdev>
    <watchdog model='i6300esb'/>
    <memballoon model='virtio'/>
    <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
  </devices>
</domain>
""",
    "old.xml": """
<domain type='xen'>
  <name>old</name>
  <memory>1048576</memory>
  <os><type>xen</type><kernel>/vmlinuz</kernel><cmdline>ro root=/dev/xvda</cmdline></os>
  <devices>
    <disk type='file'><source file='/a'/><target dev='xvda'/></disk>
    <console type='pty'/>
    <graphics type='vnc'/>
  </devices>
</domain>
""",
    "empty.xml": "",
    "text.xml": "no document at all\n",
    "cut.xml": "<domain type='test'>\n  <name>x</name>\n",
    "crossed.xml": "<domain type='test'><name>x</nam></domain>\n",
    "two.xml": "<domain/><domain/>\n",
    "entity.xml": "<domain>&nbsp;</domain>\n",
    "unnamed.xml": small(name=""),
    "untyped.xml": small().replace(" type='test'", ""),
    "oddtype.xml": small("odd"),
    "oddos.xml": small(os="<os><type>odd</type></os>"),
    "noos.xml": small(os=""),
    "nomemory.xml": small(memory=""),
    "oddmemory.xml": small(memory="<memory>y</memory>"),
    "oddunit.xml": small(memory="<memory unit='q'>1</memory>"),
    "oddvcpu.xml": small(rest="<vcpu>y</vcpu>"),
    "oddname.xml": small(name="<name>x/y</name>"),
    "odduuid.xml": small(rest="<uuid>y</uuid>"),
    "samename.xml": small(name="<name>test</name>", rest="<uuid>11111111-2222-3333-4444-555555555555</uuid>"),
    "sameuuid.xml": small(
        name="<name>other</name>", rest="<uuid>6695eb01-f6a4-8304-79aa-97f2502e193f</uuid>"
    ),
    "nodisk.xml": small(rest="<devices><disk type='file'><source file='/a'/></disk></devices>"),
    "samedisk.xml": small(
        rest="<devices><disk type='file'><source file='/a'/><target dev='vda'/></disk>"
        "<disk type='file'><source file='/b'/><target dev='vda'/></disk></devices>"
    ),
    "isolated.xml": "<network><name>isolated</name></network>\n",
    "nat.xml": """
<network>
  <name>nat</name>
  <bridge name='virbr7'/>
  <forward mode='nat'/>
  <ip netmask='255.255.255.0' address='10.0.0.1'>
    <dhcp><range start='10.0.0.2' end='10.0.0.9'/></dhcp>
  </ip>
</network>
""",
    "net-unnamed.xml": "<network/>\n",
    "net-oddip.xml": "<network><name>x</name><ip address='y'/></network>\n",
    "net-noip.xml": "<network><name>x</name><forward mode='nat'/></network>\n",
    "net-samename.xml": (
        "<network><name>default</name><uuid>11111111-2222-3333-4444-555555555555</uuid></network>\n"
    ),
    "net-sameuuid.xml": (
        "<network><name>other</name><uuid>dd8fe884-6c02-601e-7551-cca97df1c5df</uuid></network>\n"
    ),
    "pool.xml": "<pool type='dir'><name>p1</name><target><path>/p1</path></target></pool>\n",
    "pool-logical.xml": "<pool type='logical'><name>vg</name></pool>\n",
    "pool-oddtype.xml": "<pool type='odd'><name>p1</name><target><path>/p1</path></target></pool>\n",
    "pool-unnamed.xml": "<pool type='dir'><target><path>/p1</path></target></pool>\n",
    "pool-nowhere.xml": "<pool type='dir'><name>p1</name></pool>\n",
    "pool-sameplace.xml": (
        "<pool type='dir'><name>p5</name><target><path>/default-pool</path></target></pool>\n"
    ),
    "vol.xml": "<volume><name>vx</name><capacity unit='M'>10</capacity></volume>\n",
    "vol-unnamed.xml": "<volume><capacity unit='M'>10</capacity></volume>\n",
    "vol-nosize.xml": "<volume><name>q</name></volume>\n",
}

SAME = [
    (re.compile(pattern), word)
    for pattern, word in (
        (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID"),
        (r"52:54:00:(?!00:00:)([0-9a-f]{2}:){2}[0-9a-f]{2}", "MAC"),
        (r"CPU time:( +)[0-9.]+s", r"CPU time:\1TIME"),
        (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?", "TIME"),
        (r"<creationTime>\d+<", "<creationTime>TIME<"),
        (r"socket=\S+", "socket=PATH"),
    )
]


def normal(text: str) -> str:
    """
    Replace what cannot be the same.
    """
    for pattern, word in SAME:
        text = pattern.sub(word, text)
    if text.startswith("Domain: "):
        # Statistics come in the order of a hash table that is another one in each process.
        text = "\n\n".join(sorted(text.split("\n\n")))
    return text


LISTENING = (
    "event --all --loop",
    "event --event lifecycle --loop",
    "event --domain test --event lifecycle --loop",
    "net-event --event lifecycle --loop",
    "net-event --network default --event lifecycle --loop",
    "pool-event --event lifecycle --loop",
    "pool-event --pool default-pool --event lifecycle --loop",
    "pool-event --event refresh --loop",
)
#: What happens so often only that listeners are seen to listen, and how many events that makes.
ONLY_SEEN = re.compile(
    "for domain 'test': (Suspended Paused|Resumed Unpaused)|for network default|for pool default-pool|"
    "for storage pool default-pool|events received"
)


class VirshTests(SynchronousTestCase):
    """
    Commands that leave everything as it was, one group after the other on the same two daemons.
    """

    ours: VirnetDaemon
    theirs: LibvirtDaemon
    keeper: Virsh

    def setUp(self) -> None:
        requireTool(self, "virsh", "libvirtd")
        cls = type(self)
        if not hasattr(cls, "ours"):
            cls.ours, cls.theirs = VirnetDaemon(), LibvirtDaemon()
            cls.ours.start()
            cls.theirs.start()
            # libvirt's test driver forgets everything with its last connection.
            cls.keeper = Virsh(cls.theirs.uri)
            cls.keeper.ask("uri")
            atexit.register(cls.keeper.finish)
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        for name, document in DOCUMENTS.items():
            (self.directory / name).write_text(document)

    def start(self, command: str) -> list[Virsh]:
        """
        Start a command on both daemons.
        """
        arguments = shlex.split(command)
        return [Virsh(each.uri, *arguments, directory=self.directory) for each in (self.ours, self.theirs)]

    def judge(self, command: str, running: list[Virsh]) -> None:
        """
        Wait for both to end and compare.
        """
        self.maxDiff = None
        ours, theirs = (
            f"exit status {status}\n{normal(output)}--- standard error:\n{normal(errors)}"
            for status, output, errors in [virsh.finish() for virsh in running]
        )
        self.assertEqual(ours, theirs, f"virsh {command}: ours is not libvirtd's")

    def same(self, commands: str) -> None:
        """
        Execute commands, one a line, and compare each.
        """
        for command in filter(None, map(str.strip, commands.splitlines())):
            self.judge(command, self.start(command))

    def test_host(self) -> None:
        self.same("""
            version
            version --daemon
            uri
            hostname
            nodeinfo
            capabilities
            maxvcpus
            sysinfo
            nodecpumap
            freecell --all
        """)

    def test_asking_about_a_domain(self) -> None:
        self.same("""
            list
            list --all
            list --inactive
            list --all --name
            list --all --uuid
            list --all --title
            list --persistent
            list --transient
            list --state-running --state-paused
            list --state-shutoff
            list --with-snapshot
            list --without-snapshot
            list --autostart
            list --no-autostart
            dominfo test
            dominfo 1
            dominfo nosuch
            domstate test
            domstate test --reason
            domstate nosuch
            domid test
            domid nosuch
            domuuid test
            domuuid nosuch
            domname 1
            domname 6695eb01-f6a4-8304-79aa-97f2502e193f
            domname 99
            dumpxml test
            dumpxml test --inactive
            dumpxml test --security-info
            dumpxml test --update-cpu
            dumpxml test --migratable
            dumpxml nosuch
            domblklist test
            domblklist test --details
            domblklist test --inactive
            domblklist nosuch
            domiflist test
            domiflist test --inactive
            domiflist nosuch
            domif-getlink test testnet0
            vcpuinfo test
            vcpuinfo test --pretty
            vcpuinfo nosuch
            domhostname test
            -r list --all
            -r dumpxml test
        """)

    def test_life_of_a_domain(self) -> None:
        self.same("""
            define d1.xml
            define d1.xml
            list --all
            domid d1
            domstate d1 --reason
            dominfo d1
            dumpxml d1
            start d1
            start d1
            start nosuch
            suspend d1
            suspend d1
            domstate d1 --reason
            list --all
            resume d1
            resume d1
            domstate d1 --reason
            shutdown d1
            shutdown d1
            domstate d1 --reason
            reboot d1
            reset d1
            destroy d1
            suspend d1
            resume d1
            domhostname d1
            vcpuinfo d1
            start d1
            reboot d1
            reset d1
            domstate d1 --reason
            destroy d1
            destroy d1 --graceful
            domstate d1 --reason
            domrename d1 d2
            domrename d2 test
            domrename d2 d1
            undefine d1
            undefine d1
            destroy nosuch
            undefine nosuch
            shutdown nosuch
            suspend nosuch
        """)

    def test_life_of_a_transient_domain(self) -> None:
        self.same("""
            create d1.xml
            create d1.xml
            list --all
            list --transient
            dominfo d1
            autostart d1
            autostart d1 --disable
            setmem d1 1024 --config
            undefine d1
            destroy d1
            list --all
            create transient.xml
            reboot transient
            list --all
            create transient.xml
            shutdown transient
            create nosuch.xml
            create empty.xml
            define restarting.xml
            define restarting.xml
            create restarting.xml
            create restarting.xml
            shutdown restarting
            domstate restarting --reason
            dominfo restarting
            undefine restarting
            list --transient
            define restarting.xml
            destroy restarting
            undefine restarting
        """)

    def test_autostart(self) -> None:
        self.same("""
            autostart test
            list --autostart
            dominfo test
            autostart --disable test
            autostart nosuch
        """)

    def test_documents_of_domains(self) -> None:
        for name in ("machine", "old"):
            self.same(f"""
                define {name}.xml
                dumpxml {name}
                dumpxml {name} --security-info
                domblklist {name}
                domiflist {name}
                start {name}
                dumpxml {name}
                dumpxml {name} --inactive
                vcpuinfo {name}
                destroy {name}
                undefine {name}
            """)

    def test_documents_that_are_refused(self) -> None:
        for name in DOCUMENTS:
            if not re.match(r"(d1|transient|restarting|machine|old|isolated|nat|pool|vol|net-)", name):
                self.same(f"define {name}\ncreate {name}")
        self.same("""
            define isolated.xml
            define nosuch.xml
            define /
            list --all
        """)

    def test_memory(self) -> None:
        self.same("""
            define d1.xml
            setmem test 1048576
            setmem test 99999999
            setmem test 1048576 --config
            setmem test 1048576 --live --config
            setmem test 0
            setmem d1 100000
            setmem d1 100000 --config
            setmem d1 100000 --live
            dominfo test
            setmaxmem test 4194304
            setmaxmem test 4194304 --config
            setmaxmem test 4194304 --live
            dumpxml test
            dumpxml test --inactive
            setmaxmem d1 300000
            dumpxml d1
            setmaxmem d1 50000 --config
            dumpxml d1
            setmaxmem nosuch 1024
            setmem nosuch 1024
            undefine d1
            setmem test 2097152
            setmaxmem test 8388608 --config
            setmem test 2097152 --config
            dumpxml test
            dumpxml test --inactive
        """)

    def test_vcpus(self) -> None:
        self.same("""
            define d1.xml
            vcpucount test
            setvcpus test 1
            setvcpus test 3
            setvcpus test 33
            setvcpus test 2 --config
            setvcpus test 4 --maximum
            setvcpus test 4 --maximum --config
            vcpucount test
            vcpucount test --maximum --config
            vcpucount test --current --live
            vcpucount test --guest
            vcpucount test --live --config
            dumpxml test
            dumpxml test --inactive
            vcpuinfo test
            setvcpus test 0
            setvcpus d1 1
            setvcpus d1 2 --maximum --config
            setvcpus d1 1 --config
            setvcpus d1 3 --config
            vcpucount d1
            dumpxml d1
            vcpuinfo d1
            vcpucount nosuch
            setvcpus nosuch 1
            undefine d1
            setvcpus test 2
            setvcpus test 2 --maximum --config
            vcpucount test
            dumpxml test --inactive
        """)

    def test_scheduler(self) -> None:
        self.same("""
            define d1.xml
            schedinfo test
            schedinfo d1
            schedinfo test --set weight=60
            schedinfo test --set foo=60
            schedinfo test --set weight=-1
            schedinfo test --set weight=x
            schedinfo test --live
            schedinfo test --config
            schedinfo test --current
            schedinfo d1 --weight 3
            schedinfo nosuch
            blkiotune test
            memtune test
            undefine d1
        """)

    def test_statistics(self) -> None:
        self.same("""
            define d1.xml
            domstats
            domstats test
            domstats d1
            domstats test d1
            domstats --state --cpu-total
            domstats --state --balloon test
            domstats --balloon
            domstats --vcpu --interface --block
            domstats --list-active
            domstats --list-inactive
            domstats --list-persistent
            domstats --list-transient
            domstats --enforce --balloon
            domstats --enforce --state
            domstats --raw test
            domstats --nowait
            domstats --backing
            domstats nosuch
            undefine d1
        """)

    def test_networks(self) -> None:
        self.same("""
            net-list
            net-list --all
            net-list --inactive
            net-list --all --name
            net-list --all --uuid
            net-list --persistent
            net-list --transient
            net-list --autostart
            net-info default
            net-info nosuch
            net-dumpxml default
            net-dumpxml default --inactive
            net-dumpxml nosuch
            net-uuid default
            net-name dd8fe884-6c02-601e-7551-cca97df1c5df
            net-name 11111111-2222-3333-4444-555555555555
            net-define isolated.xml
            net-define isolated.xml
            net-info isolated
            net-dumpxml isolated
            net-list --all
            net-start isolated
            net-start isolated
            net-autostart isolated
            net-list --all
            net-info isolated
            net-autostart isolated --disable
            net-undefine isolated
            net-destroy isolated
            net-destroy isolated
            net-undefine isolated
            net-undefine isolated
            net-create nat.xml
            net-create nat.xml
            net-list --all
            net-info nat
            net-dumpxml nat
            net-autostart nat
            net-undefine nat
            net-destroy nat
            net-destroy nat
            net-define net-unnamed.xml
            net-define net-oddip.xml
            net-define net-noip.xml
            net-define net-samename.xml
            net-define net-sameuuid.xml
            net-define text.xml
            net-define d1.xml
            net-define nosuch.xml
            net-destroy default
            net-list --all
            net-start default
            net-start nosuch
            net-autostart nosuch
            net-dhcp-leases default
        """)

    def test_pools(self) -> None:
        self.same("""
            pool-list
            pool-list --all
            pool-list --inactive
            pool-list --all --details
            pool-list --all --name
            pool-list --all --uuid
            pool-list --type dir
            pool-list --type logical
            pool-info default-pool
            pool-info default-pool --bytes
            pool-info nosuch
            pool-dumpxml default-pool
            pool-dumpxml nosuch
            pool-uuid default-pool
            pool-name dfe224cb-28fb-8dd0-c4b2-64eb3f0f4566
            pool-define pool.xml
            pool-define pool.xml
            pool-dumpxml p1
            pool-list --all
            vol-list p1
            vol-info v1 --pool p1
            pool-build p1
            pool-start p1
            pool-start p1
            pool-autostart p1
            pool-info p1
            pool-autostart p1 --disable
            pool-refresh p1
            pool-undefine p1
            pool-delete p1
            pool-destroy p1
            pool-destroy p1
            pool-refresh p1
            pool-delete p1
            pool-undefine p1
            pool-undefine p1
            pool-create pool.xml
            pool-create pool.xml
            pool-info p1
            pool-autostart p1
            pool-destroy p1
            pool-define pool-logical.xml
            pool-dumpxml vg
            pool-undefine vg
            pool-define pool-oddtype.xml
            pool-define pool-unnamed.xml
            pool-define pool-nowhere.xml
            pool-define pool-sameplace.xml
            pool-define vol.xml
            pool-define text.xml
            pool-list --all
        """)

    def test_volumes(self) -> None:
        self.same("""
            vol-list default-pool
            vol-list default-pool --details
            vol-list nosuch
            vol-create-as default-pool v1 1G
            vol-create-as default-pool v1 1G
            vol-create-as default-pool v2 1G --allocation 100M --format qcow2
            vol-create-as default-pool v3 1000G
            vol-create-as default-pool v3 1000G --allocation 1G
            vol-create-as default-pool v4 1000G --allocation 1000G
            vol-create-as default-pool v5 1G --format odd
            vol-create-as default-pool v6 1G --backing-vol v1 --backing-vol-format raw
            vol-create-as default-pool v7 1G --backing-vol nosuch
            vol-create-as default-pool v8 1X
            vol-create-as nosuch v3 1G
            vol-list default-pool
            vol-list default-pool --details
            vol-info v1 --pool default-pool
            vol-info v1 --pool default-pool --bytes
            vol-info v2 --pool default-pool
            vol-info v1 --pool nosuch
            vol-info nosuch --pool default-pool
            vol-info /default-pool/v1
            vol-info /default-pool/nosuch
            vol-info v1
            vol-info v1 --pool default-pool --physical
            vol-dumpxml v1 --pool default-pool
            vol-dumpxml v2 --pool default-pool
            vol-dumpxml v6 --pool default-pool
            vol-path v1 --pool default-pool
            vol-key v1 --pool default-pool
            vol-name /default-pool/v1
            vol-pool /default-pool/v1
            vol-create default-pool vol.xml
            vol-create default-pool vol-unnamed.xml
            vol-create default-pool vol-nosize.xml
            vol-create default-pool pool.xml
            vol-dumpxml vx --pool default-pool
            vol-clone vx vy --pool default-pool
            pool-info default-pool
            vol-delete v1 --pool default-pool
            vol-delete v1 --pool default-pool
            vol-delete /default-pool/v2
            vol-delete v3 --pool default-pool
            vol-delete v6 --pool default-pool
            vol-delete vx --pool default-pool
            vol-delete vy --pool default-pool
            vol-delete v1
            vol-list default-pool
            pool-info default-pool
        """)

    def test_interfaces(self) -> None:
        self.same("""
            iface-list
            iface-list --all
            iface-list --inactive
            iface-dumpxml eth1
            iface-dumpxml nosuch
            iface-name aa:bb:cc:dd:ee:ff
            iface-name aa:bb:cc:dd:ee:00
            iface-mac eth1
            iface-destroy eth1
            iface-list
            iface-list --all
            iface-destroy eth1
            iface-start eth1
            iface-start eth1
            iface-begin
            iface-begin
            iface-rollback
            iface-rollback
            iface-commit
        """)

    def test_snapshots(self) -> None:
        self.same("""
            snapshot-list test
            snapshot-list nosuch
            snapshot-current test
            snapshot-create-as test s1
            snapshot-create-as test s1
            snapshot-create-as test s2 "a description"
            snapshot-create-as test s3
            snapshot-list test
            snapshot-list test --tree
            snapshot-list test --parent
            snapshot-list test --roots
            snapshot-list test --leaves
            snapshot-list test --no-leaves
            snapshot-list test --name
            snapshot-list test --topological
            snapshot-list test --from s1
            snapshot-list test --from s1 --descendants
            snapshot-list test --current
            snapshot-list test --inactive
            snapshot-list test --active
            snapshot-list test --metadata
            snapshot-list test --no-metadata
            snapshot-list test --internal
            snapshot-list test --external
            list --with-snapshot
            snapshot-info test s1
            snapshot-info test nosuch
            snapshot-info test --current
            snapshot-current test --name
            snapshot-current test
            snapshot-dumpxml test s2
            snapshot-dumpxml test nosuch
            snapshot-parent test s2
            snapshot-parent test s1
            snapshot-delete test nosuch
            snapshot-delete test s2
            snapshot-list test --parent
            snapshot-delete test s1 --children-only
            snapshot-list test
            snapshot-current test --name
            snapshot-delete test s1 --children
            snapshot-list test
            snapshot-create-as test s9 --disk-only
            snapshot-create-as test s9 --no-metadata
            snapshot-create-as nosuch s9
            snapshot-create-as test s10 --halt
            domstate test --reason
            dumpxml test
            snapshot-create-as test s11
            snapshot-list test
            snapshot-dumpxml test s11
            undefine test
            snapshot-revert test s10
            domstate test --reason
            snapshot-revert test nosuch
            snapshot-revert test s10 --paused
            domstate test --reason
            snapshot-revert test s11
            domstate test --reason
            snapshot-revert test s10 --running
            domstate test --reason
            snapshot-delete test s10
            snapshot-delete test s11
            snapshot-list test
        """)

    def test_undefining_with_snapshots(self) -> None:
        self.same("""
            define d1.xml
            snapshot-create-as d1 s1
            undefine d1
            start d1
            undefine d1
            snapshot-list d1
            list --transient
            define restarting.xml
            snapshot-create-as restarting s1
            undefine restarting --snapshots-metadata
            destroy d1
            list --all
        """)

    def test_read_only(self) -> None:
        self.same("""
            -r start test
            -r destroy test
            -r suspend test
            -r define d1.xml
            -r create d1.xml
            -r undefine test
            -r autostart test
            -r setmem test 1024
            -r setvcpus test 1
            -r schedinfo test --set weight=5
            -r schedinfo test
            -r dumpxml test --security-info
            -r dumpxml test --migratable
            -r dumpxml test --inactive
            -r vcpucount test --guest
            -r snapshot-create-as test s1
            -r net-destroy default
            -r net-define isolated.xml
            -r net-dumpxml default
            -r pool-destroy default-pool
            -r pool-refresh default-pool
            -r vol-create-as default-pool v 1M
            -r vol-list default-pool
            -r iface-destroy eth1
            -r list --all
            -r version
            -r domstats
            -r nwfilter-list
            -r secret-list
            -r event --event lifecycle --timeout 1
        """)

    def test_what_the_test_driver_lacks(self) -> None:
        self.same("""
            nwfilter-list
            secret-list
            domjobinfo test
            nodememstats
            net-port-list default
            pool-capabilities
            domcapabilities
            guestinfo test
            qemu-monitor-command test --cmd x
        """)

    def test_events(self) -> None:
        listeners = [
            [Listener(each.uri, command, self.directory) for each in (self.ours, self.theirs)]
            for command in LISTENING
        ]
        for pair in listeners:
            for listener in pair:
                self.addCleanup(listener.interrupt)
        # Nobody says that he listens; so things happen until everybody has seen one.
        self.happenUntilSeen(listeners)
        self.same("""
            define d1.xml
            define restarting.xml
            define restarting.xml
            start d1
            suspend d1
            resume d1
            reboot d1
            reset d1
            shutdown d1
            start d1
            destroy d1
            domrename d1 d2
            domrename d2 d1
            start d1
            undefine d1
            destroy d1
            start restarting
            shutdown restarting
            destroy restarting
            undefine restarting
            create transient.xml
            destroy transient
            destroy test
            start test
            snapshot-create-as test s1
            snapshot-revert test s1
            snapshot-revert test s1 --paused
            snapshot-revert test s1 --running
            snapshot-delete test s1
            net-define isolated.xml
            net-start isolated
            net-destroy isolated
            net-undefine isolated
            net-create nat.xml
            net-destroy nat
            pool-define pool.xml
            pool-build p1
            pool-start p1
            pool-refresh p1
            pool-destroy p1
            pool-delete p1
            pool-undefine p1
        """)
        self.happenUntilSeen(listeners)
        for command, pair in zip(LISTENING, listeners, strict=True):
            said = []
            for listener in pair:
                status, output = listener.interrupt()
                lines = [line for line in output.splitlines() if not ONLY_SEEN.search(line)]
                said.append("\n".join([f"exit status {status}", *lines]))
            self.assertEqual(said[0], said[1], f"virsh {command}: ours is not libvirtd's")
            if "--domain" not in command and "default" not in command:
                self.assertIn("p1" if "pool" in command else "nat" if "net" in command else "d1", said[0])

    def happenUntilSeen(self, listeners: list[list[Listener]]) -> None:
        """
        Make something happen to what there always is until every listener has seen that.
        """
        before = {listener: listener.output for pair in listeners for listener in pair}
        deadline = time.monotonic() + 60
        while any(listener.output == seen for listener, seen in before.items()):
            self.assertLess(time.monotonic(), deadline, [each.output for each in before])
            self.same("""
                suspend test
                resume test
                net-destroy default
                net-start default
                pool-refresh default-pool
                pool-destroy default-pool
                pool-start default-pool
            """)

    def test_kinds_of_events(self) -> None:
        self.same("""
            event --list
            event --event odd
            net-event --list
            pool-event --list
            event --domain nosuch --event lifecycle
            event --event lifecycle --timeout 1
            event --event reboot --timeout 1
            nodedev-event --event lifecycle --timeout 1
            secret-event --event lifecycle --timeout 1
        """)

    def test_nothing_happens(self) -> None:
        self.same("event --all --timeout 2")
