// What a user can do; buttons and keys call these.

import * as api from "./api.js";
import { active, changed, state, stretches, take } from "./state.js";

const POLL = 250; // milliseconds between questions while a job runs
const ALIVE = 30000;

export const page = { view: null, toast: () => {}, chip: () => {} };

// Changes go to the server one after another, in the order they were made.
let queue = Promise.resolve();

function inTurn(work) {
  const result = queue.then(work);
  queue = result.catch(() => {});
  return result.catch(failed);
}

export function failed(error) {
  page.chip("");
  page.toast(error.message);
  if (error.status === 404 && /work is not on the server/.test(error.message)) {
    sessionStorage.removeItem("tab");
  }
}

export async function refresh() {
  if (state.video) await page.view.show(state.frame).catch(failed);
}

export function go(frame, byHand = true) {
  if (!state.video) return;
  if (byHand) state.follow = false;
  state.frame = Math.min(Math.max(frame, 0), state.video.frames - 1);
  changed();
  refresh();
}

// Files

export async function openFile(file) {
  if (!file) return;
  const project = /\.zip$/i.test(file.name);
  if (file.size > state.limits.bytes) {
    const most = state.limits.bytes / 2 ** 20;
    failed(new Error(`${file.name} is ${Math.ceil(file.size / 2 ** 20)} MiB, and at most ${Math.round(most)} MiB may be uploaded: name the file on the command line instead (segspn app FILE), or raise --max-upload`));
    return;
  }
  if (project && !state.video) {
    failed(new Error("a project holds the masks alone: open its video first, then the project"));
    return;
  }
  await inTurn(async () => {
    const tell = (share) => page.chip(share < 1 ? `Uploading ${file.name}: ${Math.round(100 * share)} %` : `Opening ${file.name}`);
    tell(0);
    const told = await api.upload(project ? "project" : "video", file, tell);
    page.chip("");
    page.view.forget();
    take(told);
    await refresh();
    if (project) page.toast(`${file.name} is open: go on where you stopped`, true);
  });
}

export function saveProject() {
  if (state.video && !active()) api.download("project.zip");
}

export function exportResults(save) {
  return inTurn(async () => {
    take(await api.change("export", { save }));
    watch();
  });
}

// Objects

export function addObject() {
  return inTurn(async () => {
    const told = await api.change("objects", {});
    take(told);
    choose(told.added);
  });
}

export function choose(id) {
  state.chosen = id;
  changed();
  page.view.recolour();
}

export function alter(id, what) {
  return inTurn(async () => {
    take(await api.change(`objects/${id}`, what, "PATCH"));
    page.view.recolour();
  });
}

export function removeObject(id) {
  return inTurn(async () => {
    await paused();
    const { name } = state.objects.find((object) => object.id === id);
    take(await api.change(`objects/${id}`, {}, "DELETE"));
    page.toast(`${name} is removed: undo (z) brings it back`, true);
    await refresh();
  });
}

// Masks

export function draw(stroke) {
  state.follow = false; // stay where it was drawn
  return inTurn(async () => {
    await paused();
    if (stroke.object === null) {
      const told = await api.change("objects", {});
      take(told);
      choose((stroke.object = told.added));
    }
    if (stroke.tool === "box" || stroke.tool === "click") page.chip("Finding the object");
    try {
      take(await api.change("edit", stroke));
    } finally {
      page.chip("");
      await refresh();
    }
  });
}

export function undo() {
  return inTurn(async () => {
    if (!state.undo) return;
    await paused();
    const told = await api.change("undo");
    take(told);
    page.view.points.pop();
    if (told.frame !== undefined && told.frame !== state.frame) go(told.frame);
    else await refresh();
  });
}

export function clear() {
  return inTurn(async () => {
    await paused();
    take(await api.change("clear", { frame: state.frame }));
    page.view.points = [];
    await refresh();
  });
}

// Running

export function run(direction) {
  return inTurn(async () => {
    if (active()) return;
    state.follow = true;
    page.view.points = [];
    take(await api.change("run", { frame: state.frame, direction }));
    watch();
  });
}

export const goOn = () => run(null);

export function pause() {
  return inTurn(paused);
}

async function paused() {
  if (!active()) return;
  page.chip("Pausing");
  take(await api.change("pause"));
  page.chip("");
  await catchUp();
}

// Show the frame that a run has come to.
async function catchUp() {
  if (state.job?.kind !== "run" || !state.follow || state.job.frame === null || state.job.frame === state.frame) return;
  state.frame = state.job.frame;
  changed();
  await refresh();
}

export function cancel() {
  return inTurn(async () => {
    page.chip("Stopping");
    take(await api.change("cancel"));
    page.chip("");
    await refresh();
  });
}

export function spaceBar() {
  if (!state.video) return;
  if (active()) pause();
  else if (state.unfinished) goOn();
  else run("forward");
}

export function nextDoubtful() {
  const starts = stretches();
  const next = starts.find((frame) => frame > state.frame) ?? starts[0];
  if (next !== undefined) go(next);
}

let watching = false;

export async function watch() {
  if (watching) return;
  watching = true;
  try {
    while (active()) {
      await new Promise((done) => setTimeout(done, POLL));
      const { kind } = state.job;
      take(await api.get(`news?after=${state.cursor}`));
      await catchUp();
      if (state.job?.phase === "failed") page.toast(state.job.message);
      if (kind === "export" && state.job?.phase === "done") api.download("results.zip");
    }
    await refresh();
  } catch (error) {
    failed(error);
  } finally {
    watching = false;
  }
}

// Telling the server that this page is there, so that its work is kept.
export function stayAlive() {
  setInterval(() => {
    if (!active()) api.get(`news?after=${state.cursor}`).catch(() => {});
  }, ALIVE);
}

// Playing what is there

let playing = 0;

export function play() {
  if (playing || !state.video) {
    clearTimeout(playing);
    playing = 0;
    changed();
    return;
  }
  if (state.frame === state.video.frames - 1) go(0);
  const tick = async () => {
    const due = performance.now() + 1000 / state.video.fps;
    state.frame += 1;
    changed();
    await refresh();
    if (state.frame >= state.video.frames - 1) playing = 0;
    if (playing) playing = setTimeout(tick, Math.max(0, due - performance.now()));
    else changed();
  };
  playing = setTimeout(tick, 0);
  changed();
}

export const isPlaying = () => playing !== 0;
