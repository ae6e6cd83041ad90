// Requests to our own server, and the outbox: an answer is kept in the browser until the server has said that it has it.

export class Refused extends Error {
  // The server has understood and said no; `status` is HTTP's.
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export async function get(path, values) {
  return answer(await fetch(`/review/${path}?${new URLSearchParams(values)}`));
}

export async function post(path, body) {
  const headers = { "Content-Type": "application/json" };
  // `keepalive`: what is on its way arrives even if the tab is closed now.
  return answer(await fetch(`/review/${path}`, { method: "POST", headers, body: JSON.stringify(body), keepalive: true }));
}

async function answer(response) {
  if (response.ok) return response.json();
  if (response.status >= 500) throw new Error(`the server answers ${response.status}`);
  const said = await response.json().catch(() => ({}));
  throw new Refused(response.status, said.message ?? `The server refused it (${response.status}).`);
}

export function uuid() {
  // crypto.randomUUID is missing where the page comes over plain http from another machine.
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 15) | 64;
  bytes[8] = (bytes[8] & 63) | 128;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

export class Outbox {
  // Sends events one after the other, in order. The same event may be sent twice; its key makes it one.
  constructor(reviewer, { saved, refused, trouble }) {
    Object.assign(this, { name: `finetune-assets/outbox/${reviewer}`, saved, refused, trouble, sending: null });
  }

  waiting() {
    return JSON.parse(localStorage.getItem(this.name) ?? "[]");
  }

  add(event) {
    this.#write([...this.waiting(), event]);
    return this.settled();
  }

  settled() {
    // Resolves when everything is sent; it never rejects, it waits for the server to come back.
    this.sending ??= this.#drain().finally(() => (this.sending = null));
    return this.sending;
  }

  #write(events) {
    localStorage.setItem(this.name, JSON.stringify(events));
  }

  #drop(event) {
    this.#write(this.waiting().filter((other) => other.key !== event.key));
  }

  async #drain() {
    for (let patience = 1; this.waiting().length; ) {
      const event = this.waiting()[0];
      try {
        const reply = await post("events", event);
        this.#drop(event);
        this.saved(event, reply);
        patience = 1;
      } catch (error) {
        if (error instanceof Refused && error.status !== 401) {
          this.#drop(event);
          this.refused(event, error.message);
        } else {
          this.trouble(error);
          await new Promise((resolve) => setTimeout(resolve, 1000 * patience));
          patience = Math.min(2 * patience, 15);
        }
      }
    }
  }
}
