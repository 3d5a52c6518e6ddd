// Lists, buttons and dialogs, drawn from the state.

import * as actions from "./actions.js";
import { active, colour, running, state, stretches } from "./state.js";

export const $ = (id) => document.getElementById(id);

const EXPORTS = {
  labels: ["Label maps", "one palette PNG per frame, DAVIS layout"],
  overlay: ["Overlay video", "MP4 with the objects tinted"],
  cutouts: ["Cut-outs", "each object as PNG with alpha"],
  scores: ["Score maps", "grey PNG per object, 255 is certain"],
  rle: ["COCO RLE", "one JSON file for pycocotools"],
};
const FIRST = ["labels", "overlay"];
const COLOURS = 24;

const KEYS = [
  ["space", "run, pause, continue"],
  ["← →", "frame back, forward (Shift: ten)"],
  ["Home End", "first, last frame"],
  ["b e x c", "brush, eraser, box, click"],
  ["1 … 9", "choose an object"],
  ["a", "add an object"],
  ["z", "undo"],
  ["n", "next doubtful frame"],
  ["[ ]", "smaller, larger brush"],
  ["p", "play"],
  ["0", "whole picture"],
  ["?", "this help"],
];

export function fill() {
  for (const [keys, does] of KEYS) {
    const term = document.createElement("dt");
    for (const key of keys.split(" ")) term.append(element("kbd", { textContent: key }), " ");
    $("keys").append(term, element("dd", { textContent: does }));
  }
  for (const name of state.exports) {
    const [title, words] = EXPORTS[name] ?? [name, ""];
    const box = element("input", { type: "checkbox", name, checked: FIRST.includes(name) });
    const label = element("label");
    label.append(box, element("span", { textContent: title }), element("small", { textContent: words }));
    $("export-choices").append(label);
  }
  const shown = state.limits.bytes >= 2 ** 30 ? `${+(state.limits.bytes / 2 ** 30).toFixed(1)} GiB` : `${Math.round(state.limits.bytes / 2 ** 20)} MiB`;
  $("limits").textContent = `MP4, MOV, MKV, WebM, AVI, MPEG or GIF up to ${shown}. Or drop it here.`;
  $("file").accept = [...state.limits.suffixes, ".zip"].join(",");
}

export function render() {
  const { video, job } = state;
  $("app").classList.toggle("empty", !video);
  $("welcome").hidden = Boolean(video);
  $("save").disabled = !video || active();
  $("export").disabled = !video || active() || !state.frames.size;
  if (!video) return;
  const [height, width] = video.size;
  $("stage").style.setProperty("--aspect", width / height);
  $("title").textContent = `${video.name} · ${video.frames} frames · ${width}×${height}`;
  document.title = `${video.name} – segspn`;
  $("undo").disabled = !state.undo;
  $("clear").disabled = !state.frames.get(state.frame)?.drawn.length;
  for (const button of document.querySelectorAll("[data-tool]")) {
    button.classList.toggle("chosen", button.dataset.tool === state.tool);
    button.setAttribute("aria-pressed", button.dataset.tool === state.tool);
  }
  $("size-option").hidden = !["brush", "eraser"].includes(state.tool);
  $("sign-option").hidden = state.tool !== "click";
  for (const button of document.querySelectorAll("[data-sign]")) {
    button.classList.toggle("chosen", (button.dataset.sign === "on") === state.sign);
  }
  $("size").value = state.size;
  $("frame").max = video.frames - 1;
  if (document.activeElement !== $("frame")) $("frame").value = state.frame;
  $("of").textContent = `of ${video.frames - 1}`;
  $("play").querySelector("use").setAttribute("href", `page/icons.svg#${actions.isPlaying() ? "pause" : "play"}`);
  const starts = stretches();
  $("doubt").disabled = !starts.length;
  $("doubts").textContent = starts.length || "";
  const going = active() || state.unfinished;
  $("runs").hidden = going;
  $("going").hidden = !going;
  $("pause").hidden = !running();
  $("continue").hidden = active();
  renderJob(job);
  renderObjects();
}

function renderJob(job) {
  const shown = job && (job.active || job.phase === "failed" || state.unfinished);
  $("job").hidden = !shown;
  $("legend").hidden = Boolean(shown);
  $("told").textContent = "";
  if (!shown) return;
  $("job").classList.toggle("bad", job.phase === "failed");
  $("bar").hidden = job.phase === "failed";
  $("bar").value = job.total ? job.done / job.total : 0;
  $("told").textContent = jobWords(job);
}

function jobWords(job) {
  const counted = `${job.done} of ${job.total} frames`;
  const left = job.eta === null ? "" : ` · ${duration(job.eta)} left`;
  switch (job.phase) {
    case "learning": return `${counted} · learning what was drawn`;
    case "tracking": return counted + left;
    case "drawing": return `Exporting, ${Math.round((100 * job.done) / job.total)} %${left}`;
    case "paused": return `Paused after ${counted}: correct what is wrong, then continue`;
    case "failed": return job.message;
    default: return "";
  }
}

