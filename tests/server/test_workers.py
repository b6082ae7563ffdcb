"""Threads for blocking methods: who takes which job when, and what becomes of what a job does."""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.echo import ECHO, Echo
from tests.peers import ERROR, OK, Message, ServerSession, callNamed, served
from tests.server.threads import PATIENCE, Job, ThreadedClock
from virnet.errors import RemoteError
from virnet.probes import subscribe
from virnet.programs.base import Priority, blocking
from virnet.server import NetServer, ServerClient, ServerProgram
from virnet.server.workers import PoolStatistics, WorkerPool

LOW, HIGH = Priority.LOW, Priority.HIGH


class _Case(SynchronousTestCase):
    """Starts pools; lets every job go and stops them in the end."""

    def setUp(self) -> None:
        self.clock = ThreadedClock()
        self.jobs: list[Job] = []

    def pool(self, least: int, most: int, prio: int = 0) -> WorkerPool:
        """A pool that runs."""
        pool = WorkerPool(self.clock, least, most, prio)
        pool.start()
        self.addCleanup(self.stop, pool)
        return pool

    def stop(self, pool: WorkerPool) -> None:
        """Stop it, and see that no thread is left."""
        for job in self.jobs:
            job.letGo()
        threads = list(pool._threads)
        stopped = pool.stop()
        self.clock.takeUntil(stopped)
        self.assertEqual([each for each in threads if each.is_alive()], [])

    def run_(self, pool: WorkerPool, priority: Priority = LOW, result: object = None) -> Job:
        """Hand in a job that blocks."""
        job = Job(result)
        self.jobs.append(job)
        self.ended = pool.run(priority, job).addErrback(_stopping)
        return job

    def note(self, pool: WorkerPool, *priorities: Priority) -> list[int]:
        """Hand in jobs that only say that they ran.

        @return: their numbers, as they run.
        """
        order: list[int] = []
        for number, priority in enumerate(priorities):
            self.ended = pool.run(priority, order.append, number).addErrback(_stopping)
        return order

    def running(self, pool: WorkerPool, priority: Priority = LOW) -> Job:
        """Hand in a job that blocks, and wait until a worker has it."""
        job = self.run_(pool, priority)
        job.waitForStart()
        return job


def _stopping(failure: Failure) -> None:
    failure.trap(RemoteError)


class WhoTakesWhat(_Case):
    """The order of jobs, and the two kinds of workers."""

    def test_jobs_run_in_the_order_in_which_they_came_whatever_their_priority(self) -> None:
        pool = self.pool(1, 1)
        first = self.running(pool)
        order = self.note(pool, LOW, HIGH, LOW, LOW, HIGH)
        first.letGo()
        self.clock.takeUntil(self.ended)
        self.assertEqual(order, [0, 1, 2, 3, 4])

    def test_R041_a_priority_worker_runs_the_high_one_while_the_low_one_waits(self) -> None:
        pool = self.pool(1, 1, prio=1)
        blocker = self.running(pool)
        low = self.run_(pool, LOW)
        high = self.running(pool, HIGH)
        self.assertFalse(low.started)
        self.assertEqual(pool.statistics().jobQueueDepth, 1)
        self.assertIsNot(high.thread, blocker.thread)
        blocker.letGo()
        low.waitForStart()
        self.assertIs(low.thread, blocker.thread)

    def test_R042_idle_priority_workers_do_not_take_low_jobs(self) -> None:
        pool = self.pool(1, 1, prio=3)
        blocker = self.running(pool)
        low = self.run_(pool, LOW)
        # A priority worker has come by since, and has left it where it was.
        done = pool.run(HIGH, lambda: None)
        self.clock.takeUntil(done)
        self.assertFalse(low.started)
        blocker.letGo()
        low.waitForStart()
        self.assertIs(low.thread, blocker.thread)

    def test_priority_workers_take_the_oldest_of_the_high_jobs(self) -> None:
        pool = self.pool(1, 1, prio=1)
        self.running(pool)
        first = self.running(pool, HIGH)
        order = self.note(pool, LOW, HIGH, LOW, HIGH)
        first.letGo()
        self.clock.takeUntil(self.ended)
        self.assertEqual(order, [1, 3])

    def test_a_normal_worker_may_take_a_high_one(self) -> None:
        pool = self.pool(1, 1)
        self.running(pool, HIGH)

    def test_R043_a_procedure_without_a_word_about_it_is_of_low_priority(self) -> None:
        self.assertIs(ECHO.byName["add"].priority, LOW)
        self.assertIs(ECHO.byName["echo"].priority, HIGH)


