"""The broker is away for long, or comes and goes: everything arrives, in order, none twice.

The journal is filled by the transaction that `work` uses, `scanside publish` is a process of its
own, the broker is mosquitto and the consumer mosquitto_sub with a lasting session.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.store.bell import ring
from appliance.store.events import BrokerAway, BrokerConnected
from faults.broker import Outage, outage, pss_mb, until

WINDOW = 20
"""Unacknowledged at a time: so many may come twice for each connection that broke."""
GROWTH_MB = 24
"""What the stage may grow by, whatever is owed; 30,000 messages alone are 60 MB."""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Outage]:
    with outage(tmp_path) as made:
        yield made


def _say(counts: str) -> None:
    """For who runs this with -s."""
    print(counts)  # noqa: T201 - the counts are what this is run for


def _away_for(site: Outage, reports: int, hang_s: float) -> None:
    site.broker.start()
    with site.subscriber():
        site.broker.stop()
        site.commit(0, reports)
        owed = site.committed()
        assert len(owed) == site.waiting() == 3 * reports
        with site.publish() as stage:
            until(lambda: site.journal.events.of(BrokerAway), hang_s)
            sizes = [pss_mb(stage.pid)]
            site.broker.start()
            until(lambda: sizes.append(pss_mb(stage.pid)) or site.waiting() == 0, hang_s)
            grown = max(sizes) - sizes[0]
        until(lambda: len(site.arrived()) >= len(owed), hang_s)
        assert site.arrived() == owed  # no connection broke, so nothing came twice
    counts = site.journal.owed.counts("mqtt")
    assert (counts.delivered, counts.dead) == (len(owed), 0)
    _say(f"{reports} reports, {len(owed)} messages heard in order, publish {grown:.1f} MB larger")
    assert grown < GROWTH_MB


def test_after_1_000_reports_without_a_broker_all_come_in_order_and_none_twice(
    site: Outage,
) -> None:
    _away_for(site, 1000, 60)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_after_10_000_reports_without_a_broker_all_come_in_order_and_none_twice(
    site: Outage,
) -> None:
    _away_for(site, 10_000, 600)


def _restarting(site: Outage, restarts: int, hang_s: float) -> None:
    """The broker ends and starts again each second; it keeps what it acknowledged."""
    site.broker.start()
    site.commit(0, 500)
    with site.subscriber(), site.publish():
        for n in range(restarts):
            site.commit(500 + 20 * n, 20)
            ring(site.settings.state, "publish")
            time.sleep(0.9)
            site.broker.stop()
            site.broker.start()
        until(lambda: site.waiting() == 0, hang_s)
        until(lambda: len(set(site.arrived())) >= len(site.committed()), hang_s)
    owed, arrived = site.committed(), site.arrived()
    assert len(owed) == 3 * (500 + 20 * restarts)
    assert list(dict.fromkeys(arrived)) == owed
    connections = len(site.journal.events.of(BrokerConnected, 10_000))
    twice = len(arrived) - len(owed)
    _say(f"{restarts} restarts, {connections} connections, {len(owed)} messages, {twice} twice")
    assert connections > 1
    # from us to the broker, and from the broker to its consumer
    assert twice <= WINDOW * (connections + restarts)


def test_with_a_broker_that_restarts_every_second_all_come_in_order(site: Outage) -> None:
    _restarting(site, 10, 60)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_with_60_restarts_of_the_broker_all_come_in_order(site: Outage) -> None:
    _restarting(site, 60, 300)
