"""What pages load beside themselves: the files of assets/, under addresses that name their content.

Rules
- /assets/NAME.DIGEST.KIND, DIGEST the first 16 hexadecimal digits of the file's SHA-256: an address
  is good for ever, so a browser keeps it for a year, and a new release has new addresses.
- They are read once, when the stage starts. No name of a request becomes a path.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from types import MappingProxyType
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from appliance.web.site import Route

KINDS: Final = MappingProxyType(
    {
        "css": "text/css; charset=utf-8",
        "js": "text/javascript; charset=utf-8",
        "svg": "image/svg+xml",
        "wasm": "application/wasm",
        "wav": "audio/wav",
        "txt": "text/plain; charset=utf-8",
    }
)
LASTS = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class Assets:
    """The files of assets/ in memory."""

    addresses: Mapping[str, str]
    """File name -> address."""
    bodies: Mapping[str, bytes]
    """Last part of the address -> content."""

    def address(self, name: str) -> str:
        """What a template calls as `asset`. KeyError where there is no such file."""
        return self.addresses[name]


def read() -> Assets:
    """All of them."""
    addresses, bodies = {}, {}
    for path in files("appliance.web").joinpath("assets").iterdir():
        stem, _, kind = path.name.rpartition(".")
        if kind not in KINDS:
            continue
        body = path.read_bytes()
        served = f"{stem}.{hashlib.sha256(body).hexdigest()[:16]}.{kind}"
        addresses[path.name] = f"/assets/{served}"
        bodies[served] = body
    return Assets(MappingProxyType(addresses), MappingProxyType(bodies))


def asset(request: Request) -> Response:
    """GET /assets/{name}."""
    name = request.path_params["name"]
    found: Assets = request.app.state.assets
    if name not in found.bodies:
        raise HTTPException(404)
    kind = KINDS[name.rpartition(".")[2]]
    return Response(found.bodies[name], media_type=kind, headers={"cache-control": LASTS})


ROUTES = (Route("GET", "/assets/{name}", asset, None),)
