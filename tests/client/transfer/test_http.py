"""Volumes from URLs: an HTTP server of Twisted's own that cuts, stalls, redirects and lies, in memory."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, ClassVar

from twisted.internet.defer import Deferred
from twisted.web.server import NOT_DONE_YET

from tests.client.transfer import origin as behaviours
from tests.client.transfer.origin import Behaviour, Hosts, Origin
from tests.hypervisor.wired import WiredTestCase
from virnet.client.transfer import HTTPOptions, Progress, TransferError, Transferred, upload
from virnet.hypervisor.memory import MemoryHypervisor
from virnet.limits import HTTP_BUFFER, UPLOAD_HEAD
from virnet.programs.values import StorageVol

URL = "http://origin.test/image.raw"
MIB = 1 << 20
OLD = b"old!" * (MIB // 2)


class HTTPCase(WiredTestCase):
    """
    A volume with something in it, and a server on the web with something else.
    """

    data: ClassVar[bytes] = os.urandom(MIB)

    def setUp(self) -> None:
        directory = tempfile.mkdtemp(prefix="virnet-", dir="/var/tmp")
        self.addCleanup(shutil.rmtree, directory, ignore_errors=True)
        self.serve(MemoryHypervisor(stateDirectory=str(Path(directory) / "state")))
        self.clock = self.server.reactor
        self.hosts = Hosts(self.clock)
        self.vol = self.volume(capacity=len(OLD))
        self.upload(self.vol, OLD)

    def origin(self, *behaviours: Behaviour, at: str = "origin.test", data: bytes | None = None) -> Origin:
        made = Origin(self.data if data is None else data, *behaviours)
        self.hosts.add(at, made)
        return made

    def began(self, url: str = URL, http: HTTPOptions | None = None, **options: Any) -> Deferred[Transferred]:
        http = (HTTPOptions() if http is None else http)._replace(agent=self.hosts.agent())
        running = Deferred.fromCoroutine(upload(self.clock, self.remote, self.vol, url, http=http, **options))
        self.turn()
        return running

    def uploaded(self, url: str = URL, **options: Any) -> Transferred:
        """Upload what has to succeed; the volume has it."""
        result = self.successResultOf(self.began(url, **options))
        self.assertEqual(len(self.data), result.size)
        self.assertTrue(self.download(self.vol) == self.data + OLD[len(self.data) :])
        self.assertNothingOpen()
        return result

    def refusal(self, url: str = URL, **options: Any) -> str:
        """Upload what has to fail; the volume is no image, neither the old nor the new one."""
        running = self.began(url, **options)
        for _ in range(100):
            if running.called:
                break
            self.clock.advance(1)
        why = str(self.failureResultOf(running, TransferError).value)
        self.assertNothingOpen()
        return why

    def assertNothingOpen(self) -> None:
        self.turn()
        self.assertEqual([], [each for each in self.hosts.open if each.connected])
        # The libvirt server may have timers of its own.
        timers = [each.func for each in self.clock.getDelayedCalls() if each.getTime() > self.clock.seconds()]
        ours = [each for each in timers if not each.__module__.startswith("virnet.server")]
        self.assertEqual([], ours)

    def assertNoImage(self) -> None:
        self.assertTrue(self.download(self.vol, 0, UPLOAD_HEAD) == bytes(UPLOAD_HEAD))

    def assertUntouched(self) -> None:
        self.assertTrue(self.download(self.vol) == OLD)


class Fetching(HTTPCase):
    def test_a_plain_response(self) -> None:
        origin = self.origin()
        result = self.uploaded(checksum="sha256")
        self.assertEqual(f"sha256:{hashlib.sha256(self.data).hexdigest()}", result.checksum)
        self.assertEqual((len(self.data), 0, 0), (result.data, result.holes, result.resumed))
        self.assertEqual([None], origin.ranges)

    def test_data_is_wanted_as_it_is(self) -> None:
        origin = self.origin()
        self.uploaded()
        self.assertEqual("identity", origin.seen[0]["accept-encoding"])
        self.assertEqual("virnet", origin.seen[0]["user-agent"])

    def test_an_encoding_nobody_asked_for(self) -> None:
        self.origin(behaviours.says(encoding="gzip"))
        self.assertEqual(f"{URL} comes as gzip, which was not asked for", self.refusal())
        self.assertUntouched()

    def test_chunks(self) -> None:
        self.origin(behaviours.withoutLength)
        self.uploaded()

    def test_progress(self) -> None:
        self.origin()
        told: list[Any] = []
        self.uploaded(progress=told.append)
        self.assertEqual({len(self.data)}, {each.total for each in told})
        self.assertEqual(sorted(each.done for each in told), [each.done for each in told])
        self.assertEqual(len(self.data), told[-1].done)

    def test_zeros_become_holes(self) -> None:
        data = self.data[:UPLOAD_HEAD] + bytes(MIB) + self.data[:MIB]
        self.origin(data=data)
        self.vol = self.volume("new", capacity=len(data))
        result = self.successResultOf(
            self.began(sparse=True, checksum=f"md5:{hashlib.md5(data).hexdigest()}")
        )
        self.assertEqual(len(data), result.size)
        self.assertGreater(result.holes, MIB // 2)
        self.assertTrue(self.download(self.vol) == data)

    def test_a_password_goes_along_and_is_not_told(self) -> None:
        origin = self.origin(behaviours.serve, behaviours.answers(403))
        self.uploaded("http://me:secret@origin.test/image.raw?token=secret")
        self.assertEqual("Basic bWU6c2VjcmV0", origin.seen[0]["authorization"])
        why = self.refusal("http://me:secret@origin.test/image.raw?token=secret")
        self.assertEqual("http://origin.test/image.raw: the server answers 403 Forbidden", why)

    def test_refusals(self) -> None:
        self.origin(behaviours.answers(404), behaviours.answers(500), behaviours.answers(204))
        for answer in ("404 Not Found", "500 Internal Server Error", "204 No Content"):
            self.assertEqual(f"{URL}: the server answers {answer}", self.refusal())
        self.assertUntouched()

    def test_nobody_there(self) -> None:
        self.assertIn("Connection was refused", self.refusal())
        self.assertUntouched()

    def test_other_schemes(self) -> None:
        self.assertEqual(
            "ftp://origin.test/x: only http and https can be fetched", self.refusal("ftp://origin.test/x")
        )
        self.assertIn("only http and https", self.refusal("http:///x"))

    def test_no_answer(self) -> None:
        self.origin(behaviours.silent)
        running = self.began(http=HTTPOptions(stall=10))
        self.clock.advance(9)
        self.assertNoResult(running)
        self.clock.advance(2)
        error = self.failureResultOf(running, TransferError).value
        self.assertEqual(f"{URL}: no answer within 10 s", str(error))
        self.assertUntouched()


class BackPressure(HTTPCase):
    """
    The web server waits for the libvirt server.
    """

    data = bytes(range(256)) * (8 * MIB // 256)

    def full(self, **http: Any) -> tuple[Origin, Deferred[Transferred]]:
        """
        An upload whose libvirt server stops reading half a mebibyte from the beginning.
        """
        self.transport: Any = self.pair.serverClient.transport

        def pause(progress: Progress) -> None:
            if progress.done >= MIB // 2 and not paused:
                paused.append(True)
                self.transport.pauseProducing()

        paused: list[bool] = []
        origin = self.origin(behaviours.patient(self.clock))
        return origin, self.began(http=HTTPOptions(**http), progress=pause)

    def goesOn(self, running: Deferred[Transferred]) -> Transferred:
        self.transport.resumeProducing()
        self.turn()
        result = self.successResultOf(running)
        self.assertTrue(self.download(self.vol, 0, len(self.data)) == self.data)
        return result

    def test_it_is_paused_while_the_stream_is_full(self) -> None:
        origin, running = self.full()
        self.clock.pump([1] * 10)
        self.assertNoResult(running)
        # What is under way at both ends, and what waits between them.
        self.assertLess(origin.written, HTTP_BUFFER + MIB)
        self.assertEqual(len(self.data), self.goesOn(running).size)

    def test_time_that_the_libvirt_server_takes_is_no_stall(self) -> None:
        _, running = self.full(stall=5)
        self.clock.pump([1] * 20)
        self.assertEqual(0, self.goesOn(running).resumed)


class Redirects(HTTPCase):
    def test_are_followed(self) -> None:
        self.origin(behaviours.leadsTo("/there"), behaviours.leadsTo("http://other.test:81/x", 307))
        self.origin(at="other.test:81")
        self.uploaded()

    def test_to_a_limit(self) -> None:
        origin = self.origin(*[behaviours.leadsTo("/again")] * 10)
        self.assertEqual(
            f"{URL} leads on and on: more than 3 redirects", self.refusal(http=HTTPOptions(redirects=3))
        )
        self.assertEqual(4, len(origin.ranges))
        self.assertUntouched()

    def test_none(self) -> None:
        self.origin(behaviours.leadsTo("/again"))
        self.assertIn("more than 0 redirects", self.refusal(http=HTTPOptions(redirects=0)))

    def test_to_what_is_no_web(self) -> None:
        self.origin(behaviours.leadsTo("file:///etc/passwd"))
        self.assertEqual(f"{URL} leads to file:///etc/passwd, which cannot be fetched", self.refusal())
        self.assertUntouched()

    def test_not_out_of_https(self) -> None:
        self.origin(behaviours.leadsTo("http://origin.test/x"), at="origin.test")
        self.assertEqual(
            "https://origin.test/x leads from https to http, where anybody may change it",
            self.refusal("https://origin.test/x"),
        )

    def test_secrets_stay_where_they_belong(self) -> None:
        first = self.origin(behaviours.leadsTo("/same"), behaviours.leadsTo("http://other.test/x"))
        other = self.origin(at="other.test")
        self.uploaded(
            "http://me:secret@origin.test/image.raw", http=HTTPOptions(headers={"X-Token": "secret"})
        )
        for seen in first.seen:
            self.assertEqual(("Basic bWU6c2VjcmV0", "secret"), (seen["authorization"], seen["x-token"]))
        self.assertNotIn("authorization", other.seen[0])
        self.assertNotIn("x-token", other.seen[0])

    def test_a_cut_behind_a_redirect_goes_on_behind_it(self) -> None:
        self.origin(behaviours.leadsTo("http://other.test/x"), behaviours.leadsTo("http://other.test/y"))
        other = self.origin(behaviours.cutAfter(500000), at="other.test")
        self.assertEqual(1, self.uploaded().resumed)
        self.assertEqual([None, "bytes=500000-"], other.ranges)


class Cuts(HTTPCase):
    """
    A transfer goes on where it was, if it is certain that the rest belongs to it.
    """

    def test_it_goes_on(self) -> None:
        origin = self.origin(behaviours.cutAfter(300000), behaviours.cutAfter(200000))
        self.assertEqual(2, self.uploaded(checksum="sha256").resumed)
        self.assertEqual([None, "bytes=300000-", "bytes=500000-"], origin.ranges)
        self.assertEqual('"one"', origin.seen[1]["if-range"])

    def test_in_chunks(self) -> None:
        """
        The length is not known before the first part of a whole.
        """

        def cut(origin: Origin, request: Any) -> Any:
            data = origin.begin(request)
            request.responseHeaders.removeHeader("content-length")
            origin.write(request, data[:400000])
            request.channel.loseConnection()
            return NOT_DONE_YET

        self.origin(cut)
        self.assertEqual(1, self.uploaded().resumed)

    def test_a_stall_is_a_cut(self) -> None:
        origin = self.origin(behaviours.stallAfter(300000))
        running = self.began(http=HTTPOptions(stall=7))
        self.clock.advance(6)
        self.assertNoResult(running)
        self.clock.advance(2)
        self.assertEqual(1, self.successResultOf(running).resumed)
        self.assertEqual([None, "bytes=300000-"], origin.ranges)
        self.assertNothingOpen()

    def test_a_server_that_is_away_for_a_while(self) -> None:
        self.origin(behaviours.cutAfter(300000), behaviours.answers(503))
        running = self.began(http=HTTPOptions(delay=2))
        self.assertNoResult(running)
        self.clock.advance(1.9)
        self.assertNoResult(running)
        self.clock.advance(0.2)
        self.assertEqual(1, self.successResultOf(running).resumed)

    def test_not_for_ever(self) -> None:
        origin = self.origin(behaviours.cutAfter(300000), *[behaviours.cutAfter(0)] * 20)
        why = self.refusal(http=HTTPOptions(retries=3))
        self.assertIn("was cut after 300000 bytes", why)
        self.assertTrue(why.endswith("and going on failed 3 times"), why)
        self.assertEqual(4, len(origin.ranges))
        self.assertNoImage()

    def test_not_at_all_where_it_is_not_wanted(self) -> None:
        self.origin(behaviours.cutAfter(300000))
        self.assertIn("going on failed 0 times", self.refusal(http=HTTPOptions(retries=0)))

    def test_a_time_of_modification_will_do(self) -> None:
        origin = self.origin(behaviours.cutAfter(300000))
        origin.headers = {"Last-Modified": "Tue, 15 Nov 1994 12:45:26 GMT"}
        self.assertEqual(1, self.uploaded().resumed)
        self.assertEqual("Tue, 15 Nov 1994 12:45:26 GMT", origin.seen[1]["if-range"])

    def test_a_time_of_modification_that_is_now_will_not_do(self) -> None:
        """
        It may change once more within the second.
        """
        now = "Tue, 15 Nov 1994 12:45:26 GMT"
        self.origin(behaviours.cutAfter(300000)).headers = {"Last-Modified": now, "Date": now}
        self.assertIn("nothing to tell that the rest would belong to it", self.refusal())

    def test_a_weak_validator_will_not_do(self) -> None:
        origin = self.origin(behaviours.cutAfter(300000))
        origin.headers = {"ETag": 'W/"one"'}
        self.assertIn("nothing to tell that the rest would belong to it", self.refusal())
        self.assertEqual([None], origin.ranges)
        self.assertNoImage()

    def test_a_checksum_will_do(self) -> None:
        origin = self.origin(behaviours.cutAfter(300000))
        origin.headers = {}
        self.uploaded(checksum=f"sha256:{hashlib.sha256(self.data).hexdigest()}")
        self.assertNotIn("if-range", origin.seen[1])

    def test_a_server_that_cannot_send_parts(self) -> None:
        self.origin(behaviours.cutAfter(300000), behaviours.ignoresRange)
        self.assertIn("the server begins anew", self.refusal())
        self.assertNoImage()

    def test_content_that_changed_between_the_parts(self) -> None:
        self.origin(
            behaviours.cutAfter(300000), behaviours.changes(self.data[::-1], behaviours.serve, ETag='"two"')
        )
        self.assertIn("the server begins anew: it has changed", self.refusal())
        self.assertNoImage()

    def test_content_that_became_shorter(self) -> None:
        self.origin(behaviours.cutAfter(300000), behaviours.changes(self.data[:1000], behaviours.serve))
        self.assertIn("the server has no more of it: it has changed", self.refusal())
        self.assertNoImage()

    def test_content_that_became_longer(self) -> None:
        self.origin(behaviours.cutAfter(300000), behaviours.changes(self.data + b"more", behaviours.serve))
        self.assertIn(f"has {MIB + 4} bytes now, not {MIB}", self.refusal())
        self.assertNoImage()

    def test_a_server_that_takes_no_notice_of_the_condition(self) -> None:
        def careless(origin: Origin, request: Any) -> Any:
            request.requestHeaders.removeHeader("if-range")
            return behaviours.changes(self.data[::-1], behaviours.serve, ETag='"two"')(origin, request)

        self.origin(behaviours.cutAfter(300000), careless)
        self.assertIn("has changed meanwhile", self.refusal())
        self.assertNoImage()

    def test_a_change_that_only_the_checksum_tells(self) -> None:
        self.origin(behaviours.cutAfter(300000), behaviours.changes(self.data[::-1], behaviours.serve))
        why = self.refusal(checksum=f"sha256:{hashlib.sha256(self.data).hexdigest()}")
        self.assertIn(f"{URL} has sha256 ", why)
        self.assertNoImage()

    def test_another_part_than_was_asked_for(self) -> None:
        for wrong in ("bytes 299999-1048574/1048576", "bytes */1048576", "rubbish"):
            self.origin(behaviours.cutAfter(300000), behaviours.says(range=wrong))
            self.assertIn("sends another part than was asked for", self.refusal())
            self.assertNoImage()

    def test_a_refusal_instead_of_the_rest(self) -> None:
        self.origin(behaviours.cutAfter(300000), behaviours.answers(404))
        self.assertIn("the server answers 404 Not Found", self.refusal())

    def test_before_the_first_byte(self) -> None:
        self.origin(behaviours.cutAfter(0))
        self.refusal()
        self.assertUntouched()


class Lies(HTTPCase):
    """
    What is not what it should be is refused, and is no image in the volume.
    """

    def test_more_announced_than_there_is(self) -> None:
        self.origin(*[behaviours.says(length=2 * MIB)] * 10)
        self.assertIn(f"was cut after {MIB} bytes", self.refusal(http=HTTPOptions(retries=2)))
        self.assertNoImage()

    def test_less_announced_than_there_is(self) -> None:
        """
        HTTP takes what was announced. Only who knows better can tell.
        """
        self.origin(*[behaviours.says(length=500000)] * 2)
        self.assertEqual(f"{URL} has 500000 bytes, not {MIB}", self.refusal(size=MIB))
        self.assertUntouched()
        self.assertIn(f"{URL} has sha256 ", self.refusal(checksum="sha256:" + "0" * 64))
        self.assertNoImage()

    def test_another_checksum(self) -> None:
        self.origin()
        why = self.refusal(checksum="sha1:" + "0" * 40)
        self.assertEqual(f"{URL} has sha1 {hashlib.sha1(self.data).hexdigest()}, not {'0' * 40}", why)
        self.assertNoImage()

    def test_no_length_and_no_end(self) -> None:
        self.origin(behaviours.untilClosed)
        self.assertIn("does not say how long it is", self.refusal())
        self.assertNoImage()

    def test_no_length_and_no_end_but_known_all_the_same(self) -> None:
        for expected in ({"size": MIB}, {"checksum": f"sha256:{hashlib.sha256(self.data).hexdigest()}"}):
            self.origin(behaviours.untilClosed)
            self.uploaded(**expected)

    def test_no_length_and_too_little(self) -> None:
        self.origin(behaviours.withoutLength)
        self.assertEqual(f"{URL} has {MIB} bytes, not {MIB + 1}", self.refusal(size=MIB + 1))
        self.assertNoImage()

    def test_no_length_and_too_much(self) -> None:
        self.origin(behaviours.withoutLength)
        self.assertEqual(f"{URL} has more than 600000 bytes", self.refusal(size=600000))
        self.assertNoImage()

    def test_giving_up(self) -> None:
        self.origin(behaviours.stallAfter(500000))
        running = self.began()
        self.assertNoResult(running)
        running.cancel()
        self.turn()
        self.failureResultOf(running)
        self.assertNothingOpen()
        self.assertNoImage()

    def test_the_libvirt_server_goes_away(self) -> None:
        self.origin(behaviours.stallAfter(500000))
        running = self.began()
        self.pair.serverClient.close()
        self.clock.advance(40)
        self.failureResultOf(running)
        self.assertNothingOpen()


class Volumes(HTTPCase):
    """
    What becomes of a volume after a failure.
    """

    def test_it_is_deleted(self) -> None:
        self.origin(behaviours.answers(404))
        self.refusal(onFailure="delete")
        names = self.answer(self.remote.storagePoolListVolumes(self.remotePool(), 10))
        self.assertNotIn(self.vol.name, names)

    def remotePool(self) -> Any:
        return self.answer(self.remote.storagePoolLookupByName("default-pool"))

    def test_a_server_that_cannot_wipe(self) -> None:
        self.origin(behaviours.answers(404))
        why = self.refusal(onFailure="wipe")
        self.assertIn("404 Not Found; and volume 'v' could not be wiped: this function is not supported", why)

    def test_a_wrong_word(self) -> None:
        running = self.began(onFailure="burn")
        self.failureResultOf(running, ValueError)

    def test_a_server_that_refuses_the_upload(self) -> None:
        origin = self.origin()
        self.vol = StorageVol("default-pool", "nosuch", "/nosuch")
        self.assertIn("Storage volume not found", str(self.failureResultOf(self.began()).value))
        self.assertEqual([None], origin.ranges)
        self.assertNothingOpen()
