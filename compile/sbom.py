"""The parts list of a release: CycloneDX JSON (ECMA-424) of libraries, bundles and kernels.

    python -m compile sbom [BUNDLE ...] [--extras openvino,engine] [--kernels FATBIN] -o sbom.json

Rules.
1. Libraries are those installed here that the wheel needs, with the extras named: its requirements
   and theirs, as their metadata say. One that is needed and not installed is an error, because a
   list with a hole is worse than none.
2. A bundle is one part of type machine-learning-model, named by its digest, with its data sets'
   licences as evidence of what went in, and that of the shapes that it carries; a fatbin is one
   of type file.
3. The same parts and date give the same bytes: sorted, and the serial number is a UUIDv5 of the
   content. The date is $SOURCE_DATE_EPOCH (seconds since 1970) where it is set, else now.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import License
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from appliance.bundle.manifest import Manifest
from appliance.bundle.trust import Loaded
from appliance.errors import BundleRefused
from appliance.report import NAMESPACE

WHEEL = "scanside"


def needed(extras: Sequence[str] = ()) -> list[importlib.metadata.Distribution]:
    """Every distribution that the wheel needs here, by name (rule 1)."""
    asked = Requirement(f"{WHEEL}[{','.join(sorted(extras))}]")
    return [one for one in closure([asked]) if canonicalize_name(one.metadata["Name"]) != WHEEL]


def closure(asked: Iterable[Requirement]) -> list[importlib.metadata.Distribution]:
    """Every distribution that is asked for here, and every one that these need, by name."""
    found: dict[str, importlib.metadata.Distribution] = {}
    left = [_part(requirement) for requirement in asked if _applies(requirement, ())]
    done: set[tuple[str, tuple[str, ...]]] = set()
    while left:
        name, wanted = left.pop()
        if (name, wanted) in done:
            continue
        done.add((name, wanted))
        found[name] = _installed(name)
        for text in found[name].requires or ():
            requirement = Requirement(text)
            if _applies(requirement, wanted):
                left.append(_part(requirement))
    return [found[name] for name in sorted(found)]


def _part(requirement: Requirement) -> tuple[str, tuple[str, ...]]:
    return canonicalize_name(requirement.name), tuple(sorted(requirement.extras))


def sbom(
    when: datetime,
    bundles: Iterable[Loaded] = (),
    *,
    extras: Sequence[str] = (),
    kernels: bytes | None = None,
) -> str:
    """The list as CycloneDX 1.6 JSON, of the date `when`. BundleRefused (`sbom_missing`) names a
    library that is needed and not installed."""
    wheel = Component(
        name=WHEEL,
        version=importlib.metadata.version(WHEEL),
        type=ComponentType.APPLICATION,
        bom_ref=WHEEL,
        licenses=_licenses(_installed(WHEEL)),
    )
    parts = [_library(one) for one in needed(extras)]
    parts += [_bundle(one) for one in bundles]
    if kernels is not None:
        parts.append(_file("kernels.fatbin", kernels))
    content = "\n".join([f"{wheel.name} {wheel.version}", *sorted(str(p.bom_ref) for p in parts)])
    bom = Bom(
        components=parts,
        serial_number=uuid.uuid5(NAMESPACE, content),
        metadata=BomMetaData(component=wheel, timestamp=when),
    )
    bom.register_dependency(wheel, parts)
    writer = make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6)
    return writer.output_as_string(indent=1) + "\n"


def _library(found: importlib.metadata.Distribution) -> Component:
    name, version = canonicalize_name(found.metadata["Name"]), found.version
    purl = PackageURL("pypi", name=name, version=version)
    return Component(
        name=name,
        version=version,
        type=ComponentType.LIBRARY,
        purl=purl,
        bom_ref=purl.to_string(),
        licenses=_licenses(found),
    )


def _bundle(loaded: Loaded) -> Component:
    manifest = loaded.manifest
    return Component(
        name=manifest.name,
        version=manifest.version,
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=f"bundle:{loaded.digest}",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=loaded.digest)],
        description=manifest.title,
        licenses=[LicenseFactory().make_from_string(manifest.licence)],
        properties=[
            Property(name=f"scanside:data:{name}", value=f"{licence} {digest}")
            for name, licence, digest in _data(manifest)
        ],
    )


def _data(manifest: Manifest) -> list[tuple[str, str, str]]:
    """Name, licence and digest of what taught a bundle, and of the shapes that it carries."""
    data = [(one.name, one.licence, one.digest) for one in manifest.provenance.sources]
    given = manifest.shapes
    return data if given is None else [*data, (given.source, given.licence, given.digest)]


def _file(name: str, data: bytes) -> Component:
    digest = hashlib.sha256(data).hexdigest()
    return Component(
        name=name,
        type=ComponentType.FILE,
        bom_ref=f"file:{digest}",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest)],
    )


def _licenses(found: importlib.metadata.Distribution) -> list[License]:
    """What the metadata says: the SPDX expression, else the classifiers, else nothing (a free text
    `License` field is often the whole licence)."""
    wheel_metadata = found.metadata
    for expression in wheel_metadata.get_all("License-Expression") or ():
        return [LicenseFactory().make_from_string(expression)]
    last = [
        c.split(" :: ")[-1] for c in wheel_metadata.get_all("Classifier") or () if "License ::" in c
    ]
    return [LicenseFactory().make_with_name(name) for name in sorted(set(last))]


def _applies(requirement: Requirement, extras: Sequence[str]) -> bool:
    """Whether a requirement holds on this machine, with one of the extras or without any."""
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras))


def _installed(name: str) -> importlib.metadata.Distribution:
    try:
        return importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError as e:
        raise BundleRefused(
            f"{name} is needed and not installed here",
            remedy="Write the list where the release is installed, with the extras it names.",
            code="sbom_missing",
        ) from e


def date() -> datetime:
    """Of the list (rule 3); BundleRefused (`sbom_date`) where the variable is no number."""
    text = os.environ.get("SOURCE_DATE_EPOCH")
    if text is None:
        return datetime.now(timezone.utc)
    try:
        return datetime.fromtimestamp(int(text), timezone.utc)
    except (ValueError, OverflowError, OSError) as e:
        raise BundleRefused(
            f"SOURCE_DATE_EPOCH is {text[:40]!a}",
            remedy="Seconds since 1970, such as `git log -1 --format=%ct` prints them.",
            code="sbom_date",
        ) from e