class HowManyWorkers(_Case):
    """From the least to the most, and changes while they work."""

    def test_those_that_are_there_at_once(self) -> None:
        self.assertEqual(self.pool(2, 4, prio=3).statistics(), PoolStatistics(2, 4, 2, 2, 3, 0))

    def test_a_further_one_when_all_are_busy_up_to_the_most(self) -> None:
        pool, counts = self.pool(1, 3), list[tuple[int, int, int]]()
        for _ in range(3):
            self.running(pool)
            counts.append(pool.statistics()[2:4] + pool.statistics()[5:])
        for _ in range(2):
            self.run_(pool)
            counts.append(pool.statistics()[2:4] + pool.statistics()[5:])
        self.assertEqual(counts, [(1, 0, 0), (2, 0, 0), (3, 0, 0), (3, 0, 1), (3, 0, 2)])

    def test_jobs_that_wait_are_counted_whatever_their_priority(self) -> None:
        pool = self.pool(1, 1, prio=1)
        self.running(pool)
        self.running(pool, HIGH)
        for priority in (LOW, HIGH, HIGH):
            self.run_(pool, priority)
        self.assertEqual(pool.statistics(), PoolStatistics(1, 1, 1, 0, 1, 3))

    def test_none_when_enough_are_idle(self) -> None:
        pool = self.pool(2, 9)
        for _ in range(20):
            self.clock.takeUntil(pool.run(LOW, lambda: None))
        self.assertEqual(pool.statistics(), PoolStatistics(2, 9, 2, 2, 0, 0))

    def test_with_none_at_once_the_first_job_starts_the_first(self) -> None:
        pool = self.pool(0, 1)
        self.assertEqual(pool.statistics().nWorkers, 0)
        self.clock.takeUntil(pool.run(LOW, lambda: None))
        self.assertEqual(pool.statistics(), PoolStatistics(0, 1, 1, 1, 0, 0))

    def test_a_higher_minimum_starts_workers(self) -> None:
        pool = self.pool(1, 2)
        pool.setParameters(minWorkers=4, maxWorkers=5, prioWorkers=2)
        self.assertEqual(pool.statistics(), PoolStatistics(4, 5, 4, 4, 2, 0))

    def test_a_higher_maximum_starts_workers_for_the_jobs_that_wait(self) -> None:
        pool = self.pool(1, 1)
        self.running(pool)
        waiting = self.run_(pool)
        pool.setParameters(maxWorkers=9)
        waiting.waitForStart()
        self.assertEqual(pool.statistics(), PoolStatistics(1, 9, 2, 0, 0, 0))

    def test_workers_that_are_too_many_end_the_idle_at_once_the_busy_after_their_job(self) -> None:
        pool = self.pool(3, 3, prio=2)
        busy = [self.running(pool) for _ in range(3)]
        pool.setParameters(minWorkers=0, maxWorkers=1, prioWorkers=0)
        for _ in range(2):
            self.clock.takeOne()
        self.assertEqual(pool.statistics(), PoolStatistics(0, 1, 3, 0, 0, 0))
        for job in busy[:2]:
            job.letGo()
        # Two results, two ends.
        for _ in range(4):
            self.clock.takeOne()
        self.assertEqual(pool.statistics(), PoolStatistics(0, 1, 1, 0, 0, 0))

    def test_what_is_not_given_stays(self) -> None:
        pool = WorkerPool(self.clock, 1, 5, 2)
        pool.setParameters()
        pool.setParameters(maxWorkers=9)
        self.assertEqual(pool.statistics(), PoolStatistics(1, 9, 0, 0, 0, 0))

    def test_numbers_that_make_no_sense_change_nothing(self) -> None:
        pool = WorkerPool(self.clock, 1, 5, 2)
        for numbers, text in (
            ({"maxWorkers": 0}, "maxWorkers must not be switched from zero to non-zero and vice versa"),
            ({"minWorkers": 6}, "minWorkers cannot be larger than maxWorkers"),
            ({"minWorkers": 0, "prioWorkers": -1}, "numbers of workers must not be negative"),
        ):
            error = self.assertRaises(ValueError, pool.setParameters, **numbers)
            self.assertEqual(str(error), text)
        self.assertEqual(pool.statistics()[:2], (1, 5))

    def test_a_pool_that_could_never_work_is_refused(self) -> None:
        for numbers, text in (
            ((0, 0, 0), "'max_workers' must be greater than 0"),
            ((6, 5, 0), "'min_workers' must not be larger than 'max_workers'"),
            ((-1, 5, 0), "numbers of workers must not be negative"),
            ((1, 5, -1), "numbers of workers must not be negative"),
        ):
            error = self.assertRaises(ValueError, WorkerPool, self.clock, *numbers)
            self.assertEqual(str(error), text)


