"""The page of `segspn watch`."""

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>segspn watch</title>
<style>
  body { margin: 0; background: #15171a; color: #e8eaed; font: 16px/1.5 system-ui, sans-serif; }
  main { max-width: 960px; margin: 0 auto; padding: 16px; }
  #view { position: relative; touch-action: none; cursor: crosshair; user-select: none; }
  #view img { display: block; width: 100%; border-radius: 6px; background: #000; min-height: 120px; }
  #box { position: absolute; border: 2px solid #ffd54a; background: #ffd54a22; display: none; }
  p { margin: 12px 0; color: #b8bec6; }
  button { font: inherit; padding: 6px 14px; border: 0; border-radius: 6px; background: #3a3f47;
           color: inherit; cursor: pointer; }
  button:hover { background: #4a505a; }
  #note { color: #ffb4a0; }
</style>
<main>
  <div id="view"><img id="picture" src="/stream" alt="live picture" draggable="false">
    <div id="box"></div></div>
  <p>Drag a box around an object to follow it. <span id="status"></span> <span id="note"></span></p>
  <button id="clear">Stop following</button>
</main>
<script>
const view = document.getElementById("view"), box = document.getElementById("box");
let from = null;
const at = e => {
  const r = view.getBoundingClientRect(), unit = v => Math.min(1, Math.max(0, v));
  return [unit((e.clientX - r.left) / r.width), unit((e.clientY - r.top) / r.height)];
};
const corners = (a, b) => [Math.min(a[0], b[0]), Math.min(a[1], b[1]),
                           Math.max(a[0], b[0]), Math.max(a[1], b[1])];
const send = (path, body) => fetch(path, {method: "POST", body: JSON.stringify(body),
                                          headers: {"Content-Type": "application/json"}});
view.onpointerdown = e => { from = at(e); view.setPointerCapture(e.pointerId); };
view.onpointermove = e => {
  if (!from) return;
  const [x0, y0, x1, y1] = corners(from, at(e)).map(v => 100 * v);
  Object.assign(box.style, {display: "block", left: x0 + "%", top: y0 + "%",
                            width: x1 - x0 + "%", height: y1 - y0 + "%"});
};
view.onpointerup = e => {
  const drawn = corners(from, at(e));
  from = null;
  box.style.display = "none";
  if (drawn[2] - drawn[0] > 0.01 && drawn[3] - drawn[1] > 0.01) send("/box", drawn);
};
document.getElementById("clear").onclick = () => send("/clear", null);
setInterval(async () => {
  const s = await (await fetch("/status")).json();
  document.getElementById("status").textContent = s.ended ? "The source has ended." :
    s.ids.length ? `Following ${s.ids.length}, ${s.seconds.toFixed(2)} s a frame.` : "";
  document.getElementById("note").textContent = s.note;
}, 1000);
</script>
</html>
"""
