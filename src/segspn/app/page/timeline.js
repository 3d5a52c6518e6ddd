// A row per object: its size in every frame, pale where unsure; marks for drawn and doubtful frames.

import { colour, state } from "./state.js";

const LANE = 32; // the lane of marks, in CSS pixels
const ROW = 22;
const PAD = 10;

export class Timeline {
  constructor(canvas, go) {
    this.canvas = canvas;
    this.go = go;
    new ResizeObserver(() => this.draw()).observe(canvas.parentElement);
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.go(this.frameAt(event));
    });
    canvas.addEventListener("pointermove", (event) => {
      if (canvas.hasPointerCapture(event.pointerId)) this.go(this.frameAt(event));
      else canvas.title = this.words(this.frameAt(event));
    });
  }

  frameAt(event) {
    const box = this.canvas.getBoundingClientRect();
    const share = (event.clientX - box.left - PAD) / Math.max(1, box.width - 2 * PAD);
    return Math.min(state.video.frames - 1, Math.max(0, Math.floor(share * state.video.frames)));
  }

  words(frame) {
    const facts = state.frames.get(frame);
    const lines = [facts?.cut ? `frame ${frame}: another scene begins` : `frame ${frame}`];
    for (const object of state.objects) {
      const seen = facts?.objects[object.id];
      if (!seen) continue;
      const why = facts.doubts[object.id];
      lines.push(`${object.name}: ${(100 * seen[0]).toFixed(1)} %, confidence ${seen[1].toFixed(2)}${why ? `, ${why}` : ""}`);
    }
    return lines.join("\n");
  }

  draw() {
    if (!state.video) return;
    const { canvas } = this;
    const width = canvas.parentElement.clientWidth;
    const height = LANE + Math.max(1, state.objects.length) * ROW + 6;
    const dots = devicePixelRatio || 1;
    canvas.style.height = `${height}px`;
    canvas.width = Math.round(width * dots);
    canvas.height = Math.round(height * dots);
    canvas.setAttribute("aria-valuemax", state.video.frames - 1);
    canvas.setAttribute("aria-valuenow", state.frame);
    const context = canvas.getContext("2d");
    context.setTransform(dots, 0, 0, dots, 0, 0);
    const style = getComputedStyle(document.documentElement);
    const ink = (name) => style.getPropertyValue(name).trim();
    const step = (width - 2 * PAD) / state.video.frames;
    const x = (frame) => PAD + frame * step;
    this.ruler(context, x, width, ink);
    this.cuts(context, x, height, ink);
    this.rows(context, x, step, ink);
    this.marks(context, x, step, ink);
    context.fillStyle = ink("--main");
    const middle = x(state.frame) + step / 2;
    context.fillRect(middle - 1, 13, 2, height - 17);
    context.beginPath();
    context.moveTo(middle - 6, 13);
    context.lineTo(middle + 6, 13);
    context.lineTo(middle, 21);
    context.fill();
  }

  ruler(context, x, width, ink) {
    const frames = state.video.frames;
    const about = Math.max(1, (frames * 80) / width);
    const power = 10 ** Math.floor(Math.log10(about));
    const every = [1, 2, 5, 10].map((m) => m * power).find((m) => m >= about) ?? about;
    context.font = "11px system-ui, sans-serif";
    context.fillStyle = ink("--soft");
    context.textBaseline = "top";
    for (let frame = 0; frame < frames; frame += Math.max(1, Math.round(every))) {
      context.fillRect(Math.round(x(frame)), 3, 1, 4);
      context.fillText(String(frame), x(frame) + 3, 2);
    }
  }

  cuts(context, x, height, ink) {
    context.strokeStyle = ink("--soft");
    context.setLineDash([3, 3]);
    context.beginPath();
    for (const [frame, facts] of state.frames) {
      if (!facts.cut) continue;
      const at = Math.round(x(frame)) + 0.5;
      context.moveTo(at, 16);
      context.lineTo(at, height - 4);
    }
    context.stroke();
    context.setLineDash([]);
  }

  rows(context, x, step, ink) {
    state.objects.forEach((object, row) => {
      const bottom = LANE + (row + 1) * ROW;
      context.fillStyle = ink("--line");
      context.fillRect(PAD, bottom, x(state.video.frames) - PAD, 1);
      let most = 0;
      for (const facts of state.frames.values()) most = Math.max(most, facts.objects[object.id]?.[0] ?? 0);
      const [r, g, b] = colour(object);
      for (const [frame, facts] of state.frames) {
        const seen = facts.objects[object.id];
        if (!seen) continue;
        const tall = most ? Math.max(seen[0] > 0 ? 1.5 : 0, (seen[0] / most) * (ROW - 5)) : 0;
        // Doubt begins at 0.92; 0.85 and less is as pale as it gets.
        context.fillStyle = `rgb(${r} ${g} ${b} / ${0.25 + 0.75 * Math.min(1, Math.max(0, (seen[1] - 0.85) / 0.1))})`;
        context.fillRect(x(frame), bottom - tall, Math.max(1, step - (step > 4 ? 1 : 0)), tall);
        if (facts.doubts[object.id]) {
          context.fillStyle = ink("--warn");
          context.fillRect(x(frame), bottom - 1, Math.max(2, step), 3);
        }
      }
    });
  }

  marks(context, x, step, ink) {
    for (const [frame, facts] of state.frames) {
      const middle = x(frame) + step / 2;
      if (facts.drawn.length) {
        context.fillStyle = ink("--ink");
        context.beginPath();
        for (const [dx, dy] of [[0, -4.5], [4.5, 0], [0, 4.5], [-4.5, 0]]) context.lineTo(middle + dx, 25 + dy);
        context.fill();
      } else if (Object.keys(facts.doubts).length) {
        context.fillStyle = ink("--warn");
        context.beginPath();
        for (const [dx, dy] of [[0, -4.5], [4.5, 4], [-4.5, 4]]) context.lineTo(middle + dx, 25 + dy);
        context.fill();
      }
    }
  }
}
