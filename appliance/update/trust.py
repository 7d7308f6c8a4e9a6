"""What the repository says, verified by python-tuf in a copy, and adopted only as a whole.

The client's workflow is that of TUF 1.0, 5.2 to 5.6, as tuf.ngclient does it. It writes file by
file and never syncs, so it works in `copy/` here and nothing of that is believed after a power cut:

    mark.json       the highest versions, the newest signed time, and all that was recalled; Mark
    metadata.json   the metadata of the last refresh, file by file; Kept
    copy/           what python-tuf works in; made anew each time

Rules.
1. Nothing is adopted of a refresh that did not succeed as a whole, with the channel's releases and
   the recall. The mark is written before the metadata, each at once (appliance.store.files).
2. No version is lower than in the mark, also where the metadata was lost. When the keys of
   timestamp or snapshot change, what they had counted is forgotten (TUF 1.0, 5.3.11), and so is
   the time that they had signed: so a box recovers from keys that were stolen.
3. The time is ours (appliance.update.clock). It goes into python-tuf by a private attribute, as
   there is no public one: therefore tuf is pinned, and a test fails if that attribute moves.
4. What was signed for a stick (`medium`) comes from a folder alone. A server that showed it could
   keep a box at it for the 90 days that a stick holds.
5. What was recalled stays so, whatever a repository leaves out.
6. A folder and a server are read by the same code.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from pydantic import AwareDatetime, Field, ValidationError

from appliance.errors import Halt, PeerAway, ReleaseRefused, StateUnusable
from appliance.release.record import (
    MAX_BYTES,
    MAX_RECALL_BYTES,
    RECALL,
    Channel,
    Recall,
    Release,
    numbers,
    read,
    read_release,
    told_twice,
    write,
)
from appliance.report import Record
from appliance.store.files import DISK, Disk
from appliance.update import clock as clocks
from appliance.update.source import Missing, Source

try:
    from tuf.api import exceptions as tuf_errors
    from tuf.api.metadata import Metadata, Root, Signed, Snapshot, Targets, Timestamp
    from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig
except ImportError as e:
    raise Halt(
        "the library that verifies updates is not installed",
        code="update_library",
        remedy="Type: pip install 'scanside[update]'",
    ) from e

MARK, KEPT, COPY = "mark.json", "metadata.json", "copy"
MEDIUM, STICK, MADE = "medium", "stick", "made"
MOST_RELEASES = 15
"""Of a channel at a time, the newest: no more are offered (compile.release.kept)."""
_BASE = "repository:"
_FILE = re.compile(r"(root_history/[1-9][0-9]{0,8}\.root|[a-z][a-z0-9-]*)\.json")
_NEVER = datetime.min.replace(tzinfo=timezone.utc)
"""A time at which nothing has ended."""
_LIMITS = UpdaterConfig(targets_max_length=1_000_000, snapshot_max_length=200_000)


class Mark(Record):
    """Below this nothing is taken."""

    root: int = Field(default=0, ge=0)
    timestamp: int = Field(default=0, ge=0)
    snapshot: int = Field(default=0, ge=0)
    roles: dict[str, int] = Field(default={}, description="version of targets and of channels")
    timestamp_keys: tuple[str, ...] = ()
    snapshot_keys: tuple[str, ...] = ()
    made: AwareDatetime | None = None
    """The newest signed time."""
    recall: Recall | None = None


class Kept(Record):
    """The metadata of the last refresh, by the names that python-tuf gives to its files."""

    files: dict[str, str] = Field(default={}, description="name -> text")


class Offered(Record):
    """What the repository offers to this box, all of it verified."""

    channel: Channel
    releases: tuple[Release, ...]
    """Above the number that was asked for, the newest first."""
    recall: Recall | None
    made: AwareDatetime
    at: AwareDatetime
    """The time that was taken for the present one."""
    stick: bool


@dataclass(frozen=True, slots=True)
class Trust:
    """The trusted metadata in `folder`, from `first_root` of the installer on; `built` is when this
    appliance was."""

    folder: Path
    first_root: bytes
    built: datetime
    disk: Disk = DISK

    def mark(self) -> Mark:
        """What is below nothing is taken. StateUnusable (`trust_damaged`)."""
        path = self.folder / MARK
        try:
            return Mark.stored(path.read_bytes())
        except FileNotFoundError:
            return Mark()
        except (OSError, ValidationError) as e:
            raise StateUnusable(
                f"{path} cannot be read",
                code="trust_damaged",
                remedy="Call the fleet team. This box goes on as it is, and takes no update.",
            ) from e

    def refresh(self, source: Source, channel: str, clock: datetime, *, above: int = 0) -> Offered:
        """Ask, verify and adopt. `clock` is the time of this machine; `above`: the number of the
        newest release that is not asked for. ReleaseRefused, PeerAway, StateUnusable; then nothing
        was adopted."""
        mark = self.mark()
        at = clocks.now(clock, self.built, mark.made)
        try:
            return self._asked(source, channel, mark, at, above)
        except _Ended as e:
            made, same_keys = self._signed_time(source, channel)
            if same_keys and mark.made is not None:
                made = max(made, mark.made)
            if clocks.far_ahead(clock, made):
                raise ReleaseRefused(
                    f"the clock says {clock:%Y-%m-%d}, and the newest that was signed is of "
                    f"{made:%Y-%m-%d}",
                    code="clock",
                    remedy=clocks.CLOCK_REMEDY,
                ) from e
            if same_keys:
                raise _expired(e.text) from e
            forgotten = mark.model_copy(update={"made": None})
        try:
            at = clocks.now(clock, self.built, made)
            return self._asked(source, channel, forgotten, at, above)
        except _Ended as e:
            raise _expired(e.text) from e

    def _signed_time(self, source: Source, channel: str) -> tuple[datetime, bool]:
        """What the offered timestamp says, its signature checked and no end, and whether the keys
        that sign it are those of the mark."""
        with self._copy() as copy:
            found = _walk(copy, source, channel, self.first_root, _NEVER)
        return found.made, _keys(found.root, Timestamp.type) == self.mark().timestamp_keys

    def _asked(self, source: Source, channel: str, mark: Mark, at: datetime, above: int) -> Offered:
        with self._copy() as copy:
            found = _walk(copy, source, channel, self.first_root, at)
            if found.stick and source.over_network:
                raise ReleaseRefused(
                    "the server shows what was signed for a stick",
                    code="stick_over_network",
                    remedy="Publish the repository itself there, and not the copy of a stick.",
                )
            next_mark = _above(mark, found)
            clocks.require_possible(found.made, (one.expires for one in found.signed()))
            recall = _recall(found, mark.recall)
            releases = _releases(found, above)
            kept = Kept(files=_files(copy))
        self._adopt(mark, next_mark.model_copy(update={"recall": recall}), kept)
        return Offered(
            channel=channel,
            releases=releases,
            recall=recall,
            made=found.made,
            at=max(at, found.made),
            stick=found.stick,
        )

    def _kept(self) -> Kept:
        """Nothing where it was lost: the mark holds then (rule 2)."""
        try:
            return Kept.stored((self.folder / KEPT).read_bytes())
        except (OSError, ValidationError):
            return Kept()

    @contextlib.contextmanager
    def _copy(self) -> Iterator[Path]:
        """The folder in which python-tuf works, with what is trusted; gone afterwards."""
        copy = self.folder / COPY
        self.disk.make_folder(self.folder)
        shutil.rmtree(copy, ignore_errors=True)
        try:
            with _as_ours():
                for name, text in self._kept().files.items():
                    if _FILE.fullmatch(name) is not None:
                        path = copy / "metadata" / name
                        path.parent.mkdir(parents=True, exist_ok=True)
                        path.write_text(text, encoding="utf-8")
                (copy / "metadata").mkdir(parents=True, exist_ok=True)
                yield copy
        finally:
            shutil.rmtree(copy, ignore_errors=True)

    def _adopt(self, before: Mark, mark: Mark, kept: Kept) -> None:
        """Rule 1."""
        if mark != before:
            self.disk.write(self.folder / MARK, mark.model_dump_json(by_alias=True).encode())
        if kept != self._kept():
            self.disk.write(self.folder / KEPT, kept.model_dump_json().encode())


class _Ended(ReleaseRefused):
    """Something is past its end, by the time that was given."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A refresh that succeeded, in the copy."""

    updater: Updater
    copy: Path
    channel: str
    root: Root
    timestamp: Timestamp
    snapshot: Snapshot
    targets: Targets
    releases: Targets
    made: datetime
    stick: bool

    def signed(self) -> tuple[Signed, ...]:
        return (self.root, self.timestamp, self.snapshot, self.targets, self.releases)

    def target(self, path: str, most: int, have: bytes = b"") -> bytes | None:
        """The bytes of a target, which may be those that are there already (`have`); None where
        nobody signed it. Missing where it does not lie there."""
        line = self.updater.get_targetinfo(path)
        if line is None:
            return None
        with contextlib.suppress(tuf_errors.LengthOrHashMismatchError):
            line.verify_length_and_hashes(have)
            return have
        if line.length > most:
            raise ReleaseRefused(
                f"{path} has {line.length} bytes; at most {most} are allowed",
                code="release_record",
            )
        try:
            return Path(self.updater.download_target(line)).read_bytes()
        except tuf_errors.DownloadHTTPError as e:
            raise Missing(f"{path} is signed and does not lie there") from e


