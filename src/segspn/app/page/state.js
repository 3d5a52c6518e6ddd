// What the page knows, and who wants to hear when it changes.

export const state = {
  video: null, // {name, frames, size: [h, w], shown: [h, w], fps, number}
  objects: [], // {id, name, colour}
  frames: new Map(), // frame -> {objects: {id: [area, confidence]}, doubts: {id: why}, drawn: [id], cut}
  job: null,
  undo: false,
  unfinished: false,
  cursor: 0,
  frame: 0,
  chosen: null, // id of an object
  tool: "box",
  size: 12,
  sign: true,
  follow: true,
  colours: {},
  exports: [],
  limits: { bytes: 0, suffixes: [] },
};

const listeners = [];

export function listen(listener) {
  listeners.push(listener);
}

export function changed() {
  for (const listener of listeners) listener();
}

// Take over an answer of the server: the whole state, or what changed.
export function take(told) {
  const opened = told.video !== undefined && told.video?.number !== state.video?.number;
  if (opened) {
    Object.assign(state, { objects: [], frames: new Map(), chosen: null, frame: 0, unfinished: false, undo: false });
  }
  for (const key of ["video", "objects", "job", "undo", "unfinished", "cursor"]) {
    if (told[key] !== undefined) state[key] = told[key];
  }
  for (const [frame, facts] of Object.entries(told.frames ?? {})) {
    const known = Object.keys(facts.objects).length || facts.drawn.length;
    if (known) state.frames.set(Number(frame), facts);
    else state.frames.delete(Number(frame));
  }
  if (!state.objects.some((object) => object.id === state.chosen)) {
    state.chosen = state.objects.at(-1)?.id ?? null;
  }
  changed();
  return opened;
}

export const active = () => Boolean(state.job?.active);
export const running = () => active() && state.job.kind === "run";

export function colour(object) {
  return state.colours[object.colour] ?? [200, 200, 200];
}

export function doubtful() {
  return [...state.frames].filter(([, facts]) => Object.keys(facts.doubts).length).map(([frame]) => frame).sort((a, b) => a - b);
}

// The first frames of stretches of doubtful ones: that is where a correction pays.
export function stretches() {
  const all = doubtful();
  return all.filter((frame, at) => at === 0 || all[at - 1] !== frame - 1);
}
