// Talking to the server. Every answer that is an error becomes an Error with the server's words.

let base = "";

export async function newTab() {
  const told = await answer(await send("api/tabs", { method: "POST" }));
  return told;
}

export function useTab(id) {
  base = `api/${encodeURIComponent(id)}`;
}

export const address = (path) => `${base}/${path}`;

async function send(url, options) {
  try {
    return await fetch(url, options);
  } catch {
    throw new Error("the app does not answer: is segspn app still running in the terminal?");
  }
}

async function answer(response) {
  const told = await response.json().catch(() => ({}));
  if (response.ok) return told;
  const error = new Error(told.error || `the app answered with an error (${response.status})`);
  error.status = response.status;
  throw error;
}

export async function get(path) {
  return answer(await send(address(path), {}));
}

export async function change(path, body, method = "POST") {
  const headers = { "Content-Type": "application/json" };
  return answer(await send(address(path), { method, headers, body: JSON.stringify(body ?? {}) }));
}

export async function picture(path) {
  const response = await send(address(path), {});
  if (!response.ok) await answer(response);
  // Without conversions: in a mask the grey values are numbers of objects.
  return createImageBitmap(await response.blob(), { colorSpaceConversion: "none" });
}

export function upload(path, file, progress) {
  // Not fetch, which does not tell how far an upload is.
  return new Promise((done, failed) => {
    const request = new XMLHttpRequest();
    request.open("POST", address(path));
    request.setRequestHeader("X-File-Name", encodeURIComponent(file.name));
    request.upload.onprogress = (event) => progress(event.loaded / Math.max(1, file.size));
    request.onerror = () => failed(new Error("the upload broke off"));
    request.onload = () => {
      let told = {};
      try {
        told = JSON.parse(request.responseText);
      } catch {
        // No words from the server: the status must do.
      }
      if (request.status < 300) done(told);
      else failed(new Error(told.error || `the app answered with an error (${request.status})`));
    };
    request.send(file);
  });
}

export function download(path) {
  const link = document.createElement("a");
  link.href = address(path);
  link.download = "";
  document.body.append(link);
  link.click();
  link.remove();
}