class _Through(FetcherInterface):
    """The way of python-tuf to a source."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def _fetch(self, url: str) -> Iterator[bytes]:
        try:
            yield from self._source.read(url.removeprefix(_BASE))
        except Missing as e:
            raise tuf_errors.DownloadHTTPError(e.text, 404) from e


def _walk(copy: Path, source: Source, channel: str, first_root: bytes, at: datetime) -> _Found:
    """The client's workflow down to the role of the channel."""
    folder = copy / "metadata"
    (copy / "targets").mkdir()
    updater = Updater(
        str(folder),
        f"{_BASE}metadata/",
        str(copy / "targets"),
        f"{_BASE}targets/",
        _Through(source),
        _LIMITS,
        bootstrap=first_root,
    )
    updater._trusted_set.reference_time = at  # rule 3
    updater.refresh()
    targets: Metadata[Targets] = Metadata.from_file(str(folder / "targets.json"))
    below = targets.signed.delegations
    if below is None or below.roles is None or channel not in below.roles:
        raise ReleaseRefused(
            f"the repository has no channel {channel}",
            code="release_channel",
            remedy="Ask the fleet team for a channel that is there.",
        )
    updater.get_targetinfo(f"{channel}/0.json")  # python-tuf lists nothing; so the role is fetched
    root: Metadata[Root] = Metadata.from_file(str(folder / "root.json"))
    timestamp: Metadata[Timestamp] = Metadata.from_file(str(folder / "timestamp.json"))
    snapshot: Metadata[Snapshot] = Metadata.from_file(str(folder / "snapshot.json"))
    releases: Metadata[Targets] = Metadata.from_file(str(folder / f"{channel}.json"))
    marks = [one.signed.unrecognized_fields.get(MEDIUM) for one in (timestamp, snapshot)]
    return _Found(
        updater,
        copy,
        channel,
        root.signed,
        timestamp.signed,
        snapshot.signed,
        targets.signed,
        releases.signed,
        made=clocks.said(timestamp.signed.unrecognized_fields.get(MADE)),
        stick=STICK in marks,
    )


