// What the reviewer must know beside the example. Refused answers stay, over reloads too, until he has read them.

import { button, element } from "./view.js";

const TOLD_FOR = 8000; // milliseconds
const MOST = 200; // refusals that are kept

export class Notices {
  constructor(list) {
    Object.assign(this, { list, name: null, told: "", trouble: "", full: false, hasty: false, waiting: () => 0, again: () => {} });
    this.unstored = null;
  }

  of(reviewer, waiting, again) {
    Object.assign(this, { name: `finetune-assets/refused/${reviewer}`, waiting, again });
    this.#show();
  }

  tell(words) {
    clearTimeout(this.forgetting);
    this.told = words;
    this.forgetting = setTimeout(() => this.tell(""), TOLD_FOR);
    this.#show();
  }

  pace(hasty) {
    this.hasty = hasty;
    this.#show();
  }

  signedOut() {
    this.#set("signed-out");
  }

  silent() {
    this.#set("silent");
  }

  well() {
    if (this.trouble) this.#set("");
  }

  storageIsFull() {
    this.full = true;
    this.#show();
  }

  refused(event, words) {
    this.#keep([...this.#kept(), { event, words }].slice(-MOST));
  }

  #set(trouble) {
    this.trouble = trouble;
    this.#show();
  }

  #kept() {
    if (this.unstored) return this.unstored;
    try {
      const kept = JSON.parse(localStorage.getItem(this.name) ?? "[]");
      return Array.isArray(kept) ? kept.filter((one) => one?.event?.key) : [];
    } catch {
      return [];
    }
  }

  #keep(refusals) {
    try {
      localStorage.setItem(this.name, JSON.stringify(refusals));
      this.unstored = null;
    } catch {
      this.unstored = refusals;
    }
    this.#show();
  }

  #without({ event }) {
    this.#keep(this.#kept().filter((other) => other.event.key !== event.key));
  }

  #show() {
    const n = this.waiting();
    const safe = n ? ` ${n} ${n === 1 ? "answer is" : "answers are"} kept in this browser until then.` : "";
    const shown = (this.name ? this.#kept() : []).map((kept) =>
      element("li", "bad", kept.words, " ",
        button("Send again", "", () => (this.#without(kept), this.again(kept.event))), " ",
        button("Understood", "", () => this.#without(kept))));
    if (this.trouble === "silent") shown.push(element("li", "bad", `The server does not answer; trying again.${safe}`));
    if (this.trouble === "signed-out") shown.push(element("li", "bad", `You are signed out.${safe} `, button("Sign in", "", () => location.reload())));
    if (this.full) shown.push(element("li", "bad", "The browser's storage is full: keep this tab open until all is sent."));
    if (this.hasty) shown.push(element("li", "bad", "You look at examples for less than a second. Take the time to see them: what you say becomes the truth."));
    if (this.told) shown.push(element("li", "", this.told));
    this.list.replaceChildren(...shown);
  }
}
