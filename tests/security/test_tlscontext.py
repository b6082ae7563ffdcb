"""
Contexts: which files they are made of, and what is wrong with those.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.openfiles import openAtRest, openDescriptors
from tests.pki import ANY, CLIENT, DAY, EMAIL, HOUR, SERVER, Issued, issue, write
from tests.tls import authority, clientOf, serverOf
from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import RemoteError
from virnet.security import tlsfiles
from virnet.security.tlscontext import TLSContext
from virnet.security.tlsfiles import TLSFiles, defaultFiles, directoryFiles, explicitFiles


class _Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()

    def put(self, authorities: list[Issued] | None = None, **which: Any) -> None:
        """Write a directory of certificates."""
        write(self.directory, authorities or [authority()], **which)

    def refused(self, role: str = "server", **options: Any) -> str:
        """The text with which a context cannot be made."""
        made = TLSContext.forServer if role == "server" else TLSContext.forClient
        error = self.assertRaises(RemoteError, made, pkipath=str(self.directory), **options)
        self.assertEqual((error.code, error.domain), (ErrorNumber.SYSTEM_ERROR, ErrorDomain.RPC))
        return str(error.message)


class Files(_Case):
    """
    Where the files are.
    """

    def test_pkipath(self) -> None:
        self.assertEqual(
            directoryFiles("/d", "client"),
            TLSFiles("/d/cacert.pem", "/d/cacrl.pem", "/d/clientcert.pem", "/d/clientkey.pem"),
        )

    def test_those_of_the_machine_are_roots(self) -> None:
        self.patch(os, "geteuid", lambda: 0)
        self.patch(os, "environ", {"HOME": str(self.directory)})
        (self.directory / ".pki/libvirt").mkdir(parents=True)
        write(self.directory / ".pki/libvirt", [authority()], server=serverOf(), client=clientOf())
        for role in ("server", "client"):
            self.assertEqual(
                defaultFiles(role),
                TLSFiles(
                    "/etc/pki/CA/cacert.pem",
                    "/etc/pki/CA/cacrl.pem",
                    f"/etc/pki/libvirt/{role}cert.pem",
                    f"/etc/pki/libvirt/private/{role}key.pem",
                ),
            )

    def test_everybody_elses_are_their_own_where_there_are_any(self) -> None:
        own = self.directory / ".pki/libvirt"
        own.mkdir(parents=True)
        self.patch(os, "geteuid", lambda: 7)
        self.patch(os, "environ", {"HOME": str(self.directory)})
        self.patch(tlsfiles, "SYSTEM_CA_DIRECTORY", "/ca")
        self.patch(tlsfiles, "SYSTEM_DIRECTORY", "/system")
        system = TLSFiles(
            "/ca/cacert.pem", "/ca/cacrl.pem", "/system/clientcert.pem", "/system/private/clientkey.pem"
        )
        self.assertEqual(defaultFiles("client"), system)
        (own / "cacert.pem").touch()
        system = system._replace(authorities=f"{own}/cacert.pem")
        self.assertEqual(defaultFiles("client"), system)
        # Certificate and key come as a pair.
        (own / "clientcert.pem").touch()
        self.assertEqual(defaultFiles("client"), system)
        (own / "clientkey.pem").touch()
        (own / "cacrl.pem").touch()
        self.assertEqual(defaultFiles("client"), directoryFiles(str(own), "client"))

    def test_explicit_ones_are_all_three_or_none(self) -> None:
        for given, text in (
            ((None, "cert", "key"), "No CA certificate path set to match server key/cert"),
            (("ca", None, "key"), "No server certificate path set to match server key"),
            (("ca", "cert", None), "No server key path set to match server cert"),
            (("ca", None, None), "No server certificate path set to match server key"),
        ):
            error = self.assertRaises(RemoteError, explicitFiles, *given)
            self.assertEqual(error.message, text)

    def test_R103_explicit_ones_are_not_mixed_up(self) -> None:
        self.put(server=serverOf())
        context = TLSContext.forServer(
            authorities=f"{self.directory}/cacert.pem",
            certificate=f"{self.directory}/servercert.pem",
            key=f"{self.directory}/serverkey.pem",
        )
        self.assertEqual(
            context.files,
            TLSFiles(
                f"{self.directory}/cacert.pem",
                None,
                f"{self.directory}/servercert.pem",
                f"{self.directory}/serverkey.pem",
            ),
        )
        context.engine()

    def test_a_revocation_list_that_is_not_there_is_none(self) -> None:
        self.put(server=serverOf())
        context = TLSContext.forServer(
            pkipath=str(self.directory), revocations=f"{self.directory}/nothing.pem"
        )
        self.assertEqual(context.credentials.revocations, [])


class Making(_Case):
    """
    What prevents a context.
    """

    def test_no_authority(self) -> None:
        for role in ("client", "server"):
            self.assertEqual(
                self.refused(role),
                f"Cannot read CA certificate '{self.directory}/cacert.pem': No such file or directory",
            )

    def test_a_server_needs_a_certificate_and_its_key(self) -> None:
        self.put()
        self.assertEqual(
            self.refused(),
            f"Cannot read certificate '{self.directory}/servercert.pem': No such file or directory",
        )
        self.put(server=serverOf())
        (self.directory / "serverkey.pem").unlink()
        self.assertEqual(
            self.refused(),
            f"Cannot read private key '{self.directory}/serverkey.pem': No such file or directory",
        )

    def test_a_client_does_not(self) -> None:
        self.put(client=clientOf())
        (self.directory / "clientkey.pem").unlink()
        context = TLSContext.forClient(pkipath=str(self.directory))
        self.assertIs(context.credentials.certificate, None)
        context.engine()

    def test_a_key_of_another_certificate(self) -> None:
        self.put(server=serverOf())
        (self.directory / "serverkey.pem").write_bytes(clientOf().keyPEM)
        self.assertEqual(
            self.refused(),
            f"Unable to set x509 key and certificate: {self.directory}/serverkey.pem, "
            f"{self.directory}/servercert.pem: The certificate and the given key do not match.",
        )

    def test_a_key_that_OpenSSL_does_not_take(self) -> None:
        """
        It says so when the context is made, not when somebody connects.
        """
        self.put(server=issue(authority(), hosts=["localhost"], key="rsa1024"))
        self.assertEqual(
            f"Unable to set x509 key and certificate: {self.directory}/serverkey.pem, "
            f"{self.directory}/servercert.pem: EE_KEY_TOO_SMALL",
            self.refused(),
        )

    def test_what_is_no_certificate(self) -> None:
        self.put(server=serverOf(), client=clientOf())
        (self.directory / "clientcert.pem").write_text("nothing")
        text = f"Unable to import client certificate {self.directory}/clientcert.pem"
        self.assertEqual(self.refused("client"), text)
        (self.directory / "cacert.pem").write_text("nothing")
        text = f"Unable to import CA certificate list {self.directory}/cacert.pem"
        self.assertEqual(self.refused(), text)

    def test_R104_an_authority_without_basic_constraints(self) -> None:
        plain = issue(name="plain CA")
        self.put([plain], server=serverOf(plain))
        self.assertEqual(
            self.refused(),
            f"The certificate {self.directory}/cacert.pem is missing basic constraints for a CA",
        )

    def test_R105_times(self) -> None:
        cases: list[tuple[dict[str, Any], str]] = [
            ({"end": -HOUR}, "has expired"),
            ({"start": HOUR}, "is not yet active"),
        ]
        for different, text in cases:
            self.put(server=serverOf(**different))
            self.assertEqual(self.refused(), f"The server certificate {self.directory}/servercert.pem {text}")
            TLSContext.forServer(pkipath=str(self.directory), sanity=False).engine()

    def test_R106_usage_and_purpose(self) -> None:
        cert = f"{self.directory}/servercert.pem"
        different: dict[str, Any]
        for different, text in (
            ({"usages": ["key_encipherment"]}, f"Certificate {cert} usage does not permit digital signature"),
            (
                {"purposes": [CLIENT]},
                f"Certificate {cert} purpose does not allow use for with a TLS server",
            ),
        ):
            for critical in (True, False):
                self.put(server=serverOf(**different, usagesCritical=critical, purposesCritical=critical))
                if critical:
                    self.assertEqual(self.refused(), text)
                else:
                    TLSContext.forServer(pkipath=str(self.directory)).engine()

    def test_R107_R108_nothing_said_or_one_of_several_that_fits(self) -> None:
        for purposes in (None, [CLIENT, SERVER], [EMAIL], [ANY]):
            self.put(server=serverOf(usages=None, purposes=purposes, purposesCritical=True))
            TLSContext.forServer(pkipath=str(self.directory)).engine()

    def test_R109_another_authority(self) -> None:
        self.put(server=serverOf(authority("Other")))
        self.assertEqual(
            self.refused(),
            f"Our own certificate {self.directory}/servercert.pem failed validation against "
            f"{self.directory}/cacert.pem: The certificate hasn't got a known issuer.",
        )

    def test_a_priority_that_makes_no_sense(self) -> None:
        self.put(server=serverOf())
        self.assertEqual(
            self.refused(priority="NOTHING"),
            "Failed to set TLS session priority to NOTHING: The request is invalid.",
        )


class Reloading(_Case):
    """
    New certificates.
    """

    def test_they_are_for_the_sessions_to_come(self) -> None:
        self.put(server=serverOf())
        context = TLSContext.forServer(pkipath=str(self.directory))
        before = context.engine().credentials
        self.put(server=serverOf(name="renewed"))
        self.assertIs(context.engine().credentials, before)
        context.reload()
        after = context.engine().credentials.certificate
        assert after is not None and before.certificate is not None
        self.assertEqual(after.subject.rfc4514_string(), "CN=renewed")
        self.assertEqual(before.certificate.subject.rfc4514_string(), "CN=server")

    def test_what_cannot_be_used_changes_nothing(self) -> None:
        self.put(server=serverOf())
        context = TLSContext.forServer(pkipath=str(self.directory))
        before = context.credentials
        self.put(server=serverOf(start=-2 * DAY, end=-DAY))
        self.assertRaises(RemoteError, context.reload)
        self.assertIs(context.credentials, before)
        context.engine()

    def test_sessions_need_no_files(self) -> None:
        """
        The key may be root's, and the process not be root any more.
        """
        self.put(server=serverOf())
        context = TLSContext.forServer(pkipath=str(self.directory))
        for file in self.directory.iterdir():
            file.unlink()
        context.engine()

    def test_no_descriptor_is_left_of_them(self) -> None:
        self.put(server=serverOf())
        context = TLSContext.forServer(pkipath=str(self.directory))
        before = len(openAtRest())
        for _ in range(3):
            context.reload()
            context.engine()
        self.assertEqual(len(openDescriptors()), before)
        del context
        self.assertEqual(len(openDescriptors()), before - 1)


class Hosts(_Case):
    """
    What clients have to call a server.
    """

    def test_by_its_certificate(self) -> None:
        for hosts, address, host in (
            (["localhost", "127.0.0.1"], "127.0.0.1", "127.0.0.1"),
            (["*.example", "host.example"], "127.0.0.1", "host.example"),
            (["10.0.0.1"], "127.0.0.1", "10.0.0.1"),
            (["*.example"], "127.0.0.1", "127.0.0.1"),
            (None, "127.0.0.1", "server"),
        ):
            self.put(server=serverOf(hosts=hosts))
            context = TLSContext.forServer(pkipath=str(self.directory))
            self.assertEqual(context.hostFor(address), host)
