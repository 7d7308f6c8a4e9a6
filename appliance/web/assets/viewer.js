/* The viewer of one series: an image, what lies over it, and its controls.

   Rules
   - It needs no other library, no WebGL and no style in attributes (docs/decisions/0009-viewer.md).
     The modules that it is made of have addresses with digests, which the page hands over.
   - One plane is shown at a time, axial first. The place in the patient stays when the plane changes.
   - What cannot be had is said in words over the image; everything else goes on.
   - It shows the findings of the result that counts, until a person chooses another one; a tap on
     a finding of another result chooses that. What is shown of one that does not count says so.
   - Where there is nothing to scroll, as with one radiograph, a finger and the arrows move the image.
   - It begins when it comes into sight, so that a study of many series costs no more than what is
     looked at.
   - The rest of the page speaks with it by events: a click on an element with data-viewer-finding
     and data-viewer-report, in the section around the viewer, jumps to that finding of the report;
     after `scanside:fresh` (live.js) it asks for images and findings again; what is jumped to is
     told as `viewer:finding`, {report, finding}, so that a key judges what is seen; a tap on the
     image is told as `viewer:place`, with the place in LPS millimetres (null of a radiograph), the
     image, counted from 0 as /images lists it, the pixel, and of a radiograph `stored`, [column,
     row] of the image as it was sent, and `scaled`, whether a size in mm can be told from it.
     `data-shown` of the viewer says what is drawn
     (plane, frame and image), and `data-findings`, once they are known, how many there are. */

const PARTS = ["places", "slices", "picture", "views", "marks", "results", "gestures"];
const AHEAD = 3;
const SETTLE_MS = 100; // after a jump the image itself comes first, then what is beside it
const AGAIN_MS = 2000;
const FILL_MS = 200; // a plane that fills is drawn so often: each drawing takes time from the slices
const PAGE = 10;
const ZOOM_STEP = 1.25;
const DRAG_PX = [4, 24]; // of one frame, when a finger scrolls
const ARROWS = { ArrowUp: [0, 1], ArrowDown: [0, -1], ArrowLeft: [1, 0], ArrowRight: [-1, 0] };
const MOVE = 0.1; // of the stage, when an arrow moves the image

class Viewer {
  constructor(root, { places, slices, picture, views, marks, results, gestures }) {
    Object.assign(this, { root, places, slicesOf: slices, pictureOf: picture, marks });
    Object.assign(this, { fill: results.fill, resultsOf: results });
    this.address = root.dataset.address;
    this.words = JSON.parse(root.querySelector(".viewer-words").textContent);
    const find = (name) => root.querySelector(`.viewer-${name}`);
    Object.assign(this, {
      stage: find("stage"), canvas: find("canvas"), over: find("over"), said: find("message"),
      notice: find("notice"), position: find("position"), slider: find("slider"),
      opacity: find("opacity"), note: find("note"), result: find("result"),
    });
    this.picture = new picture.Picture(this.canvas);
    this.views = new views.Views();
    this.views.setSize(this.stage.clientWidth, this.stage.clientHeight);
    this.plane = "axial";
    this.at = 0;
    this.point = undefined; // in the patient, LPS mm: what is looked at
    this.window = 0;
    this.current = -1;
    this.findings = [];
    this.results = [];
    this.chosen = null; // a report_id; null: the result that counts
    this.way = 1;
    this.maps = new Map();
    this.bind(gestures);
  }

  // What it is made of.

  async begin() {
    this.slices?.close();
    const listing = await this.ask("images");
    if (!listing) {
      this.again(() => this.begin());
      return;
    }
    this.listing = listing;
    const all = listing.images.map((one) => one.place);
    this.slices = new this.slicesOf.Slices(
      (what) => this.locate(what), listing, (image) => this.came(image));
    this.frames = { axial: this.places.axial(all) };
    if (listing.no_planes === null) Object.assign(this.frames, this.places.reformatted(all));
    this.radiograph = listing.no_planes === "radiograph";
    this.root.classList.toggle("radiograph", this.radiograph);
    this.root.classList.toggle("single", this.frames.axial.count === 1);
    this.notice.textContent = listing.notice ?? this.words.notice;
    this.note.textContent = listing.no_planes && !this.radiograph
      ? `${this.words.axial_only} ${this.words[`no_${listing.no_planes}`]}` : "";
    this.picture.setWindow(listing.windows[this.window]);
    const { axial } = this.frames;
    const before = this.point;
    this.plane = "axial";
    this.at = before ? axial.nearest(before) : Math.floor(axial.count / 2);
    this.show(this.at);
    await this.beginFindings(before === undefined);
  }

