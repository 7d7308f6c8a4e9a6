/* The pixels of a series, fetched one by one as they are wanted.

   Rules
   - What is looked at comes first, then what is likely next: who asks says so each time, and what
     was asked for before and did not begin is dropped. IN_FLIGHT are fetched at once, of what is
     only likely one less, so that the next jump waits for nothing that is under way.
   - Of a plane, for which all are wanted, neighbours come together, RUN_BYTES in one answer: a
     request costs browser and device as much as the pixels of one image.
   - Images of one size are held in one array, each once (docs/decisions/0009-viewer.md). Where they
     would take more than MOST_BYTES, and where sizes differ, the ones that were looked at last.
   - An image that cannot be had is remembered with its reason. Where the device is away or busy it
     is asked for again. */

const IN_FLIGHT = 2; // one process of the device decodes for all
const MOST_BYTES = 400 * 2 ** 20;
const RUN_BYTES = 2 * 2 ** 20;
const PAUSE_MS = 300;
const TRIES = 30;
/** Reasons that another try may end. */
const PASSING = new Set(["away", "busy"]);

export class Slices {
  /** locate(what): the address of it in the series; listing: what /images says; changed(image): one
      came or failed. */
  constructor(locate, listing, changed) {
    this.locate = locate;
    this.listing = listing;
    this.changed = changed;
    this.failed = new Map();
    this.tries = new Map();
    this.queue = [];
    this.likely = new Set(); // of the queue: nobody looks at these yet
    this.flying = new Set();
    this.requests = 0;
    this.run = 1; // neighbours that come together
    this.closed = false;
    const sizes = new Set(listing.images.map(({ place }) => place && place.rows * place.columns));
    const radiographs = listing.no_planes === "radiograph";
    const [size] = sizes;
    this.size = size;
    this.whole = sizes.size === 1 && size && !radiographs
      && 2 * size * listing.images.length <= MOST_BYTES
      ? new Int16Array(size * listing.images.length) : null;
    this.here = new Map(); // image -> its values; the last one that was used is last
    listing.images.forEach(({ error }, image) => {
      if (error) this.failed.set(image, { kind: "unshown", text: error });
    });
  }

  /** The values of an image, row by row: HU as Int16Array, grey as Uint8Array; undefined. */
  get(image) {
    const values = this.here.get(image);
    if (values !== undefined && this.whole === null) {
      this.here.delete(image);
      this.here.set(image, values);
    }
    return values;
  }

  /** Why an image is not there: {kind, text}; undefined where nothing is known against it. */
  why(image) {
    return this.failed.get(image);
  }

  get count() {
    return this.here.size;
  }

  /** These images next, in this order, then the likely ones. What is there or cannot be had is
      passed over. together: all of them are for one picture. */
  want(images, { likely = [], together = false } = {}) {
    this.likely = new Set(likely);
    this.run = together && this.whole ? Math.max(1, Math.floor(RUN_BYTES / (2 * this.size))) : 1;
    this.queue = [...images, ...likely].filter((image) => !this.here.has(image)
      && !this.flying.has(image)
      && (!this.failed.has(image) || PASSING.has(this.failed.get(image).kind)));
    this.go();
  }

  /** Whether nothing of what was wanted is still to come. */
  get idle() {
    return this.flying.size === 0 && this.queue.length === 0;
  }

  close() {
    this.closed = true;
    this.queue = [];
  }

  go() {
    while (!this.closed && this.queue.length > 0) {
      const most = this.likely.has(this.queue[0]) ? IN_FLIGHT - 1 : IN_FLIGHT;
      if (this.requests >= most) return;
      this.fetch(this.neighbours());
    }
  }

  /** The next of the queue and those behind it that are its neighbours, in rising order. */
  neighbours() {
    const found = [this.queue.shift()];
    const by = this.queue[0] - found[0];
    while (Math.abs(by) === 1 && found.length < this.run && this.queue[0] - found.at(-1) === by) {
      found.push(this.queue.shift());
    }
    return by < 0 ? found.reverse() : found;
  }

  async fetch(images) {
    const [first] = images;
    for (const image of images) this.flying.add(image);
    this.requests += 1;
    const said = await this.answer(first, images.length);
    this.requests -= 1;
    for (const image of images) this.flying.delete(image);
    if (this.closed) return;
    const each = said.values ? said.values.length / said.count : 0;
    for (const [n, image] of images.entries()) {
      if (n < said.count) {
        this.failed.delete(image);
        this.keep(image, said.values.subarray(n * each, (n + 1) * each));
      } else if (said.values || (n > 0 && !PASSING.has(said.why.kind))) {
        this.queue.unshift(image); // of this one nothing was said: it is asked for alone
        this.run = 1;
        continue;
      } else {
        this.failed.set(image, said.why);
        this.again(image, said.why);
      }
      this.changed(image);
    }
    this.go();
  }

  /** The first `count` images from this one on, or fewer: their values, one behind the other. */
  async answer(image, count) {
    let response;
    try {
      const more = count > 1 ? `&count=${count}` : "";
      const url = this.locate(`image/${image}?of=${this.listing.name}${more}`);
      response = await fetch(url, { cache: "no-store", redirect: "manual" });
      if (response.ok) {
        const bytes = await response.arrayBuffer();
        const wide = response.headers.get("x-bits") === "16";
        const values = wide ? new Int16Array(bytes) : new Uint8Array(bytes);
        return { values, count: Number(response.headers.get("x-count")) };
      }
    } catch {
      return { why: { kind: "away", text: "" } };
    }
    return { why: await reason(response) };
  }

  keep(image, values) {
    if (this.whole !== null && values.length === this.size && values instanceof Int16Array) {
      this.whole.set(values, image * this.size);
      this.here.set(image, this.whole.subarray(image * this.size, (image + 1) * this.size));
      return;
    }
    this.here.set(image, values);
    let bytes = 0;
    for (const one of this.here.values()) bytes += one.byteLength;
    for (const [old, one] of this.here) {
      if (bytes <= MOST_BYTES || old === image) break;
      this.here.delete(old);
      bytes -= one.byteLength;
    }
  }

  again(image, why) {
    const tries = (this.tries.get(image) ?? 0) + 1;
    this.tries.set(image, tries);
    if (!PASSING.has(why.kind) || tries > TRIES) return;
    setTimeout(() => {
      if (this.closed || this.here.has(image) || this.flying.has(image)) return;
      this.queue.unshift(image);
      this.go();
    }, PAUSE_MS);
  }
}

/** Why an answer is no image: its kind, and what the device says of it. */
export async function reason(response) {
  if (response.type === "opaqueredirect") return { kind: "login", text: "" };
  const said = await response.json().catch(() => ({}));
  const kinds = { 401: "login", 403: "login", 404: "gone", 410: "gone", 422: "unshown", 503: "busy" };
  const kind = said.code === "images_changed" ? "changed" : kinds[response.status] ?? "away";
  return { kind, text: typeof said.text === "string" ? said.text : "" };
}
