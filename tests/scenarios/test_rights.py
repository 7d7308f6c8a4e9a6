"""Who may read what the stages write: their own user alone, wherever the state folder was made."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from rigs import site as sites
from rigs.bundles import Bundles
from rigs.scans import Scans

PUBLIC = "trust"
"""Public keys, which a person puts there."""


def test_in_a_state_folder_that_all_may_read_no_file_is_for_others(
    tmp_path: Path, bundles: Bundles, scans: Scans
) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o755)
    state.chmod(0o755)
    before = os.umask(0o022)  # as a person has it; no unit of systemd sets another one here
    try:
        with sites.running(tmp_path, bundles.usual) as site:
            assert site.send(scans.make()) == 0
            with site.journal() as journal:
                site.until(lambda: journal.reports.recent(1), "report in the journal")
            site.settled()
            site.scanside("outbox", "list")
            open_to_others = {
                str(path.relative_to(state)): oct(stat.S_IMODE(path.lstat().st_mode))
                for path in state.rglob("*")
                if path.relative_to(state).parts[0] != PUBLIC
                and not path.is_symlink()
                and stat.S_IMODE(path.lstat().st_mode) & 0o077
            }
            names = {path.relative_to(state).parts[0] for path in state.rglob("*")}
    finally:
        os.umask(before)
    assert open_to_others == {}
    assert {"bundles", "reports", "run", "site.key", "spool"} <= names