  async beginFindings(first) {
    const masks = await this.ask("masks", { quiet: true });
    this.unmarked = masks?.name !== this.listing.name;
    if (this.unmarked) { // never to be taken for a series without findings
      this.draw();
      if (masks) setTimeout(() => this.begin(), AGAIN_MS);
      else this.again(() => this.beginFindings(first));
      return;
    }
    this.take(masks);
    if (first && !this.touched && this.findings.length > 0) this.jump(0);
  }

  /** The same once more after a while, where the device was away or busy. */
  again(what) {
    if (this.failure === "away" || this.failure === "busy") setTimeout(what, AGAIN_MS);
  }

  /** Images and findings again; the place stays where the images do. */
  async refresh() {
    const before = this.listing?.name;
    const listing = await this.ask("images", { quiet: true });
    if (listing && listing.name !== before) await this.begin();
    else if (listing) {
      const masks = await this.ask("masks", { quiet: true });
      if (masks?.name === before) this.take(masks);
    }
  }

  take(masks) {
    this.unmarked = false;
    this.findings = masks.findings;
    this.reportId = masks.report;
    this.results = masks.results;
    this.damaged = masks.damaged;
    this.resultsOf.offer(this.result, this.results, this.reportId, this.words);
    this.root.classList.toggle("several-results", this.results.length > 1);
    this.current = Math.min(this.current, this.findings.length - 1);
    this.root.classList.toggle("without-findings", this.findings.length === 0);
    this.root.dataset.findings = this.findings.length;
    this.draw();
  }

  /** Another result of the series; its images may be others too. */
  async choose(report) {
    this.chosen = report;
    this.current = -1;
    this.maps.clear();
    const before = this.listing?.name;
    const listing = await this.ask("images", { quiet: true });
    if (listing?.name === before) await this.beginFindings(false);
    else await this.begin();
  }

  /** An address of the series, of the result that was chosen. */
  locate(what) {
    if (this.chosen === null) return `${this.address}/${what}`;
    return `${this.address}/${what}${what.includes("?") ? "&" : "?"}report=${this.chosen}`;
  }

  /** JSON of an address of the series; null, said in words, where it cannot be had. */
  async ask(what, { quiet = false } = {}) {
    let why = { kind: "away", text: "" };
    try {
      const response = await fetch(this.locate(what), {
        cache: "no-store", redirect: "manual",
      });
      if (response.ok) return await response.json();
      why = await this.slicesOf.reason(response);
    } catch {
      // The device is away: said below.
    }
    this.failure = why.kind;
    if (!quiet) this.say(why);
    return null;
  }

  // What is looked at.

  get now() {
    return this.frames?.[this.plane];
  }

  /** The image that an axial frame is; -1 in other planes. */
  get image() {
    return this.plane === "axial" ? this.now.image(this.at) : -1;
  }

  show(at) {
    if (!this.now) return;
    const next = Math.min(Math.max(at, 0), this.now.count - 1);
    if (next !== this.at) this.way = Math.sign(next - this.at);
    const jumped = Math.abs(next - this.at) > 1;
    this.at = next;
    const frame = this.now.frame(next);
    if (frame?.origin && this.point) {
      const { depth } = this.places.pixelOf(frame, this.point);
      this.point = this.places.moved(this.point, frame.w, -depth);
    } else if (frame?.origin) {
      this.point = this.places.placeOf(frame, frame.columns / 2, frame.rows / 2);
    }
    clearTimeout(this.settling);
    this.fetch(jumped);
    if (jumped) this.settling = setTimeout(() => this.fetch(), SETTLE_MS);
    this.draw();
  }

  /** alone: nothing of what is beside it. */
  fetch(alone = false) {
    if (this.plane !== "axial") {
      const slices = this.now.slices.filter((image) => image >= 0);
      this.slices.want(slices, { together: true });
      return;
    }
    const likely = [];
    for (let n = 1; n <= AHEAD; n += 1) likely.push(this.at + n * this.way);
    likely.push(this.at - this.way);
    const there = likely.filter((at) => at >= 0 && at < this.now.count);
    this.slices.want([this.image], { likely: alone ? [] : there.map((at) => this.now.image(at)) });
  }

