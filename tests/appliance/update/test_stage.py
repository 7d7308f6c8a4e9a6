"""The stage `update` as a process of its own: it asks when it is told to, and ends on SIGTERM."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from appliance.errors import StateUnusable
from appliance.settings import Settings
from appliance.store.files import DISK
from appliance.update import facts
from appliance.update.facts import Told
from appliance.update.plan import Facts, Named
from appliance.update.stage import FIRST_ROOT, due_in_s, first_root, lag_s, main
from rigs.releasing import Simulated
from rigs.serving import lay, served


def until(what: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


@contextmanager
def serving(config: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The stage as `scanside update` starts it without a verb below."""
    command = (
        "import sys; from pathlib import Path; from appliance.settings import load;"
        "from appliance.update.stage import main; sys.exit(main(load(Path(sys.argv[1]))))"
    )
    process = subprocess.Popen([sys.executable, "-c", command, str(config)], env=os.environ)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_devices_ask_at_moments_of_their_own_and_always_at_the_same(tmp_path: Path) -> None:
    lags = [lag_s("north", f"box-{n}", 3600.0) for n in range(200)]
    assert len({int(lag / 360) for lag in lags}) == 10
    assert lag_s("north", "box-1", 3600.0) == lags[1]
    assert due_in_s(100.0, 250.0, 300.0) == 150.0
    assert due_in_s(280.0, 250.0, 300.0) == 270.0


def test_it_looks_when_it_is_asked_once_more_and_ends_on_sigterm(tmp_path: Path) -> None:
    repo = Simulated.begun()
    repo.ship()
    trusted, downloads = tmp_path / "trusted", tmp_path / "downloads"
    trusted.mkdir()
    (trusted / FIRST_ROOT).write_bytes(repo.files["metadata/1.root.json"])
    here = Facts(
        at=repo.now,
        channel="stable",
        site="north",
        kind="x86-64",
        python="3.11",
        appliance=Named(name="scanside", version="0.1.0", digest="a" * 64),
        slot=1,
        by_hand=True,
        free_mb=1000.0,
        in_window=True,
        idle=True,
        between_series=True,
    )
    told = Told(built=repo.now - timedelta(days=1), facts=here)
    with served(lay(tmp_path / "web", repo.files)) as server:
        config = tmp_path / "scanside.toml"
        config.write_text(
            f'state = "{tmp_path}/state"\n[retain]\nreserve_mb = 0\n[update]\nroot = "{tmp_path}"\n'
            f'trusted = "{trusted}"\ndownloads = "{downloads}"\n'
        )
        facts.tell(DISK, trusted, told)
        with serving(config) as process:
            until((downloads / "run" / "update.beat").exists)
            assert facts.offered(downloads) is None, "without a url nothing is asked of anybody"
            assert not server.asked
            facts.tell(DISK, trusted, told.model_copy(update={"asked": 1, "url": server.url}))
            until(lambda: (f := facts.offered(downloads)) and f.asked == 1)
            found = facts.offered(downloads)
            assert found is not None
            assert found.release == "stable/1.json", found
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0


def test_without_a_root_or_without_trust_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StateUnusable) as refused:
        main(Settings(state=tmp_path))
    assert refused.value.code == "update_no_root"
    said = {"state": tmp_path, "update": {"root": tmp_path, "trusted": tmp_path / "none"}}
    with pytest.raises(StateUnusable) as refused:
        first_root(Settings.model_validate(said))
    assert refused.value.code == "update_no_trust"