class WhatAJobDoes(_Case):
    """Results, failures, and what is left of a job."""

    def ran(self, function: Callable[[], object]) -> Any:
        """What comes of a job."""
        deferred = self.pool(1, 1).run(LOW, function)
        self.clock.takeUntil(deferred)
        return deferred

    def test_its_result_comes_back(self) -> None:
        self.assertEqual(self.successResultOf(self.ran(lambda: "result")), "result")

    def test_it_is_called_with_its_arguments_in_another_thread(self) -> None:
        deferred = self.pool(1, 1).run(LOW, lambda *args: (args, threading.current_thread()), 1, "two")
        self.clock.takeUntil(deferred)
        args, thread = self.successResultOf(deferred)
        self.assertEqual(args, (1, "two"))
        self.assertIsNot(thread, threading.current_thread())

    def test_R021_what_one_raises_is_its_own_result_and_the_worker_goes_on(self) -> None:
        pool = self.pool(1, 1)
        for error in (KeyError("first"), SystemExit(3), GeneratorExit()):
            job = Job(error)
            job.letGo()
            deferred = pool.run(LOW, job)
            self.clock.takeUntil(deferred)
            self.assertIs(self.failureResultOf(deferred).value, error)
        after = pool.run(LOW, lambda: "fine")
        self.clock.takeUntil(after)
        self.assertEqual(self.successResultOf(after), "fine")
        self.assertEqual(pool.statistics().nWorkers, 1)

    def test_what_belongs_to_the_reactors_thread_is_no_result(self) -> None:
        async def coroutine() -> None:
            """Never runs."""

        for function in (lambda: succeed(None), coroutine):
            error = self.failureResultOf(self.ran(function)).value
            self.assertIsInstance(error, TypeError)
            self.assertIn("a blocking method returned a ", str(error))

    def test_an_idle_worker_keeps_nothing_of_it(self) -> None:
        class Client:
            """Something to refer to."""

        client, pool = Client(), self.pool(1, 1)
        letGo = threading.Event()
        weakref.finalize(client, letGo.set)
        self.clock.takeUntil(pool.run(LOW, lambda client: None, client))
        del client
        self.assertTrue(letGo.wait(PATIENCE))


class Ending(_Case):
    """Before the start, and from the stop on."""

    def test_before_it_is_started_jobs_run_where_they_are(self) -> None:
        pool = WorkerPool(self.clock, 5, 20, 5)
        self.assertIs(
            self.successResultOf(pool.run(LOW, threading.current_thread)), threading.current_thread()
        )

        def fail() -> None:
            raise KeyError("here")

        self.failureResultOf(pool.run(HIGH, fail), KeyError)

    def test_running_jobs_end_and_those_that_wait_are_dropped(self) -> None:
        pool, ran = self.pool(1, 1, prio=1), list[str]()
        running = [self.run_(pool, LOW, "low"), self.run_(pool, HIGH, "high")]
        results = [self.ended]
        for job in running:
            job.waitForStart()
        waiting = [pool.run(priority, ran.append, "waited") for priority in (LOW, HIGH, LOW)]
        stopped = pool.stop()
        for each in waiting:
            self.assertIn("the server is stopping", str(self.failureResultOf(each, RemoteError).value))
        self.assertNoResult(stopped)
        for job in running:
            job.letGo()
        self.clock.takeUntil(stopped)
        self.assertEqual(self.successResultOf(results[0]), "high")
        self.assertEqual(ran, [])
        self.assertEqual(pool.statistics().nWorkers, 0)

    def test_no_job_is_taken_while_it_stops(self) -> None:
        pool = self.pool(1, 1)
        running = self.running(pool)
        stopped = pool.stop()
        self.failureResultOf(pool.run(LOW, lambda: None), RemoteError)
        running.letGo()
        self.clock.takeUntil(stopped)

    def test_idle_workers_do_not_hold_it_up(self) -> None:
        pool = self.pool(3, 3, prio=3)
        stopped = pool.stop()
        self.clock.takeUntil(stopped)
        self.assertEqual(self.clock.handedIn, 0)

    def test_it_can_be_started_again(self) -> None:
        pool = self.pool(1, 1)
        self.clock.takeUntil(pool.stop())
        pool.start()
        deferred = pool.run(LOW, threading.current_thread)
        self.clock.takeUntil(deferred)
        self.assertIsNot(self.successResultOf(deferred), threading.current_thread())


