"""The kind of a line: all that differs between, say, a volume of slices and a radiograph. Pure.

    instance -> images -> Outline -> Analysis

`line` holds what is the same for every kind: the fold, what is refused by name, the input digest,
memory, the Result. It asks a kind for the steps between, and for nothing else; no other file of the
appliance asks which kind a bundle has. `kinds` knows them all. A kind is one object without state.

Rules.
1. An instance is decoded once for all bundles of one reading. What a bundle is given, and what its
   report says, is the same as if it were alone.
2. Bad input never raises: it is a Reason.
3. The order in which the images arrived changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from appliance.backend.profile import Shapes
from appliance.backend.protocol import Backend
from appliance.bundle.accepts import Accepts
from appliance.bundle.lines import OfLine
from appliance.bundle.manifest import Manifest, Network
from appliance.lines.budget import Budget
from appliance.records import Header, HeatMap, Mask, Pair, Plane, Vector
from appliance.report import Coverage, Finding, Reason, Scores
from appliance.room.check import RoomValues
from appliance.series.foreign import Mark, Unread
from appliance.series.pixels import Parsed
from appliance.watching.qa import WaterFigures
from appliance.watching.quality import RadiographQuality, VolumeQuality
from appliance.watching.tuning import Tuning


class Image(Protocol):
    """What an instance, or a frame of it, became: a Plane, a View."""

    @property
    def header(self) -> Header: ...

    @property
    def mark(self) -> tuple[str, str]:
        """Its name in the series, and the digest of what it shows."""
        ...


I = TypeVar("I", bound=Image)  # noqa: E741 - the image of a kind
S = TypeVar("S")
"""What a kind makes of the images in order: what it analyses."""


@dataclass(frozen=True, slots=True)
class Context:
    """What only the outside knows of a series."""

    reasons: tuple[Reason, ...] = ()
    """Why it is not to be analysed, such as a better series of its study."""
    limitations: tuple[Reason, ...] = ()
    """Such as a transfer that broke off."""
    memory_bytes: int | None = None
    """For its pixels and their analysis; None where the machine does not say."""
    tunings: tuple[Tuning, ...] = ()
    """Those that a person accepted on this device."""


NO_CONTEXT = Context()


@dataclass(frozen=True, slots=True)
class Seen(Generic[I]):
    """What a bundle has of one instance: images for its networks, or why it is refused. Neither
    where there is nothing to see and no reason to say so."""

    images: tuple[I, ...] = ()
    reasons: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True)
class Extent:
    """What the positions of a volume's slices say."""

    spacing_mm: Vector
    """Median slice distance, row spacing, column spacing."""
    z_mm: Pair
    """Lowest and highest slice centre along z (LPS)."""
    cover_mm: float
    """From the first to the last slice along the normal."""
    slices: int


@dataclass(frozen=True, slots=True)
class Outline(Generic[S]):
    """A series as far as it can be judged without inference."""

    subject: S | None = None
    """What is to be analysed, in order; None where it cannot be."""
    reasons: tuple[Reason, ...] = ()
    """Why it cannot."""
    limitations: tuple[Reason, ...] = ()
    uniform: bool = False
    """No place in it is seen to be empty: it may be complete."""
    extent: Extent | None = None
    """None for what is no volume, or could not be put in order."""
    images: tuple[str, ...] = ()
    """Of the subject: its frames by name (first part of a Mark), in the order of `key_image`."""
    foreign: frozenset[Mark] = frozenset()
    """Of the images that are set aside, because they do not belong to the series: they are no part
    of the input. None where the series is refused."""


@dataclass(frozen=True, slots=True)
class Analysis:
    """What is said of a subject. With `reasons` or `too_wide` it was not analysed after all."""

    coverage: Coverage = field(default_factory=Coverage)
    reasons: tuple[Reason, ...] = ()
    too_wide: str | None = None
    """Why its analysis needs more memory than there is."""
    limitations: tuple[Reason, ...] = ()
    findings: tuple[Finding, ...] = ()
    masks: tuple[Mask, ...] = ()
    maps: tuple[HeatMap, ...] = ()
    room: RoomValues | None = None
    """What was measured of the images themselves."""
    quality: tuple[VolumeQuality | RadiographQuality, ...] = ()
    """The same, for the watch over the scanner."""
    scores: Scores | None = None
    """All that was scored against the threshold of the line, also below it."""
    tuning: str | None = None
    """Digest of the one that it was analysed with."""
    water: WaterFigures | None = None
    """Of a water phantom alone."""


class Reading(Protocol[I, S]):
    """How the instances of a series become something in order. Several kinds may share one."""

    def images(
        self,
        instance: Parsed,
        manifests: Sequence[Manifest | None],
        memory_bytes: int | None,
    ) -> tuple[Seen[I], ...]:
        """One instance, decoded once -> what each of these bundles has of it.

        `memory_bytes`: what there is for it; None where the machine does not say."""
        ...

    def bytes_of(self, image: I, manifest: Manifest | None = None) -> int:
        """Memory that an image holds: all of it, or what this bundle alone would have of it."""
        ...

    def trimmed(self, image: I, manifests: Sequence[Manifest | None]) -> I:
        """An image without what none of these bundles needs."""
        ...

    def planes(self, images: Sequence[I]) -> tuple[Plane, ...]:
        """Those that a backend can take as soon as they arrive (backend.protocol.Takes)."""
        ...

    def measured(self, images: Sequence[I]) -> tuple[VolumeQuality | RadiographQuality, ...]:
        """What the watch over the scanner keeps of these images, of a series that is not analysed;
        () where nothing can be said of them. It costs no look at pixels of a volume."""
        ...

    def outline(
        self, images: Sequence[I], accepts: Accepts | None, *, unread: Sequence[Unread]
    ) -> Outline[S]:
        """The images in order, or every reason why they are not analysed. `accepts` None: no
        bundle. `unread`: the instances besides that became no image; which of them refuse the
        series, and which are only left out or set aside, is for the kind to say."""
        ...


class Kind(Reading[I, S], Protocol[I, S]):
    """A kind of line: its reading, and what is made of it."""

    @property
    def model(self) -> type[OfLine]:
        """Its line in a manifest."""
        ...

    def ends_inside(self, coverage: Coverage) -> bool | None:
        """Whether the organ ends inside the images; None where nothing has to. While False, nothing
        is said early, because images may still come."""
        ...

    def analyse(
        self, subject: S, manifest: Manifest, backend: Backend, budget: Budget, context: Context
    ) -> Analysis:
        """Inference and what is found. Poisoned where the backend fails."""
        ...

    def usual_bytes(self, manifest: Manifest) -> int:
        """Memory that a usual series takes with its analysis, beside the networks."""
        ...

    def profile(self, role: str, network: Network, manifest: Manifest) -> dict[str, Shapes]:
        """Input -> the shapes that an engine is built for, of each input with a free axis.
        BundleRefused `engine_axes` names an axis that no rule bounds."""
        ...

    def scores(
        self, images: NDArray[np.uint8], manifest: Manifest, backend: Backend
    ) -> tuple[NDArray[np.float64], float]:
        """Images [n, y, x] that were cut and windowed for the network `classify` before, such as
        those of MedMNIST -> the score of each [n], and the score from which on it is positive:
        for who judges a bundle. ValueError where their size is not the network's."""
        ...

    def example(self, spacing_mm: Vector | None = None) -> tuple[bytes, ...]:
        """A series of our phantom as Part-10 instances, in which there is something to find;
        `spacing_mm` (z, y, x) of its body, None for the demo's own."""
        ...
