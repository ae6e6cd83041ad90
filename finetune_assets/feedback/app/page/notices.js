// What the reviewer must know beside the example. Refused answers stay, over reloads too, until he has read them.

import { button, element } from "./view.js";

const TOLD_FOR = 8000; // milliseconds

export class Notices {
  constructor(list) {
    Object.assign(this, { list, name: null, told: "", trouble: "", waiting: () => 0 });
  }

  of(reviewer, waiting) {
    Object.assign(this, { name: `finetune-assets/refused/${reviewer}`, waiting });
    this.#show();
  }

  tell(words) {
    clearTimeout(this.forgetting);
    this.told = words;
    this.forgetting = setTimeout(() => this.tell(""), TOLD_FOR);
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

  refused(key, words) {
    this.#keep([...this.#kept(), { key, words }]);
  }

  #set(trouble) {
    this.trouble = trouble;
    this.#show();
  }

  #kept() {
    return this.name ? JSON.parse(localStorage.getItem(this.name) ?? "[]") : [];
  }

  #keep(refusals) {
    localStorage.setItem(this.name, JSON.stringify(refusals));
    this.#show();
  }

  #show() {
    const n = this.waiting();
    const safe = n ? ` ${n} ${n === 1 ? "answer is" : "answers are"} kept in this browser until then.` : "";
    const shown = this.#kept().map(({ key, words }) =>
      element("li", "bad", words, " ", button("Understood", "", () => this.#keep(this.#kept().filter((other) => other.key !== key)))));
    if (this.trouble === "silent") shown.push(element("li", "bad", `The server does not answer; trying again.${safe}`));
    if (this.trouble === "signed-out") shown.push(element("li", "bad", `You are signed out.${safe} `, button("Sign in", "", () => location.reload())));
    if (this.told) shown.push(element("li", "", this.told));
    this.list.replaceChildren(...shown);
  }
}
