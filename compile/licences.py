"""Whether everything that a device installs may be shipped: a closed list of licences.

    python -m compile.licences

Rules.
1. Looked at is what pyproject.toml asks for on a device (the default set, the extras of a device)
   and what these need, as it is installed here. What is needed and not installed is an error.
2. A library's licence is its SPDX expression, else its classifiers, else its free-text field. Of an
   expression with OR one part must be in `ALLOWED`, of one with AND all. None at all is an error.
3. Wheels carry other libraries inside. Where a licence file in a wheel names a licence of the GPL
   family, the file must stand in `KNOWN` with the reason why that is no obligation of ours.
4. A new row of either table is a decision of a person, made by reading the licence.

`make check` runs it; it takes a second and asks no network.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from appliance.errors import BundleRefused
from compile import sbom

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = ("openvino", "engine", "update")
ALLOWED = {
    "0bsd", "3-clause bsd license", "apache 2.0", "apache software license", "apache-2.0",
    "bsd license", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "isc license (iscl)", "isc", "mit",
    "mit license", "mit-0", "mit-cmu", "mpl-2.0", "psf-2.0", "python software foundation license",
    "zlib",
}  # fmt: skip
"""SPDX identifiers, classifiers and names, in lower case."""
KNOWN = {
    ("imagecodecs", "LICENSE-lzf"): "BSD; it says that it may be put under the GPL as well",
    ("ml-dtypes", "LICENSE.eigen"): "MPL-2.0, which names the GPL as a secondary licence",
    ("numpy", "LICENSE.txt"): "libgfortran under the GCC Runtime Library Exception; libquadmath, "
    "LGPL-2.1, a shared library of its own",
    ("onnxruntime", "ThirdPartyNotices.txt"): "MPL-2.0 names it; Mbed TLS is also Apache-2.0",
    ("opencv-python-headless", "LICENSE-3RD-PARTY.txt"): "FFmpeg and libquadmath, LGPL-2.1, shared "
    "libraries of their own; Qt, also named, is not in the headless wheel",
    ("openvino", "onetbb_third-party-programs.txt"): "GPL-3.0 with the GCC Runtime Library "
    "Exception",
    ("openvino", "runtime-third-party-programs.txt"): "liburing, used under MIT",
    ("paho-mqtt", "epl-v20"): "EPL-2.0 names it; it is used under BSD-3-Clause",
    (
        "pillow",
        "LICENSE",
    ): "FreeType, used under its own licence (FTL); of XZ Utils only liblzma is in "
    "the wheel, which is in the public domain",
    ("pip", "LICENSE.txt"): "distlib, which it holds, is under PSF-2.0, whose history names it",
    ("scipy", "LICENSE.txt"): "libgfortran, as numpy",
    (
        "setuptools",
        "LICENSE",
    ): "autocommand, LGPL-3.0, which it holds: files of their own, unchanged "
    "and with their licence, that nothing of ours imports",
    ("setuptools", "NOTICE"): "MPL-2.0, which names the GPL as a secondary licence",
    ("typing-extensions", "LICENSE"): "PSF-2.0, whose history names it",
}
"""(library, licence file) -> why a licence of the GPL family that it names does not bind us."""
_FILE = ("*licen[cs]e*", "*copying*", "*notice*", "*third-party*", "*/licenses/*", "*epl-v*")
_CODE = (".py", ".pyc", ".pyi", ".so")
_GPL = re.compile(
    r"\b[AL]?GPL[- ]?v?[0-9]|GNU\s+(?:(?:Lesser|Affero|Library)\s+)?General\s+Public\s+License",
    re.I,
)


def main() -> int:
    """0 where all may be shipped; else each reason on a line of its own."""
    try:
        libraries = sbom.closure(_asked())
    except BundleRefused as e:
        print(e.one_line(), file=sys.stderr)  # noqa: T201 - a command of the checks
        return 1
    wrong = [line for one in libraries for line in refusals(one)]
    for line in wrong:
        print(line, file=sys.stderr)  # noqa: T201
    if not wrong:
        print(f"licences: {len(libraries)} libraries of a device may be shipped")  # noqa: T201
    return int(bool(wrong))


def refusals(library: importlib.metadata.Distribution) -> list[str]:
    """Why a library may not be shipped (rules 2 and 3); empty where it may."""
    name = canonicalize_name(library.metadata["Name"])
    said = licence(library)
    found = []
    if said is None:
        found.append(f"{name} {library.version}: its metadata name no licence")
    elif not allowed(said):
        found.append(f"{name} {library.version}: {said[:60]} is not in compile/licences.py ALLOWED")
    for path, text in _texts(library):
        if _GPL.search(text) and (name, path.name) not in KNOWN:
            named = _GPL.search(text)
            shown = f"{path} names {' '.join(named[0].split())}" if named else str(path)
            found.append(f"{name} {library.version}: {shown}; KNOWN has no reason for it")
    return found


def licence(library: importlib.metadata.Distribution) -> str | None:
    """What a library's metadata say, as one expression (rule 2)."""
    said = library.metadata
    for expression in said.get_all("License-Expression") or ():
        return str(expression)
    classes = [c.split(" :: ")[-1] for c in said.get_all("Classifier") or () if "License ::" in c]
    if classes:
        return " AND ".join(sorted(set(classes)))
    return str(said["License"]).strip() if said["License"] else None


def allowed(expression: str) -> bool:
    """Whether a licence expression is in the list: of OR one, of AND all."""
    text = expression.strip()
    if text.startswith("(") and text.endswith(")") and "(" not in text[1:]:
        text = text[1:-1]
    for word, enough in (("OR", any), ("AND", all)):
        parts = _split(text, word)
        if len(parts) > 1:
            return enough(allowed(part) for part in parts)
    return text.lower() in ALLOWED


def _split(text: str, word: str) -> list[str]:
    """The parts between `word` outside parentheses."""
    parts, depth = [""], 0
    for piece in re.split(r"(\s+|[()])", text):
        depth += (piece == "(") - (piece == ")")
        if piece == word and depth == 0:
            parts.append("")
        else:
            parts[-1] += piece
    return [part.strip() for part in parts]


def _asked(pyproject: Path = ROOT / "pyproject.toml") -> Iterable[Requirement]:
    """What pyproject.toml asks for on a device."""
    if sys.version_info >= (3, 11):
        import tomllib  # noqa: PLC0415
    else:
        import tomli as tomllib  # noqa: PLC0415
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    return map(Requirement, [*project["dependencies"], *(r for e in EXTRAS for r in extras[e])])


def _texts(library: importlib.metadata.Distribution) -> Iterator[tuple[Path, str]]:
    """The licence files of a wheel, its own and those of what it carries."""
    for file in library.files or ():
        named = any(fnmatch(str(file).lower(), pattern) for pattern in _FILE)
        if named and not str(file).endswith(_CODE):
            path = Path(str(library.locate_file(file)))
            if path.is_file():
                yield path, path.read_text(encoding="utf-8", errors="replace")


if __name__ == "__main__":
    sys.exit(main())