def _keys(root: Root, role: str) -> tuple[str, ...]:
    return tuple(sorted(root.roles[role].keyids))


def _above(mark: Mark, found: _Found) -> Mark:
    """Rule 2. ReleaseRefused (`release_older`)."""
    timestamp_keys = _keys(found.root, Timestamp.type)
    snapshot_keys = _keys(found.root, Snapshot.type)
    if timestamp_keys != mark.timestamp_keys:
        mark = mark.model_copy(update={"timestamp": 0, "made": None})
    if snapshot_keys != mark.snapshot_keys:
        mark = mark.model_copy(update={"snapshot": 0, "roles": {}})
    roles = {Targets.type: found.targets.version, found.channel: found.releases.version}
    for what, before, now in [
        (Root.type, mark.root, found.root.version),
        (Timestamp.type, mark.timestamp, found.timestamp.version),
        (Snapshot.type, mark.snapshot, found.snapshot.version),
        *((role, mark.roles.get(role, 0), version) for role, version in roles.items()),
    ]:
        if now < before:
            raise _older(f"{what} is version {now}, and this box has seen {before}")
    return Mark(
        root=found.root.version,
        timestamp=found.timestamp.version,
        snapshot=found.snapshot.version,
        roles={**mark.roles, **roles},
        timestamp_keys=timestamp_keys,
        snapshot_keys=snapshot_keys,
        made=found.made if mark.made is None else max(found.made, mark.made),
        recall=mark.recall,
    )


