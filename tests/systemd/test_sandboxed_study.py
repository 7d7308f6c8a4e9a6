"""One study through a box whose units all run in the sandboxes of their own lines: from C-STORE to
MQTT and to the archive; and that it does not go through where a right on its way is missing."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from appliance.phantom.chest import chest
from appliance.report import Report, Stage, Status
from appliance.runtime.proof import Proof
from appliance.stages import STAGES
from appliance.store.journal import Journal
from rigs.archive import TITLE, Archive, serving
from rigs.boxed import STATE, Boxed, Service, box, unit_of
from rigs.peers import HANG_S, Broker, Subscriber, free_port, until
from rigs.programs import program
from rigs.releasing import Simulated
from rigs.sandbox import Line
from rigs.scans import Scan, Scans

pytestmark = pytest.mark.timeout(900)
WITHIN_S = 2 * HANG_S
UNITS = {row.name: row.unit.removeprefix("scanside-").removesuffix(".service") for row in STAGES}
SETTINGS = """
[mqtt]
port = {broker}
[work]
threads = 1
[web]
enabled = true
names = true
port = {page}
[[deliver]]
name = "pacs"
host = "127.0.0.1"
port = {archive}
called_ae = "{title}"
[[priors.query]]
name = "pacs"
address = "{title}@127.0.0.1:{archive}"
"""


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Scan:
    phantom = chest(spacing_mm=(2.5, 1.0, 1.0))
    return Scans(tmp_path_factory.mktemp("scans"), phantom, phantom).make()


@dataclass
class Clinic:
    """The box, and who stands around it."""

    box: Boxed
    heard: Subscriber
    archive: Archive
    page: int

    def serve(self, *stages: str, changed: dict[str, Line] | None = None) -> dict[str, Service]:
        """In the order of the table; `changed`: a stage gets this line instead of its own."""
        found = {}
        for name in (one.name for one in STAGES if one.name in stages):
            unit = unit_of(UNITS[name])
            if changed and name in changed:
                key = changed[name][0]
                unit = (unit.without(key) if unit.all(key) else unit).having(changed[name])
            found[name] = self.box.start(unit)
            found[name].wait_ready()
        return found

    def send(self, scan: Scan) -> int:
        """One association of storescu, which ends it at the first refusal; its exit status."""
        command = [program("storescu"), "-aec", "SCANSIDE", "+sd", "127.0.0.1"]
        return subprocess.run(
            [*command, str(self.box.port), str(scan.folder)],
            capture_output=True, timeout=WITHIN_S, check=False,
        ).returncode  # fmt: skip

    def events(self, name: str) -> list[dict[str, object]]:
        return [one for one in self.heard.payloads("/event") if one["event"] == name]

    def reports(self) -> list[Report]:
        """Those that are final, of the journal, as another process reads it."""
        reading = Journal.read(self.box.at(STATE))
        if reading is None:
            return []
        with closing(reading):
            return [one for one in reading.reports.recent(10) if one.stage is Stage.FINAL]


@contextmanager
def clinic(folder: Path) -> Iterator[Clinic]:
    """Nothing of the box serves yet."""
    broker = Broker(folder).start()
    heard = Subscriber(broker.port)
    page = free_port()
    try:
        with serving() as archive:
            ports = {"broker": broker.port, "page": page, "archive": archive.port, "title": TITLE}
            with box(SETTINGS.format(**ports)) as made:
                made.trust(Simulated.begun().files["metadata/1.root.json"])
                yield Clinic(made, heard, archive, page)
    finally:
        heard.close()
        broker.stop()


def proved(made: Boxed) -> list[str]:
    """What `prove` says of a bundle that comes with the appliance."""
    bundle = "/srv/checkout/appliance/factory/bundles/lung-nodule.scanside"
    asked = made.at("/var/lib/scanside-update/prove/1")
    asked.parent.mkdir()
    asked.write_text(f"BUNDLES={bundle}\n")
    (done,) = made.run(unit_of("prove@"))
    lines = made.at("/run/scanside-prove/1.json").read_text().splitlines()
    assert done.process.returncode == 0, (lines, done.said())
    return [Proof.model_validate_json(line).verdict for line in lines]


@pytest.mark.long
def test_a_study_goes_through_a_box_whose_units_all_run_in_their_sandboxes(
    tmp_path: Path, scan: Scan
) -> None:
    with clinic(tmp_path) as made:
        services = made.serve(*UNITS)
        assert made.send(scan) == 0
        until(lambda: made.events("analysed"), WITHIN_S)
        (event,) = made.events("analysed")
        report = Report.model_validate(event["report"])
        assert report.status is Status.ANALYSED
        assert report.findings
        assert report in made.reports()
        until(lambda: made.archive.came, WITHIN_S)
        assert proved(made.box) == ["proved"]
        for service in reversed(services.values()):
            assert service.stop() == 0, service.said()
        state = made.box.at(STATE)
        owners = {path.lstat().st_uid for path in (state, *state.rglob("*"))}
        assert owners == {made.box.tree.users["scanside"][0]}


@pytest.mark.long
def test_where_the_spool_is_hidden_from_receive_nothing_is_acknowledged(
    tmp_path: Path, scan: Scan
) -> None:
    with clinic(tmp_path) as made:
        line = ("InaccessiblePaths", f"-{STATE}/identities {STATE}/spool")
        services = made.serve("publish", "receive", changed={"receive": line})
        assert made.send(scan) != 0
        services["receive"].stop()
        assert not list(made.box.at(f"{STATE}/spool").iterdir())
        made.serve("receive")
        assert made.send(scan) == 0
        assert list(made.box.at(f"{STATE}/spool").iterdir())


@pytest.mark.long
def test_where_the_spool_is_hidden_from_work_it_does_not_serve(tmp_path: Path) -> None:
    with clinic(tmp_path) as made:
        line = ("InaccessiblePaths", f"{STATE}/spool")
        with pytest.raises(AssertionError, match="/spool: Permission denied"):
            made.serve("work", changed={"work": line})


@pytest.mark.long
def test_where_publish_has_no_network_the_report_waits_in_the_outbox(
    tmp_path: Path, scan: Scan
) -> None:
    with clinic(tmp_path) as made:
        line = ("RestrictAddressFamilies", "AF_UNIX")
        services = made.serve("publish", "work", "receive", changed={"publish": line})
        assert made.send(scan) == 0
        (report,) = until(made.reports, WITHIN_S)
        assert report.status is Status.ANALYSED
        services["publish"].stop()
        assert not made.heard.got
        made.serve("publish")
        until(lambda: made.events("analysed"), WITHIN_S)
