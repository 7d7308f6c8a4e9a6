"""GET /metrics: what a monitoring system may ask for (Prometheus text format 0.0.4).

Rules
- Only with the token of [web] metrics_token_file (Bearer, RFC 6750 2.1); without that setting there
  is no such page (404). No login opens it, and it opens nothing else.
- No study, no patient, no report: counts, ages and times, by destination, stage and scanner.
- Everything is read when it is asked for, and nothing is counted meanwhile: no stage knows of it.
  What is unknown has no sample.
- Times are those of the newest reports (`health.TIMED` rows), as quantiles by scanner.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from appliance.store.rows import Timing
from appliance.web.health import TIMED, look
from appliance.web.site import Route, Site, site
from appliance.web.views import ledger
from appliance.web.views.health import Looked

_BEARER = "Bearer "


def metrics(request: Request) -> Response:
    """The page."""
    here = site(request)
    token = _token(here)
    if not token:
        raise HTTPException(404)
    shown = request.headers.get("authorization", "")
    if not hmac.compare_digest(shown.encode(), f"{_BEARER}{token}".encode()):
        return PlainTextResponse(
            "The token of [web] metrics_token_file opens this page.\n",
            401,
            {"www-authenticate": "Bearer"},
        )
    with here.reading() as journal:
        seen = look(here.settings, journal, here.clock())
        timings = journal.timings.here(TIMED) if journal is not None else []
    registry = CollectorRegistry()
    registry.register(_Seen(seen, timings))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)


def _token(here: Site) -> str:
    """The first line of the file; empty where none is named, or it cannot be read."""
    file = here.settings.web.metrics_token_file
    if file is None:
        return ""
    try:
        return file.read_text(encoding="ascii").partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError):
        return ""


class _Seen(Collector):
    """One look, as metrics."""

    def __init__(self, seen: Looked, timings: list[Timing]) -> None:
        self._seen, self._timings = seen, timings

    def collect(self) -> Iterator[Metric]:
        yield from self._stages()
        yield from self._queues()
        yield from self._machine()
        yield from self._times()

    def _stages(self) -> Iterator[Metric]:
        up = GaugeMetricFamily(
            "scanside_stage_up", "1: the stage runs and makes progress", labels=["stage", "state"]
        )
        for name, one in self._seen.stages.items():
            up.add_metric([name, one.state.value], float(not one.ill))
        yield up

    def _queues(self) -> Iterator[Metric]:
        owed = GaugeMetricFamily(
            "scanside_owed", "What is owed to a destination", labels=["destination", "state"]
        )
        age = GaugeMetricFamily(
            "scanside_owed_oldest_seconds", "Age of the oldest that waits", labels=["destination"]
        )
        for queue in self._seen.queues:
            owed.add_metric([queue.destination, "waiting"], queue.waiting)
            owed.add_metric([queue.destination, "dead"], queue.dead)
            if queue.oldest_waiting is not None:
                age.add_metric([queue.destination], max(0.0, self._seen.now - queue.oldest_waiting))
        yield owed
        yield age
        if self._seen.last_told is not None:
            yield GaugeMetricFamily(
                "scanside_last_message_timestamp_seconds",
                "When the broker took a message last",
                self._seen.last_told,
            )

    def _machine(self) -> Iterator[Metric]:
        facts = self._seen.facts
        for name, text, value in (
            ("scanside_disk_free_bytes", "Free for the state folder", facts.disk_free_mb),
            ("scanside_memory_available_bytes", "MemAvailable", facts.memory_available_mb),
        ):
            if value is not None:
                yield GaugeMetricFamily(name, text, value * 1e6)
        if self._seen.temperature_c is not None:
            text = "The hottest thermal zone"
            yield GaugeMetricFamily("scanside_temperature_celsius", text, self._seen.temperature_c)
        last = GaugeMetricFamily(
            "scanside_scanner_last_image_timestamp_seconds",
            "When a scanner sent an image last",
            labels=["scanner"],
        )
        for sender in self._seen.senders:
            last.add_metric([sender.calling_ae], sender.last_at)
        yield last

    def _times(self) -> Iterator[Metric]:
        took = GaugeMetricFamily(
            "scanside_time_to_finding_seconds",
            "Last slice to: first and final report committed, the broker's PUBACK for the first, "
            "waiting for more slices, own work",
            labels=["scanner", "what", "quantile"],
        )
        number = GaugeMetricFamily(
            "scanside_time_to_finding_reports",
            "Reports that the quantiles are of",
            labels=["scanner"],
        )
        for one in ledger.by_scanner(self._timings):
            for what in ("first", "first_told", "quiet", "own", "final"):
                spread: ledger.Spread | None = getattr(one, what)
                if spread is not None:
                    took.add_metric([one.scanner, what, "0.5"], spread.p50)
                    took.add_metric([one.scanner, what, "0.95"], spread.p95)
            number.add_metric([one.scanner], one.final.number if one.final else 0)
        yield took
        yield number


ROUTES = (Route("GET", "/metrics", metrics, None),)
