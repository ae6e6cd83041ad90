// Review by keyboard. The next examples are here before they are asked for, and an answer is sent after the next is shown.

import { listen, onEnter } from "./keys.js";
import { Notices } from "./notices.js";
import { Picture } from "./picture.js";
import { Outbox, Refused, get, post, uuid } from "./requests.js";
import { QUEUES, View, button, describe, element, queueButtons } from "./view.js";

const RENEW_EVERY = 4 * 60 * 1000; // milliseconds; the store lends an example for 15 minutes

export function start(root) {
  if (root.dataset.started) return;
  root.dataset.started = "yes";
  new Review(root).begin();
}

class Review {
  constructor(root) {
    Object.assign(this, { root, items: [], counts: {}, last: null, place: null, queue: null });
    this.find = (id) => root.querySelector(`#${id}`);
    this.view = new View(root);
    this.picture = new Picture(root);
    this.notices = new Notices(this.find("notices"));
  }

  begin() {
    const page = document.documentElement;
    listen(this.root, {
      act: (name) => this.#act(name),
      word: (at) => this.items[0]?.options[at] !== undefined && this.judge("correct", this.items[0].options[at]),
      light: (name, steps) => this.picture.light(name, steps),
    });
    onEnter(this.view.other, () => this.#correctByText());
    onEnter(this.view.comment, () => this.#saveComment());
    this.find("correction").addEventListener("submit", (event) => (event.preventDefault(), this.#correctByText()));
    this.root.addEventListener("click", (event) => {
      const pressed = event.target.closest("[data-do]");
      if (pressed) (pressed.blur(), this.#act(pressed.dataset.do));
    });
    document.addEventListener("visibilitychange", () => this.#pause());
    setInterval(() => !document.hidden && this.items.length && this.refresh(), RENEW_EVERY);
    window.addEventListener("placechange", () => this.open(page.dataset.place));
    this.open(page.dataset.place);
  }

  async open(place, queue = new URLSearchParams(location.search).get("queue")) {
    if (!place || (place === this.place && queue === this.queue)) return;
    Object.assign(this, { place, queue, items: [], last: null, progress: null });
    this.#state("loading");
    await this.#count();
    await this.outbox.settled();
    if (this.place !== place || this.queue !== queue) return; // somebody was faster and chose another
    this.queue = queue in QUEUES ? queue : (Object.keys(QUEUES).find((name) => this.counts[name] > 0) ?? "doubtful");
    this.#remember();
    await this.#take({ release: true });
  }

  async refresh() {
    await this.outbox.settled();
    await this.#count();
    await this.#take();
  }

  judge(kind, answer) {
    const item = this.items[0];
    if (!item) return;
    const meant = kind === "correct" && answer === item.proposed ? "accept" : kind;
    const decides = this.queue === "conflicts" && kind !== "skip";
    this.#send(item, decides ? "adjudicate" : meant, answer);
    this.items.shift();
    this.#show();
  }

  async undo() {
    if (this.undoing) return;
    this.undoing = true;
    await this.outbox.settled();
    const undone = this.last;
    try {
      if (undone) await this.#takeBack(undone);
    } finally {
      this.undoing = false;
    }
  }

  async #takeBack(undone) {
    const event = { ...this.#event(undone.example_id, "undo", null), undoes: undone.number, shown: { queue: undone.queue ?? this.queue } };
    const reply = await this.#asked(() => post("events", event));
    this.items = [];
    this.#receive(reply);
    const elsewhere = undone.kind !== "comment" && this.items[0]?.id !== undone.example_id;
    const where = elsewhere ? `; it waits in ${QUEUES[undone.queue]?.[0] ?? "another queue"}` : "";
    this.notices.tell(`Undone: ${undone.example_id} ${describe(undone)}${where}.`);
  }

  async #count() {
    const { reviewer, counts } = await this.#asked(() => get("counts", this.#where()));
    this.counts = counts;
    if (!this.outbox) {
      this.outbox = this.#outbox(reviewer);
      this.notices.of(reviewer, () => this.outbox.waiting().length);
    }
  }

  async #take(more = {}) {
    const asked = { ...this.#where(), queue: this.queue, ...more };
    const reply = await this.#asked(() => post("take", asked));
    if (this.#isHere(asked)) this.#receive(reply);
  }

  #outbox(reviewer) {
    return new Outbox(reviewer, {
      saved: (event, reply) => (this.notices.well(), this.#isHere(event) && this.#receive(reply)),
      refused: (event, message) => {
        this.notices.refused(event.key, `Not recorded: ${event.example_id} ${describe(event)}. ${message}`);
        if (this.#isHere(event)) this.refresh();
      },
      trouble: (error) => this.#trouble(error),
    });
  }

  async #asked(request) {
    // Asks until there is an answer: the server may be starting again.
    for (let patience = 1; ; patience = Math.min(2 * patience, 15)) {
      try {
        const reply = await request();
        this.notices.well();
        return reply;
      } catch (error) {
        if (error instanceof Refused && error.status !== 401) this.notices.tell(error.message);
        if (error instanceof Refused && error.status !== 401) throw error;
        this.#trouble(error);
        await new Promise((resolve) => setTimeout(resolve, 1000 * patience));
      }
    }
  }

  #trouble(error) {
    if (error instanceof Refused) this.notices.signedOut();
    else this.notices.silent();
  }

  #isHere(asked) {
    return `${asked.task}/${asked.region}` === this.place && asked.queue === this.queue;
  }

  #where() {
    const [task, region] = this.place.split("/");
    return { task, region };
  }

  #event(example_id, kind, answer) {
    return { key: uuid(), ...this.#where(), queue: this.queue, example_id, kind, answer };
  }

  #send(item, kind, answer) {
    const { label, model, answer: model_answer, probability, content } = item;
    const shown = { queue: this.queue, label, model, model_answer, probability, content };
    const comment = this.view.comment.value.trim() || null;
    const seconds = (performance.now() - this.since) / 1000;
    this.outbox.add({ ...this.#event(item.id, kind, answer), comment, seconds, shown });
  }

  #receive(reply) {
    // What is answered already but not yet sent is neither shown again nor lost.
    const answered = new Set(this.outbox.waiting().filter((event) => event.kind !== "comment").map((event) => event.example_id));
    const before = this.items[0];
    this.items = reply.items.filter((item) => !answered.has(item.id));
    if (before) this.items.sort((a, b) => (b.id === before.id) - (a.id === before.id));
    Object.assign(this, { last: reply.last, progress: reply.progress });
    this.counts[this.queue] = reply.progress.left;
    if (this.items[0]?.id === before?.id && this.items[0]?.content === before?.content && before) this.#frame();
    else this.#show();
  }

  #show() {
    const item = this.items[0];
    this.#frame();
    if (item) {
      this.#state("ready");
      this.view.show(item, this.queue === "conflicts", (word) => this.judge("correct", word));
      if (item.image) this.picture.show(item.image);
      this.since = performance.now();
    } else if (this.outbox.waiting().length) this.#state("loading");
    else this.#count().then(() => this.items.length || (this.#frame(), this.#state("empty")));
  }

  #frame() {
    // Everything around the example.
    const { left = 0, done_today: today = 0, per_hour } = this.progress ?? {};
    this.picture.preload(this.items.map((item) => item.image).filter(Boolean));
    this.find("queues").replaceChildren(...queueButtons(this.counts, this.queue, (queue) => this.open(this.place, queue)));
    Object.assign(this.find("bar"), { max: Math.max(today + left, 1), value: today });
    const pace = per_hour ? ` · ${Math.round(per_hour).toLocaleString("en")} an hour` : "";
    this.find("pace-words").textContent = `${today} done today · ${left.toLocaleString("en")} left${pace}`;
    const sending = this.outbox.waiting().length > 0;
    this.find("undo").disabled = !this.last && !sending;
    this.find("undone").textContent = this.last && !sending ? `: ${describe(this.last)}` : "";
  }

  #state(name) {
    this.root.dataset.state = name;
    const left = this.progress?.left;
    const empty = left ? `The last ${left} are with other reviewers just now. Look again in some minutes.` : `Nothing waits in “${QUEUES[this.queue]?.[0]}” any more.`;
    const others = Object.keys(QUEUES).filter((queue) => queue !== this.queue && this.counts[queue] > 0);
    const ways = others.map((queue) => button(`${QUEUES[queue][0]} (${this.counts[queue]})`, "", () => this.open(this.place, queue)));
    const words = element("p", "", { loading: "Loading …", ready: "", empty }[name]);
    this.find("nothing").replaceChildren(words, ...(name === "empty" ? [...ways, button("Look again", "", () => this.refresh())] : []));
  }

