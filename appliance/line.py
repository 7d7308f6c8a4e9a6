"""The line: one way for a slice, from bytes to findings. Pure; read this file first.

    begin(bundles)                        -> Fold
    add(fold, bytes)                      -> Fold    decoded, made ready for the networks: once for
                                                     all bundles
    finish(fold, bundle, backend, ...)    -> Result  put in order, inferred, interpreted; or why not
    seal(result, ...)                     -> Report  with what only the outside knows

`work` adds each slice as it arrives, so that after the last one only inference is left. `process`
runs the same fold over a whole series: both ways give the same Result. Bad input never raises out
of here: it becomes a Result that is `not_analysed` with its reasons.
What an image becomes, and what is made of a series, depends on the kind of a bundle's line: slices
of a volume, or radiographs, each of which stands alone (`kinds` has them all). Several bundles may
share one fold; each gets the report that it would get alone. A series that needs more memory than
there is becomes a refusal before it fills it (`fold`, `budget`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from appliance.backend.protocol import Backend
from appliance.bundle import match
from appliance.bundle.trust import Bundle
from appliance.errors import SeriesRefused
from appliance.lines import kinds
from appliance.lines.budget import Budget
from appliance.lines.fold import Fold, Share
from appliance.lines.kind import NO_CONTEXT, Context, Outline, Seen
from appliance.reasons import Code
from appliance.records import Facts, Header, Identity, Result
from appliance.report import (
    NOTICE,
    Coverage,
    Reason,
    Report,
    SeriesKey,
    SeriesRef,
    Stage,
    Status,
    StudyRef,
    Times,
    input_digest,
)
from appliance.series import kernel, pixels, scanner, select
from appliance.series.foreign import Mark
from appliance.series.header import digest as header_digest
from appliance.series.pixels import Parsed
from appliance.watching.quality import RadiographQuality, VolumeQuality
from appliance.watching.tuning import Tuning

_OF_IMAGES = frozenset(
    {Code.MODALITY, Code.SPECIES, Code.BODY_PART, Code.PATIENT_AGE, Code.AGE_UNKNOWN}
)
"""What one image may say against a bundle that another image of its series chose."""


def begin(bundles: Sequence[Bundle]) -> Fold:
    """An empty series for these bundles; () where none accepts (the Result will say so)."""
    return Fold(tuple(Share(bundle) for bundle in bundles) or (Share(None),))


def add(fold: Fold, instance: bytes, memory_bytes: int | None = None) -> Fold:
    """One Part-10 instance more (all its frames). What is wrong with it is kept as a reason.

    memory_bytes: what this fold may hold; None where the machine does not say.
    """
    try:
        parsed = pixels.parse(instance)
    except SeriesRefused as e:
        mark = ("", hashlib.sha256(instance).hexdigest())
        return fold.plus(mark, [Seen(reasons=(e.reason,))] * len(fold.shares))
    header = parsed.header
    named = select.by_name(header)
    first = header if fold.header is None else min(fold.header, header, key=select.place)
    seen: list[Seen[Any]]
    if named:  # its pixels say no more
        seen = [Seen(reasons=(select.of_image(named, header),))] * len(fold.shares)
    else:
        seen = _seen(fold.shares, parsed, memory_bytes)
    fold = replace(fold, header=first).plus(header_digest(header), seen, header)
    return fold.fitted(memory_bytes)


def leave_out(fold: Fold, mark: Mark, reason: Reason) -> Fold:
    """An instance that nobody opened, and why: it counts as one that cannot be read."""
    return fold.plus(mark, [Seen(reasons=(reason,))] * len(fold.shares))


def _seen(shares: Sequence[Share], parsed: Parsed, memory_bytes: int | None) -> list[Seen[Any]]:
    """What each share has of an instance; it is decoded once for all that read it alike."""
    found: dict[str | None, Seen[Any]] = {
        share.key: Seen(reasons=_contrary(share, parsed.header)) for share in shares
    }
    asked = [share for share in shares if not (share.too_large or found[share.key].reasons)]
    for reading in dict.fromkeys(share.reading for share in asked):
        alike = [share for share in asked if share.reading is reading]
        images = reading.images(parsed, [s.manifest for s in alike], memory_bytes)
        found |= zip((share.key for share in alike), images, strict=True)
    return [found[share.key] for share in shares]


def _contrary(share: Share, header: Header) -> tuple[Reason, ...]:
    """Why this image is not meant for the bundle that another image of its series chose."""
    if share.manifest is None or share.too_large:
        return ()
    where = "image" if header.instance_number is None else f"image {header.instance_number}"
    return tuple(
        reason.model_copy(update={"text": f"{where}: {reason.text}", "where": where})
        for reason in match.accepts(share.manifest, header)
        if reason.code in _OF_IMAGES
    )


def finish(
    fold: Fold, bundle: Bundle | None, backend: Backend | None, context: Context = NO_CONTEXT
) -> Result:
    """What is said for one of the fold's bundles: put in order, inferred and interpreted, or why
    not. None for bundle and backend: no bundle accepts it."""
    share = fold.share(bundle)
    outline = share.outline
    refused = select.first_causes((*context.reasons, *outline.reasons))
    if [r.code for r in outline.reasons] == [Code.PHANTOM_QA] and Code.RECALLED not in {
        r.code for r in context.reasons
    }:
        refused = outline.reasons  # it is no exam: that no bundle is meant for it says nothing
    if refused or outline.subject is None or bundle is None or backend is None:
        return _not_analysed(fold, share, refused or _no_bundle(), outline)
    analysis = kinds.of(bundle.manifest).analyse(
        outline.subject, bundle.manifest, backend, Budget(fold.held, context.memory_bytes), context
    )
    if analysis.too_wide:
        let_go = share.let_go(analysis.too_wide)
        of_all = replace(outline, foreign=frozenset())
        return _not_analysed(fold, let_go, let_go.outline.reasons, of_all)
    if analysis.reasons:
        return _not_analysed(fold, share, analysis.reasons, outline)
    return Result(
        status=Status.ANALYSED,
        facts=_facts(fold, share, outline, analysis.coverage),
        input_digest=share.digest,
        limitations=(
            *context.limitations,
            *outline.limitations,
            *analysis.limitations,
        ),
        bundle=bundle.ref,
        backend=backend.ref,
        findings=analysis.findings,
        masks=analysis.masks,
        maps=analysis.maps,
        room=analysis.room,
        quality=analysis.quality,
        notice=bundle.manifest.notice,
        scores=analysis.scores,
        tuning=analysis.tuning,
        water=analysis.water,
    )


def process(
    instances: Iterable[bytes],
    bundle: Bundle | None,
    backend: Backend | None,
    memory_bytes: int | None = None,
    tunings: tuple[Tuning, ...] = (),
) -> Result:
    """The same fold over a whole series, for one bundle."""
    fold = begin(() if bundle is None else (bundle,))
    for instance in instances:
        fold = add(fold, instance, memory_bytes)
    return finish(fold, bundle, backend, Context(memory_bytes=memory_bytes, tunings=tunings))


def renewed(result: Result, fold: Fold, bundle: Bundle | None) -> Result:
    """The result of these very images, with what was set aside beside them since."""
    passing = {Code.SET_ASIDE_IMAGES, Code.GAP_FILLED}
    now = [r for r in fold.share(bundle).outline.limitations if r.code in passing]
    kept = [r for r in result.limitations if r.code not in passing or r in now]
    first = [r for r in now if r not in kept]
    return replace(result, limitations=(*first, *kept))


def failed(fold: Fold, bundle: Bundle | None, reason: Reason) -> Result:
    """What is said of a series that breaks the analysis: its facts and that it failed.

    Its digest is not that of an analysis: a later try that succeeds is a report of its own name."""
    result = _not_analysed(fold, fold.share(bundle), (reason,), Outline(), quality=())
    digest = input_digest([("failed", result.input_digest)])
    return replace(result, status=Status.FAILED, input_digest=digest)


def seal(result: Result, identity: Identity, times: Times) -> Report:
    """Result and what only the outside knows -> Report: ids, pseudonym, revision, times.

    A report that is known under another id (`Identity.before`) keeps it, and its tracking UIDs."""
    facts = result.facts
    naming, before = identity.naming, identity.before
    key = SeriesKey(facts.study_uid, facts.series_uid)
    bundle_digest = result.bundle.digest if result.bundle else None
    uid = before.report_id if before else naming.report(key, bundle_digest, result.input_digest)
    tracked = {finding.id: finding.tracking_uid for finding in before.findings} if before else {}
    return Report(
        notice=result.notice,
        appliance=identity.appliance,
        report_id=uid,
        input_digest=result.input_digest,
        revision=identity.revision,
        supersedes=identity.supersedes,
        status=result.status,
        stage=Stage.PRELIMINARY if identity.preliminary else Stage.FINAL,
        reasons=result.reasons,
        limitations=result.limitations,
        coverage=facts.coverage,
        study=StudyRef(pseudonym=naming.study(facts.study_uid)),
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
        tuning=result.tuning,
        findings=tuple(
            finding.model_copy(
                update={
                    "tracking_uid": tracked.get(finding.id) or naming.tracking(uid, finding.id),
                    "key_sop_instance_uid": finding.key_sop_instance_uid
                    if identity.publish_uids
                    else None,
                }
            )
            for finding in result.findings
        ),
        times=times,
    )


def _no_bundle() -> tuple[Reason, ...]:
    return (Reason(code=Code.NO_BUNDLE, text="No installed bundle analyses this examination."),)


def _not_analysed(
    fold: Fold,
    share: Share,
    reasons: tuple[Reason, ...],
    outline: Outline[Any],
    quality: tuple[VolumeQuality | RadiographQuality, ...] | None = None,
) -> Result:
    """quality: None where it is still to be taken of the images."""
    return Result(
        status=Status.NOT_ANALYSED,
        facts=_facts(fold, share, outline, Coverage()),
        input_digest=input_digest(share.input(outline)),
        reasons=reasons,
        quality=share.reading.measured(share.images) if quality is None else quality,
        bundle=share.bundle.ref if share.bundle else None,
        notice=share.bundle.manifest.notice if share.bundle else NOTICE,
    )


def _facts(fold: Fold, share: Share, outline: Outline[Any], coverage: Coverage) -> Facts:
    header, extent = fold.header_of(share, outline), outline.extent
    if extent is not None and coverage.z_mm is None:
        coverage = coverage.model_copy(update={"z_mm": extent.z_mm})
    return Facts(
        study_uid=header.study_uid if header else "",
        series_uid=header.series_uid if header else "",
        modality=header.modality if header and header.modality in match.MODALITIES else None,
        slices=share.count(outline),
        spacing_mm=extent.spacing_mm if extent else None,
        thickness_mm=header.thickness_mm if header else None,
        kernel=kernel.published(header.kernel) if header else None,
        coverage=coverage,
        images=outline.images,
        scanner=scanner.tags(header),
    )
