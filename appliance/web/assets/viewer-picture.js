/* Values of an image as a picture: greys by a window, scaled onto a canvas, with a heat map over it. */

const GREYS = 256;
const OPAQUE = 0xff000000;
const HOT = [[0, 60, 0, 90], [0.35, 170, 40, 110], [0.7, 250, 130, 20], [1, 255, 240, 120]];

export class Picture {
  constructor(canvas) {
    this.canvas = canvas;
    this.bitmap = document.createElement("canvas");
    this.greys = new Uint32Array(1 << 16);
  }

  /** HU, as 16 bits -> grey, as the bytes of a pixel: black up to `low`, white from `high`. */
  setWindow({ low, high }) {
    for (let bits = 0; bits < 1 << 16; bits += 1) {
      const share = (((bits << 16) >> 16) - low) / (high - low);
      const grey = Math.min(Math.max(Math.round(share * (GREYS - 1)), 0), GREYS - 1);
      this.greys[bits] = OPAQUE | (grey * 0x010101);
    }
  }

  /** An empty canvas of this size, in pixels of the page. */
  clear(width, height) {
    this.ratio = window.devicePixelRatio || 1;
    const size = [Math.round(width * this.ratio), Math.round(height * this.ratio)];
    if (this.canvas.width !== size[0] || this.canvas.height !== size[1]) {
      [this.canvas.width, this.canvas.height] = size;
    }
    this.context = this.canvas.getContext("2d");
    this.context.setTransform(1, 0, 0, 1, 0, 0);
    this.context.clearRect(0, 0, ...size);
  }

  /** values: HU as Int16Array or grey as Uint8Array, row by row; laid: as Views.laid says. */
  draw(values, { columns, rows }, { x, y, w, h }) {
    if (this.bitmap.width !== columns || this.bitmap.height !== rows || !this.pixels) {
      [this.bitmap.width, this.bitmap.height] = [columns, rows];
      this.pixels = this.bitmap.getContext("2d").createImageData(columns, rows);
      this.dots = new Uint32Array(this.pixels.data.buffer);
    }
    const { dots, greys, context, ratio } = this;
    if (values instanceof Uint8Array) {
      for (let n = 0; n < values.length; n += 1) dots[n] = OPAQUE | (values[n] * 0x010101);
    } else for (let n = 0; n < values.length; n += 1) dots[n] = greys[values[n] & 0xffff];
    this.bitmap.getContext("2d").putImageData(this.pixels, 0, 0);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.drawImage(this.bitmap, x, y, w * columns, h * rows);
  }

  /** A heat map over it. map: as `heated` made it. */
  lay(map, { x, y, w, h }, opacity) {
    const [[rr, rc, r0], [cr, cc, c0]] = map.to_image;
    // a cell's centre is half a cell from its corner, and a pixel's half a pixel
    const right = x + (c0 + 0.5 - (cr + cc) / 2) * w;
    const down = y + (r0 + 0.5 - (rr + rc) / 2) * h;
    const { context, ratio } = this;
    context.setTransform(ratio * cc * w, ratio * rc * h, ratio * cr * w, ratio * rr * h,
      ratio * right, ratio * down);
    context.globalAlpha = opacity;
    context.drawImage(map.picture, 0, 0);
    context.globalAlpha = 1;
  }
}

/** What /map says, with a picture of it: the colour says how strong, and so does how little is seen
    through. */
export function heated(map) {
  const picture = document.createElement("canvas");
  [picture.width, picture.height] = [map.columns, map.rows];
  const context = picture.getContext("2d");
  const pixels = context.createImageData(map.columns, map.rows);
  map.values.forEach((share, n) => {
    const above = Math.max(HOT.findIndex(([stop]) => stop >= share), 1);
    const [[from, ...low], [to, ...high]] = [HOT[above - 1], HOT[above]];
    const part = (share - from) / (to - from);
    const colour = low.map((value, k) => value + part * (high[k] - value));
    pixels.data.set([...colour, 255 * share], 4 * n);
  });
  context.putImageData(pixels, 0, 0);
  return { ...map, picture };
}
