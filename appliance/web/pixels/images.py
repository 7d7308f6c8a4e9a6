"""The images of a series as the state folder holds them: found in the spool, ordered, decoded.

Rules
- The spool is read and never written. Paths come from its own listing and no part of an address
  becomes one.
- A listing is made once for a series, its report and the content of its folder. Its name stands for
  its images in their order: who asks with a name of before learns that they changed, and never gets
  another image than the one it asked for. The name is keyed by chance, for it is made of UIDs.
- What a header says of a file is read once: no file of the spool ever changes.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import uuid
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from appliance.comparison import Comparison
from appliance.errors import Poisoned, Refuse
from appliance.records import HeatMap, Mask
from appliance.report import Report, SeriesKey
from appliance.store import kept
from appliance.store.kept import FINDING
from appliance.store.spool import Spool
from appliance.web.pixels import listing
from appliance.web.pixels.asked import Answered, Described, When
from appliance.web.pixels.decoder import HEAD_BYTES, Decoder, NotShown
from appliance.web.pixels.listing import Frame

MOST_SERIES = 4
MOST_IMAGES = 5000
AT_ONCE = 64
"""Files that are described in one question."""


class Gone(Refuse):
    """An image, or all of a series, that was there and was deleted, or moved on."""

    code = "images_gone"
    remedy = "Its findings stay; the images are in the archive."


@dataclass(frozen=True, slots=True)
class Listing:
    """All images of a series, in order."""

    name: str
    """For its images in their order, as long as this process lives."""
    report: Report | None
    """The report whose images these are."""
    frames: tuple[Frame, ...]
    files: Mapping[str, Path] = field(repr=False)
    """SOP Instance UID -> its file."""


@dataclass(frozen=True, slots=True)
class _State:
    """What a listing stands for."""

    key: SeriesKey
    report: tuple[uuid.UUID, str, int] | None
    changed: int | None


class Images:
    """The images of one state folder. Safe for any number of threads."""

    def __init__(self, state: Path, decoder: Decoder) -> None:
        self._state = state
        self._spool = Spool(state)
        self._decoder = decoder
        self._listings: OrderedDict[_State, Listing] = OrderedDict()
        self._names: OrderedDict[tuple[tuple[str, str], str], Listing] = OrderedDict()
        """Address and name -> listing."""
        self._described: OrderedDict[SeriesKey, dict[str, Described]] = OrderedDict()
        self._lock = threading.Lock()
        self._chance = secrets.token_bytes(32)

    def warm(self) -> None:
        """Start the process that decodes."""
        self._decoder.warm()

    def close(self) -> None:
        """End the process that decodes."""
        self._decoder.close()

    def listing(self, address: tuple[str, str], key: SeriesKey, report: Report | None) -> Listing:
        """The images of a series. address: its study and name there; report: the latest one of it.
        Gone where there are none; Busy."""
        made = self._listing(key, report)
        with self._lock:
            self._names[address, made.name] = made
            self._names.move_to_end((address, made.name))
            while len(self._names) > MOST_SERIES:
                self._names.popitem(last=False)
        return made

    def _listing(self, key: SeriesKey, report: Report | None) -> Listing:
        made_of = None
        if report is not None:
            made_of = (report.report_id, report.stage.value, report.edition)
        state = _State(key, made_of, self._spool.changed(key))
        with self._lock:
            if (found := self._listings.get(state)) is not None:
                self._listings.move_to_end(state)
                return found
        made = self._made(key, report)
        with self._lock:
            made = self._listings.setdefault(state, made)
            self._listings.move_to_end(state)
            while len(self._listings) > MOST_SERIES:
                self._listings.popitem(last=False)
        return made

    def named(self, address: tuple[str, str], name: str) -> Listing | None:
        """The listing of this name that was made for this address; None where it is not held any
        more. An image costs no look into the journal so: the listing says which images are meant,
        and the files say whether they are there."""
        with self._lock:
            return self._names.get((address, name))

    def image(self, of: Listing, number: int) -> tuple[Answered, bytes]:
        """One image, decoded. Gone, NotShown, Busy; IndexError for a number that is none."""
        frame = of.frames[number]
        if frame.error is not None:
            raise NotShown(frame.error)
        path = of.files[frame.uid]
        return self._decoder.image(path, frame.frame, lambda: self._read(path))

    def bodies(self, report: Report) -> dict[int, Mask]:
        """Finding -> its body. Poisoned where what is kept beside the report is damaged."""
        try:
            masks = kept.masks(self._state, report.report_id)
        except (OSError, ValueError) as e:
            raise Poisoned(str(e)) from e
        return {
            int(mask.name.removeprefix(FINDING)): mask
            for mask in masks
            if mask.name.startswith(FINDING)
        }

    def maps(self, report: Report) -> tuple[HeatMap, ...]:
        """Its heat maps. Poisoned in the same way."""
        try:
            return kept.maps(self._state, report.report_id)
        except (OSError, ValueError) as e:
            raise Poisoned(str(e)) from e

    def planes(self, of: Comparison, pair: int, when: When) -> tuple[Answered, bytes]:
        """Of a pair of a comparison the three planes in one exam. Gone, NotShown, Busy."""

        def data() -> bytes:
            found = kept.cubes(self._state, of.report_id, of.comparison_id)
            if found is None:
                raise Gone("the cubes of this comparison are not on the device any more")
            return found

        return self._decoder.planes(of.comparison_id, pair, when, data)

    def _made(self, key: SeriesKey, report: Report | None) -> Listing:
        files = self._spool.instances(key)
        names = None if report is None else kept.images(self._state, report.report_id)
        wanted = {name.partition("/")[0] for name in names} if names else set(files)
        wanted &= files.keys()
        if not wanted:
            raise Gone("the images of this series are not on the device any more")
        described = self._descriptions(key)
        frames: list[Frame] = []
        uids = sorted(wanted)[:MOST_IMAGES]
        unknown = [uid for uid in uids if uid not in described]
        for at in range(0, len(unknown), AT_ONCE):
            some = unknown[at : at + AT_ONCE]
            described |= zip(some, self._describe([files[uid] for uid in some]), strict=True)
        for uid in uids:
            said = described[uid]
            if said.error is not None:
                frames.append(Frame(uid, 0, None, said.error))
            else:
                frames += [Frame(uid, n, place) for n, place in enumerate(said.places)]
        in_order = listing.ordered(frames, names)[:MOST_IMAGES]
        names_hashed = hashlib.blake2b(key=self._chance, digest_size=8)
        for one in in_order:
            names_hashed.update(f"{one.name}\n".encode())
        return Listing(names_hashed.hexdigest(), report, in_order, files)

    def _descriptions(self, key: SeriesKey) -> dict[str, Described]:
        """What is known of the files of a series; a few series are remembered."""
        with self._lock:
            found = self._described.setdefault(key, {})
            self._described.move_to_end(key)
            while len(self._described) > MOST_SERIES:
                self._described.popitem(last=False)
            return found

    def _describe(self, paths: Sequence[Path]) -> list[Described]:
        """All at once by their beginnings, which are enough for most; the others one by one."""
        heads = [_head(path) for path in paths]
        try:
            found = list(self._decoder.describe(tuple(paths), heads))
        except NotShown:  # one of them ended the process, and must not take the others with it
            found = [Described(error="")] * len(paths)
        for n, (path, said) in enumerate(zip(paths, found, strict=True)):
            if said.error is not None:
                found[n] = self._describe_whole(path)
        return found

    def _describe_whole(self, path: Path) -> Described:
        try:
            return self._decoder.describe(path, [self._read(path)])[0]
        except (NotShown, Gone, Poisoned) as e:
            return Described(error=e.text)

    def _read(self, path: Path) -> bytes:
        data = self._spool.read(path)
        if data is None:
            raise Gone("the image is not on the device any more")
        return data


def _head(path: Path) -> bytes:
    """The beginning of a file; empty where it cannot be read: who reads it whole says why."""
    try:
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except OSError:
        return b""
