/* What lies over an image as SVG: outlines, boxes and numbers of findings, letters of directions, a
   scale. Everything is given in pixels of the screen; styles are classes of viewer.css. */

const SVG = "http://www.w3.org/2000/svg";
const MARGIN = 22; // of letters and scale, from the edge
const SHARE = 0.3; // of the width, for the scale at most

function element(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

const path = (points) => `M${points.map(([x, y]) => `${x.toFixed(2)} ${y.toFixed(2)}`).join("L")}`;

/** One finding. closed, lines: of its outline; box: corners; to: from image to screen. */
export function finding({ id, closed, lines, box, current, to }) {
  const group = element("g", { class: current ? "viewer-finding current" : "viewer-finding",
    "data-finding": id });
  const parts = closed.map((polygon) => `${path(polygon.map(to))}Z`);
  parts.push(...lines.map(([x, y, z, w]) => path([to([x, y]), to([z, w])])));
  if (parts.length > 0) group.append(element("path", { class: "outline", d: parts.join("") }));
  if (box) {
    const corners = box.map(to);
    group.append(element("path", { class: "box", d: `${path(corners)}Z` }));
    const right = Math.max(...corners.map(([x]) => x));
    const top = Math.min(...corners.map(([, y]) => y));
    group.append(element("text", { x: right + 6, y: top + 4 }, String(id)));
  }
  return group;
}

/** Letters at the four edges. u, v: directions of rising columns and rows. */
export function directions(letters, u, v, width, height) {
  const back = (d) => d.map((n) => -n);
  const places = [
    [letters(u), width - MARGIN, height / 2], [letters(back(u)), MARGIN, height / 2],
    [letters(v), width / 2, height - MARGIN], [letters(back(v)), width / 2, 2 * MARGIN],
  ];
  const group = element("g", { class: "viewer-letters" });
  group.append(...places.map(([text, x, y]) => element("text", { x, y }, text)));
  return group;
}

/** A bar of a usual length. perMm: pixels of the screen; length(most): the length to show, in mm;
    label(mm): what stands above it. */
export function scale(perMm, length, width, height, label) {
  const group = element("g", { class: "viewer-scale" });
  const mm = length((width * SHARE) / perMm);
  if (mm === null) return group;
  const [x, y, end] = [MARGIN, height - MARGIN, MARGIN + mm * perMm];
  const d = `M${x} ${y - 8}V${y}H${end.toFixed(2)}V${y - 8}`;
  group.append(element("path", { class: "casing", d }), element("path", { d, "data-mm": mm }),
    element("text", { x, y: y - 14 }, label(mm)));
  return group;
}
