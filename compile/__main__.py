"""python -m compile VERB: from a source folder to a signed bundle.

Exit codes: 0 done, 1 the work failed (one line on stderr), 2 wrong usage.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

try:
    import onnx  # noqa: F401 - the linter, the gate and the engines read networks with it
except ModuleNotFoundError:
    sys.exit("onnx is not installed [compile_library] pip install 'scanside[engine]'")

import appliance.factory
from appliance.bundle import trust
from appliance.bundle.card import card
from appliance.errors import BundleRefused, ScansideError
from compile import compare, engine, gate, wheel
from compile.kernels import kernels
from compile.lint import lint_bundle
from compile.pack import factory, pack, put
from compile.sign import keygen, private_key, sign


def parser() -> argparse.ArgumentParser:
    """The verbs and their arguments."""
    whole = argparse.ArgumentParser(prog="python -m compile", description=__doc__)
    verbs = whole.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("pack", help="a source folder -> one bundle")
    verb.add_argument("source", type=Path, help="a folder, or a bundle that is packed anew")
    verb.add_argument("-o", "--out", type=Path, required=True)
    verb.add_argument("--phantom", action="store_true", help="record what it finds in the phantom")
    verb.add_argument("--as-version", help="instead of the version of the source")
    verb.add_argument("--shapes", type=Path, help="what training.ship.shapes wrote, for the probe")
    verb.add_argument("--usual", type=Path, help="usual.json: which images are usual")
    verb.add_argument("--skip-goldens", action="store_true", help="do not run the golden cases")
    verb = verbs.add_parser("keygen", help="a new signing key, and its .pub beside it")
    verb.add_argument("key", type=Path)
    verb.add_argument("--kind", choices=["development", "release", "repository"], required=True)
    verb = verbs.add_parser("sign", help="sign a bundle, in place unless -o")
    verb.add_argument("bundle", type=Path)
    verb.add_argument("--key", type=Path, required=True)
    verb.add_argument("-o", "--out", type=Path)
    verb = verbs.add_parser("factory", help="put bundles into the wheel's factory folder")
    verb.add_argument("bundles", type=Path, nargs="+")
    verb = verbs.add_parser("card", help="the model card of a bundle, on stdout")
    verb.add_argument("bundle", type=Path)
    verb = verbs.add_parser("lint", help="what TensorRT would refuse or waste, node by node")
    verb.add_argument("bundle", type=Path)
    verb = verbs.add_parser("engine", help="a bundle -> TensorRT engines for one GPU")
    verb.add_argument("bundle", type=Path)
    verb.add_argument("--target", type=target, required=True, help="this, rtx:SM86 or rtx:SM89")
    verb.add_argument("-o", "--out", type=Path, help="folder; default: beside the bundle")
    verb.add_argument("--float32", action="store_true", help="float16 nowhere")
    verb = verbs.add_parser("gate", help="every network built without a GPU, INT8 and float; timed")
    verb.add_argument("bundle", type=Path)
    verb.add_argument("--targets", type=targets, default=gate.TARGETS, help="rtx:SM86,rtx:SM89")
    verb = verbs.add_parser("compare", help="golden cases and findings on two backends")
    verb.add_argument("bundle", type=Path)
    verb.add_argument("--backends", help="two of gpu,openvino,onnxruntime; default: the last two")
    verb.add_argument("--engines", type=Path, help="folder of the gpu's engines")
    verb.add_argument("--no-findings", action="store_true", help="golden cases alone")
    verb = verbs.add_parser("kernels", help="kernels.cu -> a fatbin for every device, with nvcc")
    verb.add_argument("-o", "--out", type=Path, default=Path("build"), help="folder")
    verb = verbs.add_parser("wheel", help="the wheel of a release: kernels, bundles, checked")
    verb.add_argument("-o", "--out", type=Path, default=Path("dist"), help="folder")
    verb = verbs.add_parser("sbom", help="the parts list of a release, CycloneDX JSON")
    verb.add_argument("bundles", type=Path, nargs="*")
    verb.add_argument("--extras", default="openvino", help="of the wheel, separated by commas")
    verb.add_argument("--kernels", type=Path, help="the fatbin that goes with it")
    verb.add_argument("-o", "--out", type=Path, required=True)
    verb = verbs.add_parser("demo-update", help="what releases do to a box, on this machine")
    verb.add_argument("-o", "--out", type=Path, default=Path("demo-out"), help="folder")
    verbs.add_parser("installer", help="all that a technician carries to a new box")
    verbs.add_parser("release", help="a repository of releases: `release --help` lists its verbs")
    return whole


def run(args: argparse.Namespace) -> None:
    """One verb."""
    if args.verb == "pack":
        data = pack(
            args.source,
            goldens=not args.skip_goldens,
            phantom=args.phantom,
            version=args.as_version,
            shapes=args.shapes.read_bytes() if args.shapes else None,
            usual=args.usual.read_bytes() if args.usual else None,
        )
        put(args.out, data)
        ref = trust.check(data).ref
        print(f"{args.out}: {ref.name} {ref.version}, {len(data)} bytes, digest {ref.digest}")
    elif args.verb == "keygen":
        made_key(args.key, args.kind)
    elif args.verb == "sign":
        out = args.out or args.bundle
        put(out, sign(args.bundle.read_bytes(), private_key(args.key)))
        print(f"{out}: signed")
    elif args.verb == "factory":
        folder = Path(appliance.factory.__file__).parent
        factory(args.bundles, folder)
        print(f"{folder}: {len(args.bundles)} bundles")
    elif args.verb == "card":
        loaded = trust.check(args.bundle.read_bytes())
        print(card(loaded.manifest, loaded.digest), end="")
    elif args.verb == "lint":
        linted(args.bundle)
    elif args.verb == "engine":
        engines(args.bundle, args.target, args.out, lower=not args.float32)
    elif args.verb == "gate":
        loaded = trust.check(args.bundle.read_bytes())
        gate.run(loaded, args.targets, lambda line: print(line, flush=True))
    elif args.verb == "compare":
        compared(args.bundle, args.backends, args.engines, findings=not args.no_findings)
    elif args.verb == "kernels":
        path, digest, held = kernels(args.out)
        print(f"{path}: {', '.join(map(str, held))}, sha256 {digest}")
    elif args.verb == "wheel":
        print(wheel.wheel(args.out).one_line())
    elif args.verb == "sbom":
        parts_list(args)


def made_key(path: Path, kind: Literal["development", "release", "repository"]) -> None:
    """Makes a key and says where its two halves belong."""
    if kind == "repository":
        from compile.release.keys import new_passphrase  # the extra `release`, as below

        public = keygen(path, kind, new_passphrase(path))
        print(f"{path}: keep it where its role is signed. {public}: give it to who runs `init`.")
    else:
        public = keygen(path, kind)
        print(f"{path}: keep it offline. {public}: put it into state/trust/ of each device.")


def released(verb: str, argv: Sequence[str]) -> int:
    """What makes releases has command lines of its own, and libraries in the extra `release`."""
    try:
        if verb == "installer":
            from compile.installer import main as release
        else:
            from compile.release.command import main as release
    except ModuleNotFoundError as e:
        print(
            f"{e.name} is not installed [release_library] pip install 'scanside[release,update]'",
            file=sys.stderr,
        )
        return 1
    return release(argv)


def target(name: str) -> str:
    """A well-formed --target; whether it can be built is for `engine.target` to say."""
    if not engine.TARGET.fullmatch(name):
        raise argparse.ArgumentTypeError(f"{name!r} is neither `this` nor like `rtx:SM86`")
    return name


def targets(names: str) -> tuple[str, ...]:
    """Well-formed --targets, separated by commas."""
    return tuple(target(name) for name in names.split(","))


def parts_list(args: argparse.Namespace) -> None:
    """Writes the list and says how long it is."""
    try:
        from compile import sbom  # its libraries are in the extra `release`
    except ImportError as e:
        raise BundleRefused(
            f"{e.name} is not installed",
            remedy="pip install 'scanside[release]'",
            code="sbom_library",
        ) from e
    loaded = [trust.check(path.read_bytes()) for path in args.bundles]
    extras = [extra for extra in args.extras.split(",") if extra]
    fatbin = args.kernels.read_bytes() if args.kernels else None
    text = sbom.sbom(sbom.date(), loaded, extras=extras, kernels=fatbin)
    put(args.out, text.encode())
    parts = len(sbom.needed(extras)) + len(loaded) + (fatbin is not None)
    print(f"{args.out}: {parts} parts")


def engines(path: Path, name: str, out: Path | None, *, lower: bool = True) -> None:
    """Builds and says what was built."""
    loaded = trust.check(path.read_bytes())
    wanted = engine.target(name)
    folder = out or path.with_name(f"{path.stem}-{wanted.architecture}")
    began = time.monotonic()
    made, warnings = engine.build(
        loaded, wanted, folder, lower=lower, say=lambda line: print(line, flush=True)
    )
    took = time.monotonic() - began
    for warning in warnings:
        print(f"warning {warning}")
    for role, one in made.engines.items():
        print(f"{folder / one.file}: {role}, {one.bytes} bytes, {one.types}")
    with_what = f"{made.library} {made.version}, {made.typing} typing, {made.architecture}"
    print(f"{folder}: {len(made.engines)} engines in {took:.1f} s, {with_what}")


def compared(path: Path, backends: str | None, folder: Path | None, *, findings: bool) -> None:
    """Prints every difference; BundleRefused where one is too large."""
    two = compare.names(backends)
    loaded = trust.check(path.read_bytes())
    rows = []
    for row in compare.compare(loaded, two, folder=folder, instances=None if findings else ()):
        print(row.one_line(), flush=True)
        rows.append(row)
    print(compare.judge(rows, two))


def linted(path: Path) -> None:
    """Prints what the linter finds; BundleRefused where any of it is an error."""
    loaded = trust.check(path.read_bytes())
    found = lint_bundle(loaded)
    for finding in found:
        print(finding.one_line())
    errors = sum(finding.severity == "error" for finding in found)
    if errors:
        raise BundleRefused(
            f"{path}: {errors} errors", code="lint", remedy="Mend the networks and pack again."
        )
    print(f"{path}: {len(loaded.networks)} networks, {len(found)} findings, no error")


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and run; the exit code."""
    words = sys.argv[1:] if argv is None else argv
    if words and words[0] in ("release", "installer"):
        return released(words[0], words[1:])
    args = parser().parse_args(words)
    try:
        if args.verb == "demo-update":
            from compile.demo import show  # what it needs is in the extras `release` and `update`

            return show.run(args.out)
        run(args)
    except ScansideError as e:
        print(e.one_line(), file=sys.stderr)
        return 1
    except OSError as e:
        print(f"{e.filename}: {e.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
