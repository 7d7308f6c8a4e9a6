/* Fingers, mouse and wheel over an image, as what they mean. One finger or the mouse scrolls, and
   moves the image where there is nothing to scroll; two fingers zoom and pan, and so do the middle and the right button; the wheel scrolls, and with Ctrl
   zooms. Nothing needs a double tap, and nothing happens by hovering. */

const TAP_PX = 10; // a finger that moved less has pointed at a place
const TAP_MS = 800;
const WHEEL_PX = 100; // a notch of a wheel
const LINE_PX = 40;

/** means: scroll(frames), zoom(factor, x, y), pan(dx, dy), point(x, y), step(): pixels a frame,
    still(): there is nothing to scroll. */
export function listen(stage, means) {
  const down = new Map();
  let left = 0;
  let pinched = false; // from the second finger on, until all are up
  let tap = null;
  const at = (event) => {
    const box = stage.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  const spread = () => {
    const [a, b] = [...down.values()];
    return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, far: Math.hypot(a.x - b.x, a.y - b.y) };
  };

  let was = null;
  let pinch = null;
  const zoomed = () => {
    pinch = null;
    if (down.size !== 2 || was === null) return;
    const is = spread();
    if (was.far > 0) means.zoom(is.far / was.far, was.x, was.y);
    means.pan(is.x - was.x, is.y - was.y);
    was = is;
  };
  // before a finger comes or goes: what the two have said so far still counts
  const settle = () => {
    if (pinch === null) return;
    cancelAnimationFrame(pinch);
    zoomed();
  };

  stage.addEventListener("pointerdown", (event) => {
    stage.setPointerCapture(event.pointerId);
    settle();
    was = null;
    down.set(event.pointerId, { ...at(event), pans: event.button > 0 });
    pinched ||= down.size > 1;
    tap = down.size === 1 && event.button === 0 ? { ...at(event), when: event.timeStamp } : null;
    left = 0;
  });
  stage.addEventListener("pointermove", (event) => {
    const before = down.get(event.pointerId);
    if (before === undefined) return;
    const now = { ...at(event), pans: before.pans };
    if (tap && Math.hypot(now.x - tap.x, now.y - tap.y) > TAP_PX) tap = null;
    if (down.size === 1) {
      if (before.pans || (means.still() && !pinched)) means.pan(now.x - before.x, now.y - before.y);
      else if (!pinched) {
        left += (now.y - before.y) / means.step();
        const frames = Math.trunc(left);
        left -= frames;
        if (frames !== 0) means.scroll(frames);
      }
      down.set(event.pointerId, now);
    } else if (down.size === 2) {
      was ??= spread();
      down.set(event.pointerId, now);
      // each finger tells of itself alone: only together do they say what is meant
      pinch ??= requestAnimationFrame(zoomed);
    }
  });
  const up = (event) => {
    settle();
    const known = down.delete(event.pointerId);
    was = null;
    if (known && tap && event.type === "pointerup" && event.timeStamp - tap.when < TAP_MS) {
      means.point(tap.x, tap.y);
    }
    pinched &&= down.size > 0;
    tap = null;
    left = 0;
  };
  stage.addEventListener("pointerup", up);
  stage.addEventListener("pointercancel", up);
  stage.addEventListener("contextmenu", (event) => event.preventDefault());

  let turned = 0;
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    const px = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? event.deltaY * LINE_PX : event.deltaY;
    if (event.ctrlKey) {
      const { x, y } = at(event);
      means.zoom(Math.exp(-px / 300), x, y);
      return;
    }
    turned = Math.sign(turned) === Math.sign(px) ? turned + px : px;
    const frames = Math.trunc(turned / WHEEL_PX);
    turned -= frames * WHEEL_PX;
    if (frames !== 0) means.scroll(frames);
  }, { passive: false });
}
