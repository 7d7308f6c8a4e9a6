"""What a third kind of line and a second destination add to the tree, list by list.

`brightness` is a kind, `folder` a destination, and `drop` the stage that delivers it. New files lie
under `additions/` as they are; what existing files need is a row each, put at a text that stands
there exactly once. The lists are those of docs/CONTRIBUTING.md.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ADDITIONS = Path(__file__).parent / "additions"


@dataclass(frozen=True)
class Row:
    """Some lines more in a file that is there. `at` holds `{}` where they are put."""

    path: str
    at: str
    lines: str


@dataclass(frozen=True)
class Edits:
    """Everything that one list of docs/CONTRIBUTING.md asks for."""

    title: str
    """Its heading there."""
    name: str
    """What NAME stands for."""
    files: Mapping[str, str]
    """Path in the tree -> file under `additions`."""
    rows: tuple[Row, ...]
    packages: tuple[str, ...] = ()
    """Folders that become packages."""

    def paths(self) -> set[str]:
        """Every path that is touched."""
        made = {f"{folder}/__init__.py" for folder in self.packages}
        return {*self.files, *(row.path for row in self.rows), *made}

    def apply(self, tree: Path) -> None:
        """Make the edits in this tree."""
        for folder in self.packages:
            (tree / folder).mkdir()
            (tree / folder / "__init__.py").touch()
        for path, addition in self.files.items():
            assert not (tree / path).exists(), f"{path} is there already"
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ADDITIONS / addition, tree / path)
        for row in self.rows:
            put(tree, row)


def put(tree: Path, row: Row) -> None:
    """Put one row at its place; AssertionError where the place is not there exactly once."""
    text = (tree / row.path).read_text(encoding="utf-8")
    before, after = row.at.split("{}")
    count = text.count(before + after)
    assert count == 1, (
        f"{row.path} has {before + after!r} {count} times, not once; a row of tests/house/edits.py "
        "is put there: correct its place"
    )
    text = text.replace(before + after, before + row.lines + after)
    (tree / row.path).write_text(text, encoding="utf-8")


def listed(contributing: str, title: str) -> str:
    """The section of docs/CONTRIBUTING.md under this heading."""
    found = re.search(rf"^## {re.escape(title)}\n(.+?)(?=^## )", contributing, re.M | re.S)
    assert found, f"docs/CONTRIBUTING.md has no section {title!r}"
    return found[1]


def allowed(section: str, name: str) -> set[str]:
    """The paths that a list names; those of folders end without a slash."""
    paths = re.findall(r"`([\w./@-]+)`", section)
    named = {path.replace("NAME", name).rstrip("/") for path in paths}
    return {path for path in named if "/" in path or path in {"README.md", "pyproject.toml"}}


MODEL = '''class BrightSlices(Record):
    """The line of brightness: the mean of the middle of a slice, 0 to 1, is its score."""

    kind: Literal["brightness"] = "brightness"
    version: Literal[1] = 1
    output: str
    threshold: float = Field(ge=0, le=1)
    max_findings: int = Field(default=4, ge=1)

    @property
    def takes_images(self) -> bool:
        return True

    @property
    def reports(self) -> bool:
        return True

    @property
    def sees_slices(self) -> bool:
        return True

    @property
    def finds_organ(self) -> bool:
        return False

    @property
    def finds(self) -> tuple[str, ...]:
        return ("brightness",)

    @property
    def least_score(self) -> float:
        return self.threshold

    @property
    def needs_appliance(self) -> str:
        return "0.1.0"

    def reads(self) -> dict[str, set[str]]:
        return {"classify": {self.output}}

    def inputs(self, role: str) -> int:
        return 1

    def fed_as(self, role: str) -> str:
        return role

    def allows(self, role: str, ops: Set[str]) -> bool:
        """A patch of each slice."""
        return "patch" in ops and not ops & (RADIOGRAPH_OPS - {"zscore"})

    def every_finding(self) -> BrightSlices:
        return self.model_copy(update={"threshold": 0.0, "max_findings": EVERY})

    def limits(self, accepts: Accepts) -> tuple[str, ...]:
        return (f"At most {self.max_findings} findings a series.",)


'''

KIND = Edits(
    title="Add a kind of line",
    name="brightness",
    files={
        "appliance/lines/brightness.py": "kind/brightness.py",
        "tests/rigs/tiny_brightness.py": "kind/tiny_brightness.py",
        "tests/appliance/lines/test_brightness.py": "kind/tests_of_brightness.py",
    },
    rows=(
        Row("appliance/bundle/lines.py", "{}Line = Annotated[", MODEL),
        Row(
            "appliance/bundle/lines.py",
            'ClassifyImage | Compare | WaterPhantom{},\n    Field(discriminator="kind")',
            " | BrightSlices",
        ),
        Row(
            "appliance/report.py",
            '    "pneumonia": "heat map",\n{}',
            '    "brightness": "millimetres",\n',
        ),
        Row(
            "appliance/lines/kinds.py",
            "{}from appliance.lines.kind import",
            "from appliance.lines.brightness import Brightness\n",
        ),
        Row("appliance/lines/kinds.py", "    WaterPhantoms(),\n{}", "    Brightness(),\n"),
        Row(
            "tests/appliance/lines/test_kind.py",
            "from appliance.bundle.lines import {}ClassifyImage",
            "BrightSlices, ",
        ),
        Row(
            "tests/appliance/lines/test_kind.py",
            "import PLACE_OF, Coverage, Status\n{}",
            "from rigs import tiny_brightness\n",
        ),
        Row(
            "tests/appliance/lines/test_kind.py",
            '    WaterPhantom: "water_qa_bytes",\n{}',
            '    BrightSlices: "tiny_brightness_bytes",\n',
        ),
        Row(
            "tests/appliance/lines/test_kind.py",
            "with the bytes of its tiny bundle.\"\"\"\n{}",
            '''

@pytest.fixture(scope="module")
def tiny_brightness_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return tiny_brightness.packed(tmp_path_factory.mktemp("brightness") / "source")
''',
        ),
    ),
)  # fmt: skip

DESTINATION = Edits(
    title="Add a destination of results",
    name="folder",
    files={"appliance/results/folder.py": "destination/folder.py"},
    rows=(
        Row(
            "appliance/results/destinations.py",
            "{}from appliance.results.mqtt import Mqtt\n",
            "from appliance.results.folder import Folder\n",
        ),
        Row(
            "appliance/results/destinations.py",
            "DESTINATIONS: Final[tuple[Destination, ...]] = (Mqtt(),{})",
            " Folder()",
        ),
        Row(
            "appliance/settings/sections.py",
            "{}class Host(Record):\n",
            '''class Drop(Record):
    folder: Path | None = None
    """Where events and reports are written as files; None: `drop` in the state folder."""


''',
        ),
        Row(
            "appliance/settings/file.py",
            "    retain: sections.Retain = sections.Retain()\n{}",
            "    drop: sections.Drop = sections.Drop()\n",
        ),
    ),
)

LAYER = (
    "receive | work | publish | deliver | retain | update | web | compose | compare | probe | fetch"
)
"""Of the processes, as the contract of layers names it."""

STAGE = Edits(
    title="Add a stage",
    name="drop",
    packages=("appliance/drop",),
    files={
        "appliance/drop/stage.py": "destination/stage.py",
        "systemd/scanside-drop@.service": "destination/scanside-drop@.service",
        "tests/appliance/drop/test_stage.py": "destination/tests_of_stage.py",
    },
    rows=(
        Row(
            "appliance/stages.py",
            '{}    Stage(\n        "work",',
            '''    Stage(
        "drop",
        "appliance.drop.stage",
        "scanside-drop@.service",
        "The stage that writes files into a folder (systemd).",
    ),
''',
        ),
        Row(
            "systemd/scanside-boot.service", " publish deliver{} work receive ", " drop"
        ),
        Row("pyproject.toml", f'"{LAYER}{{}}"', " | drop"),
        Row("docs/CONTRIBUTING.md", f"\n{LAYER}{{}}\n", " | drop"),
        Row(
            "README.md",
            "{}| retain | `scanside retain` |",
            "| drop | `scanside drop` | outbox to a folder, one file each, in order "
            "| `appliance/drop/stage.py` |\n",
        ),
        Row(
            "README.md",
            "{}  work      The stage that analyses (systemd).\n",
            "  drop      The stage that writes files into a folder (systemd).\n",
        ),
    ),
)  # fmt: skip

ALL = (KIND, DESTINATION, STAGE)
