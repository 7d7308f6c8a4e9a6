"""GET /health: how the device does; POST /health/doctor; GET /ledger.csv: its times as a file.

Rules
- What a page of health costs is bounded: a look at locks and beats, some counts of the journal, the
  rows of the library of scanners, and the times of the newest TIMED reports.
- The ledger of times as a file has every report that is here and every one whose series is gone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from appliance.dicom import certificate
from appliance.host import facts
from appliance.results import destinations
from appliance.settings import Settings
from appliance.store import conditions, qa, updating
from appliance.store.events import (
    ArchiveAway,
    ArchiveReached,
    BrokerAway,
    BrokerConnected,
    BundlesRefused,
    Engine,
    Happened,
    Loaded,
)
from appliance.store.journal import Journal
from appliance.web import live, watching
from appliance.web.examined import Examiner, doctor
from appliance.web.site import EVERYBODY, Route, site
from appliance.web.views import health as views
from appliance.web.views import ledger, updates
from appliance.web.views.health import Certificate, Looked
from appliance.web.views.words import Words

TIMED = 500
"""Rows of reports: some hundred studies."""
EVERY = 1_000_000
_ENGINES, _AWAY = 20, 50
"""Events that are looked through."""


def health(request: Request) -> Response:
    """The page."""
    here = site(request)
    now = here.clock()
    with here.reading() as journal:
        seen = look(here.settings, journal, now)
        timed = journal.timings.here(TIMED) if journal is not None else []
        gone = journal.timings.gone() if journal is not None else []
        watch = watching.look(here.settings, journal, now)
        mark = live.mark(journal, live.HEALTH, here.settings) if journal is not None else ""
    values = {
        "sections": (*views.sections(seen), *updates.sections(updating.read(here.settings))),
        "times": ledger.by_scanner([*timed, *gone]),
        "watch": watch,
        "here": len(timed),
        "gone": len(gone),
        "examined": _examiner(request).last,
        "words": Words(now),
        "now": now,
        "seen": mark,
    }
    return here.render(request, "health.html", values)


def examine(request: Request) -> Response:
    """Ask the doctor, and go back to the page that will show what it says."""
    _examiner(request).ask()
    return RedirectResponse("/health#doctor", 303)


def times(request: Request) -> Response:
    """The ledger of times."""
    with site(request).reading() as journal:
        found = []
        if journal is not None:
            found = [*journal.timings.gone(), *journal.timings.here(EVERY)]
    name = 'attachment; filename="scanside-times.csv"'
    return Response(
        ledger.to_csv(found), media_type="text/csv", headers={"content-disposition": name}
    )


def look(settings: Settings, journal: Journal | None, now: float) -> Looked:
    """At the device, now."""
    loaded = journal.events.of(Loaded, 1) if journal else []
    refused = journal.events.of(BundlesRefused, 1) if journal else []
    return Looked(
        now=now,
        facts=facts.read(settings.state),
        temperature_c=facts.temperature_c(),
        release=facts.version(),
        reserve_mb=settings.retain.reserve_mb,
        target_free_mb=settings.retain.target_free_mb,
        stages=conditions.look(settings),
        destinations=[one.name for one in destinations.of(settings.deliver)],
        queues=journal.shown.queues() if journal else (),
        last_told=journal.shown.last_told() if journal else None,
        broker_away=_broker_away(journal) if journal else None,
        archives=_archives(journal, settings) if journal else {},
        bundles=loaded[0].event.bundles if loaded else None,
        refused=refused[0].event.text if refused else "",
        backend=loaded[0].event.backend if loaded else None,
        engines=_engines(journal) if journal else (),
        certificates=tuple(_certificates(settings)),
        senders=journal.shown.senders() if journal else (),
        phantoms=qa.every(settings.state),
        phantom_days=settings.qa.every_days,
    )


def _broker_away(journal: Journal) -> Happened[BrokerAway] | None:
    """Why the broker is not reached, where that is the last that was noted of it."""
    away, back = journal.events.of(BrokerAway, 1), journal.events.of(BrokerConnected, 1)
    if away and (not back or back[0].at < away[0].at):
        return away[0]
    return None


def _archives(
    journal: Journal, settings: Settings
) -> dict[str, Happened[ArchiveAway] | Happened[ArchiveReached]]:
    noted: list[Happened[ArchiveAway] | Happened[ArchiveReached]] = [
        *journal.events.of(ArchiveAway, _AWAY),
        *journal.events.of(ArchiveReached, _AWAY),
    ]
    wanted = {one.name for one in settings.deliver}
    return {
        one.event.subject: one
        for one in sorted(noted, key=lambda happened: happened.at)
        if one.event.subject in wanted
    }


def _engines(journal: Journal) -> tuple[Engine, ...]:
    """What was said last of each bundle."""
    found: dict[str, Engine] = {}
    for happened in journal.events.of(Engine, _ENGINES):
        found.setdefault(happened.event.bundle, happened.event)
    return tuple(found[name] for name in sorted(found))


def _certificates(settings: Settings) -> Iterator[Certificate]:
    """Our own certificates that the settings name."""
    named: list[tuple[str, Path | None]] = [
        ("[mqtt.tls] cert", settings.mqtt.tls.cert if settings.mqtt.tls else None),
        ("[dicom.tls] cert", settings.dicom.tls.cert if settings.dicom.tls else None),
        ("[web.tls] certificate", settings.web.tls.certificate if settings.web.tls else None),
        *(
            (f"[[deliver]] {one.name}: [deliver.tls] cert", one.tls.cert if one.tls else None)
            for one in settings.deliver
        ),
        *(
            (f"[[priors.query]] {one.name}: [priors.query.tls] cert", one.tls.cert)
            for one in settings.priors.query
            if one.tls is not None
        ),
    ]
    for used_for, path in named:
        if path is not None:
            pem = b""
            with suppress(OSError):
                pem = path.read_bytes()
            yield Certificate(used_for, certificate.ends(pem))


def _examiner(request: Request) -> Examiner:
    """The one of this process."""
    state = request.app.state
    if not hasattr(state, "examiner"):
        state.examiner = Examiner(doctor(sys.argv))
    found: Examiner = state.examiner
    return found


ROUTES = (
    Route("GET", "/health", health, EVERYBODY),
    Route("POST", "/health/doctor", examine, frozenset({"service"})),
    *watching.ROUTES,
    Route("GET", "/ledger.csv", times, frozenset({"radiologist", "service"}), slow=True),
)
