"""An archive that is spoken to by C-STORE (PS3.4 B): a link is an association."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.deliver import offer
from appliance.dicom import statuses
from appliance.dicom.part10 import Object
from appliance.dicom.requestor import Limits, Peer, Requestor
from appliance.dicom.statuses import Reply
from appliance.settings import Deliver


@dataclass(frozen=True, slots=True)
class ByAssociation:
    """The archive of these settings."""

    to: Deliver
    limits: Limits

    def __str__(self) -> str:
        return str(self._peer())

    def open(self) -> Association:
        """Negotiate the classes of its profile. PeerAway."""
        asked = offer.classes(self.to.profile, rejection_note=self.to.rejection_note)
        return Association(Requestor.open(self._peer(), asked, self.limits))

    def _peer(self) -> Peer:
        to = self.to
        return Peer(to.host, to.port, to.called_ae, to.ae_title, to.tls, to.certificate)


class Association:
    """A link: see `archive.Link`."""

    def __init__(self, requestor: Requestor) -> None:
        self._requestor = requestor
        self.is_over = requestor.is_over
        self.release = requestor.release
        self.abort = requestor.abort
        self.cut = requestor.cut

    def store(self, found: Object) -> Reply:
        syntax = self._requestor.takes(found.sop_class, found.transfer_syntax)
        if syntax is None:
            return statuses.reply(statuses.NO_CONTEXT)
        data, length = found.data(syntax)
        with data:
            status = self._requestor.store(
                found.sop_class, found.sop_instance, syntax, data, length
            )
        return statuses.reply(status)