  came(image) {
    const why = this.slices.why(image);
    if (why?.kind === "changed") {
      this.begin();
      return;
    }
    if (this.plane === "axial") {
      if (image === this.image) this.draw();
    } else if (this.slices.idle) this.draw();
    else {
      this.filling ??= setTimeout(() => {
        this.filling = null;
        this.draw();
      }, FILL_MS);
    }
  }

  choosePlane(plane) {
    if (!this.frames?.[plane]) {
      if (this.listing?.no_planes) this.tell(this.note.textContent);
      return;
    }
    this.plane = plane;
    this.way = 1;
    this.show(this.point ? this.now.nearest(this.point) : this.now.count >> 1);
  }

  chooseWindow(number) {
    if (!this.listing) return;
    this.window = number;
    this.picture.setWindow(this.listing.windows[number]);
    this.draw();
  }

  /** by: how many findings further. */
  next(by) {
    const count = this.findings.length;
    if (count === 0) return;
    const first = by > 0 ? 0 : count - 1;
    this.jump(this.current < 0 ? first : (this.current + by + count) % count);
  }

  jump(index) {
    const finding = this.findings[index];
    this.current = index;
    this.root.dispatchEvent(new CustomEvent("viewer:finding", {
      bubbles: true, detail: { report: this.reportId, finding: finding.id },
    }));
    if (finding.map) this.loadMap(finding.map);
    if (finding.center) {
      this.point = [...finding.center];
      const at = this.plane === "axial" ? this.now.at(finding.image) : this.now.nearest(this.point);
      const frame = this.now.frame(at);
      if (frame) this.views.centre(this.plane, frame, this.places.pixelOf(frame, this.point));
      this.show(at);
    } else this.show(this.now.at(finding.image));
  }

  async loadMap(name) {
    if (this.maps.has(name)) return;
    this.maps.set(name, null);
    const map = await this.ask(`map/${name}`);
    if (!map) return;
    this.maps.set(name, this.pictureOf.heated(map));
    this.draw();
  }

  zoom(factor, x, y) {
    const frame = this.now?.frame(this.at);
    if (frame) this.views.zoom(this.plane, frame, factor, x, y);
    this.draw();
  }

  pan(dx, dy) {
    const frame = this.now?.frame(this.at);
    if (frame) this.views.pan(this.plane, frame, dx, dy);
    this.draw();
  }

  fit() {
    this.views.fit(this.plane);
    this.draw();
  }

  // Drawing.

  draw() {
    if (this.drawing || !this.frames) return;
    this.drawing = requestAnimationFrame(() => {
      this.drawing = null;
      this.paint();
    });
  }

  paint() {
    this.views.setSize(this.stage.clientWidth, this.stage.clientHeight);
    const { width, height } = this.views;
    this.picture.clear(width, height);
    const frame = this.now.frame(this.at);
    const values = frame && this.valuesOf(frame);
    if (values) {
      const laid = this.views.laid(this.plane, frame);
      this.picture.draw(values, frame, laid);
      const map = this.mapNow();
      if (map) this.picture.lay(map, laid, Number(this.opacity.value) / 100);
    }
    this.paintOver(values ? frame : null);
    this.report(Boolean(values));
  }

  /** The values of a frame, row by row; null where there is nothing to show yet. */
  valuesOf(frame) {
    const size = frame.columns * frame.rows;
    if (this.plane === "axial") {
      const values = this.slices.get(this.image);
      return values?.length === size ? values : null;
    }
    if (this.cut?.length !== size) this.cut = new Int16Array(size);
    this.now.cut(this.at, (image) => this.slices.get(image), this.cut);
    return this.cut;
  }

  /** The heat map of the finding that is looked at, on the image that is shown. */
  mapNow() {
    const finding = this.findings[this.current];
    return finding?.map && finding.image === this.image ? this.maps.get(finding.map) : null;
  }

  paintOver(frame) {
    const { width, height } = this.views;
    this.over.setAttribute("viewBox", `0 0 ${width} ${height}`);
    if (frame === null) {
      this.over.replaceChildren();
      return;
    }
    const { scale, x, y, w, h } = this.views.laid(this.plane, frame);
    const to = ([column, row]) => [x + (column + 0.5) * w, y + (row + 0.5) * h];
    const parts = this.findings.map((one, index) => this.markOf(one, index, frame, to));
    if (frame.origin) {
      parts.push(this.marks.directions(this.places.letters, frame.u, frame.v, width, height));
    }
    if (frame.origin || frame.scaled) {
      const label = this.words[`scale_${frame.scaled ?? "patient"}`];
      parts.push(this.marks.scale(
        scale, this.places.scaleLength, width, height, (mm) => this.fill(label, { mm })));
    }
    this.over.replaceChildren(...parts.filter((part) => part !== null));
  }

