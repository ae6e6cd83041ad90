// Requests to our own server.

const LONGEST = 20_000; // milliseconds that an answer may take
const KEPT_ALIVE = 32 * 1024; // bytes; a browser refuses to keep more than 64 KiB alive

export class Refused extends Error {
  // The server has understood and said no; `status` is HTTP's.
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export class Failed extends Error {
  // The server has answered, and could not.
}

export async function get(path, values) {
  const query = `${new URLSearchParams(values)}`;
  return answer(await fetch(`/review/${path}${query && `?${query}`}`, { signal: AbortSignal.timeout(LONGEST) }));
}

export async function post(path, body) {
  const headers = { "Content-Type": "application/json" };
  const sent = new TextEncoder().encode(JSON.stringify(body));
  // `keepalive`: what is on its way arrives even if the tab is closed now.
  const how = { keepalive: sent.length < KEPT_ALIVE, redirect: "error", signal: AbortSignal.timeout(LONGEST) };
  return answer(await fetch(`/review/${path}`, { method: "POST", headers, body: sent, ...how }));
}

async function answer(response) {
  if (response.ok) return response.json();
  const said = await response.json().catch(() => ({}));
  const words = typeof said?.message === "string" ? said.message : `The server answers ${response.status}.`;
  // Too busy, too slow, or a gateway before it: it may go well in a moment.
  if ([408, 425, 429, 502, 503, 504].includes(response.status)) throw new Error(words);
  if (response.status >= 500) throw new Failed(words);
  throw new Refused(response.status, words);
}

export function uuid() {
  // crypto.randomUUID is missing where the page comes over plain http from another machine.
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 15) | 64;
  bytes[8] = (bytes[8] & 63) | 128;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}
