/* Zoom and pan. Each plane has a view of its own: `x` and `y` are the place in the middle of the
   stage, in mm from the middle of the frame. At the least zoom the whole frame is seen. */

const ZOOM = [1, 20];

export class Views {
  constructor() {
    this.views = new Map();
    this.width = 1;
    this.height = 1;
  }

  /** Of the stage, in pixels. */
  setSize(width, height) {
    this.width = width || 1;
    this.height = height || 1;
  }

  of(plane) {
    if (!this.views.has(plane)) this.views.set(plane, { zoom: 1, x: 0, y: 0 });
    return this.views.get(plane);
  }

  /** About a place of the stage. */
  zoom(plane, frame, factor, px = this.width / 2, py = this.height / 2) {
    const view = this.of(plane);
    const before = this.laid(plane, frame).scale;
    view.zoom = Math.min(Math.max(view.zoom * factor, ZOOM[0]), ZOOM[1]);
    const after = this.laid(plane, frame).scale;
    view.x += (px - this.width / 2) * (1 / before - 1 / after);
    view.y += (py - this.height / 2) * (1 / before - 1 / after);
    this.pan(plane, frame, 0, 0);
  }

  /** By pixels of the stage. The middle of the stage stays on what the zoom cuts off. */
  pan(plane, frame, dx, dy) {
    const view = this.of(plane);
    const { scale } = this.laid(plane, frame);
    const most = [(frame.columns * frame.du) / 2, (frame.rows * frame.dv) / 2]
      .map((half) => half * (1 - 1 / view.zoom));
    view.x = Math.min(Math.max(view.x - dx / scale, -most[0]), most[0]);
    view.y = Math.min(Math.max(view.y - dy / scale, -most[1]), most[1]);
  }

  fit(plane) {
    Object.assign(this.of(plane), { zoom: 1, x: 0, y: 0 });
  }

  /** Brings a pixel of the frame into the middle, where the frame is not seen whole. */
  centre(plane, frame, { column, row }) {
    const view = this.of(plane);
    if (view.zoom === 1) return;
    view.x = (column - (frame.columns - 1) / 2) * frame.du;
    view.y = (row - (frame.rows - 1) / 2) * frame.dv;
  }

  /** Where the first pixel begins, its width and height, and pixels of the stage a mm. */
  laid(plane, frame) {
    const view = this.of(plane);
    const across = this.width / (frame.columns * frame.du);
    const down = this.height / (frame.rows * frame.dv);
    const scale = Math.min(across, down) * view.zoom;
    const [w, h] = [frame.du * scale, frame.dv * scale];
    return {
      scale, w, h,
      x: this.width / 2 - (frame.columns / 2) * w - view.x * scale,
      y: this.height / 2 - (frame.rows / 2) * h - view.y * scale,
    };
  }
}
