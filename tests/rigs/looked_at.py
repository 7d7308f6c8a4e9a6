"""A state folder with series to look at, and a server of their images alone: no login, no pages but
one that holds the viewer.

The server is real: uvicorn on a free port of this machine, in a thread, with the routes under test
and the files of assets/ as they are.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydicom.dataset import Dataset
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

import appliance.web
from appliance.naming import Naming
from appliance.phantom import instances
from appliance.records import Facts, HeatMap, Mask, Result
from appliance.report import (
    BackendRef,
    BundleRef,
    Coverage,
    Finding,
    Report,
    SeriesKey,
    SeriesRef,
    Stage,
    Status,
    StudyRef,
)
from appliance.settings import Settings
from appliance.store import kept
from appliance.store.files import DISK
from appliance.store.journal import Journal
from appliance.store.spool import Spool
from appliance.web.pixels.routes import ROUTES
from appliance.web.site import Site

NAMING = Naming(bytes(range(32)))
WEB = Path(appliance.web.__file__).parent
PAGE = """<!doctype html><html lang="{{ language }}"><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>viewer</title>
<body class="dark">{% include "viewer.html" %}</body></html>"""
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; worker-src 'self' blob:; font-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'"
)
HANG_S = 180.0


class LookedAt:
    """A state folder. What is put in is committed as its stages do it."""

    def __init__(self, state: Path) -> None:
        self.state = state
        DISK.make_folder(state)
        self.settings = Settings.model_validate({"state": state})
        self.journal = Journal.open(state)
        self.spool = Spool(state)

    def close(self) -> None:
        self.journal.close()

    def file(self, key: SeriesKey, uid: str) -> Path:
        return self.spool.folder(key) / f"{uid}.dcm"

    def files(self, key: SeriesKey, files: Mapping[str, bytes]) -> None:
        """Instances of a series by their UIDs, whatever they hold."""
        for uid, data in files.items():
            temp = self.spool.incoming_path()
            temp.write_bytes(data)
            self.spool.store(temp, key.study, key.series, uid, lambda _a, _b: True)

    def series(
        self,
        images: Sequence[Dataset],
        findings: Sequence[Finding] = (),
        masks: Sequence[Mask] = (),
        maps: Sequence[HeatMap] = (),
        *,
        names: Sequence[str] | None = None,
    ) -> str:
        """Images and their report; the address that they are under. names: of the images in the
        order of the report, which here is that of `images` unless it is said."""
        first = images[0]
        key = SeriesKey(str(first.StudyInstanceUID), str(first.SeriesInstanceUID))
        self.files(key, {str(one.SOPInstanceUID): instances.packed(one) for one in images})
        frames = "/0" if first.Modality == "CT" else ""
        if names is None:
            names = [f"{one.SOPInstanceUID}{frames}" for one in images]
        return self.report(key, findings, masks, maps, names=names)

    def report(
        self,
        key: SeriesKey,
        findings: Sequence[Finding] = (),
        masks: Sequence[Mask] = (),
        maps: Sequence[HeatMap] = (),
        *,
        names: Sequence[str] = (),
        digest: str = "b" * 64,
        revision: int = 1,
    ) -> str:
        """A report of a series that is there; its address."""
        made = Report(
            report_id=NAMING.report(key, "a" * 64, digest),
            input_digest=digest,
            revision=revision,
            stage=Stage.FINAL,
            status=Status.ANALYSED,
            study=StudyRef(pseudonym=NAMING.study(key.study)),
            series=SeriesRef(slices=len(names)),
            bundle=BundleRef(name="lung-nodule", version="1.0.0", digest="a" * 64),
            backend=BackendRef(name="reference", precision="fp32"),
            coverage=Coverage(lungs="covered"),
            findings=tuple(findings),
        )
        result = Result(
            Status.ANALYSED,
            Facts(key.study, key.series, "CT", len(names), None, None, None, Coverage(),
                  tuple(names)),
            digest, masks=tuple(masks), maps=tuple(maps),
        )  # fmt: skip
        kept.keep(self.state, made, result, [])
        self.journal.commit_report(made, key, owed=(), series_state="analysed")
        return f"/study/{made.study.pseudonym}/series/{made.report_id}"

    @contextmanager
    def reading(self) -> Iterator[Journal | None]:
        """As `Site.reading`."""
        journal = Journal.read(self.state)
        try:
            yield journal
        finally:
            if journal is not None:
                journal.close()

    def site(self) -> Site:
        def render(_request: Request, _name: str, _values: Mapping[str, Any]) -> Response:
            raise NotImplementedError

        return Site(self.settings, self.reading, render, lambda: 0.0)

    def application(self, language: str = "en", without: str | None = None) -> Starlette:
        """The routes of images, and /view{address}: a page with the viewer of that series. without:
        the end of an address that is not served."""
        rows = [one for one in ROUTES if without is None or not one.path.endswith(without)]
        made = Starlette(
            routes=[
                *(Route(one.path, _endpoint(one.page), methods=[one.method]) for one in rows),
                Route("/view/study/{study}/series/{series}", _viewer(language)),
                Route("/assets/{name}", _asset),
            ]
        )
        made.state.site = self.site()
        return made


def _endpoint(page: Callable[[Request], Response]) -> Callable[[Request], Response]:
    def endpoint(request: Request) -> Response:  # a plain function: Starlette runs it in a thread
        return page(request)

    return endpoint


def _viewer(language: str) -> Callable[[Request], Response]:
    texts = json.loads((WEB / "text" / language / "viewer.json").read_text(encoding="utf-8"))
    pages = Environment(
        loader=FileSystemLoader(WEB / "pages"), autoescape=True, undefined=StrictUndefined
    )

    def page(request: Request) -> Response:
        html = pages.from_string(PAGE).render(
            language=language,
            say=lambda key, **_: texts[key.removeprefix("viewer.")],
            asset=lambda name: f"/assets/{name}",
            shown={"study": request.path_params["study"]},
            series={"name": request.path_params["series"]},
        )
        return HTMLResponse(html, headers={"content-security-policy": CSP})

    return page


def _asset(request: Request) -> Response:
    path = WEB / "assets" / request.path_params["name"]
    if path.parent != WEB / "assets" or not path.is_file():
        return PlainTextResponse("no such file", 404)
    kind = {".js": "text/javascript", ".css": "text/css"}[path.suffix]
    return Response(path.read_bytes(), media_type=kind)


@contextmanager
def served(application: Starlette) -> Iterator[str]:
    """http://127.0.0.1:PORT while the context is open."""
    config = uvicorn.Config(application, host="127.0.0.1", port=0, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    ended = threading.Event()
    for _ in range(int(HANG_S / 0.02)):
        if server.started:
            break
        ended.wait(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(HANG_S)
        if hasattr(application.state, "images"):
            application.state.images.close()