  markOf(one, index, frame, to) {
    if (!frame.origin) return null;
    const box = one.box && this.places.boxOn(frame, one.box);
    const axial = this.plane === "axial";
    const closed = axial
      ? one.outlines.find((outline) => outline.image === this.image)?.polygons ?? [] : [];
    const lines = axial ? [] : this.places.outlineOn(this.now, frame, this.at, one.outlines);
    if (!box && closed.length === 0 && lines.length === 0) return null;
    return this.marks.finding({
      id: one.id, closed, lines, box, current: index === this.current, to,
    });
  }

  /** What is shown, in words, for eyes, screen readers and the other parts of the page. */
  report(drawn) {
    const place = this.plane === "axial" ? this.listing.images[this.image]?.place : null;
    const plane = this.words[this.radiograph ? "radiograph" : this.plane];
    const said = [this.fill(this.words.position, { plane, at: this.at + 1, count: this.now.count })];
    if (place?.number !== null && place?.number !== undefined && !this.radiograph) {
      said.push(this.fill(this.words.number, { number: place.number }));
    }
    if (this.current >= 0) {
      said.push(this.fill(this.words.finding, { number: this.findings[this.current].id }));
    }
    const old = this.resultsOf.warning(this.results, this.reportId, this.words);
    if (old) said.push(old);
    this.position.textContent = said.join(" · ");
    this.slider.max = this.now.count;
    this.slider.value = this.at + 1;
    this.press("plane", this.plane);
    this.press("window", String(this.window));
    this.root.dataset.shown = drawn ? `${this.plane} ${this.at} ${this.image}` : "";
    this.sayState(drawn);
  }

  sayState(drawn) {
    const why = this.plane === "axial" ? this.slices.why(this.image) : null;
    if (!drawn && why) {
      this.say(why);
      return;
    }
    const wanted = this.plane === "axial" ? null : this.now.slices.filter((n) => n >= 0);
    if (wanted) {
      const here = wanted.filter((n) => this.slices.get(n)).length;
      const lost = wanted.filter((n) => this.slices.why(n)).length;
      this.root.dataset.missing = wanted.length - here;
      if (here + lost < wanted.length) {
        this.tell(this.fill(this.words.loading, { here, count: wanted.length }));
        return;
      }
      this.tell(lost > 0 ? this.fill(this.words.missing, { count: lost }) : "");
      return;
    }
    if (!drawn) this.tell(this.words.wait);
    else if (this.unmarked) this.tell(this.words.unmarked);
    else this.tell(this.damaged ? this.words.damaged : "");
  }

  press(kind, value) {
    for (const button of this.root.querySelectorAll(`[data-${kind}]`)) {
      button.setAttribute("aria-pressed", String(button.dataset[kind] === value));
      if (kind === "plane") {
        button.setAttribute("aria-disabled", String(!this.frames[button.dataset.plane]));
      }
    }
  }

  say({ kind, text }) {
    this.tell([this.words[`why_${kind}`], kind === "unshown" ? text : ""].join(" ").trim());
  }

  tell(text) {
    if (this.said.textContent !== text) this.said.textContent = text;
  }

  // What is done to it.

  bind(gestures) {
    gestures.listen(this.stage, {
      scroll: (frames) => this.show(this.at + frames),
      zoom: (factor, x, y) => this.zoom(factor, x, y),
      pan: (dx, dy) => this.pan(dx, dy),
      point: (x, y) => this.pointed(x, y),
      still: () => this.now?.count === 1,
      step: () => {
        const even = this.views.height / (this.now?.count ?? 1);
        return Math.min(Math.max(even, DRAG_PX[0]), DRAG_PX[1]);
      },
    });
    this.root.addEventListener("click", (event) => this.clicked(event.target.closest("button")));
    this.root.addEventListener("keydown", (event) => this.pressed(event));
    for (const kind of ["pointerdown", "keydown", "wheel"]) { // who has begun is not led elsewhere
      this.root.addEventListener(kind, () => { this.touched = true; }, { passive: true });
    }
    this.slider.addEventListener("input", () => this.show(Number(this.slider.value) - 1));
    this.opacity.addEventListener("input", () => this.draw());
    this.result.addEventListener("change", () => this.choose(this.result.value));
    document.addEventListener("scanside:fresh", () => this.refresh());
    const around = this.root.parentElement.closest("section") ?? document.body;
    around.addEventListener("click", (event) => {
      const link = event.target.closest("[data-viewer-finding]");
      if (link) this.jumpTo(link.dataset.viewerReport, link.dataset.viewerFinding);
    });
    new ResizeObserver(() => this.draw()).observe(this.stage);
  }

