"""Checks of what analyses images: the backend, the GPU, the active bundles and their memory."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING

from appliance.errors import BackendUnavailable, ScansideError
from appliance.verbs.checks.check import Check, Device, importable

if TYPE_CHECKING:
    from appliance.bundle.shelf import Shelf

BUILDS = (
    "Start `scanside work`: it builds engines. As a service it sees a GPU with systemd/gpu alone: "
    "docs/compile.md."
)


def backend(device: Device) -> Check:
    """The inference backend that the settings ask for can be imported."""
    from appliance.backend.choose import LIBRARIES, choose  # noqa: PLC0415

    there = {name: _version(name) for name in LIBRARIES if importable(name)}
    text = ", ".join(f"{name} {version}" for name, version in there.items()) or "none is installed"
    try:
        chosen = choose(device.settings.work.backend, there.__contains__)
    except BackendUnavailable as e:
        remedy = f"{e.remedy} ({device.setting('work', 'backend')})"
        return Check(name="backend", ok=False, text=f"{e.text}; {text}", remedy=remedy)
    return Check(name="backend", ok=True, text=f"{text}; {chosen} is used")


def gpu(device: Device) -> Check:
    """Where there is a GPU, an engine of each active bundle is ready, or is being built."""
    preference = device.settings.work.backend
    if preference not in ("auto", "gpu"):
        return Check(name="gpu", ok=True, text=f"not asked for: {preference} is set")
    try:
        from appliance.runtime.engine_shelf import EngineShelf  # noqa: PLC0415
        from appliance.runtime.gpu import this_machine  # noqa: PLC0415
    except ImportError:  # `bundles` says so
        return Check(name="gpu", ok=True, text="not known without a shelf")
    try:
        machine = this_machine()
        shelf = _shelf(device)
        every = [shelf.load(entry) for entry in shelf.active()]
        active = [one for one in every if one.manifest.line.takes_images and one.networks]
    except ScansideError as e:
        ok = e.code == "no_gpu" and preference == "auto"
        return Check(name="gpu", ok=ok, text=f"{e.text}: the CPU serves", remedy=e.remedy)
    texts, remedies = [], []
    for loaded in active:
        engines = EngineShelf(device.settings.state, loaded.ref)
        failure = engines.failed(machine.here)
        try:
            engines.serving(loaded, machine.here)
            texts.append(f"{loaded.ref.name}: its engine is ready")
        except ScansideError as e:
            why = e if failure is None else failure
            texts.append(f"{loaded.ref.name}: {why.text} [{why.code}]; the CPU serves")
            remedies.append(why.remedy if failure else BUILDS)
        else:
            if failure is not None:
                texts[-1] += f"; a newer one failed: {failure.text} [{failure.code}]"
                remedies.append(failure.remedy)
    remedy = " ".join(dict.fromkeys(remedies))
    return Check(name="gpu", ok=not remedies, text="; ".join(texts) or "no bundle", remedy=remedy)


def bundles(device: Device) -> Check:
    """Every active bundle is whole and explained by the audit, as it lies on the disk now, and its
    golden cases did not fail here: a new device has run none yet."""
    try:
        from appliance.bundle.shelf import Shelf  # noqa: F401, PLC0415
    except ImportError as e:
        return Check(
            name="bundles",
            ok=False,
            text=f"the shelf cannot be loaded: {e}",
            remedy="Install the appliance again: pip install --force-reinstall scanside.",
        )
    try:
        shelf = _shelf(device)
        active, wrong = shelf.active(), list(shelf.problems())
    except ScansideError as e:
        return Check(name="bundles", ok=False, text=e.text, remedy=e.remedy)
    if not active:
        remedy = "`scanside bundle add FILE`, then `scanside bundle activate NAME VERSION`."
        return Check(name="bundles", ok=False, text="no bundle is active", remedy=remedy)
    for entry in active:
        try:
            shelf.load(entry)
        except ScansideError as e:
            if e.text not in wrong:
                wrong.append(f"{entry.name} {entry.version}: {e.text} [{e.code}]")
    text = ", ".join(f"{b.name} {b.version} (golden cases: {b.gate})" for b in active)
    if wrong:
        remedy = "Keep the state folder for the fleet team, and add the bundle again; "
        remedy += "`scanside bundle list` shows what else is here. Until then `work` uses another "
        remedy += "bundle of the same name, or none, and its reports say so."
        text = "; ".join(wrong)
        return Check(name="bundles", ok=False, text=text, remedy=remedy)
    if any(b.gate == "failed" for b in active):
        remedy = device.setting("work", "backend")
        remedy += ": choose another one, or `scanside bundle rollback`."
        return Check(name="bundles", ok=False, text=text, remedy=remedy)
    if any(b.gate == "not run" for b in active):
        text += "; `work` runs them when it starts, before it analyses anything"
    return Check(name="bundles", ok=True, text=text)


def _shelf(device: Device) -> Shelf:
    from appliance.bundle.shelf import Shelf  # noqa: PLC0415

    settings = device.settings
    return Shelf(settings.state, allow_unsigned=settings.bundles.allow_unsigned)


def site_key(device: Device) -> Check:
    """The key that makes pseudonyms is the one that the audit knows."""
    from appliance.verbs import site_key as verb  # noqa: PLC0415

    try:
        text = verb.show(device.settings)
    except ScansideError as e:
        return Check(name="site key", ok=False, text=e.text, remedy=e.remedy)
    return Check(name="site key", ok=True, text=text)


def memory(device: Device) -> Check:
    """There is memory to open the active bundles and to analyse a usual chest CT with each."""
    from appliance.host import memory as machine_memory  # noqa: PLC0415

    there = machine_memory.available()
    need = machine_memory.RESERVE
    try:
        from appliance.lines import kinds  # noqa: PLC0415

        if there is None:
            text = "this machine does not say how much there is"
            return Check(name="memory", ok=True, text=text)
        shelf = _shelf(device)
        for loaded in map(shelf.load, shelf.active()):
            if not loaded.manifest.line.takes_images:
                continue
            need += machine_memory.opening(sum(map(len, loaded.networks.values())))
            need += kinds.of(loaded.manifest).usual_bytes(loaded.manifest)
    except ImportError:  # `bundles` says so
        return Check(name="memory", ok=True, text="not known without a shelf")
    except ScansideError as e:
        return Check(name="memory", ok=False, text=e.text, remedy=e.remedy)
    text = f"{there >> 20} MB available, a chest CT of 400 images needs {need >> 20} MB"
    if there < need:
        remedy = "Give this machine more memory, or scanside-work@.service a higher MemoryMax=."
        return Check(name="memory", ok=False, text=text, remedy=remedy)
    return Check(name="memory", ok=True, text=text)


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"
