"""The line: one way for a slice, from bytes to findings. Pure; read this file first.

    begin(bundle)          -> Fold
    add(fold, bytes)       -> Fold      decode, rescale, orient, in-plane resample
                                        (of a radiograph: what its network sees)
    finish(fold, backend)  -> Result    normal axis, order, extent, inference, findings, reasons
    seal(result, ...)      -> Report    what only the outside knows

`work` adds each slice as it arrives, so that after the last one only inference is left. `process`
runs the same fold over a whole series: both ways give the same Result. Bad input never raises out
of here: it becomes a Result that is `not_analysed` with its reasons.
The kind of a bundle's line says what a series is to it: slices of one volume (`nodules`), or
radiographs, each of which stands alone (`radiograph`).
A series that needs more memory than there is becomes such a Result before it fills it
(`admission`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

from appliance.backend.protocol import Backend
from appliance.bundle import match
from appliance.bundle.trust import Bundle
from appliance.errors import SeriesRefused
from appliance.lines import budget as admission
from appliance.lines import nodules, radiograph
from appliance.lines.nodules import Room
from appliance.preprocess import fast, plan
from appliance.reasons import Code
from appliance.records import (
    Facts,
    Header,
    Identity,
    Plane,
    Result,
    Stack,
    View,
)
from appliance.report import (
    NOTICE,
    Coverage,
    Reason,
    Report,
    SeriesRef,
    Stage,
    Status,
    StudyRef,
    Times,
    input_digest,
    pseudonym,
    report_id,
    tracking_uid,
)
from appliance.series import assemble, content, pixels, select
from appliance.series.header import digest as header_digest


@dataclass(frozen=True, slots=True)
class Fold:
    """A series so far. What is made of it does not depend on the order of arrival."""

    bundle: Bundle | None
    header: Header | None = None
    """Of the instance with the lowest Instance Number (then UID) of those that have one."""
    planes: tuple[Plane, ...] = ()
    views: tuple[View, ...] = ()
    """Of a bundle for radiographs, instead of planes."""
    refusals: tuple[Reason, ...] = ()
    """What was wrong with instances, each naming its image."""
    unread: tuple[tuple[str, str], ...] = ()
    """(SOP Instance UID, digest) of instances whose pixels were not read."""
    held: int = 0
    """Bytes of `planes`."""
    too_large: Reason | None = None
    """Why no plane is kept any more, only the digest of each header (`unread`)."""
    named: tuple[Reason | None, ...] = ()
    """Of each instance that has a header: why it is set aside by name, or None."""

    @property
    def images(self) -> int:
        """How many different images came; a resend is not another one."""
        frames = {(p.header.sop_instance_uid, p.frame) for p in self.planes}
        views = {v.header.sop_instance_uid for v in self.views}
        return len(frames) + len(views) + len(set(self.unread))

    @property
    def digest(self) -> str:
        """The input digest of what is here."""
        seen = {_digest_of(p) for p in self.planes}
        seen |= {(v.header.sop_instance_uid, v.digest) for v in self.views}
        return input_digest(seen | set(self.unread))


def begin(bundle: Bundle | None) -> Fold:
    """An empty series for this bundle; None where no bundle accepts (the Result will say so)."""
    return Fold(bundle)


def add(fold: Fold, instance: bytes, room: int | None = None) -> Fold:
    """One Part-10 instance more (all its frames). What is wrong with it is kept as a reason.

    room: bytes of memory that this fold may hold; None where the machine does not say.
    """
    try:
        parsed = pixels.parse(instance)
    except SeriesRefused as e:
        return replace(
            fold,
            refusals=(*fold.refusals, e.reason),
            unread=(*fold.unread, ("", hashlib.sha256(instance).hexdigest())),
        )
    header = parsed.header
    named = select.by_name(header)
    first = header if fold.header is None else min(fold.header, header, key=select.place)
    fold = replace(fold, header=first, named=(*fold.named, select.of_image(named, header)))
    unread = replace(fold, unread=(*fold.unread, header_digest(header)))
    if named or fold.too_large or (fold.bundle is None and header.modality != "CT"):
        return unread  # set aside by name, refused, or not ours: its pixels say no more
    if contrary := _contrary(fold.bundle, header):
        return replace(unread, refusals=(*fold.refusals, *contrary))
    if fold.bundle is not None and fold.bundle.of_radiographs:
        try:
            seen = radiograph.view(instance, header, fold.bundle.manifest, room)
        except SeriesRefused as e:
            return replace(unread, refusals=(*fold.refusals, e.reason))
        return replace(fold, views=(*fold.views, seen))
    spacings = fold.bundle.in_plane_spacings() if fold.bundle else ()
    try:
        planes = tuple(fast.plane(image, spacings) for image in pixels.images(parsed))
    except SeriesRefused as e:
        return replace(unread, refusals=(*fold.refusals, e.reason))
    return _kept(fold, planes, room)


def _contrary(bundle: Bundle | None, header: Header) -> tuple[Reason, ...]:
    """Why this image is not meant for the bundle that another image of its series chose."""
    said = match.accepts(bundle.manifest, header) if bundle else ()
    where = "image" if header.instance_number is None else f"image {header.instance_number}"
    return tuple(
        reason.model_copy(update={"text": f"{where}: {reason.text}", "where": where})
        for reason in said
        if reason.code in {Code.MODALITY, Code.BODY_PART, Code.PATIENT_AGE}
    )


def _kept(fold: Fold, planes: tuple[Plane, ...], room: int | None) -> Fold:
    """The fold with these planes; without any, and the reason, where they need too much memory."""
    kept = replace(
        fold, planes=(*fold.planes, *planes), held=fold.held + sum(map(_bytes_of, planes))
    )
    text = admission.too_many(kept.held, room)
    return kept if text is None else _let_go(kept, text)


def _let_go(fold: Fold, text: str) -> Fold:
    """Without its planes, whose pixels then count as not read: only headers are in the digest."""
    return replace(
        fold,
        planes=(),
        held=0,
        unread=(*fold.unread, *(header_digest(plane.header) for plane in fold.planes)),
        too_large=Reason(code=Code.TOO_LARGE, text=text, where="series"),
    )


def finish(
    fold: Fold,
    backend: Backend | None,
    *,
    reasons: Iterable[Reason] = (),
    limitations: Iterable[Reason] = (),
    room: int | None = None,
) -> Result:
    """Assemble, infer, interpret. `reasons` (it is then not analysed) and `limitations` are those
    that only the outside knows: no bundle, a better series, a transfer that broke off. `room`:
    bytes of memory for the fold and its analysis; None where the machine does not say."""
    if fold.bundle is not None and fold.bundle.of_radiographs:
        return _of_radiographs(fold, fold.bundle, backend, (*reasons,), (*limitations,))
    stack = outline(fold)
    refused = (*reasons, *_refusals(fold), *(() if isinstance(stack, Stack) else stack))
    if refused or not isinstance(stack, Stack) or fold.bundle is None or backend is None:
        return _not_analysed(fold, refused or _no_bundle(), stack)
    said = nodules.analyse(stack, fold.bundle.manifest, backend, Room(fold.held, room))
    if said.too_wide:
        return _too_large(fold, said.too_wide, stack)
    if said.reasons:
        return _not_analysed(fold, said.reasons, stack)
    return Result(
        status=Status.ANALYSED,
        facts=_facts(fold, stack, said.coverage),
        input_digest=fold.digest,
        limitations=(
            *limitations,
            *stack.limitations,
            *_phases(fold),
            *content.hu_check(stack),
            *said.limitations,
        ),
        bundle=fold.bundle.ref,
        backend=backend.ref,
        findings=said.findings,
        masks=said.masks,
        notice=fold.bundle.manifest.notice,
    )


def _of_radiographs(
    fold: Fold,
    bundle: Bundle,
    backend: Backend | None,
    reasons: tuple[Reason, ...],
    limitations: tuple[Reason, ...],
) -> Result:
    """`finish` for a bundle whose images stand alone."""
    aside = _refusals(fold)
    refused = (*reasons, *radiograph.against(fold.views, aside))
    if refused or not fold.views or backend is None:
        return _not_analysed(fold, refused or _no_bundle(), ())
    said = radiograph.analyse(radiograph.in_order(fold.views), bundle.manifest, backend)
    return Result(
        status=Status.ANALYSED,
        facts=_facts(fold, None, Coverage()),
        input_digest=fold.digest,
        limitations=(*limitations, *aside, *said.limitations),
        bundle=bundle.ref,
        backend=backend.ref,
        findings=said.findings,
        maps=said.maps,
        notice=bundle.manifest.notice,
    )


def process(
    instances: Iterable[bytes],
    bundle: Bundle | None,
    backend: Backend | None,
    room: int | None = None,
) -> Result:
    """The same fold over a whole series."""
    fold = begin(bundle)
    for instance in instances:
        fold = add(fold, instance, room)
    return finish(fold, backend, room=room)


def _too_large(fold: Fold, text: str, stack: Stack) -> Result:
    fold = _let_go(fold, text)
    return _not_analysed(fold, _refusals(fold), stack)


def failed(fold: Fold, reason: Reason) -> Result:
    """What is said of a series that breaks the analysis: its facts and that it failed."""
    return replace(_not_analysed(fold, (reason,), ()), status=Status.FAILED)


def set_aside(result: Result, reason: Reason) -> Result:
    """A result that is not to be used after all, because another series of the study is better."""
    return replace(
        result,
        status=Status.NOT_ANALYSED,
        reasons=(reason,),
        limitations=(),
        backend=None,
        findings=(),
        masks=(),
        maps=(),
    )


def seal(result: Result, identity: Identity, times: Times) -> Report:
    """Result and what only the outside knows -> Report: ids, pseudonym, revision, times."""
    facts = result.facts
    uid = report_id(
        facts.series_uid, result.bundle.digest if result.bundle else None, result.input_digest
    )
    return Report(
        notice=result.notice,
        report_id=uid,
        input_digest=result.input_digest,
        revision=identity.revision,
        supersedes=identity.supersedes,
        status=result.status,
        stage=Stage.PRELIMINARY if identity.preliminary else Stage.FINAL,
        reasons=result.reasons,
        limitations=result.limitations,
        coverage=facts.coverage,
        study=StudyRef(pseudonym=pseudonym(identity.site_key, facts.study_uid)),
        series=SeriesRef(
            instance_uid=facts.series_uid if identity.publish_uids else None,
            modality=facts.modality,
            slices=facts.slices,
            spacing_mm=facts.spacing_mm,
            thickness_mm=facts.thickness_mm,
            kernel=facts.kernel,
        ),
        bundle=result.bundle,
        backend=result.backend,
        findings=tuple(
            finding.model_copy(
                update={
                    "tracking_uid": tracking_uid(uid, finding.id),
                    "key_sop_instance_uid": finding.key_sop_instance_uid
                    if identity.publish_uids
                    else None,
                }
            )
            for finding in result.findings
        ),
        times=times,
    )


def _refusals(fold: Fold) -> tuple[Reason, ...]:
    """Every reason not to analyse that is known without assembling, the most fundamental first.

    Many images with one fault are one reason, whatever the order of arrival.
    """
    named = select.of_series(fold.named)
    if named is not None and named.code is not Code.MIXED_SERIES:
        return (named,)
    if fold.too_large is not None:  # what else is wrong depends on when it was let go
        return (fold.too_large,)
    return select.summed_up((*fold.refusals, *((named,) if named else ())))


def outline(fold: Fold) -> Stack | tuple[Reason, ...]:
    """The largest phase of the series in order, or why there is none (`_phases` tells which)."""
    if not fold.planes and fold.unread:
        return ()  # the images' own reasons say it all
    phases = assemble.split(fold.planes)
    names = {(p.header.sop_instance_uid, p.frame) for p in max(phases, key=len, default=())}
    # `split` keeps one of each UID; that two have other pixels is for `assemble` to say
    largest = [p for p in fold.planes if (p.header.sop_instance_uid, p.frame) in names]
    return assemble.assemble(largest, fold.bundle.manifest.accepts if fold.bundle else None)


def _phases(fold: Fold) -> tuple[Reason, ...]:
    phases = assemble.split(fold.planes)
    if len(phases) < 2:
        return ()
    text = f"the series holds {len(phases)} phases or acquisitions; one of them was analysed"
    return (Reason(code=Code.DYNAMIC, text=text, where="series"),)


def _no_bundle() -> tuple[Reason, ...]:
    return (Reason(code=Code.NO_BUNDLE, text="No installed bundle analyses this examination."),)


def _not_analysed(
    fold: Fold, reasons: tuple[Reason, ...], stack: Stack | tuple[Reason, ...]
) -> Result:
    return Result(
        status=Status.NOT_ANALYSED,
        facts=_facts(fold, stack if isinstance(stack, Stack) else None, Coverage()),
        input_digest=fold.digest,
        reasons=reasons,
        bundle=fold.bundle.ref if fold.bundle else None,
        notice=fold.bundle.manifest.notice if fold.bundle else NOTICE,
    )


def _facts(fold: Fold, stack: Stack | None, coverage: Coverage) -> Facts:
    header = fold.header
    if stack is not None and coverage.z_mm is None:
        coverage = coverage.model_copy(update={"z_mm": plan.extent(stack)})
    return Facts(
        study_uid=header.study_uid if header else "",
        series_uid=header.series_uid if header else "",
        modality=header.modality if header and header.modality in match.MODALITIES else None,
        slices=fold.images,
        spacing_mm=stack.spacing_mm if stack else None,
        thickness_mm=header.thickness_mm if header else None,
        kernel=header.kernel if header else None,
        coverage=coverage,
    )


def _bytes_of(plane: Plane) -> int:
    return plane.native.nbytes + sum(array.nbytes for array in plane.resampled.values())


def _digest_of(plane: Plane) -> tuple[str, str]:
    return f"{plane.header.sop_instance_uid}/{plane.frame}", plane.digest
