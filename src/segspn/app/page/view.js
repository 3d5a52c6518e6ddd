// The picture with the masks over it, and the tools that draw on it.

import { picture } from "./api.js";
import { active, colour, state } from "./state.js";

const KEPT = 40; // pictures
const CONTOUR = 255;
const FILL = 112;

export class View {
  constructor(canvas, onStroke, onZoom) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.onStroke = onStroke;
    this.onZoom = onZoom;
    this.pictures = new Map();
    this.bitmap = null;
    this.ids = null; // Uint8Array of the shown size
    this.overlay = new OffscreenCanvas(1, 1);
    this.reader = null;
    this.zoom = { by: 1, x: 0, y: 0 };
    this.wanted = null;
    this.loading = null;
    this.points = []; // clicks of the object being marked
    this.stroke = null;
    this.fingers = new Map();
    new ResizeObserver(() => this.draw()).observe(canvas.parentElement);
    this.listen();
  }

  // Pictures

  forget() {
    this.pictures.clear();
    this.bitmap = this.ids = null;
    this.points = [];
    this.reset();
  }

  // Show a frame; of many asked for quickly only the last is loaded.
  async show(frame) {
    this.wanted = frame;
    this.loading ??= this.load();
    return this.loading;
  }

  async load() {
    try {
      await this.loadWanted();
    } finally {
      this.loading = null; // before anybody hears of it: a frame asked for now is loaded anew
    }
  }

  async loadWanted() {
    while (this.wanted !== null) {
      const frame = this.wanted;
      this.wanted = null;
      const [bitmap, mask] = await Promise.all([this.frame(frame), picture(`masks/${frame}.png?v=${state.video.number}`)]);
      this.bitmap = bitmap;
      this.read(mask);
      if (this.frameShown !== frame) this.points = [];
      this.frameShown = frame;
      this.draw();
    }
  }

  async frame(frame) {
    const key = `${state.video.number}/${frame}`;
    if (!this.pictures.has(key)) {
      this.pictures.set(key, await picture(`frames/${frame}.jpg?v=${state.video.number}`));
      if (this.pictures.size > KEPT) this.pictures.delete(this.pictures.keys().next().value);
    }
    return this.pictures.get(key);
  }

  read(mask) {
    const { width, height } = mask;
    if (!this.reader || this.reader.canvas.width !== width || this.reader.canvas.height !== height) {
      this.reader = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
      this.overlay = new OffscreenCanvas(width, height);
    }
    this.reader.drawImage(mask, 0, 0);
    const { data } = this.reader.getImageData(0, 0, width, height);
    this.ids = new Uint8Array(width * height);
    for (let i = 0; i < this.ids.length; i++) this.ids[i] = data[4 * i];
    this.width = width;
    this.height = height;
    this.paint(0, 0, width, height);
  }

  // Colour a rectangle of the overlay by the ids.
  paint(left, top, right, bottom) {
    left = Math.max(0, left - 2);
    top = Math.max(0, top - 2);
    right = Math.min(this.width, right + 2);
    bottom = Math.min(this.height, bottom + 2);
    if (right <= left || bottom <= top) return;
    const colours = new Map(state.objects.map((object) => [object.id, colour(object)]));
    const image = new ImageData(right - left, bottom - top);
    const { ids, width, height } = this;
    const reach = Math.max(1, Math.round(Math.min(width, height) / 400));
    for (let y = top; y < bottom; y++) {
      for (let x = left; x < right; x++) {
        const at = y * width + x;
        const id = ids[at];
        if (!id) continue;
        const rgb = colours.get(id) ?? [200, 200, 200];
        const edge =
          ids[x >= reach ? at - reach : at] !== id ||
          ids[x + reach < width ? at + reach : at] !== id ||
          ids[y >= reach ? at - reach * width : at] !== id ||
          ids[y + reach < height ? at + reach * width : at] !== id;
        const to = 4 * ((y - top) * image.width + (x - left));
        const lift = edge ? 0.3 : 0;
        for (let c = 0; c < 3; c++) image.data[to + c] = rgb[c] + (255 - rgb[c]) * lift;
        image.data[to + 3] = edge ? CONTOUR : id === state.chosen ? FILL + 24 : FILL;
      }
    }
    this.overlay.getContext("2d").putImageData(image, left, top);
  }

  recolour() {
    if (!this.ids) return;
    this.paint(0, 0, this.width, this.height);
    this.draw();
  }

  // Where frame pixels lie on the canvas: scale and offset in CSS pixels.
  place() {
    const box = this.canvas.getBoundingClientRect();
    const [height, width] = state.video.size;
    const fit = Math.min(box.width / width, box.height / height);
    const scale = fit * this.zoom.by;
    return {
      box,
      scale,
      x: (box.width - width * scale) / 2 + this.zoom.x,
      y: (box.height - height * scale) / 2 + this.zoom.y,
    };
  }

  draw() {
    if (!state.video || !this.bitmap) return;
    const { box, scale, x, y } = this.place();
    const dots = devicePixelRatio || 1;
    this.canvas.width = Math.round(box.width * dots);
    this.canvas.height = Math.round(box.height * dots);
    const [height, width] = state.video.size;
    const context = this.context;
    context.setTransform(dots, 0, 0, dots, 0, 0);
    context.imageSmoothingEnabled = scale < 3;
    context.imageSmoothingQuality = "high";
    context.drawImage(this.bitmap, x, y, width * scale, height * scale);
    context.drawImage(this.overlay, x, y, width * scale, height * scale);
    this.drawMarks(context, scale, x, y);
  }

  drawMarks(context, scale, x, y) {
    for (const point of this.points) {
      context.beginPath();
      context.arc(x + point.x * scale, y + point.y * scale, 5, 0, 7);
      context.fillStyle = point.on ? "#27c26c" : "#e5484d";
      context.fill();
      context.lineWidth = 2;
      context.strokeStyle = "#fff";
      context.stroke();
    }
    if (this.stroke?.tool === "box" && this.stroke.points.length > 1) {
      const [a, b] = [this.stroke.points[0], this.stroke.points.at(-1)];
      context.setLineDash([6, 4]);
      context.lineWidth = 2;
      context.strokeStyle = "#fff";
      context.strokeRect(x + a[0] * scale, y + a[1] * scale, (b[0] - a[0]) * scale, (b[1] - a[1]) * scale);
      context.setLineDash([]);
    }
    if (this.hover && ["brush", "eraser"].includes(state.tool) && !active()) {
      context.beginPath();
      context.arc(x + this.hover[0] * scale, y + this.hover[1] * scale, state.size * scale, 0, 7);
      context.lineWidth = 1.5;
      context.strokeStyle = "#fff";
      context.stroke();
      context.setLineDash([3, 3]);
      context.strokeStyle = "#000";
      context.stroke();
      context.setLineDash([]);
    }
  }

  // Zoom

  reset() {
    this.zoom = { by: 1, x: 0, y: 0 };
    this.onZoom(1);
    this.draw();
  }

  zoomAt(factor, clientX, clientY) {
    if (!state.video) return;
    const before = this.place();
    const by = Math.min(16, Math.max(1, this.zoom.by * factor));
    const [px, py] = [clientX - before.box.left, clientY - before.box.top];
    const [fx, fy] = [(px - before.x) / before.scale, (py - before.y) / before.scale];
    this.zoom = by === 1 ? { by, x: 0, y: 0 } : { ...this.zoom, by };
    if (by > 1) {
      const after = this.place();
      this.zoom.x += px - (after.x + fx * after.scale);
      this.zoom.y += py - (after.y + fy * after.scale);
    }
    this.onZoom(by);
    this.draw();
  }

  // Pointer

  listen() {
    const canvas = this.canvas;
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoomAt(Math.exp(-event.deltaY / 300), event.clientX, event.clientY);
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", (event) => this.up(event));
    canvas.addEventListener("pointercancel", (event) => this.lift(event));
    canvas.addEventListener("pointerleave", () => {
      this.hover = null;
      this.draw();
    });
  }

  at(event) {
    const { box, scale, x, y } = this.place();
    const [height, width] = state.video.size;
    const clamp = (value, most) => Math.min(Math.max(value, 0), most);
    return [clamp((event.clientX - box.left - x) / scale, width), clamp((event.clientY - box.top - y) / scale, height)];
  }

  down(event) {
    if (!state.video || !this.ids) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.fingers.set(event.pointerId, event);
    if (this.fingers.size === 2 || event.button === 1) {
      event.preventDefault();
      if (this.stroke) this.abandon();
      this.panning = true;
      return;
    }
    if (this.fingers.size > 2 || this.panning || (event.button === 2 && state.tool !== "click")) return;
    const beside = event.button === 2 || event.altKey;
    const on = state.tool === "click" ? (beside ? !state.sign : state.sign) : true;
    this.stroke = { tool: state.tool, points: [this.at(event)], radius: state.size, on, frame: state.frame, object: state.chosen };
    this.stamp();
    this.draw();
  }

  move(event) {
    if (!state.video) return;
    const before = this.fingers.get(event.pointerId);
    if (this.panning && before) {
      this.pan(event, before);
      return;
    }
    this.hover = event.pointerType === "touch" ? null : this.at(event);
    if (this.stroke) {
      const each = event.getCoalescedEvents?.() ?? [];
      for (const one of each.length ? each : [event]) this.lengthen(this.at(one));
      this.stamp();
    }
    this.draw();
  }

  // Points less than a pixel apart tell nothing more.
  lengthen([x, y]) {
    const [lastX, lastY] = this.stroke.points.at(-1);
    if (Math.hypot(x - lastX, y - lastY) >= 1) this.stroke.points.push([x, y]);
  }

  pan(event, before) {
    const others = [...this.fingers.values()].filter((other) => other.pointerId !== event.pointerId);
    this.zoom.x += (event.clientX - before.clientX) / (others.length + 1);
    this.zoom.y += (event.clientY - before.clientY) / (others.length + 1);
    this.fingers.set(event.pointerId, event);
    if (others.length === 1) {
      const gap = (finger) => Math.hypot(finger.clientX - others[0].clientX, finger.clientY - others[0].clientY);
      this.zoomAt(gap(event) / Math.max(1, gap(before)), (event.clientX + others[0].clientX) / 2, (event.clientY + others[0].clientY) / 2);
    }
    if (this.zoom.by === 1) this.zoom = { by: 1, x: 0, y: 0 };
    this.draw();
  }

  up(event) {
    const stroke = this.stroke;
    this.lift(event);
    if (!stroke) return;
    this.stroke = null;
    if (stroke.tool === "click") {
      const [x, y] = stroke.points[0];
      stroke.points = [stroke.points[0]];
      if (stroke.object !== this.pointsOf) this.points = [];
      this.pointsOf = stroke.object;
      this.points.push({ x, y, on: stroke.on });
    }
    this.draw();
    this.onStroke(stroke);
  }

  lift(event) {
    this.fingers.delete(event.pointerId);
    if (!this.fingers.size) this.panning = false;
  }

  abandon() {
    this.stroke = null;
    this.show(state.frame);
  }

  // Show a stroke of the brush at once; the server's answer replaces it.
  stamp() {
    const { tool, points, radius, object } = this.stroke;
    if (tool !== "brush" && tool !== "eraser") return;
    const scale = this.width / state.video.size[1];
    const value = tool === "brush" ? object ?? 1 : 0;
    const reach = radius * scale;
    const from = this.stroke.stamped ?? 0;
    for (let i = Math.max(1, from); i <= points.length; i++) {
      const a = points[Math.max(0, i - 2)];
      const b = points[i - 1];
      const steps = Math.max(1, Math.ceil(Math.hypot(b[0] - a[0], b[1] - a[1]) * scale / Math.max(1, reach / 2)));
      for (let s = 0; s <= steps; s++) {
        this.disc((a[0] + ((b[0] - a[0]) * s) / steps) * scale, (a[1] + ((b[1] - a[1]) * s) / steps) * scale, reach, value, object);
      }
      this.paint(
        Math.floor((Math.min(a[0], b[0]) - radius) * scale),
        Math.floor((Math.min(a[1], b[1]) - radius) * scale),
        Math.ceil((Math.max(a[0], b[0]) + radius) * scale),
        Math.ceil((Math.max(a[1], b[1]) + radius) * scale),
      );
    }
    this.stroke.stamped = points.length;
  }

  disc(cx, cy, radius, value, object) {
    for (let y = Math.max(0, Math.floor(cy - radius)); y <= Math.min(this.height - 1, cy + radius); y++) {
      for (let x = Math.max(0, Math.floor(cx - radius)); x <= Math.min(this.width - 1, cx + radius); x++) {
        const at = y * this.width + x;
        const inside = (x + 0.5 - cx) ** 2 + (y + 0.5 - cy) ** 2 <= radius ** 2;
        if (inside && (value || this.ids[at] === object)) this.ids[at] = value;
      }
    }
  }
}
