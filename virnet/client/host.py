"""The objects of a connection, with what of them needs the client: transfers of volumes."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from virnet.objects.kinds import Host


class ClientHost(Host):
    """A connection with objects.

    @ivar reactor: what transfers read files and tell the time with.
    """

    reactor: Any

    def uploadVolume(self, volume: Any, source: Any, **options: Any) -> Deferred[Any]:
        """Fill a volume, see L{StorageVol.upload<virnet.objects.kinds.StorageVol.upload>}."""
        from virnet.client.transfer import upload

        return Deferred.fromCoroutine(upload(self.reactor, self.remote, volume, source, **options))

    def downloadVolume(self, volume: Any, target: Any, **options: Any) -> Deferred[Any]:
        """Copy a volume, see L{StorageVol.download<virnet.objects.kinds.StorageVol.download>}."""
        from virnet.client.transfer import download

        return Deferred.fromCoroutine(download(self.reactor, self.remote, volume, target, **options))