def _recall(found: _Found, before: Recall | None) -> Recall | None:
    """Rule 5."""
    have = write(before) if before is not None else b""
    data = found.target(RECALL, MAX_RECALL_BYTES, have)
    if data is None:
        return before
    recall = read(Recall, data, RECALL, MAX_RECALL_BYTES)
    known = before or recall
    if recall.number < known.number or not set(known.entries) <= set(recall.entries):
        raise _older(f"the list of what was recalled is shorter than number {known.number}")
    return recall


def _releases(found: _Found, above: int) -> tuple[Release, ...]:
    """The newest first. On a stick lies the newest alone."""
    signed = [one for one in numbers(found.releases.targets, found.channel) if one > above]
    releases: list[Release] = []
    for number in sorted(signed, reverse=True)[:MOST_RELEASES]:
        path = f"{found.channel}/{number}.json"
        try:
            data = found.target(path, MAX_BYTES)
        except Missing:
            if found.stick and releases:
                continue
            raise
        if data is not None:
            releases.append(read_release(data, path))
    for line in told_twice(releases):
        raise ReleaseRefused(
            line,
            code="release_relabelled",
            remedy="Take nothing from this repository and call the fleet team.",
        )
    return tuple(releases)


def _files(copy: Path) -> dict[str, str]:
    """What python-tuf left, but the link to the newest root, which it makes anew."""
    top = copy / "metadata"
    return {
        path.relative_to(top).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(top.rglob("*.json"))
        if not path.is_symlink()
    }


def _older(text: str) -> ReleaseRefused:
    return ReleaseRefused(
        text,
        code="release_older",
        remedy="Bring a newer copy of the repository: a box never goes back behind what it saw.",
    )


def _expired(text: str) -> ReleaseRefused:
    return ReleaseRefused(
        text,
        code="release_expired",
        remedy="Ask the fleet team to publish, or bring a new stick; this box goes on as it is.",
    )


@contextlib.contextmanager
def _as_ours() -> Iterator[None]:
    """No foreign error goes out."""
    try:
        yield
    except tuf_errors.ExpiredMetadataError as e:
        raise _Ended(str(e)) from e
    except tuf_errors.BadVersionNumberError as e:
        raise _older(str(e)) from e
    except tuf_errors.UnsignedMetadataError as e:
        raise ReleaseRefused(str(e), code="release_signature") from e
    except tuf_errors.LengthOrHashMismatchError as e:
        raise ReleaseRefused(str(e), code="release_digest") from e
    except tuf_errors.RepositoryError as e:
        raise ReleaseRefused(str(e), code="release_metadata") from e
    except tuf_errors.DownloadLengthMismatchError as e:
        raise ReleaseRefused(str(e), code="release_endless") from e
    except tuf_errors.DownloadHTTPError as e:
        raise Missing(str(e)) from e
    except tuf_errors.DownloadError as e:
        raise PeerAway(str(e), code="repository_away") from e
    except UnicodeDecodeError as e:
        raise ReleaseRefused("the metadata is no text", code="release_metadata") from e
    except OSError as e:
        raise StateUnusable(f"{e.filename or 'the disk'}: {e.strerror}") from e
