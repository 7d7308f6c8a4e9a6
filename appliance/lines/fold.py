"""A series so far, as each of its bundles has it. Pure; `line` fills it.

Rules.
1. Images are decoded once and shared; what refuses a series, its input digest and its outline are a
   bundle's own (`Share`), and the same as if the bundle were alone.
2. Memory. A bundle lets go of its images where they alone are more than any series may hold
   (budget.MAX_BYTES), by its own spacings. Where all that is really held is more than the memory
   there is, bundles let go until it fits, the last one first. What only they needed is freed.
3. What was let go counts as not read: its headers alone are in the digest.
4. The input is what the digest covers: all images but those that are set aside as foreign
   (series/foreign.py). An image that changes nothing in a report makes no other one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from appliance.bundle.manifest import Manifest
from appliance.bundle.trust import Bundle
from appliance.lines import kinds
from appliance.lines.budget import Budget
from appliance.lines.kind import Image, Outline, Reading, Seen
from appliance.reasons import Code
from appliance.records import Header
from appliance.report import Reason, input_digest
from appliance.series import foreign, select
from appliance.series.foreign import Mark, Unread
from appliance.series.header import digest as header_digest


@dataclass(frozen=True)
class Share:
    """What one bundle has of a series. It does not depend on the order of arrival."""

    bundle: Bundle | None
    """None: no bundle accepts the series."""
    images: tuple[Image, ...] = ()
    unread: tuple[Unread, ...] = ()
    """Instances that became no image."""
    held: int = 0
    """Bytes that its images would hold if it were the only bundle."""
    too_large: Reason | None = None
    """Why no image is kept any more."""

    @property
    def key(self) -> str | None:
        """The digest of its bundle."""
        return self.bundle.ref.digest if self.bundle else None

    @property
    def manifest(self) -> Manifest | None:
        return self.bundle.manifest if self.bundle else None

    @property
    def reading(self) -> Reading[Any, Any]:
        """How it reads the series."""
        return kinds.reading(self.manifest)

    @property
    def refusals(self) -> tuple[Reason, ...]:
        """What is wrong with instances, each naming its image."""
        return tuple(reason for one in self.unread for reason in one.reasons)

    @cached_property
    def outline(self) -> Outline[Any]:
        """Its images in order, or why not; made once, when it is first asked for."""
        if self.too_large is not None:  # what else is wrong depends on when it was let go
            named = foreign.named_aside(self.images, self.unread)
            of_all = named is not None and named.code is not Code.MIXED_SERIES
            return Outline(reasons=(named if named and of_all else self.too_large,))
        accepts = self.manifest.accepts if self.manifest else None
        return self.reading.outline(self.images, accepts, unread=self.unread)

    @cached_property
    def digest(self) -> str:
        """The input digest of what is here."""
        return input_digest(self.input(self.outline))

    def input(self, outline: Outline[Any]) -> set[Mark]:
        """The marks of all images but the foreign ones; of all, where there is no bundle."""
        marks = {image.mark for image in self.images} | {one.mark for one in self.unread}
        return marks if self.bundle is None else marks - outline.foreign

    def count(self, outline: Outline[Any]) -> int:
        """How many different images the input has; a resend is not another one."""
        marks = self.input(outline)
        unread = {one.mark for one in self.unread}
        return len({mark[0] for mark in marks - unread}) + len(marks & unread)

    def plus(self, mark: Mark, seen: Seen[Any], header: Header | None) -> Share:
        """With one instance more; `mark` is of its header."""
        if not seen.images:
            one = Unread(mark, seen.reasons, header)
            return replace(self, unread=(*self.unread, one))
        more = sum(self.reading.bytes_of(image, self.manifest) for image in seen.images)
        return replace(self, images=(*self.images, *seen.images), held=self.held + more)

    def let_go(self, text: str) -> Share:
        """Without its images (rule 3)."""
        return replace(
            self,
            images=(),
            held=0,
            unread=(
                *self.unread,
                *(Unread(header_digest(i.header), header=i.header) for i in self.images),
            ),
            too_large=Reason(code=Code.TOO_LARGE, text=text, where="series"),
        )


@dataclass(frozen=True)
class Fold:
    """A series so far."""

    shares: tuple[Share, ...]
    """One a bundle, in the order of the bundles."""
    header: Header | None = None
    """Of the instance with the lowest Instance Number (then UID) of those that have one."""
    held: int = 0
    """Bytes that all its images really hold."""

    def share(self, bundle: Bundle | None) -> Share:
        """The share of one of its bundles; None: of a series that no bundle accepts. ValueError for
        a bundle that the fold was not begun for."""
        wanted = Share(bundle).key
        for share in self.shares:
            if share.key == wanted:
                return share
        name = bundle.ref.name if bundle else "a series without a bundle"
        raise ValueError(f"this fold was not begun for {name}")

    def again_for(self, bundle: Bundle) -> Fold:
        """The same images for a bundle that reads them as the first share did (slices): what they
        show chose it. They are not decoded again."""
        share = self.shares[0]
        own = sum(kinds.reading(bundle.manifest).bytes_of(i, bundle.manifest) for i in share.images)
        return replace(self, shares=(replace(share, bundle=bundle, held=own),))

    def header_of(self, share: Share, outline: Outline[Any]) -> Header | None:
        """The same, of the images that belong to the series."""
        if not outline.foreign:
            return self.header
        here = [image.header for image in share.images if image.mark not in outline.foreign]
        for one in share.unread:
            if one.header is not None and one.mark not in outline.foreign:
                here.append(one.header)
        return min(here, key=select.place, default=None)

    def plus(self, mark: Mark, seen: Sequence[Seen[Any]], header: Header | None = None) -> Fold:
        """With one instance more; `mark` is of its header, `seen` what each share has of it."""
        pairs = [*zip(self.shares, seen, strict=True)]
        new = {id(image): (share, image) for share, one in pairs for image in one.images}
        more = sum(share.reading.bytes_of(image) for share, image in new.values())
        shares = tuple(share.plus(mark, one, header) for share, one in pairs)
        return replace(self, shares=shares, held=self.held + more)

    def fitted(self, memory_bytes: int | None) -> Fold:
        """The same within the memory that there is (rule 2); None: not known."""
        fold = self
        for share in self.shares:
            if text := Budget(share.held).too_many():
                fold = fold._let_go(share.bundle, text)
        for share in reversed(self.shares):
            text = Budget(fold.held, memory_bytes).too_many()
            if text is not None and fold.share(share.bundle).images:
                fold = fold._let_go(share.bundle, text)
        return fold

    def _let_go(self, bundle: Bundle | None, text: str) -> Fold:
        """One bundle lets go of its images; the others keep theirs, without what only it needed."""
        own = self.share(bundle)
        left = [share.let_go(text) if share is own else share for share in self.shares]
        kept: dict[int, Image] = {}
        held = 0
        for one in left:
            needs = [s.manifest for s in left if s.images and s.reading is one.reading]
            for image in one.images:
                if id(image) not in kept:
                    kept[id(image)] = one.reading.trimmed(image, needs)
                    held += one.reading.bytes_of(kept[id(image)])
        return replace(
            self,
            shares=tuple(replace(s, images=tuple(kept[id(i)] for i in s.images)) for s in left),
            held=held,
        )
