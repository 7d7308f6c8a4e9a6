"""What may be shipped: the list of licences holds for what is here and refuses what it lacks."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from compile import licences, sbom


def library(
    folder: Path, name: str, said: str, files: dict[str, str] | None = None
) -> importlib.metadata.Distribution:
    """An installed library with these lines in its metadata, and these files in its wheel."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{said}\n")
    for path, text in (files or {}).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    (info / "RECORD").write_text("".join(f"{path},,\n" for path in files or {}))
    return importlib.metadata.Distribution.at(info)


def test_everything_that_a_device_installs_may_be_shipped(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert licences.main() == 0
    assert "may be shipped" in capsys.readouterr().out


def test_what_an_update_needs_may_be_shipped_too() -> None:
    """Not on a device yet: the libraries of the repository, for which its client will ask."""
    asked = map(Requirement, ("securesystemslib", "tuf", "zstandard"))
    found = sbom.closure(asked)
    assert {"urllib3", "tuf"} <= {one.metadata["Name"].lower() for one in found}
    assert [line for one in found for line in licences.refusals(one)] == []


def test_the_decoders_are_looked_at_and_none_is_under_the_gpl() -> None:
    names = {
        one.metadata["Name"].lower().replace("_", "-") for one in sbom.closure(licences._asked())
    }
    assert {"imagecodecs", "pyjpegls", "pydantic-core", "openvino", "onnx"} <= names
    assert "pylibjpeg-libjpeg" not in names


@pytest.mark.parametrize(
    ("said", "fine"),
    [
        ("License-Expression: MIT", True),
        ("License-Expression: GPL-3.0-only OR BSD-3-Clause", True),
        ("License-Expression: (MIT OR GPL-3.0-only) AND BSD-3-Clause", True),
        ("License-Expression: MIT AND GPL-3.0-only", False),
        ("License-Expression: GPL-3.0-or-later", False),
        ("License-Expression: Apache-2.0 WITH something", False),
        ("Classifier: License :: OSI Approved :: BSD License", True),
        ("Classifier: License :: OSI Approved :: GNU General Public License v3 (GPLv3)", False),
        ("License: MIT", True),
        ("License: proprietary", False),
        ("Summary: it names none", False),
    ],
)
def test_a_licence_outside_the_list_is_refused_by_name(
    tmp_path: Path, said: str, fine: bool
) -> None:
    found = licences.refusals(library(tmp_path, "some-library", said))
    assert (found == []) is fine
    assert all(line.startswith("some-library 1.0: ") for line in found)


@pytest.mark.parametrize(
    "text",
    [
        "libfoo is licensed under the GPL-3.0",
        "GNU LESSER GENERAL PUBLIC LICENSE\nVersion 2.1",
        "GNU\n  General Public License",
        "AGPLv3",
    ],
)
def test_a_library_carried_inside_a_wheel_needs_a_reason(tmp_path: Path, text: str) -> None:
    files = {"some/licenses/LICENSE-libfoo": text, "some/code.py": "# GPL-3.0"}
    (line,) = licences.refusals(library(tmp_path, "some", "License-Expression: MIT", files))
    assert "LICENSE-libfoo" in line


def test_a_reason_is_for_one_file_of_one_library(tmp_path: Path) -> None:
    files = {"numpy/LICENSE.txt": "GPL-3.0 with an exception", "numpy/COPYING": "GPL-3.0"}
    (line,) = licences.refusals(library(tmp_path, "numpy", "License-Expression: MIT", files))
    assert "COPYING" in line
