"""What may be asked of `apply`, and what it answers: one JSON line each way.

    check                      `update` looks at the repository once more
    now [source|url]           the next release is taken by hand
    hold, release              nothing is changed any more; it goes on
    accept [release]           what this release is meant for is accepted
    rollback                   what ran before runs again
    bundle_add source          a bundle by hand, from this file (apply/by_hand.py)
    bundle_activate            this version of a bundle, from the next study on
    bundle_rollback            the bundle that was active before
    drift_ack, drift_accept row   a person decides of an alarm (store/library.py)
    drift_tune, drift_withdraw row   a person accepts the tuning that is proposed, or takes it back
    drift_answer act           what `work` has answered to what was decided of a scanner

Rules.
1. A request writes a wish down and is answered then: the work is done by the course, at its turn.
   Who wants to see it done asks for the status until `seen` is the number of his wish. Only what is
   asked of bundles is answered when it was done; what is decided of a scanner, when it is in the
   audit of the journal, which `work` obeys: with the hash of its row, by which `drift_answer` asks
   what became of it.
2. What cannot be is refused at once, with a code and a remedy.
3. Every request but `status` and `drift_answer`, which change nothing, is audited, with who asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, Field, ValidationError

from appliance.apply.notes import Notes
from appliance.bundle.manifest import Name
from appliance.errors import ScansideError, StateUnusable
from appliance.report import Record
from appliance.settings import Update
from appliance.update.plan import Named
from appliance.update.states import State
from appliance.update.steps import Steps
from appliance.update.why import Why, WhyNot

STATUS = "status.json"
Verb = Literal[
    "status", "check", "now", "hold", "release", "accept", "rollback",
    "bundle_add", "bundle_activate", "bundle_rollback", "drift_ack", "drift_accept", "drift_tune",
    "drift_withdraw", "drift_answer",
]  # fmt: skip
OF_SCANNERS: tuple[Verb, ...] = (
    "drift_ack", "drift_accept", "drift_tune", "drift_withdraw", "drift_answer",
)  # fmt: skip
OF_BUNDLES: tuple[Verb, ...] = ("bundle_add", "bundle_activate", "bundle_rollback")


def _shown(text: str) -> str:
    """It is shown to others, on their terminals."""
    if not text.isprintable():
        raise ValueError("only characters that can be shown are allowed")
    return text


Shown = Annotated[str, AfterValidator(_shown)]


class Request(Record):
    """One line that is asked."""

    verb: Verb
    source: Shown | None = Field(default=None, max_length=4000)
    """A folder, or the file of a bundle, as it is called on this machine."""
    url: Shown | None = Field(default=None, max_length=2000)
    release: Shown | None = Field(default=None, max_length=80)
    bundle: Name | None = None
    which: Shown | None = Field(default=None, max_length=64)
    """Version of the bundle, or its digest or the first digits of that."""
    allow_unsigned: bool = False
    allow_development: bool = False
    row: str | None = Field(default=None, pattern=r"^[0-9a-f]{4,64}$")
    """Of the library of scanners: its digits, or the first of them; of what has no row any more,
    those of its tuning."""
    act: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """Hash of the row of the audit that was written."""


class Status(Record):
    """How updates stand on this box: status.json, readable for everybody."""

    at: AwareDatetime
    channel: str
    url: str | None
    appliance: Named
    slot: int
    previous: int | None
    bundles: tuple[Named, ...]
    highest: int
    hold: bool
    recalled: str | None = None
    """Why the appliance that runs was recalled."""
    steps: Steps | None = None
    why: tuple[WhyNot, ...] = ()
    offered: tuple[str, ...] = ()
    """Paths of the releases that were verified last, the newest first."""
    signed: AwareDatetime | None = None
    """The newest signed time that this box knows."""
    ends: dict[str, AwareDatetime] = Field(default_factory=dict)
    """Role of the metadata that is trusted -> when it ends."""
    found: str = ""
    """What `update` said last, in words."""
    trouble: str = ""
    seen: int = 0
    """Number of the latest wish that a turn knew of."""
    busy: bool = False
    """Whether something is being done, or `update` still looks."""
    good_slot: int | None = None
    """Where `rollback` would lead."""


class Answer(Record):
    """One line that is answered."""

    ok: bool
    code: str = ""
    text: str = ""
    remedy: str = ""
    wish: int = 0
    status: Status | None = None
    bundle: Named | None = None
    """That was added, or is active now."""
    act: str = ""
    """Hash of the row of the audit that was written of a scanner."""
    obeyed: bool = False
    """Whether `work` has obeyed the act that was asked about."""


@dataclass(frozen=True, slots=True)
class Requests:
    """Answers requests of one box. `woken` is called after each wish."""

    notes: Notes
    settings: Update
    tell: Callable[[str, str, Mapping[str, str]], object]
    """(actor, action, detail): the audit."""
    woken: Callable[[], object]
    of_bundles: Callable[[Request, str], Answer]
    """(request, actor): does it and answers."""
    of_scanners: Callable[[Request, str], Answer]
    """(request, actor): writes it into the audit of the stages, or looks there, and answers.
    ScansideError."""

    def answer(self, line: bytes, actor: str) -> Answer:
        """Whatever comes in, one answer."""
        try:
            request = Request.model_validate_json(line)
        except ValidationError as e:
            first = e.errors(include_url=False)[0]
            return Answer(ok=False, code="update_request", text=first["msg"][:200])
        if request.verb in OF_BUNDLES:
            return self.of_bundles(request, actor)
        if request.verb in OF_SCANNERS:
            return self._of_scanner(request, actor)
        try:
            if request.verb == "status":
                return Answer(ok=True, status=self._status())
            text, wish = self._do(request, actor)
        except ScansideError as e:
            return _refused(e)
        finally:
            self.woken()
        return Answer(ok=True, text=text, wish=wish)

    def _of_scanner(self, request: Request, actor: str) -> Answer:
        try:
            if request.verb != "drift_answer":
                detail = request.model_dump(exclude={"verb"}, exclude_none=True)
                self.tell(actor, request.verb.replace("_", " "), detail)
            return self.of_scanners(request, actor)
        except ScansideError as e:
            return _refused(e)

    def _do(self, request: Request, actor: str) -> tuple[str, int]:
        detail = request.model_dump(exclude={"verb"}, exclude_none=True)
        wishes = self.notes.wishes()
        if request.verb in ("check", "now"):
            self._require_somewhere(request)
            wish: dict[str, object] = {"asked": wishes.asked + 1, "now": request.verb == "now"}
            wish |= {"source": request.source, "url": request.url}
            self.tell(actor, f"update {request.verb}", detail)
            return "", self.notes.wish(**wish).number
        if request.verb in ("hold", "release"):
            self.tell(actor, f"update {request.verb}", detail)
            self.notes.hold(actor if request.verb == "hold" else None)
            held = "updates are held" if request.verb == "hold" else "updates go on"
            return held, self.notes.wish().number
        if request.verb == "accept":
            release = request.release or self._to_accept()
            self.tell(actor, "update accept", {"release": release})
            self.notes.accept(release)
            return f"{release} is accepted", self.notes.wish(asked=wishes.asked + 1).number
        self._require_way_back()
        self.tell(actor, "update rollback", detail)
        return "", self.notes.wish(back=True).number

    def _require_somewhere(self, request: Request) -> None:
        if request.source is not None and not _is_folder(Path(request.source, "metadata")):
            raise StateUnusable(
                f"{request.source} holds no repository",
                code="stick_gone",
                remedy="Put the stick in, and name the folder that holds `metadata`.",
            )
        if request.source is None and request.url is None and self.settings.url is None:
            raise StateUnusable(
                "no repository of releases is named",
                code="no_url",
                remedy="Name it in [update] url, or with --from DIR or --from URL.",
            )

    def _to_accept(self) -> str:
        for why in self._status().why:
            if why.code is Why.NEEDS_ACCEPT and why.release is not None:
                return why.release
        raise StateUnusable(
            "no release waits for its intended use to be accepted",
            code="update_nothing_to_accept",
            remedy="`scanside update status` shows what waits.",
        )

    def _require_way_back(self) -> None:
        status = self._status()
        steps = status.steps
        if steps is None or steps.state not in (State.TRIAL, State.CONFIRMED):
            raise StateUnusable(
                "there is no update to go back from",
                code="update_no_way_back",
                remedy="`scanside update status` shows what runs.",
            )
        if steps.slot is not None and status.good_slot is None:
            raise StateUnusable(
                "every other slot of this box was recalled or is gone",
                code="update_no_way_back",
                remedy="Wait for the next release: what was recalled never runs again.",
            )

    def _status(self) -> Status:
        return read_status(self.notes.folder)


def _refused(error: ScansideError) -> Answer:
    return Answer(ok=False, code=error.code, text=error.text, remedy=error.remedy)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name that is too long, or a folder of somebody's own that nobody may enter
        return False


def read_status(folder: Path) -> Status:
    """How updates stood at the latest turn of `apply`. StateUnusable (`update_no_status`)."""
    path = folder / STATUS
    try:
        return Status.stored(path.read_bytes())
    except (OSError, ValidationError) as e:
        raise StateUnusable(
            f"{path} cannot be read: `apply` has not run yet on this box",
            code="update_no_status",
            remedy="Look whether it runs: systemctl status scanside-apply, or start `scanside run`",
        ) from e
