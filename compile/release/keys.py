"""Key files, passphrases and answers: what a person brings to a repository.

Rules.
1. A private key is the encrypted PEM that `python -m compile keygen KEY --kind repository` makes.
   One without a passphrase is refused.
2. A passphrase is asked for at a terminal without being shown; where there is none, it is the next
   line of stdin. `--passphrase-file` names a file that holds it, for what runs without a person.
3. Nothing is signed before a person has typed `yes`, or has said `--yes` beforehand.
"""

from __future__ import annotations

import argparse
import getpass
import sys
from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner, SSlibKey

from appliance.bundle import trust
from appliance.errors import ReleaseRefused
from compile.release import roles

SHORTEST = 12
"""Characters of a new passphrase."""
_KEY = "release_key"
_MAKE = "Make one with `python -m compile keygen KEY --kind repository`."


def arguments(parser: argparse.ArgumentParser, *, many: bool) -> None:
    """--key and --passphrase-file."""
    parser.add_argument(
        "--key",
        type=Path,
        action="append",
        required=True,
        help="private key; once for each" if many else "private key",
    )
    parser.add_argument("--passphrase-file", type=Path, help="holds the passphrase of each key")


def public(path: Path) -> SSlibKey:
    """The public key of a .pub file, called like the file. ReleaseRefused (`release_key`)."""
    key = trust.public_key(path.name, _bytes(path))
    return roles.public_key(path.name.split(".")[0], key.public)


def signers(paths: Sequence[Path], passphrase_file: Path | None) -> list[CryptoSigner]:
    """The keys, each with its passphrase (rules 1 and 2)."""
    kept = None if passphrase_file is None else _bytes(passphrase_file).decode().rstrip("\n")
    found = []
    for path in paths:
        data = _bytes(path)
        said = ask(f"passphrase of {path}: ", secret=True) if kept is None else kept
        found.append(_signer(path, data, said.encode()))
    return found


def new_passphrase(path: Path) -> bytes:
    """A passphrase that was typed twice. ReleaseRefused (`release_key`)."""
    said = ask(f"passphrase of {path}, {SHORTEST} characters or more: ", secret=True)
    if len(said) < SHORTEST:
        raise ReleaseRefused(
            f"the passphrase has fewer than {SHORTEST} characters",
            code=_KEY,
            remedy="Four words that nobody would guess together are long enough.",
        )
    if ask("the same again: ", secret=True) != said:
        raise ReleaseRefused("the two are not the same", code=_KEY, remedy="Type it again.")
    return said.encode()


def ask(question: str, *, secret: bool = False) -> str:
    """What a person answers. ReleaseRefused (`no_answer`) where stdin has ended."""
    if secret and sys.stdin.isatty():
        return getpass.getpass(question)
    sys.stdout.write(question)
    sys.stdout.flush()
    line = sys.stdin.readline()
    if not sys.stdin.isatty():
        sys.stdout.write("\n")
    if not line:
        raise ReleaseRefused(
            "there is no answer", code="no_answer", remedy="Run it at a terminal, and answer."
        )
    return line.rstrip("\n")


def _signer(path: Path, data: bytes, passphrase: bytes) -> CryptoSigner:
    try:
        key = load_pem_private_key(data, passphrase)
    except TypeError as e:  # the library's word for a key that has none
        raise ReleaseRefused(f"{path} has no passphrase", code=_KEY, remedy=_MAKE) from e
    except ValueError as e:
        raise ReleaseRefused(
            f"{path} is no private key in PEM, or the passphrase is another",
            code=_KEY,
            remedy="Type it again; if it is lost, the key is (docs/keys.md says what then).",
        ) from e
    if not isinstance(key, Ed25519PrivateKey):
        raise ReleaseRefused(f"{path} is no Ed25519 key", code=_KEY, remedy=_MAKE)
    return CryptoSigner(key)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as e:
        raise ReleaseRefused(f"{path}: {e.strerror}", code=_KEY, remedy=_MAKE) from e
