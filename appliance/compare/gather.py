"""An exam whose report was committed -> its entry, of the spool and what is kept beside the report.

Rules
- The images that were analysed are read as they were then, but for what no entry needs: nothing is
  resampled for a network, and nothing of their quality is measured.
- Whose exam it is, is read from the header of each of them. Of an exam of which nothing may be kept
  no pixel is decoded.
- So is that of one image of each other series of its study that is here (patient, rule 3).
- Its memory is that of the pixels of one series, as they were decoded and once: 0.5 MB for each
  image of 512 x 512. Bytes are read image by image, each image is decoded once, and no copy of the
  whole is made. `scanside compare` makes its entries by the same `Gathered`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress

from appliance.bundle.lines import SegmentProposeClassify
from appliance.bundle.manifest import Manifest
from appliance.errors import Poisoned, SeriesRefused
from appliance.lines import kinds
from appliance.naming import Naming
from appliance.preprocess import fast
from appliance.prior import made, patient
from appliance.prior.entry import Entry, Person
from appliance.prior.patient import NotKept, Said
from appliance.records import Mask, Plane, Stack
from appliance.report import Report, Scores
from appliance.series import pixels
from appliance.settings import Settings
from appliance.store import kept
from appliance.store.kept import FINDING, LUNGS
from appliance.store.rows import ToCompare
from appliance.store.spool import Spool


class Gathered:
    """The images of one analysed series, given one by one, in any order."""

    def __init__(self) -> None:
        self.said: list[Said] = []
        """Of each image that was given."""
        self._planes: list[Plane] = []

    def add(self, data: bytes) -> None:
        """One instance. SeriesRefused where it cannot be read."""
        self.said.append(patient.said(data))
        self._planes += (fast.plane(image, ()) for image in pixels.images(pixels.parse(data)))

    def entry(
        self,
        manifest: Manifest,
        masks: Iterable[Mask],
        scores: Scores | None,
        report: Report,
        person: Person,
    ) -> Entry:
        """What a later exam needs of it. Poisoned where the images are no volume any more, or what
        was scored or drawn is not there."""
        named = {mask.name: mask for mask in masks}
        if scores is None or LUNGS not in named:
            raise Poisoned("what was scored or drawn is not kept beside the report")
        stack = kinds.of(manifest).outline(self._planes, manifest.accepts, unread=()).subject
        if not isinstance(stack, Stack):
            raise Poisoned("its images are not the volume any more that was analysed")
        bodies = {
            int(name.removeprefix(FINDING)): mask
            for name, mask in named.items()
            if name.startswith(FINDING)
        }
        return made.made(
            stack,
            named[LUNGS],
            bodies,
            scores,
            report,
            person=person,
            said=self.said,
            most_candidates=manifest.line_of(SegmentProposeClassify).propose.top_k,
        )


class Gatherer:
    """ports.Making over the state folder. manifest: of the bundle with this digest."""

    def __init__(
        self,
        settings: Settings,
        spool: Spool,
        naming: Naming,
        manifest: Callable[[str], Manifest],
    ) -> None:
        self._state = settings.state
        self._priors = settings.priors
        self._spool = spool
        self._naming = naming
        self._manifest = manifest

    def __call__(self, row: ToCompare, report: Report, /) -> Entry | NotKept:
        """Poisoned where images or what is kept beside the report are not there any more, or cannot
        be read; StateUnusable where the disk does not let it."""
        manifest = self._manifest(row.bundle_digest)
        beside = tuple(self._beside(row))
        gathered = Gathered()
        try:
            for number, data in enumerate(self._images(row, report)):
                said = [patient.said(data)]
                if not number and isinstance(first := self._person(said, beside), NotKept):
                    return first
                gathered.add(data)
        except SeriesRefused as e:
            raise Poisoned("one of its images cannot be read any more") from e
        person = self._person(gathered.said, beside)
        if isinstance(person, NotKept):
            return person
        scores = kept.scores(self._state, report.report_id)
        return gathered.entry(manifest, self._masks(report), scores, report, person)

    def _person(self, said: Sequence[Said], beside: Sequence[Said]) -> Person | NotKept:
        return patient.person(
            said,
            self._naming,
            beside=beside,
            issuer=self._priors.issuer,
            dummies=self._priors.dummies,
        )

    def _beside(self, row: ToCompare) -> Iterator[Said]:
        """What one image of each other series of the study says, where it can be read."""
        for key in self._spool.series():
            if key.study != row.study_uid or key == row.key:
                continue
            with suppress(SeriesRefused, Poisoned):
                path = next(iter(self._spool.instances(key).values()), None)
                data = None if path is None else self._spool.read(path)
                if data is not None:
                    yield patient.said(data)

    def _images(self, row: ToCompare, report: Report) -> Iterator[bytes]:
        """The instances that were analysed, read one by one."""
        names = kept.images(self._state, report.report_id)
        if not names:
            raise Poisoned("which images it was made of is not kept beside the report")
        paths = self._spool.instances(row.key)
        for uid in dict.fromkeys(name.split("/")[0] for name in names):
            data = self._spool.read(paths[uid]) if uid in paths else None
            if data is None:
                raise Poisoned("its images are not on the device any more")
            yield data

    def _masks(self, report: Report) -> tuple[Mask, ...]:
        try:
            return kept.masks(self._state, report.report_id)
        except (OSError, ValueError) as e:
            raise Poisoned("what is kept beside the report is damaged") from e
