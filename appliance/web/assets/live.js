// Keeps an open page true: listens to /events and, when told, asks for the page again and puts the
// new parts in place of the old ones. A part is an element with data-live="NAME"; what has none, such
// as the viewer, is left alone. A page that has heard nothing for STALE_MS says that it is old.
"use strict";
(() => {
  const STALE_MS = 40000; // the stream says every 15 s that it is alive
  const GAP_MS = 1000;
  const banner = document.getElementById("stale");
  if (!banner) return;
  let heard = Date.now();
  let wanted = false;
  let asking = false;

  function stale(text) {
    banner.lastElementChild.textContent = text;
    banner.hidden = false;
  }

  function fresh() {
    heard = Date.now();
    banner.hidden = true;
  }

  function open(part) {
    return new Set([...part.querySelectorAll("details[open][id]")].map((one) => one.id));
  }

  function replace(part, found) {
    const opened = open(part);
    const focused = part.contains(document.activeElement) ? document.activeElement : null;
    const where = focused && (focused.id || focused.getAttribute("href"));
    part.replaceChildren(...found.childNodes);
    for (const one of part.querySelectorAll("details[id]")) one.open = opened.has(one.id);
    if (!where) return;
    const again = [...part.querySelectorAll("a[href], [id]")].find(
      (one) => one.id === where || one.getAttribute("href") === where,
    );
    if (again) again.focus({ preventScroll: true });
  }

  function changed(part, found) {
    const copy = part.cloneNode(true);
    for (const one of copy.querySelectorAll("details")) one.removeAttribute("open");
    return copy.innerHTML !== found.innerHTML;
  }

  async function ask() {
    if (asking || document.hidden) return; // a hidden page asks when it is looked at
    asking = true;
    wanted = false;
    try {
      // not a person: it keeps no login open
      const headers = { accept: "text/html", "x-scanside-unasked": "1" };
      const answer = await fetch(location.href, { headers, redirect: "manual" });
      if (answer.ok) {
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        const parts = [...document.querySelectorAll("[data-live]")];
        const names = (all) => all.map((one) => one.dataset.live).join();
        if (names(parts) !== names([...page.querySelectorAll("[data-live]")])) location.reload();
        for (const part of parts) {
          const found = page.querySelector(`[data-live="${part.dataset.live}"]`);
          if (found && changed(part, found)) replace(part, found);
        }
        document.dispatchEvent(new CustomEvent("scanside:fresh"));
      } else if (answer.status === 404 || answer.type === "opaqueredirect" || answer.status === 401) {
        location.reload(); // deleted, or logged out: the page itself says so
      }
    } catch {
      wanted = true; // the device is away: the banner will say so
    } finally {
      asking = false;
      if (wanted) setTimeout(ask, GAP_MS);
    }
  }

  function news() {
    wanted = true;
    setTimeout(() => wanted && ask(), Math.random() * GAP_MS); // many pages do not ask at once
  }

  const stream = new EventSource(banner.dataset.events);
  for (const kind of ["alive", "news"]) stream.addEventListener(kind, fresh);
  stream.addEventListener("news", news);
  stream.addEventListener("out", () => {
    stream.close();
    stale(banner.dataset.out);
  });
  document.addEventListener("visibilitychange", () => wanted && ask());
  setInterval(() => {
    if (Date.now() - heard < STALE_MS || stream.readyState === EventSource.CLOSED && !banner.hidden) return;
    const at = new Date(heard).toTimeString().slice(0, 8);
    stale(banner.dataset.stale.replace("{at}", at));
  }, 1000);
})();