function duration(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

function renderObjects() {
  const list = $("objects");
  // Kept while somebody types a name in it.
  if (list.contains(document.activeElement) && document.activeElement.tagName === "INPUT") return;
  const facts = state.frames.get(state.frame);
  list.replaceChildren(...state.objects.map((object, at) => item(object, at, facts)));
  $("hint").textContent = state.objects.length
    ? state.frames.size ? "" : "Drag a box around it, click on it, or paint it. Then run."
    : "Drag a box around the first object, click on it, or paint it: it is added by itself.";
}

function item(object, at, facts) {
  const line = element("li", { className: object.id === state.chosen ? "chosen" : "" });
  const swatch = element("button", { type: "button", className: "swatch", title: "Colour" });
  swatch.setAttribute("aria-label", `Colour of ${object.name}`);
  swatch.style.background = `rgb(${colour(object).join(" ")})`;
  swatch.onclick = () => pickColour(object);
  const name = element("input", { value: object.name, maxLength: 60 });
  name.setAttribute("aria-label", "Name");
  name.onchange = () => {
    const wanted = name.value;
    name.blur();
    actions.alter(object.id, { name: wanted });
  };
  name.onkeydown = (event) => {
    if (event.key === "Enter") name.blur();
  };
  const remove = element("button", { type: "button", className: "quiet", title: `Remove ${object.name}` });
  remove.setAttribute("aria-label", `Remove ${object.name}`);
  remove.innerHTML = '<svg><use href="page/icons.svg#close"/></svg>';
  remove.onclick = (event) => {
    event.stopPropagation();
    actions.removeObject(object.id);
  };
  const tail = element("span", { className: "tail" });
  if (at < 9) tail.append(element("kbd", { textContent: at + 1 }));
  tail.append(remove);
  line.append(swatch, name, tail, fact(object, facts));
  line.onclick = (event) => {
    if (event.target.tagName !== "INPUT") actions.choose(object.id);
  };
  name.onfocus = () => {
    state.chosen = object.id;
    for (const other of $("objects").children) other.classList.toggle("chosen", other === line);
    actions.page.view.recolour();
  };
  return line;
}

function fact(object, facts) {
  const seen = facts?.objects[object.id];
  const why = facts?.doubts[object.id];
  const words = [];
  if (seen) words.push(seen[0] ? `${(100 * seen[0]).toFixed(1)} %` : "not here");
  if (facts?.drawn.includes(object.id)) words.push("drawn");
  else if (seen?.[0]) words.push(`confidence ${seen[1].toFixed(2)}`);
  if (why) words.push(why);
  return element("span", { className: why ? "fact odd" : "fact", textContent: words.join(" · ") || "no mask in this frame" });
}

function pickColour(object) {
  const taken = new Set(state.objects.map((other) => other.colour));
  $("palette").replaceChildren(
    ...Array.from({ length: COLOURS }, (_, at) => {
      const index = at + 1;
      const button = element("button", { className: "swatch", value: "no", title: `number ${index}`, disabled: taken.has(index) });
      button.style.background = `rgb(${state.colours[index].join(" ")})`;
      button.setAttribute("aria-label", `Colour ${index}`);
      button.onclick = () => actions.alter(object.id, { colour: index });
      return button;
    }),
  );
  $("colour-dialog").showModal();
}

export function askExport() {
  if ($("export").disabled) return;
  const frames = [...state.frames.keys()];
  const [first, last] = [Math.min(...frames), Math.max(...frames)];
  const empty = last - first + 1 - frames.length;
  $("export-range").textContent = `Frames ${first} to ${last}` + (empty ? `, of which ${empty} have no masks and are left empty.` : ".");
  const dialog = $("export-dialog");
  dialog.onclose = () => {
    if (dialog.returnValue !== "yes") return;
    const save = [...$("export-choices").querySelectorAll("input:checked")].map((box) => box.name);
    actions.exportResults(save);
  };
  dialog.returnValue = "no";
  dialog.showModal();
}

let toastEnds = 0;

export function toast(words, good = false) {
  const box = $("toast");
  // A sentence, unless it begins with the name of a file.
  box.firstElementChild.textContent = /^[a-z]+[ ,]/.test(words) ? words[0].toUpperCase() + words.slice(1) : words;
  box.classList.toggle("good", good);
  box.hidden = false;
  clearTimeout(toastEnds);
  toastEnds = setTimeout(() => (box.hidden = true), good ? 5000 : 12000);
}

export function chip(words) {
  $("chip").hidden = !words;
  $("chip").textContent = words;
}

function element(tag, facts = {}) {
  return Object.assign(document.createElement(tag), facts);
}
