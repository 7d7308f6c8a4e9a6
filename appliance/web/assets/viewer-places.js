/* Where the pixels of a series lie in the patient, and the planes that are cut from them. Pure: no
   page, no network.

   Rules
   - Places are DICOM LPS millimetres: +x to the patient's left, +y to the back, +z to the head. A
     pixel is (column, row), 0 at the centre of the first one.
   - A frame is what is seen at once: `origin` is the place of its first pixel, `u` and `v` are the
     unit directions of rising columns and rows, `w` is the way to the next frame, `du`, `dv` and
     `dw` are millimetres a step.
   - An axial frame is an image as the scanner made it, whichever way its rows run; letters at its
     edges say which. Coronal and sagittal frames have the head above, and the patient's left or
     back to the right.
   - Frames are counted from 0: axial from the head down, coronal from the front, sagittal from the
     patient's right. */

export const PLANES = ["axial", "coronal", "sagittal"];
const NEAR = 0.75; // of a step: further from every slice, a row of a plane stays empty
const SLANTED = 0.25; // a part of a direction that is smaller has no letter
const LETTERS = [["L", "R"], ["P", "A"], ["H", "F"]];

const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const minus = (a, b) => [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
export const moved = (a, b, by) => [a[0] + b[0] * by, a[1] + b[1] * by, a[2] + b[2] * by];
const cross = (a, b) => [
  a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0],
];

/** The letters of a direction, the strongest first: of [0.8, 0.6, 0] they are LP. */
export function letters(direction) {
  return [0, 1, 2]
    .filter((axis) => Math.abs(direction[axis]) > SLANTED)
    .sort((a, b) => Math.abs(direction[b]) - Math.abs(direction[a]))
    .slice(0, 2)
    .map((axis) => LETTERS[axis][direction[axis] > 0 ? 0 : 1])
    .join("");
}

/** (column, row) of the foot of a place on a frame, and how far behind the frame it lies, in mm. */
export function pixelOf(frame, place) {
  const away = minus(place, frame.origin);
  return {
    column: dot(away, frame.u) / frame.du,
    row: dot(away, frame.v) / frame.dv,
    depth: dot(away, frame.w),
  };
}

/** The place of a pixel of a frame. */
export function placeOf(frame, column, row) {
  return moved(moved(frame.origin, frame.u, column * frame.du), frame.v, row * frame.dv);
}

/** The images of a series as frames. places: as /images lists them; null where there is none. */
export function axial(places) {
  const placed = places.map((_, n) => n).filter((n) => places[n]?.position);
  if (placed.length === 0) return unplaced(places);
  const first = places[placed[0]];
  const normal = headwards(cross(first.row, first.column));
  const height = (n) => dot(places[n].position, normal);
  const order = [...placed].sort((a, b) => height(b) - height(a));
  const step = median(order.slice(1).map((n, k) => height(order[k]) - height(n))) || 1;
  order.push(...places.map((_, n) => n).filter((n) => !places[n]?.position));
  return {
    count: order.length,
    image: (at) => order[at],
    at: (image) => order.indexOf(image),
    frame(at) {
      const p = places[order[at]];
      if (!p?.position) return p ? flat(p) : null;
      const w = headwards(cross(p.row, p.column)).map((v) => -v);
      return {
        origin: p.position, u: p.row, v: p.column, w, du: p.spacing[1], dv: p.spacing[0], dw: step,
        columns: p.columns, rows: p.rows,
      };
    },
    nearest(place) {
      const away = (at) => Math.abs(dot(minus(place, places[order[at]].position), normal));
      let best = 0;
      for (let at = 1; at < placed.length; at += 1) if (away(at) < away(best)) best = at;
      return best;
    },
  };
}

/** Coronal and sagittal frames of a stack of images of one size, direction and spacing. */
export function reformatted(places) {
  const first = places[0];
  const normal = headwards(cross(first.row, first.column));
  const heights = places.map((p) => dot(p.position, normal));
  const order = places.map((_, n) => n).sort((a, b) => heights[b] - heights[a]);
  const step = median(order.slice(1).map((n, k) => heights[order[k]] - heights[n]));
  const top = heights[order[0]];
  const count = Math.round((top - heights[order.at(-1)]) / step) + 1;
  const slices = Array.from({ length: count }, (_, row) => nearestSlice(heights, top - row * step));
  for (const [row, n] of slices.entries()) {
    if (Math.abs(heights[n] - (top - row * step)) > NEAR * step) slices[row] = -1;
  }
  const stack = {
    columns: { direction: first.row, mm: first.spacing[1], count: first.columns, stride: 1 },
    rows: { direction: first.column, mm: first.spacing[0], count: first.rows,
      stride: first.columns },
  };
  const swapped = Math.abs(first.row[0]) < Math.abs(first.column[0]);
  const x = swapped ? stack.rows : stack.columns;
  const y = swapped ? stack.columns : stack.rows;
  const corner = moved(first.position, normal, top - heights[0]);
  const plane = (along, across, axis) => cutPlane(
    { along, across, axis, corner, normal, step, slices, swapped: across === stack.columns });
  return { coronal: plane(x, y, 1), sagittal: plane(y, x, 0) };
}

/* along: the axis of the images that runs to the right in the plane; across: the one that leads
   from frame to frame; axis: which coordinate of the patient rises from frame to frame. */
