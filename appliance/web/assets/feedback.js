// Feedback without leaving the page: the same forms, sent by fetch, and keys for the current finding.
// Without this file the forms work as they are.
//
// viewer:place    from the viewer, {lps: [x, y, z]}, or of a radiograph {lps: null, image, stored:
//                 [column, row], scaled}: where the reader pointed. The place goes into the form of what was
//                 missed, which stays closed until "Missed here" is tapped.
// scanside:fresh  from live.js: something about the study is new
// viewer:finding  from the viewer, {report, finding}: what it shows now, which is the one in hand
// A click on [data-viewer-finding][data-viewer-report] makes that finding the one in hand.
"use strict";
(() => {
  const KEYS = { a: "accept", r: "reject", u: "undo" };
  const KEPT = "scanside-feedback-keys";
  let current = null; // the finding that the reader looks at, as `key` names it
  let sending = false;

  const sections = () => [...document.querySelectorAll("section.feedback")];
  const key = (form) => `${form.closest("section.feedback").dataset.report} ${form.dataset.finding}`;
  const keysOn = () => localStorage.getItem(KEPT) !== "off";

  // The line before a section stays when the section is replaced, so that a screen reader says it.
  function say(section, text, failed) {
    const told = section.previousElementSibling;
    told.textContent = text;
    told.classList.toggle("stop", failed);
    told.classList.toggle("ok", !failed);
  }

  function prepare(section) {
    if (!section.previousElementSibling?.classList.contains("told")) {
      const told = document.createElement("p");
      told.className = "told";
      told.setAttribute("role", "status");
      section.before(told);
    }
    const keys = section.querySelector("button.keys");
    if (keys) {
      keys.hidden = false;
      keys.setAttribute("aria-pressed", String(keysOn()));
      keys.addEventListener("click", () => {
        localStorage.setItem(KEPT, keysOn() ? "off" : "on");
        for (const one of document.querySelectorAll("button.keys")) {
          one.setAttribute("aria-pressed", String(keysOn()));
        }
      });
    }
    mark();
  }

  function judged() {
    const forms = [...document.querySelectorAll("form.judge[data-finding]")];
    return (
      forms.find((form) => key(form) === current) ||
      forms.find((form) => form.dataset.judged === "no") ||
      forms[0]
    );
  }

  function mark() {
    const chosen = judged();
    for (const form of document.querySelectorAll("form.judge")) {
      form.classList.toggle("current", form === chosen);
    }
  }

  async function send(form, button) {
    if (sending) return; // a second tap with a glove
    sending = true;
    const section = form.closest("section.feedback");
    const values = new URLSearchParams(new FormData(form));
    if (button && button.name) values.set(button.name, button.value);
    values.set("page", "report");
    try {
      const answer = await fetch(form.action, { method: "POST", body: values });
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = answer.ok && page.getElementById(section.id);
      if (fresh) {
        // who judged by a key while looking at the image stays there
        const inside = section.contains(document.activeElement);
        replace(section, document.adoptNode(fresh));
        say(fresh, fresh.dataset.saved, false);
        if (inside) focus(fresh, form, button);
      } else if (answer.status === 401 || answer.redirected) location.reload();
      else say(section, section.dataset.failed, true);
    } catch {
      say(section, section.dataset.failed, true);
    } finally {
      sending = false;
    }
  }

  // Puts a section as the device has it now in the place of the old one.
  function replace(old, fresh) {
    const reading = old.querySelector("details.remark")?.open;
    for (const field of fresh.querySelectorAll("input[name=page]")) {
      field.value = old.querySelector("input[name=page]").value;
    }
    old.replaceWith(fresh);
    if (reading) fresh.querySelector("details.remark").open = true;
    prepare(fresh);
  }

  function focus(section, form, button) {
    const buttons = [...section.querySelectorAll(`form[data-finding="${form.dataset.finding}"] button`)];
    const same = buttons.find((one) => one.value === button?.value && !one.disabled);
    (same || buttons[0])?.focus({ preventScroll: true });
  }

  // Somebody else may have said something: the page of the study has news.
  async function look(section) {
    try {
      const answer = await fetch(`/feedback/${section.dataset.report}`);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = answer.ok && page.getElementById(section.id);
      const writing = section.querySelector("textarea")?.value || section.querySelector("details.place[open]");
      if (fresh && fresh.dataset.mark !== section.dataset.mark && !writing && !sending) {
        const held = section.contains(document.activeElement) && document.activeElement.closest("form");
        const button = document.activeElement;
        replace(section, document.adoptNode(fresh));
        if (held) focus(fresh, held, button);
      }
    } catch {
      // the device is away: the page says so itself, and what is shown here stays
    }
  }

  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!form.closest("section.feedback")) return;
    event.preventDefault();
    if (form.dataset.finding) current = key(form);
    send(form, event.submitter);
  });

  document.addEventListener("focusin", (event) => {
    const form = event.target.closest("form.judge[data-finding]");
    if (form) {
      current = key(form);
      mark();
    }
  });

  document.addEventListener("keydown", (event) => {
    const verdict = KEYS[event.key];
    if (!verdict || !keysOn() || event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    if (event.target.closest("input, textarea, select, [contenteditable]")) return;
    const form = judged();
    const button = form && form.querySelector(`button[value="${verdict}"]`);
    if (!button || button.disabled) return;
    event.preventDefault();
    form.requestSubmit(button);
  });

  document.addEventListener("viewer:finding", (event) => {
    current = `${event.detail.report} ${event.detail.finding}`;
    mark();
  });

  document.addEventListener("click", (event) => {
    const chosen = event.target.closest("[data-viewer-finding]");
    if (!chosen) return;
    current = `${chosen.dataset.viewerReport} ${chosen.dataset.viewerFinding}`;
    mark();
  });

  document.addEventListener("viewer:place", (event) => {
    const { lps, image, stored, scaled } = event.detail;
    const [kind, said] = lps
      ? ["patient", { x: lps[0], y: lps[1], z: lps[2] }]
      : ["image", stored && { column: stored[0], row: stored[1] }];
    if (!said) return;
    const around = event.target.closest?.("section.series") || document;
    for (const place of around.querySelectorAll(`details.place[data-placed=${kind}]`)) {
      for (const [name, value] of Object.entries(said)) {
        place.querySelector(`input[name=${name}]`).value = Number(value).toFixed(1);
      }
      if (lps) continue;
      place.querySelector("input[name=image]").value = image;
      place.querySelector(".no-scale").hidden = scaled; // without it a size in mm means nothing
      for (const size of place.querySelectorAll("button[name=size_mm]")) size.disabled = !scaled;
    }
  });

  document.addEventListener("scanside:fresh", () => sections().forEach(look));

  sections().forEach(prepare);
})();
