// A tone for each new verdict of the in-room check, on request: one high tone where an exam is usable as
// far as it was checked, two low ones where somebody has to look before the patient leaves.
//
// Rules
// - It is off until somebody taps the button, and then on in this browser for this login, or for as
//   long as the screen of the room is bound. The tap sounds what is on the page, so that it is heard
//   whether the loudspeaker works.
// - Browsers let a page sound only after a person has touched it. Until then the button says so.
// - A verdict is what an element with data-verdict (usable or look) says of data-verdict-of. What the
//   page shows when it is opened is not new; what it shows when it loads itself again may be.
// - Of several new verdicts at once one sounds, the gravest. The tones are made here: no file is
//   loaded, and nothing that a person could need stands in a tone alone.
"use strict";
(() => {
  const KEPT = "scanside-sound";
  const SEEN = `scanside-verdicts ${location.pathname}${location.search}`;
  const MOST = 200; // verdicts that are remembered
  const TONES = { usable: [[880, 0]], look: [[440, 0], [440, 0.25]] }; // hertz, seconds
  const LONG = 0.18;
  const LOUD = 0.4;
  const button = document.getElementById("sound");
  if (!button || typeof AudioContext === "undefined") return;
  let context = null;

  const on = () => localStorage.getItem(KEPT) === button.dataset.session;
  const heard = () => context !== null && context.state === "running";

  function show() {
    const state = !on() ? "off" : heard() ? "on" : "locked";
    button.textContent = button.dataset[state];
    button.dataset.state = state;
    button.hidden = false;
  }

  // Begins to be heard, as far as the browser lets it: else with the next touch or key.
  function open() {
    if (context === null) {
      context = new AudioContext();
      context.addEventListener("statechange", show);
    }
    return heard() ? Promise.resolve() : context.resume();
  }

  function sound(verdict) {
    if (!on() || !heard()) return;
    for (const [hertz, after] of TONES[verdict]) {
      const tone = new OscillatorNode(context, { frequency: hertz });
      const loud = new GainNode(context, { gain: 0 });
      const at = context.currentTime + 0.02 + after;
      loud.gain.setValueAtTime(0, at); // it swells and fades: what begins at once clicks
      loud.gain.linearRampToValueAtTime(LOUD, at + 0.02);
      loud.gain.setValueAtTime(LOUD, at + LONG - 0.05);
      loud.gain.linearRampToValueAtTime(0, at + LONG);
      tone.connect(loud).connect(context.destination);
      tone.start(at);
      tone.stop(at + LONG);
    }
  }

  const gravest = (verdicts) => (verdicts.includes("look") ? "look" : "usable");

  function verdicts() {
    const found = [...document.querySelectorAll("[data-verdict]")];
    return new Map(found.map((one) => [one.dataset.verdictOf, one.dataset.verdict]));
  }

  // What was seen on this page before, in this tab; null: it is opened for the first time.
  function seen() {
    const kept = sessionStorage.getItem(SEEN);
    return kept === null ? null : new Map(JSON.parse(kept));
  }

  function look() {
    const before = seen();
    const now = verdicts();
    const all = [...new Map([...(before ?? []), ...now])].slice(-MOST);
    sessionStorage.setItem(SEEN, JSON.stringify(all));
    if (before === null) return;
    const fresh = [...now].filter(([of, verdict]) => before.get(of) !== verdict);
    if (fresh.length > 0) sound(gravest(fresh.map(([, verdict]) => verdict)));
  }

  button.addEventListener("click", async (event) => {
    event.stopPropagation();
    if (on() && heard()) {
      localStorage.removeItem(KEPT);
      show();
      return;
    }
    localStorage.setItem(KEPT, button.dataset.session);
    await open();
    show();
    sound(gravest([...verdicts().values()]));
  });
  for (const kind of ["pointerup", "keydown"]) {
    document.addEventListener(kind, (event) => {
      if (on() && !heard() && !button.contains(event.target)) open();
    });
  }
  document.addEventListener("scanside:fresh", look);
  if (on()) open();
  look();
  show();
})();
