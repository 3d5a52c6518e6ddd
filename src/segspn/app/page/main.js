// Start: get a session for this tab, connect buttons, keys and files.

import * as actions from "./actions.js";
import * as api from "./api.js";
import { $, askExport, chip, fill, render, toast } from "./panels.js";
import { changed, listen, state, take } from "./state.js";
import { Timeline } from "./timeline.js";
import { View } from "./view.js";

const view = new View($("view"), actions.draw, (by) => {
  $("zoomed").hidden = by === 1;
  $("zoomed").textContent = `${Math.round(by * 100)} %`;
});
const timeline = new Timeline($("timeline"), (frame) => actions.go(frame));
Object.assign(actions.page, { view, toast, chip });

// One browser tab, one session, also over a reload. A duplicated tab inherits the name of the
// session but not the lock on it, and gets a session of its own.
async function session() {
  const kept = sessionStorage.getItem("tab");
  if (kept && (await owns(kept))) {
    const { tab, ...rest } = JSON.parse(sessionStorage.getItem("told"));
    Object.assign(state, rest);
    api.useTab(tab);
    try {
      return await api.get("state");
    } catch (error) {
      if (error.status !== 404) throw error;
    }
  }
  const told = await api.newTab();
  const { tab, ...rest } = told;
  Object.assign(state, rest);
  sessionStorage.setItem("tab", tab);
  sessionStorage.setItem("told", JSON.stringify(told));
  await owns(tab);
  api.useTab(tab);
  return api.get("state");
}

function owns(tab) {
  if (!navigator.locks) return Promise.resolve(true); // not a secure context: take it on trust
  return new Promise((done) => {
    navigator.locks.request(`segspn ${tab}`, { ifAvailable: true }, (lock) => {
      done(Boolean(lock));
      return lock ? new Promise(() => {}) : undefined; // held until the tab closes
    });
  });
}

function setTool(tool) {
  state.tool = tool;
  changed();
  view.draw();
}

function setSize(size) {
  state.size = Math.min(80, Math.max(1, size));
  changed();
  view.draw();
}

const keys = {
  " ": () => actions.spaceBar(),
  ArrowLeft: (event) => actions.go(state.frame - (event.shiftKey ? 10 : 1)),
  ArrowRight: (event) => actions.go(state.frame + (event.shiftKey ? 10 : 1)),
  Home: () => actions.go(0),
  End: () => actions.go(Infinity),
  b: () => setTool("brush"),
  e: () => setTool("eraser"),
  x: () => setTool("box"),
  c: () => setTool("click"),
  a: () => actions.addObject(),
  z: () => actions.undo(),
  n: () => actions.nextDoubtful(),
  p: () => actions.play(),
  "[": () => setSize(state.size - 2),
  "]": () => setSize(state.size + 2),
  0: () => view.reset(),
  "?": () => $("help-dialog").showModal(),
};
for (let at = 0; at < 9; at++) {
  keys[at + 1] = () => state.objects[at] && actions.choose(state.objects[at].id);
}

document.addEventListener("keydown", (event) => {
  const field = event.target;
  const typing = field.tagName === "INPUT" && field.type !== "range" && field.type !== "checkbox";
  if (typing || document.querySelector("dialog[open]") || event.ctrlKey !== event.metaKey) {
    if (!typing && (event.ctrlKey || event.metaKey) && event.key === "z") actions.undo();
    return;
  }
  const act = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!act || event.altKey || (!state.video && event.key !== "?")) return;
  event.preventDefault();
  act(event);
});
// A button that was clicked keeps the focus: the space bar must not press it again.
document.addEventListener("keyup", (event) => {
  if (event.key === " " && event.target.tagName === "BUTTON" && !event.target.closest("dialog")) event.preventDefault();
});

const on = (id, act) => $(id).addEventListener("click", act);
on("open", () => $("file").click());
on("choose", () => $("file").click());
on("save", actions.saveProject);
on("export", askExport);
on("help", () => $("help-dialog").showModal());
on("undo", actions.undo);
on("clear", actions.clear);
on("add", actions.addObject);
on("previous", () => actions.go(state.frame - 1));
on("next", () => actions.go(state.frame + 1));
on("play", actions.play);
on("doubt", actions.nextDoubtful);
on("continue", actions.goOn);
on("pause", actions.pause);
on("cancel", actions.cancel);
$("toast").querySelector("button").addEventListener("click", () => ($("toast").hidden = true));
for (const button of document.querySelectorAll("[data-tool]")) button.addEventListener("click", () => setTool(button.dataset.tool));
for (const button of document.querySelectorAll("[data-run]")) button.addEventListener("click", () => actions.run(button.dataset.run));
for (const button of document.querySelectorAll("[data-sign]")) {
  button.addEventListener("click", () => {
    state.sign = button.dataset.sign === "on";
    changed();
  });
}
$("size").addEventListener("input", (event) => setSize(Number(event.target.value)));
$("frame").addEventListener("change", (event) => {
  event.target.blur();
  actions.go(Math.round(Number(event.target.value)) || 0);
});
$("file").addEventListener("change", (event) => {
  actions.openFile(event.target.files[0]);
  event.target.value = "";
});

for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").hidden = false;
  });
}
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) $("drop").hidden = true;
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").hidden = true;
  actions.openFile(event.dataTransfer.files[0]);
});

listen(render);
listen(() => timeline.draw());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);

try {
  const told = await session();
  fill();
  take(told);
  await actions.refresh();
  actions.stayAlive();
  actions.watch();
} catch (error) {
  actions.failed(error);
}