  /** A finding of any result of the series, both as the page names them. */
  async jumpTo(report, finding) {
    if (!this.results.some((one) => one.report === report)) return;
    this.touched = true;
    if (report !== this.reportId) await this.choose(report);
    const index = this.findings.findIndex((one) => String(one.id) === finding);
    if (report !== this.reportId || index < 0) return;
    this.jump(index);
    this.stage.scrollIntoView({ block: "nearest" });
  }

  clicked(button) {
    if (!button) return;
    const { plane, window: preset, act } = button.dataset;
    if (plane) this.choosePlane(plane);
    else if (preset) this.chooseWindow(Number(preset));
    else if (act) this.act(act);
  }

  act(name) {
    const doing = {
      "image-previous": () => this.show(this.at - 1),
      "image-next": () => this.show(this.at + 1),
      "page-previous": () => this.show(this.at - PAGE),
      "page-next": () => this.show(this.at + PAGE),
      first: () => this.show(0),
      last: () => this.show((this.now?.count ?? 1) - 1),
      "finding-previous": () => this.next(-1),
      "finding-next": () => this.next(1),
      "zoom-in": () => this.zoom(ZOOM_STEP),
      "zoom-out": () => this.zoom(1 / ZOOM_STEP),
      fit: () => this.fit(),
    };
    doing[name]?.();
  }

  pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target === this.opacity || event.target === this.result) return;
    const keys = {
      ArrowUp: "image-previous", ArrowLeft: "image-previous", ArrowDown: "image-next",
      ArrowRight: "image-next", PageUp: "page-previous", PageDown: "page-next", Home: "first",
      End: "last", n: "finding-next", p: "finding-previous", "+": "zoom-in", "=": "zoom-in",
      "-": "zoom-out", 0: "fit",
    };
    const planes = { t: "axial", c: "coronal", s: "sagittal" }; // A accepts (feedback.js)
    const own = event.target !== this.slider || event.key.length === 1;
    const arrow = (event.shiftKey || this.now?.count === 1) && own && ARROWS[event.key];
    if (arrow) this.pan(...arrow.map((way) => way * MOVE * this.views.width));
    else if (keys[event.key] && own) this.act(keys[event.key]);
    else if (planes[event.key]) this.choosePlane(planes[event.key]);
    else if ("1234".includes(event.key)) this.chooseWindow(Number(event.key) - 1);
    else return;
    event.preventDefault();
  }

  pointed(x, y) {
    const frame = this.now?.frame(this.at);
    if (!frame || this.root.dataset.shown === "") return;
    const laid = this.views.laid(this.plane, frame);
    const column = (x - laid.x) / laid.w - 0.5;
    const row = (y - laid.y) / laid.h - 0.5;
    if (column < -0.5 || row < -0.5 || column > frame.columns || row > frame.rows) return;
    const lps = frame.origin ? this.places.placeOf(frame, column, row) : null;
    if (lps) this.point = lps;
    const image = lps ? this.frames.axial.image(this.frames.axial.nearest(lps)) : this.image;
    const sent = this.listing.images[image]?.place?.to_stored;
    const stored = sent && [sent[1], sent[0]].map(([a, b, c]) => a * row + b * column + c);
    const scaled = lps !== null || Boolean(frame.scaled);
    this.root.dispatchEvent(new CustomEvent("viewer:place", {
      bubbles: true, detail: { lps, image, column, row, stored, scaled, plane: this.plane },
    }));
  }
}

async function begin(root) {
  const loaded = await Promise.all(PARTS.map((name) => import(root.dataset[name])));
  await new Viewer(root, Object.fromEntries(PARTS.map((name, n) => [name, loaded[n]]))).begin();
}

const sight = new IntersectionObserver((seen) => {
  for (const { target, isIntersecting } of seen) {
    if (isIntersecting) {
      sight.unobserve(target);
      begin(target);
    }
  }
});
for (const root of document.querySelectorAll(".viewer")) sight.observe(root);
