// An answer is kept in the browser until the server has said that it has it, or why it never will.

import { Failed, Refused, post } from "./requests.js";

const TRIES = 3; // of one answer at which the server fails while it is there

export class Outbox {
  // Sends events one after the other, in order. The same event may be sent twice; its key makes it one. Each has an
  // entry of its own in the browser's storage, so that two tabs do not overwrite each other's.
  constructor(reviewer, { saved, refused, trouble, full }) {
    Object.assign(this, { name: `finetune-assets/outbox/${reviewer}/`, saved, refused, trouble, full, sending: null });
    this.unstored = new Map(); // where the browser's storage is full
    this.failed = new Map();
  }

  waiting() {
    const names = Array.from({ length: localStorage.length }, (_, at) => localStorage.key(at)).filter((name) => name?.startsWith(this.name));
    const stored = names.map((name) => [name, parsed(localStorage.getItem(name))]);
    for (const [name, event] of stored) if (!event) localStorage.removeItem(name);
    return [...stored.filter(([, event]) => event), ...this.unstored].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, event]) => event);
  }

  add(event) {
    // Names sort in the order of adding, also across tabs and reloads.
    const last = this.waiting().at(-1)?.order ?? 0;
    const kept = { ...event, order: Math.max(Date.now(), last + 1) };
    const name = this.#name(kept);
    try {
      localStorage.setItem(name, JSON.stringify(kept));
    } catch {
      this.unstored.set(name, kept);
      this.full();
    }
    return this.settled();
  }

  settled() {
    // Resolves when everything is sent or refused; it never rejects, it waits for the server to come back.
    this.sending ??= this.#drain().finally(() => (this.sending = null));
    return this.sending;
  }

  #name(event) {
    return `${this.name}${String(event.order).padStart(16, "0")}-${event.key}`;
  }

  #drop(event) {
    this.unstored.delete(this.#name(event));
    this.failed.delete(event.key);
    localStorage.removeItem(this.#name(event));
  }

  async #drain() {
    for (let patience = 1, event; (event = this.waiting()[0]); ) {
      try {
        const { order, ...sent } = event;
        const reply = await post("events", sent);
        // Whoever answers something else is not our server: a sign-in page of a network, say.
        if (reply?.stored !== event.key) throw new Error("nothing was stored");
        this.#drop(event);
        this.saved(event, reply);
        patience = 1;
      } catch (error) {
        if (this.#isForGood(event, error)) {
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

  #isForGood(event, error) {
    if (error instanceof Refused) return error.status !== 401;
    if (!(error instanceof Failed)) return false;
    const times = (this.failed.get(event.key) ?? 0) + 1;
    this.failed.set(event.key, times);
    return times >= TRIES;
  }
}

function parsed(text) {
  try {
    const event = JSON.parse(text);
    return typeof event?.key === "string" && Number.isFinite(event.order) ? event : null;
  } catch {
    return null;
  }
}
