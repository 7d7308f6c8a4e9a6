// Feedback without leaving the page: the same forms, sent by fetch, and keys for the current finding.
// Without this file the forms work as they are.
//
// scanside:place    from the viewer, {center_lps_mm: [x, y, z], series}: where something was missed
// scanside:finding  from the viewer, {finding}: which finding the reader looks at
"use strict";
(() => {
  const KEYS = { a: "accept", r: "reject", u: "undo" };
  const KEPT = "scanside-feedback-keys";
  let current = null; // number of the finding that the reader looks at
  let sending = false;

  const sections = () => [...document.querySelectorAll("section.feedback")];
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
      forms.find((form) => form.dataset.finding === String(current)) ||
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
      if (fresh) replace(section, document.adoptNode(fresh), form, button);
      else if (answer.status === 401 || answer.redirected) location.reload();
      else say(section, section.dataset.failed, true);
    } catch {
      say(section, section.dataset.failed, true);
    } finally {
      sending = false;
    }
  }

  function replace(old, fresh, form, button) {
    const finding = form.dataset.finding;
    const reading = old.querySelector("details.remark")?.open;
    for (const field of fresh.querySelectorAll("input[name=page]")) {
      field.value = old.querySelector("input[name=page]").value;
    }
    old.replaceWith(fresh);
    if (reading) fresh.querySelector("details.remark").open = true;
    prepare(fresh);
    say(fresh, fresh.dataset.saved, false);
    const buttons = [...fresh.querySelectorAll(`form[data-finding="${finding}"] button`)];
    const same = buttons.find((one) => one.value === button?.value && !one.disabled);
    (same || buttons[0])?.focus({ preventScroll: true });
    document.dispatchEvent(new CustomEvent("scanside:feedback", { detail: { report: fresh.dataset.report } }));
  }

  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!form.closest("section.feedback")) return;
    event.preventDefault();
    if (form.dataset.finding) current = Number(form.dataset.finding);
    send(form, event.submitter);
  });

  document.addEventListener("focusin", (event) => {
    const form = event.target.closest("form.judge[data-finding]");
    if (form) {
      current = Number(form.dataset.finding);
      mark();
    }
  });

  document.addEventListener("keydown", (event) => {
    const verdict = KEYS[event.key];
    if (!verdict || !keysOn() || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    if (event.target.closest("input, textarea, select, [contenteditable]")) return;
    const form = judged();
    const button = form && form.querySelector(`button[value="${verdict}"]`);
    if (!button || button.disabled) return;
    event.preventDefault();
    current = Number(form.dataset.finding);
    form.requestSubmit(button);
  });

  document.addEventListener("scanside:finding", (event) => {
    current = Number(event.detail.finding);
    mark();
  });

  document.addEventListener("scanside:place", (event) => {
    const { center_lps_mm: center, series } = event.detail;
    const every = sections();
    const section = every.find((one) => one.dataset.series === series) || every[0];
    const place = section && section.querySelector("details.place");
    if (!place) return;
    place.open = true;
    ["x", "y", "z"].forEach((axis, n) => {
      place.querySelector(`input[name=${axis}]`).value = Number(center[n]).toFixed(1);
    });
    const size = place.querySelector("button[name=size_mm]");
    size.scrollIntoView({ block: "nearest" });
    size.focus({ preventScroll: true });
  });

  sections().forEach(prepare);
})();