class Blocking(Echo):
    """C{add} and C{echo} block until the test lets them go; C{find} waits without a thread.

    @ivar result: what a job raises when it is an exception.
    """

    result: object = None

    def __init__(self, client: ServerClient) -> None:
        self.client = client
        self.begun: queue.Queue[Job] = queue.Queue()
        self.waiting: list[Deferred[None]] = []

    def _block(self) -> None:
        assert self.client.peer == "client"
        job = Job(self.result)
        self.begun.put(job)
        job()

    def next(self) -> Job:
        """Wait until a job runs."""
        job = self.begun.get(timeout=PATIENCE)
        job.waitForStart()
        return job

    @blocking
    def add(self, first: int, second: int) -> int:
        """Of low priority."""
        self._block()
        return first + second

    @blocking
    def echo(self, text: str) -> str:
        """Of high priority."""
        self._block()
        return text

    def find(self, name: str | None, flags: int) -> Any:
        """Answered when the test says so."""
        self.waiting.append(Deferred())
        return self.waiting[-1]


class BlockingMethods(SynchronousTestCase):
    """A server whose provider has blocking methods."""

    def setUp(self) -> None:
        self.patch(Blocking, "result", None)
        self.providers: list[Blocking] = []
        self.begun: list[Job] = []
        self.clock = ThreadedClock()
        self.server = NetServer(
            self.clock, [ServerProgram(ECHO, self.provide)], minWorkers=1, maxWorkers=1, prioWorkers=1
        )
        self.server.startService()
        self.addCleanup(self.stop)
        self.session = ServerSession(server=self.server)

    def provide(self, client: ServerClient) -> Blocking:
        """The factory."""
        self.providers.append(Blocking(client))
        return self.providers[-1]

    def stop(self) -> None:
        """Let everything go; jobs that wait are dropped, so that none begins after that."""
        stopped = self.server.stopService()
        self.clock.advance(0)
        for job in self.begun:
            job.letGo()
        while not stopped.called:
            self.clock.takeOne()
            self.clock.advance(0)

    def send(self, *calls: bytes) -> list[int]:
        """Send calls; return the serials of what is answered at once."""
        return [each.serial for each in self.session.send(*calls)]

    def next(self, provider: int = 0) -> Job:
        """Wait until a job of a client runs."""
        self.begun.append(self.providers[provider].next())
        return self.begun[-1]

    def end(self, job: Job) -> list[Message]:
        """Let a job end; return the replies."""
        job.letGo()
        self.clock.takeOne()
        return self.session.flush()

    def waiting(self) -> int:
        """How many jobs wait for a worker."""
        return self.server.workers.statistics().jobQueueDepth

    def test_R161_a_job_refers_to_its_client(self) -> None:
        fired: list[tuple[str, tuple[Any, ...]]] = []
        self.addCleanup(subscribe("object_*ref", lambda probe, values: fired.append((probe.name, values))))
        self.send(callNamed(ECHO, "add", 7, 1, 2))
        client = self.server.clients[1]
        self.assertEqual(fired, [("object_ref", (client,))])
        self.end(self.next())
        self.assertEqual(fired[1:], [("object_unref", (client,))])

    def test_the_reply_comes_when_the_job_has_ended(self) -> None:
        self.assertEqual(self.send(callNamed(ECHO, "add", 7, 1, 2)), [])
        job = self.next()
        self.assertIsNot(job.thread, threading.current_thread())
        (reply,) = self.end(job)
        self.assertEqual((reply.serial, reply.status, reply.payload), (7, OK, b"\0\0\0\3"))

    def test_R041_a_call_of_high_priority_passes_when_all_normal_workers_are_blocked(self) -> None:
        self.send(callNamed(ECHO, "add", 1, 1, 1))
        self.next()
        self.send(callNamed(ECHO, "add", 2, 1, 1), callNamed(ECHO, "echo", 3, ""))
        self.assertEqual([each.serial for each in self.end(self.next())], [3])
        self.assertEqual(self.waiting(), 1)

    def test_methods_that_do_not_block_need_no_worker(self) -> None:
        self.send(*(callNamed(ECHO, "add", serial, 1, 1) for serial in range(3)))
        self.next()
        self.assertEqual(self.send(callNamed(ECHO, "ping", 3)), [3])
        self.assertEqual(self.send(callNamed(ECHO, "find", 4, None, 0)), [])
        self.providers[0].waiting[0].callback(None)
        self.assertEqual(len(self.session.flush()), 1)
        self.assertEqual(self.waiting(), 2)

    def test_R033_jobs_that_wait_hold_slots_of_their_client(self) -> None:
        self.send(*(callNamed(ECHO, "add", serial, 1, 1) for serial in range(9)))
        self.assertEqual(self.session.client.inProgress, 5)
        answered = [self.end(self.next())[0].serial for _ in range(9)]
        self.assertEqual(answered, list(range(9)))

    def test_R021_a_failure_that_says_nothing_gets_the_general_text_not_the_one_before(self) -> None:
        texts = []
        for Blocking.result in (KeyError("the one before"), KeyError()):
            self.send(callNamed(ECHO, "add", 1, 1, 1))
            (reply,) = self.end(self.next())
            self.assertEqual(reply.status, ERROR)
            texts.append(reply.error[2])
        self.assertIn("the one before", texts[0])
        self.assertEqual(texts[1], "Library function returned error but did not set virError")
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 2)

    def test_R021_a_method_that_exits_ends_neither_the_worker_nor_the_server(self) -> None:
        Blocking.result = SystemExit("goodbye")
        self.send(callNamed(ECHO, "add", 1, 1, 1))
        (reply,) = self.end(self.next())
        self.assertEqual(reply.status, ERROR)
        self.assertEqual(self.session.client.inProgress, 0)
        self.assertEqual(len(self.flushLoggedErrors(SystemExit)), 1)

    def test_R037_a_job_whose_client_left_before_it_started_runs_and_its_reply_is_dropped(self) -> None:
        self.send(callNamed(ECHO, "add", 1, 1, 1), callNamed(ECHO, "add", 2, 1, 1))
        first = self.next()
        self.assertEqual(self.waiting(), 1)
        self.session.lose()
        self.assertEqual(self.server.clients, {})
        self.assertEqual(self.end(first), [])
        # It finds the client as it was.
        self.assertEqual(self.end(self.next()), [])
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_R037_what_a_job_works_with_is_taken_away_when_the_last_has_ended(self) -> None:
        self.send(callNamed(ECHO, "add", 1, 1, 1), callNamed(ECHO, "add", 2, 1, 1))
        self.send(callNamed(ECHO, "find", 3, None, 0))
        cleaned: list[str] = []
        client = self.session.client
        client.onDisconnect(lambda: cleaned.append("before"))
        first = self.next()
        self.session.lose()
        client.onDisconnect(lambda: cleaned.append("after"))
        self.end(first)
        second = self.next()
        self.assertEqual(cleaned, [])
        self.end(second)
        self.assertEqual(cleaned, ["before", "after"])
        client.onDisconnect(lambda: cleaned.append("late"))
        self.assertEqual(cleaned[2:], ["late"])

    def test_R038_fifty_clients_killed_while_their_calls_run(self) -> None:
        for _ in range(50):
            session = ServerSession(server=self.server)
            session.send(callNamed(ECHO, "add", 1, 1, 1))
            session.transport.abortConnection()
        self.clock.advance(0)
        self.assertEqual(list(self.server.clients), [1])
        for number in range(50):
            self.end(self.next(number))
        self.assertEqual(self.send(callNamed(ECHO, "ping", 1)), [1])
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_stopping_waits_for_the_job_that_runs_and_drops_the_one_that_waits(self) -> None:
        self.send(callNamed(ECHO, "add", 1, 1, 1), callNamed(ECHO, "add", 2, 1, 1))
        job = self.next()
        stopped = self.server.stopService()
        self.clock.advance(0)
        self.assertTrue(self.session.closed)
        self.assertNoResult(stopped)
        job.letGo()
        self.clock.takeUntil(stopped)
        self.assertTrue(self.providers[0].begun.empty())
        self.assertEqual(self.flushLoggedErrors(), [])


class WithoutThreads(SynchronousTestCase):
    """A server in memory is not started: there are no workers."""

    def test_blocking_methods_run_where_they_are_called(self) -> None:
        threads: list[threading.Thread] = []

        class Here(Echo):
            @blocking
            def add(self, first: int, second: int) -> int:
                threads.append(threading.current_thread())
                return first + second

        (reply,) = ServerSession(served(ECHO, Here())).send(callNamed(ECHO, "add", 1, 1, 1))
        self.assertEqual(reply.status, OK)
        self.assertEqual(threads, [threading.current_thread()])
