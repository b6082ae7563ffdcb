"""asyncio programs that use virnet: each runs in a process of its own, because a process has one reactor."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

CHECKOUT = Path(__file__).resolve().parent.parent

SERVE = """
import asyncio, os, sys
import virnet
from virnet import aio

URI = "test+unix:///default?socket=" + os.getcwd() + "/s"

async def serve():
    from twisted.internet.endpoints import UNIXServerEndpoint
    from virnet.hypervisor.memory import MemoryHypervisor
    from virnet.hypervisor.session import sessionsOf
    from virnet.programs import REMOTE
    from virnet.server import NetServer, ServerProgram, ServerService
    server = NetServer(aio.reactor(), [ServerProgram(REMOTE, sessionsOf(MemoryHypervisor()))])
    service = ServerService(server, UNIXServerEndpoint(aio.reactor(), "s"))
    service.setServiceParent(server)
    server.startService()
    while not os.path.exists("s"):
        await asyncio.sleep(0.01)
    return server
"""


class Programs(SynchronousTestCase):
    """Whole programs."""

    def runs(self, program: str, timeout: float = 60) -> str:
        """Run a program.

        @return: what it printed; it must not have logged or warned anything.
        """
        directory = tempfile.mkdtemp(prefix="virnet-")
        self.addCleanup(shutil.rmtree, directory)
        done = subprocess.run(
            [
                sys.executable,
                "-W",
                "default",
                "-W",
                "ignore::DeprecationWarning",
                "-c",
                SERVE + textwrap.dedent(program),
            ],
            cwd=directory,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout

    def test_await_domain_start(self) -> None:
        printed = self.runs("""
            async def main():
                await serve()
                async with await virnet.connect(aio.reactor(), URI) as connection:
                    domain = await connection.domain("test")
                    await domain.destroy()
                    print((await domain.state()).name)
                    await asyncio.wait_for(domain.start(), 10)
                    print((await domain.state()).name)
            aio.run(main())
        """)
        self.assertEqual(printed.split(), ["SHUTOFF", "RUNNING"])

    def test_tasks_events_and_sleeps_together(self) -> None:
        printed = self.runs("""
            async def listen(domain, ready):
                async with domain.events() as events:
                    ready.set()
                    async for event in events:
                        print(event.details["event"].name)
                        if event.details["event"].name == "RESUMED":
                            return "heard"

            async def main():
                await serve()
                async with await virnet.connect(aio.reactor(), URI) as connection:
                    domain = await connection.domain("test")
                    ready = asyncio.Event()
                    listening = asyncio.create_task(listen(domain, ready), name="listener")
                    await ready.wait()
                    await domain.suspend()
                    await asyncio.sleep(0)
                    await domain.resume()
                    print(await listening)
                    both = await asyncio.gather(connection.domains(), connection.networks())
                    print(*(each[0].name for each in both))
            aio.run(main())
        """)
        self.assertEqual(printed.split(), ["SUSPENDED", "RESUMED", "heard", "test", "default"])

    def test_errors_are_raised_where_they_are_awaited(self) -> None:
        printed = self.runs("""
            from virnet.errors import RemoteError
            async def main():
                await serve()
                async with await virnet.connect(aio.reactor(), URI) as connection:
                    try:
                        await connection.domain("none")
                    except RemoteError as error:
                        print(error)
                raise KeyError("out of main")
            try:
                aio.run(main())
            except KeyError as error:
                print(error)
        """)
        self.assertIn("Domain not found", printed)
        self.assertIn("out of main", printed)

    def test_cancelling_a_task_cancels_what_it_waits_for(self) -> None:
        printed = self.runs("""
            from twisted.internet.defer import Deferred
            async def forever():
                try:
                    await Deferred(lambda _: print("cancelled"))
                finally:
                    print("cleaned up")
            async def main():
                try:
                    async with asyncio.timeout(0.05):
                        await forever()
                except TimeoutError:
                    print("too late")
                task = asyncio.create_task(forever())
                await asyncio.sleep(0)
                task.cancel()
                try:
                    await task
                except asyncio.CancelledError:
                    print("over")
            aio.run(main())
        """)
        self.assertEqual(
            printed.splitlines(),
            ["cancelled", "cleaned up", "too late", "cancelled", "cleaned up", "over"],
        )

    def test_a_subscription_that_is_cancelled_is_taken_back(self) -> None:
        printed = self.runs("""
            async def main():
                server = await serve()
                async with await virnet.connect(aio.reactor(), URI) as connection:
                    subscribing = asyncio.create_task(connection.domainEvents.subscribe(0, print))
                    await asyncio.sleep(0)
                    subscribing.cancel()
                    await asyncio.gather(subscribing, return_exceptions=True)
                    domain = await connection.domain("test")
                    await domain.suspend()
                    print(len(connection.domainEvents._registrations))
            aio.run(main())
        """)
        self.assertEqual(printed.split(), ["0"])

    def test_a_program_that_runs_its_loop_itself(self) -> None:
        printed = self.runs("""
            async def main():
                async with aio.running() as reactor:
                    await serve()
                    connection = await aio.future(virnet.connect(reactor, URI))
                    domain = await aio.future(connection.domain("test"))
                    await aio.future(domain.suspend())
                    print((await aio.future(domain.state())).name)
                    await aio.future(connection.close())
                await asyncio.sleep(0.01)
                print("afterwards")
            asyncio.run(main())
        """)
        self.assertEqual(printed.split(), ["PAUSED", "afterwards"])

    def test_what_the_reactor_does_before_it_shuts_down_is_waited_for(self) -> None:
        printed = self.runs("""
            from twisted.internet.task import deferLater
            async def main():
                def last():
                    return deferLater(aio.reactor(), 0.05, print, "last words")
                aio.reactor().addSystemEventTrigger("before", "shutdown", last)
                return "result"
            print(aio.run(main()))
        """)
        self.assertEqual(printed.splitlines(), ["last words", "result"])

    def test_stopping_the_reactor_leaves_the_program_alone(self) -> None:
        printed = self.runs("""
            async def main():
                aio.reactor().stop()
                await asyncio.sleep(0.05)
                return "result"
            print(aio.run(main()))
        """)
        self.assertEqual(printed.splitlines(), ["result"])

    def test_threads_and_children(self) -> None:
        printed = self.runs("""
            from twisted.internet.threads import deferToThread
            async def main():
                from twisted.internet.utils import getProcessOutput
                print(await deferToThread(lambda: "thread"))
                print((await getProcessOutput("/bin/echo", ["child"])).decode().strip())
            aio.run(main())
        """)
        self.assertEqual(printed.split(), ["thread", "child"])

    def test_a_reactor_that_is_there_already_is_said_to_be(self) -> None:
        printed = self.runs("""
            import twisted.internet.reactor
            async def main():
                pass
            coroutine = main()
            try:
                aio.run(coroutine)
            except RuntimeError as error:
                print(error)
            coroutine.close()
        """)
        self.assertIn("there is a reactor already", printed)