  #correctByText() {
    const field = this.view.other;
    const answer = field.value.trim();
    const isNumber = this.items[0]?.kind === "number";
    const wrong = !answer ? "Type the right answer first." : isNumber && !Number.isFinite(Number(answer)) ? "Type a number, such as 12.5." : "";
    field.setCustomValidity(wrong);
    if (wrong) return void field.reportValidity();
    field.blur();
    this.judge("correct", answer);
  }

  #saveComment() {
    if (this.items[0] && this.view.comment.value.trim()) {
      this.#send(this.items[0], "comment", null);
      this.view.comment.value = "";
      this.notices.tell("Comment saved.");
    }
    this.view.comment.blur();
  }

  #act(name) {
    const item = this.items[0];
    const acts = {
      accept: () => item && item.proposed !== null && this.judge("accept", item.proposed),
      reject: () => this.judge("reject", null),
      skip: () => this.judge("skip", null),
      undo: () => this.undo(),
      correct: () => item && !item.options.length && this.view.other.select(),
      comment: () => item && this.view.comment.focus(),
      "zoom-in": () => this.picture.zoomBy(2),
      "zoom-out": () => this.picture.zoomBy(-2),
      reset: () => this.picture.reset(),
    };
    acts[name]();
  }

  #pause() {
    // Time away from the page is not time spent on the example.
    if (document.hidden) this.away = performance.now();
    else if (this.since && this.away) {
      this.since += performance.now() - this.away;
      if (performance.now() - this.away > RENEW_EVERY) this.refresh();
    }
  }

  #remember() {
    const here = new URL(location.href);
    here.searchParams.set("place", this.place);
    here.searchParams.set("queue", this.queue);
    history.replaceState(history.state, "", here);
    localStorage.setItem("finetune-assets/place", here.search);
  }
}
