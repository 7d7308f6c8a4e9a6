"""`work` and the child that composes: it runs beside the work, again after a fault, and never
without an order."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.store.lock import alone
from appliance.work import child
from appliance.work.child import Child
from appliance.work.composing import composing
from rigs import oblique
from rigs.composing import FOUND, Site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path, {"name": "pacs", "profile": ["sr"]})
    with made.journal:
        yield made


def until(kept: Child, done: object) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end and not done():  # type: ignore[operator]
        kept.turn()
        time.sleep(0.05)
    assert done()  # type: ignore[operator]


def composed(site: Site) -> bool:
    return all(row.file is not None for row in site.rows())


def test_a_report_is_composed_without_anybody_waiting_for_it(site: Site) -> None:
    kept = composing(site.settings, site.journal)
    kept.turn()
    assert kept.pid is None, "nothing is ordered"
    site.commit(site.store(oblique.series(oblique.POSES["axial"])), FOUND)
    kept.ask()
    kept.turn()
    assert kept.pid is not None
    assert not composed(site)
    until(kept, lambda: composed(site) and kept.pid is None)


def test_a_child_that_is_killed_is_started_again_later(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "SHORTEST_S", 0.1)
    site.commit(site.store(oblique.series(oblique.POSES["axial"])), FOUND)
    kept = composing(site.settings, site.journal)
    kept.turn()
    assert kept.pid is not None
    first = kept.pid
    os.kill(first, signal.SIGKILL)
    until(kept, lambda: kept.pid not in (None, first))
    until(kept, lambda: composed(site) and kept.pid is None)


def test_a_state_folder_that_does_not_let_it_costs_a_pause_and_no_object(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "SHORTEST_S", 0.1)
    site.commit(site.store(oblique.series(oblique.POSES["axial"])), FOUND)
    kept = composing(site.settings, site.journal)
    with alone(site.settings.state, "compose"):
        kept.turn()
        until(kept, lambda: kept.failures == 1)
    assert [row.attempts for row in site.rows()] == [0]
    until(kept, lambda: composed(site))
    kept.stop()


def test_it_ends_with_its_parent(site: Site) -> None:
    site.commit(site.store(oblique.series(oblique.POSES["axial"])), FOUND)
    kept = composing(site.settings, site.journal)
    kept.turn()
    kept.stop()
    assert kept.pid is None
    assert len(site.rows()) == 1


def test_what_is_ordered_for_an_archive_that_has_another_name_now_is_composed_and_holds_no_image(
    site: Site,
) -> None:
    key = site.store(oblique.series(oblique.POSES["axial"]))
    site.commit(key, FOUND)
    renamed = site.settings.model_copy(update={"deliver": ()})
    kept = composing(renamed, site.journal)
    kept.turn()
    until(kept, lambda: composed(site) and kept.pid is None)
    (one,) = [kept for kept in site.journal.kept() if kept.series.key == key]
    assert one.owed == len(site.rows("mqtt")), "the broker's messages alone"


def test_without_an_archive_there_is_no_child(tmp_path: Path) -> None:
    bare = Site(tmp_path)
    with bare.journal:
        bare.commit(bare.store(oblique.series(oblique.POSES["axial"])), FOUND)
        kept = composing(bare.settings, bare.journal)
        kept.ask()
        kept.turn()
        assert kept.pid is None