function cutPlane({ along, across, axis, corner, normal, step, slices, swapped }) {
  const flipped = along.direction[1 - axis] < 0;
  const backwards = across.direction[axis] < 0;
  const indexOf = (at) => (backwards ? across.count - 1 - at : at);
  const u = flipped ? along.direction.map((v) => -v) : along.direction;
  const w = backwards ? across.direction.map((v) => -v) : across.direction;
  const start = flipped ? along.count - 1 : 0;
  return {
    count: across.count,
    slices,
    /** Which row (or column, where `swapped`) of the images a frame is cut at. */
    indexOf,
    swapped,
    flipped,
    frame(at) {
      const origin = moved(moved(corner, across.direction, indexOf(at) * across.mm),
        along.direction, start * along.mm);
      return {
        origin, u, v: normal.map((v) => -v), w, du: along.mm, dv: step, dw: across.mm,
        columns: along.count, rows: slices.length,
      };
    },
    nearest(place) {
      const index = Math.round(dot(minus(place, corner), across.direction) / across.mm);
      const at = backwards ? across.count - 1 - index : index;
      return Math.min(Math.max(at, 0), across.count - 1);
    },
    /** The values of a frame into `out`; get(slice): its values, row by row, or undefined. */
    cut(at, get, out) {
      const from = indexOf(at) * across.stride + start * along.stride;
      const by = flipped ? -along.stride : along.stride;
      for (let row = 0, to = 0; row < slices.length; row += 1) {
        const values = slices[row] < 0 ? undefined : get(slices[row]);
        if (values === undefined) {
          out.fill(-32768, to, to + along.count);
          to += along.count;
          continue;
        }
        for (let n = 0, i = from; n < along.count; n += 1, i += by, to += 1) out[to] = values[i];
      }
    },
  };
}

/** The outline of a finding on a frame of a reformatted plane: pairs of ends of lines,
    [column, row, column, row]. outlines: of its images, as /masks lists them. */
export function outlineOn(plane, frame, at, outlines) {
  const index = plane.indexOf(at);
  const by = new Map(outlines.map((one) => [one.image, one.polygons]));
  const runs = plane.slices.map((slice) => (by.has(slice)
    ? crossings(by.get(slice), index, plane.swapped)
      .map((n) => (plane.flipped ? frame.columns - 1 - n : n)).sort((a, b) => a - b)
    : []));
  const lines = [];
  for (let row = 0; row <= runs.length; row += 1) {
    const here = runs[row] ?? [];
    const above = runs[row - 1] ?? [];
    for (const n of here) lines.push([n, row - 0.5, n, row + 0.5]);
    const ends = [...here, ...above].sort((a, b) => a - b);
    for (let k = 0; k + 1 < ends.length; k += 1) {
      const middle = (ends[k] + ends[k + 1]) / 2;
      if (inside(here, middle) !== inside(above, middle)) {
        lines.push([ends[k], row - 0.5, ends[k + 1], row - 0.5]);
      }
    }
  }
  return lines;
}

/** Where the edges of polygons cross a row, or a column where `swapped`; in pairs, rising. */
function crossings(polygons, index, swapped) {
  const [across, along] = swapped ? [0, 1] : [1, 0];
  const found = [];
  for (const polygon of polygons) {
    polygon.forEach((a, n) => {
      const b = polygon[(n + 1) % polygon.length];
      if (a[across] > index === b[across] > index) return;
      const part = (index - a[across]) / (b[across] - a[across]);
      found.push(a[along] + part * (b[along] - a[along]));
    });
  }
  return found.sort((a, b) => a - b);
}

const inside = (ends, n) => ends.filter((end) => end < n).length % 2 === 1;

/** The corners of a box [x, y, z, x, y, z] on a frame, in its pixels; null where it does not cut it.
    A box that lies between two frames is on the one that is nearer. */
export function boxOn(frame, box) {
  const [low, high] = [box.slice(0, 3), box.slice(3)];
  const middle = low.map((v, axis) => (v + high[axis]) / 2);
  const half = low.reduce((sum, v, axis) => (
    sum + (Math.abs(frame.w[axis]) * (high[axis] - v)) / 2), 0);
  if (Math.abs(pixelOf(frame, middle).depth) > Math.max(half, frame.dw / 2)) return null;
  const strongest = (d) => [0, 1, 2].reduce((a, b) => (Math.abs(d[b]) > Math.abs(d[a]) ? b : a));
  const [across, down] = [strongest(frame.u), strongest(frame.v)];
  return [[low, low], [high, low], [high, high], [low, high]].map(([x, y]) => {
    const corner = [...middle];
    corner[across] = x[across];
    corner[down] = y[down];
    const { column, row } = pixelOf(frame, corner);
    return [column, row];
  });
}

/** The longest of the usual lengths that is not longer than `most` mm. */
export function scaleLength(most) {
  return [200, 100, 50, 20, 10, 5, 2, 1].find((mm) => mm <= most) ?? null;
}

function headwards(v) {
  return v[2] < 0 ? v.map((n) => -n) : v;
}

function nearestSlice(heights, height) {
  let best = 0;
  heights.forEach((h, n) => {
    if (Math.abs(h - height) < Math.abs(heights[best] - height)) best = n;
  });
  return best;
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1];
}

/* Images without a place, such as radiographs: one after another, as they are listed. */
function unplaced(places) {
  return {
    count: places.length,
    image: (at) => at,
    at: (image) => image,
    frame: (at) => (places[at] ? flat(places[at]) : null),
    nearest: () => 0,
  };
}

function flat(p) {
  const du = p.scale_mm ?? 1;
  return {
    origin: null, du, dv: p.aspect * du, dw: 1, columns: p.columns, rows: p.rows,
    scaled: p.scale_at, // in which plane du and dv are millimetres; null: they are none
  };
}
