"""The course of a release on this box, one step a turn: from an offer to what runs, or back.

Rules.
1. What is decided, is decided by `plan` and by the table of `states`; here it is done. A state is
   written to steps.json before its work begins, and each work may be done twice. So a turn after a
   power cut goes on where the turn before was.
2. Damage in what was offered refuses the release (REFUSED) and nothing else. What may pass (a stick
   that is gone, a full disk, a server that is away) waits in its state, with a text.
3. A release counts as taken, for the number below which nothing comes any more, once it is switched
   to: not before that is written down, or a power cut between would make it one that was had.
4. A trial is confirmed after STUDIES analysed studies or HEALTHY_S seconds by the monotonic clock
   in which no stage is down or stuck. A broker that is away is no illness. It ends by `guard`'s
   word, by a person's, or by a recall.
5. The bundles of a release with a new appliance go onto the shelf by the new `apply`: the old one
   may not know how to read them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from appliance.apply import guarding, interlock, slotting, switching
from appliance.apply.box import Box
from appliance.apply.making_room import Room
from appliance.apply.notes import Notes, Taken
from appliance.apply.offers import Offers
from appliance.apply.supply import Supply
from appliance.errors import PeerAway, Refuse, ScansideError, StateUnusable
from appliance.release.record import Admitted, Release
from appliance.report import cut
from appliance.runtime.source_build import NotBuilt
from appliance.update import steps as journal
from appliance.update.plan import APPLIANCE, Do, Facts, Named, Plan, plan
from appliance.update.source import Missing
from appliance.update.states import ENDED, Event, State
from appliance.update.steps import Steps

STUDIES = 3
HEALTHY_S = 1800.0


class Turn(Enum):
    """What follows a turn."""

    ON = "on"
    """The next one, at once."""
    WAIT = "wait"
    """Nothing to do until something changes, or time passes."""
    END = "end"
    """Another slot runs: this process ends, and the one of that slot begins."""


@dataclass
class Course:
    """The updates of one box."""

    box: Box
    notes: Notes
    offers: Offers
    supply: Supply
    quiet: interlock.Quiet = field(default_factory=interlock.Quiet)
    room: Room = field(default_factory=Room)
    trouble: str = ""
    """What the last turn could not do, for a person."""
    planned: Plan = field(default_factory=Plan)
    _healthy_since: float | None = None

    # What is so

    def steps(self) -> Steps | None:
        return journal.read(self.box.places)

    def facts(self) -> Facts:
        """The facts of this moment. StateUnusable."""
        box, wishes, done = self.box, self.notes.wishes(), self.notes.done()
        seen, local = box.seen(), box.clock()
        runs = self.running()
        mark = self.offers.trust().mark()
        machine = box.machine
        return Facts(
            at=self.offers.at(),
            channel=box.settings.update.channel,
            site=box.settings.site.name,
            kind=machine.kind,
            python=machine.python,
            jetpack=machine.jetpack,
            tensorrt=machine.tensorrt,
            appliance=runs,
            slot=box.slots.current() or 0,
            bundles=box.bundles.active(),
            known=done.known,
            highest=done.highest,
            rolled_back=done.rolled_back,
            recall=mark.recall,
            hold=self.notes.holds(),
            accepted=self.notes.accepted(),
            by_hand=wishes.now,
            free_mb=max(0.0, box.disk.free_mb(box.places.trusted) - box.settings.retain.reserve_mb),
            in_window=box.settings.update.open_at(local.astimezone().time()),
            idle=self.quiet.idle(seen, box.tick()),
            between_series=self.quiet.between(seen, box.tick()),
        )

    def running(self) -> Named:
        """The appliance of the slot that runs. StateUnusable (`update_no_slot`)."""
        return self.offers.running().appliance

    def idle(self) -> bool:
        """Whether the box has nothing to do now."""
        return self.quiet.idle(self.box.seen(), self.box.tick())

    # One turn

    def turn(self) -> Turn:
        """Do the next step, if there is one. What went wrong is in `trouble`."""
        try:
            made = self._turn()
        except ScansideError as e:
            self.trouble = f"{e.text} [{e.code}] {e.remedy}"
            return Turn.WAIT
        if made is not Turn.WAIT:
            self.trouble = ""
        return made

    def _turn(self) -> Turn:
        steps = self.steps()
        self.offers.look()
        self.trouble = self.offers.trouble
        facts = self.facts()
        taken = self.notes.taken() if steps is not None else None
        self.planned = plan(self.offers.with_(taken), facts, self.box.settings.update)
        self.offers.tell(facts, self.supply.known)
        if (gone := self._withdraw(steps, facts)) is not None:
            return gone
        if steps is None or taken is None or steps.state not in _DOES:
            return self._begin(steps)
        return _DOES[steps.state](self, steps, taken)

    def _begin(self, steps: Steps | None) -> Turn:
        """Take what is planned, or say why not."""
        wishes = self.notes.wishes()
        if wishes.back and steps is not None and steps.state is State.CONFIRMED:
            return self._advance(steps, Event.BACK, "a person goes back")
        release = self.planned.release
        if release is None or not self.planned.steps:
            if self.offers.answered():
                self.notes.fulfil(wishes.number)
            return Turn.WAIT
        if self.planned.steps[-1].do is Do.REMEMBER:
            self.notes.know(highest=release.number)
            return Turn.ON
        self.notes.take(
            Taken(
                release=release,
                source=wishes.source,
                by_hand=wishes.now,
                slot=self.box.slots.current() or 0,
                bundles=self.box.bundles.active(),
                studies=interlock.studies_of(self.box.seen(), release.appliance.version),
            )
        )
        new = tuple(_named(one) for one in release.bundles)
        tried = steps is not None and steps.state in (State.ROLLED_BACK, State.REFUSED)
        if steps is not None and tried and steps.release == release.path:
            return self._advance(steps, Event.AGAIN, "it is tried again")
        self._write(
            Steps(
                release=release.path,
                state=State.FETCHING,
                bundles=new,
                begun=self.box.clock(),
                texts=(f"{release.path} is taken",),
            )
        )
        return Turn.ON

    # Each state

    def _fetching(self, steps: Steps, taken: Taken) -> Turn:
        if (left := self._left(steps, taken)) is not None:
            return left
        try:
            self.supply.copy(taken.release, self.offers.source(taken.source))
        except (PeerAway, Missing) as e:
            if taken.source is None:
                self.offers.ask_again()  # `update` has not fetched it yet, or lost it
            self.trouble = e.one_line()
            return Turn.WAIT
        except Refuse as e:
            return self._refused(steps, e)
        return self._advance(steps, Event.DONE, "all of it is here and verified")

    def _building(self, steps: Steps, taken: Taken) -> Turn:
        if (left := self._left(steps, taken)) is not None:
            return left
        release = taken.release
        try:
            self.supply.copy(release, self.offers.source(taken.source))  # where the disk lost one
            if self._brings_appliance(release):
                if steps.slot is None:
                    self._write(steps.model_copy(update={"slot": self.box.slots.free()}))
                    return Turn.ON
                wheels, requirements, own = self.supply.wheels(release)
                device = self.supply.device(release)
                self.box.slots.build(steps.slot, release, device, wheels, requirements, own)
            for one in self._new_bundles(release):
                self.supply.bundle(one)
        except Refuse as e:
            return self._refused(steps, e)
        what = f"slot {steps.slot} is built" if steps.slot else "the bundles are made"
        return self._advance(steps, Event.DONE, what)

    def _proving(self, steps: Steps, taken: Taken) -> Turn:
        if (left := self._left(steps, taken)) is not None:
            return left
        release = taken.release
        wanted = release.bundles if steps.slot else self._new_bundles(release)
        try:
            paths = [self.supply.bundle(one) for one in wanted]
            slot = steps.slot or self.box.slots.current() or 0
            if steps.slot:
                self.box.local(slot)
        except (Refuse, NotBuilt) as e:
            return self._refused(steps, e)
        if (why := self.room.proved(self.box, slot, paths, idle=self.idle())) is not None:
            self.notes.know(back=release.path)
            return self._advance(steps, Event.WRONG, f"not proved: {why}")
        return self._advance(steps, Event.DONE, "it is proved on this box")

    def _ready(self, steps: Steps, taken: Taken) -> Turn:
        if (left := self._left(steps, taken)) is not None:
            return left
        now, switches = self.planned, {Do.SWITCH_APPLIANCE, Do.SWITCH_BUNDLE}
        ours = now.release is not None and now.release.path == steps.release
        if not ours or not switches & {step.do for step in now.steps}:
            if steps.why != now.why:
                self._write(steps.model_copy(update={"why": now.why}))
            return Turn.WAIT
        self.notes.take(
            taken.model_copy(
                update={
                    "slot": self.box.slots.current() or 0,
                    "bundles": self.box.bundles.active(),
                }
            )
        )
        return self._advance(steps, Event.DONE, "it is switched to")

    def _switching(self, steps: Steps, taken: Taken) -> Turn:
        if self.box.places.reason.exists():
            return self._sick(steps)
        self._remember(steps, taken)
        try:
            if steps.slot is not None:
                switching.forward(self.box, steps.slot, taken.slot)
            else:
                self._bundles_in(taken.release)
        except StateUnusable:
            raise  # a full disk passes, and nothing is said against the release
        except ScansideError as e:
            return self._advance(steps, Event.SICK, f"it does not start: {e.one_line()}")
        self._advance(steps, Event.DONE, "it runs, on trial")
        self.notes.fulfil(self.notes.wishes().number)
        return Turn.ON if steps.slot is None else Turn.END

    def _trial(self, steps: Steps, taken: Taken) -> Turn:
        if self.box.places.reason.exists() or self._guard_went_back(steps):
            return self._sick(steps)
        if self.notes.wishes().back:
            return self._advance(steps, Event.BACK, "a person goes back")
        try:
            self._bundles_in(taken.release)
        except Refuse as e:
            return self._advance(steps, Event.SICK, f"its bundles do not run: {e.one_line()}")
        if steps.slot is None:
            return self._confirmed(steps, "it runs")
        version = taken.release.appliance.version
        studies = interlock.studies_of(self.box.seen(), version) - taken.studies
        if studies >= STUDIES:
            return self._confirmed(steps, f"{studies} studies were analysed")
        if self.box.ill():
            self._healthy_since = None
        elif self._healthy_since is None:
            self._healthy_since = self.box.tick()
        elif self.box.tick() - self._healthy_since >= HEALTHY_S:
            return self._confirmed(steps, f"{HEALTHY_S / 60:.0f} minutes were healthy")
        return Turn.WAIT

    def _returning(self, steps: Steps, taken: Taken) -> Turn:
        moved = False
        if steps.slot is not None:
            runs = self.box.slots.current()
            to = self.good_slot(but=steps.slot) if runs == steps.slot else runs
            if to is None:
                raise ScansideError("there is no slot to go back to", code="slot_none_before")
            moved = runs == steps.slot
            switching.backward(self.box, to, steps.slot)
        self._bundles_back(taken)
        self.notes.know(back=steps.release)
        self.notes.fulfil(self.notes.wishes().number, back=True)
        self._advance(steps, Event.DONE, "what ran before runs again")
        return Turn.END if moved else Turn.ON

    # Parts of them

    def _left(self, steps: Steps, taken: Taken) -> Turn | None:
        """Whether the release in hand is left before it runs."""
        recall = self.offers.trust().mark().recall
        if recall is not None and (gone := recall.recalled_of(taken.release)):
            self.notes.know(back=steps.release)
            text = f"{gone[0].name} {gone[0].version} was recalled: {gone[0].reason}"
            return self._advance(steps, Event.RECALLED, text)
        newer = self.planned.release
        if newer is not None and newer.number > taken.release.number:
            return self._advance(steps, Event.NEWER, f"{newer.path} takes its place")
        if self.notes.holds():
            if steps.why != self.planned.why:
                self._write(steps.model_copy(update={"why": self.planned.why}))
            return Turn.WAIT
        return None

    def _refused(self, steps: Steps, e: ScansideError) -> Turn:
        """Rule 2."""
        self.notes.know(back=steps.release)
        self.supply.clear()  # what was copied is damaged, and is not looked at again
        return self._advance(steps, Event.WRONG, e.one_line())

    def _remember(self, steps: Steps, taken: Taken) -> None:
        """Rule 3, and the name, version and digest of all that runs and is to run."""
        own = taken.release.appliance
        new = Named(name=APPLIANCE, version=own.version, digest=own.wheel.digest)
        ran = (self.running(), *taken.bundles)
        self.notes.know(*ran, new, *steps.bundles, highest=taken.release.number)

    def _guard_went_back(self, steps: Steps) -> bool:
        return steps.slot is not None and self.box.slots.current() != steps.slot

    def _sick(self, steps: Steps) -> Turn:
        try:
            said = self.box.places.reason.read_text(encoding="utf-8").strip()
        except OSError:
            said = "guard went back"
        return self._advance(steps, Event.SICK, f"it went back by itself: {said}")

    def _confirmed(self, steps: Steps, text: str) -> Turn:
        if steps.slot is not None:
            self.box.migrate()
            switching.settle(self.box, steps.slot)
            guarding.follow(self.box.places, self.box.disk)
        made = self._advance(steps, Event.DONE, f"confirmed: {text}")
        self.supply.clear()
        self.box.slots.forget([], self.offers.trust().mark().recall)
        return made

    def _brings_appliance(self, release: Release) -> bool:
        return release.appliance.wheel.digest != self.running().digest

    def _new_bundles(self, release: Release) -> tuple[Admitted, ...]:
        active = {one.digest for one in self.box.bundles.active()}
        return tuple(one for one in release.bundles if one.digest not in active)

    def _bundles_in(self, release: Release) -> None:
        """The bundles of the release on the shelf, and active."""
        for one in self._new_bundles(release):
            if not self.box.bundles.holds(one.digest):
                self.box.bundles.admit(self.supply.bundle(one), release.path)
            self.box.bundles.activate(_named(one))

    def _bundles_back(self, taken: Taken) -> None:
        recall = self.offers.trust().mark().recall
        active = self.box.bundles.active()
        brought = {one.name for one in taken.release.bundles}
        for one in taken.bundles:
            recalled = recall is not None and recall.names(one.digest) is not None
            if one.name in brought and one not in active and not recalled:
                self.box.bundles.activate(one)
        before = {one.name for one in taken.bundles}
        for one in map(_named, taken.release.bundles):
            if one.name not in before and one in active:
                self.box.bundles.deactivate(one.name)

    def good_slot(self, but: int) -> int | None:
        """Where a way back leads (appliance.apply.slotting)."""
        steps, recall = self.steps(), self.offers.trust().mark().recall
        return slotting.good(self.box, self.notes.done(), steps, recall, but)

    def _withdraw(self, steps: Steps | None, facts: Facts) -> Turn | None:
        """What runs and was recalled gives way (appliance.update.plan, rule 5)."""
        for step in self.planned.steps:
            if step.do is Do.WITHDRAW_BUNDLE and facts.recall is not None:
                for one in facts.bundles:
                    if (entry := facts.recall.names(one.digest)) is not None:
                        self._withdraw_bundle(one, entry.reason)
            if step.do is Do.WITHDRAW_APPLIANCE:
                return self._withdraw_appliance(steps, facts.slot)
        return None

    def _withdraw_bundle(self, one: Named, reason: str) -> None:
        try:
            self.box.bundles.withdraw(one.digest, reason)
        except ScansideError as e:  # it hinders nothing else, and is tried again at the next turn
            self.trouble = e.one_line()
        else:
            self._tell("bundle recalled", {"bundle": one.words(), "reason": reason})

    def _withdraw_appliance(self, steps: Steps | None, slot: int) -> Turn | None:
        to = self.good_slot(but=slot)
        if to is None:
            switching.receive_only(self.box, slot)
            return None
        if steps is not None and steps.slot == slot:
            if steps.state in (State.TRIAL, State.CONFIRMED):
                return self._advance(steps, Event.RECALLED, "what runs was recalled")
            if steps.state is State.RETURNING:
                return None
        self._tell("appliance recalled", {"slot": str(slot), "to": str(to)})
        switching.backward(self.box, to, slot)
        return Turn.END

    def _advance(self, steps: Steps, event: Event, text: str) -> Turn:
        made = journal.advance(steps, event, text=str(cut(text)))
        self._write(made)
        self._tell("update", {"release": made.release, "state": made.state.value, "text": text})
        if made.state in ENDED and made.state is not State.REPLACED:
            self.notes.fulfil(self.notes.wishes().number)
        return Turn.ON

    def _write(self, steps: Steps) -> None:
        journal.write(self.box.places, steps, self.box.disk)

    def _tell(self, action: str, detail: dict[str, str]) -> None:
        self.box.tell(action, detail)


def _named(one: Admitted) -> Named:
    return Named(name=one.name, version=one.version, digest=one.digest)


_DOES: dict[State, Callable[[Course, Steps, Taken], Turn]] = {
    State.FETCHING: Course._fetching,
    State.BUILDING: Course._building,
    State.PROVING: Course._proving,
    State.READY: Course._ready,
    State.SWITCHING: Course._switching,
    State.TRIAL: Course._trial,
    State.RETURNING: Course._returning,
}
"""What is done in each state that has not ended."""
