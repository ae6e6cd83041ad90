// Review by keyboard. The next examples are here before they are asked for, and an answer is sent after the next is shown.

import { listen, onEnter } from "./keys.js";
import { Picture } from "./picture.js";
import { split } from "./quality.js";
import { get, post, uuid } from "./requests.js";
import { QUEUES, View, button, describe, element, queueButtons } from "./view.js";

const RENEW_EVERY = 4 * 60 * 1000; // milliseconds; the store lends an example for 15 minutes
const UNDOABLE = 200;

export class Review {
  constructor(root, { notices, asked, remember, help }) {
    Object.assign(this, { root, notices, asked, remember, help, items: [], counts: {}, last: null, place: null, queue: null, guidelines: "" });
    this.done = []; // what was answered on this page, with its example, to be undone without a network
    this.brought = new Map(); // examples that were brought back by an undo that the server may not have yet
    this.find = (id) => root.querySelector(`#${id}`);
    this.view = new View(root);
    this.picture = new Picture(root, (url) => asked(() => get(url, {})));
  }

  begin() {
    listen(this.root, {
      act: (name) => this.#act(name),
      options: () => this.items[0]?.options.length ?? 0,
      word: (at) => this.items[0]?.options[at] !== undefined && this.judge("correct", this.items[0].options[at]),
      light: (name, steps) => this.picture.light(name, steps),
    });
    onEnter(this.view.other, () => this.#correctByText());
    onEnter(this.view.comment, () => this.#saveComment());
    this.find("correction").addEventListener("submit", (event) => (event.preventDefault(), this.#correctByText()));
    this.find("remark").addEventListener("submit", (event) => event.preventDefault());
    this.root.addEventListener("click", (event) => {
      const pressed = event.target.closest("[data-do]");
      if (pressed) (pressed.blur(), this.#act(pressed.dataset.do));
    });
    document.addEventListener("visibilitychange", () => this.#pause());
    setInterval(() => !document.hidden && this.items.length && this.queue !== "table" && this.refresh(), RENEW_EVERY);
  }

  async open(place, queue = new URLSearchParams(location.search).get("queue")) {
    if (!place || (place === this.place && (queue === this.queue || this.queue === "table"))) return;
    Object.assign(this, { place, queue, items: [], last: null, progress: null, opening: true });
    this.#state("loading");
    await this.outbox.settled();
    await this.#count();
    if (this.place !== place || this.queue !== queue) return; // somebody was faster and chose another
    this.queue = queue in QUEUES ? queue : (Object.keys(QUEUES).find((name) => this.counts[name] > 0) ?? "doubtful");
    this.#remember();
    this.opening = false;
    await this.#take({ release: true });
  }

  async openExample(id) {
    const { item } = await this.asked(() => post("open", { ...this.#where(), example_id: id }));
    Object.assign(this, { queue: "table", items: [item], progress: null, opening: false });
    this.#show();
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

  undo() {
    // What was answered last is undone by its key, whether the server has it already or not.
    const mine = this.done.pop();
    const undone = mine?.event ?? this.last;
    if (!undone) return;
    this.last = null;
    const queue = undone.queue in QUEUES || undone.queue === "table" ? undone.queue : this.queue;
    const event = { ...this.#event(undone.example_id, "undo", null), queue, undoes: undone.key };
    const elsewhere = queue !== this.queue && undone.kind !== "comment";
    const where = elsewhere ? `; it waits in ${QUEUES[queue]?.[0] ?? "the table"}` : "";
    this.notices.tell(`Undone: ${undone.example_id} ${describe(undone)}${where}.`);
    if (mine?.item && !elsewhere && undone.kind !== "comment") {
      this.brought.set(mine.item.id, { item: mine.item, key: event.key });
      this.items = [mine.item, ...this.items.filter((item) => item.id !== mine.item.id)];
    }
    this.outbox.add(event);
    if (mine?.item) this.#show();
  }

  saved(event, reply) {
    if (this.opening || !this.#isHere(event)) return;
    if (event.queue === "table") this.last = reply.last;
    else this.#receive(reply, event.kind === "undo" ? event.example_id : null);
    if (reply.model !== undefined && reply.model !== null && event.kind !== "undo") {
      this.notices.tell(reply.model === event.answer ? `${event.example_id}: the model says so too.` : `${event.example_id}: the model says “${reply.model}”.`);
    }
    if (reply.progress) this.notices.pace(reply.progress.too_fast);
  }

  refused(event) {
    this.done = this.done.filter((mine) => mine.event.key !== event.key);
    if (!this.opening && this.#isHere(event) && event.queue !== "table") this.refresh();
  }

  async #count() {
    const { counts, guidelines } = await this.asked(() => get("counts", this.#where()));
    Object.assign(this, { counts, guidelines });
    this.view.guide(guidelines);
  }

  async #take(more = {}) {
    if (this.queue === "table") return;
    const wanted = { ...this.#where(), queue: this.queue, ...more };
    const reply = await this.asked(() => post("take", wanted));
    if (this.#isHere(wanted)) this.#receive(reply);
  }

  #isHere(wanted) {
    return `${wanted.task}/${wanted.region}` === this.place && wanted.queue === this.queue;
  }

  #where() {
    const [task, region] = split(this.place);
    return { task, region };
  }

  #event(example_id, kind, answer) {
    return { key: uuid(), ...this.#where(), queue: this.queue, example_id, kind, answer };
  }

  #send(item, kind, answer) {
    const comment = this.view.comment.value.trim() || null;
    const seconds = Math.min((performance.now() - this.since) / 1000, 86_400);
    const event = { ...this.#event(item.id, kind, answer), comment, seconds, content: item.content };
    this.brought.delete(item.id);
    this.done = [...this.done, { event, item: kind === "comment" ? null : item }].slice(-UNDOABLE);
    this.outbox.add(event);
  }

  #receive(reply, front = null) {
    // What is answered already but not yet sent is neither shown again nor lost; what was brought back stays in front.
    const waiting = this.outbox.waiting();
    const undone = new Set(waiting.map((event) => event.undoes).filter(Boolean));
    const answered = new Set(waiting.filter((event) => !["comment", "undo"].includes(event.kind) && !undone.has(event.key)).map((event) => event.example_id));
    const before = this.items[0];
    this.items = reply.items.filter((item) => !answered.has(item.id));
    for (const [id, { item, key }] of this.brought) {
      if (this.items.some((other) => other.id === id)) continue;
      if (waiting.some((event) => event.key === key)) this.items.unshift(item);
      else this.brought.delete(id);
    }
    const first = this.items.some((item) => item.id === front) ? front : before?.id;
    this.items.sort((a, b) => (b.id === first) - (a.id === first));
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
      if (item.image) this.picture.show(item.image, item.deep, item.images);
      this.since = performance.now();
    } else if (this.queue === "table") this.open(this.place, null);
    else if (this.outbox.waiting().length) this.#state("loading");
    else this.#count().then(() => this.items.length || (this.#frame(), this.#state("empty")));
  }

  #frame() {
    // Everything around the example.
    const { left = 0, done_today: today = 0, per_hour } = this.progress ?? {};
    this.picture.preload(this.items.flatMap((item) => item.images.map((image) => image.url)));
    const queues = this.find("queues");
    queues.replaceChildren(...queueButtons(this.counts, this.queue, (queue) => this.open(this.place, queue)));
    const chosen = queues.querySelector(".chosen"); // on a phone it may be out of sight
    if (chosen) queues.scrollLeft += chosen.getBoundingClientRect().left - queues.getBoundingClientRect().left - 40;
    Object.assign(this.find("bar"), { max: Math.max(today + left, 1), value: today });
    const pace = per_hour ? ` · ${Math.round(per_hour).toLocaleString("en")} an hour` : "";
    this.find("pace-words").textContent = this.progress ? `${today} done today · ${left.toLocaleString("en")} left${pace}` : "";
    const last = this.done.at(-1)?.event ?? this.last;
    this.find("undo").disabled = !last;
    this.find("undone").textContent = last ? `: ${describe(last)}` : "";
  }

  #state(name) {
    this.root.dataset.state = name;
    const left = this.progress?.left;
    const empty = left ? `The last ${left} are with other reviewers just now. Look again in some minutes.` : `Nothing waits in “${QUEUES[this.queue]?.[0]}” any more.`;
    const others = Object.keys(QUEUES).filter((queue) => queue !== this.queue && this.counts[queue] > 0);
    const ways = others.map((queue) => button(`${QUEUES[queue][0]} (${this.counts[queue]})`, "", () => this.open(this.place, queue)));
    const words = element("p", "", { loading: "Loading …", ready: "", empty }[name]);
    const undo = this.done.length || this.last ? [button("Undo", "U", () => this.undo())] : [];
    this.find("nothing").replaceChildren(words, ...(name === "empty" ? [...ways, button("Look again", "", () => this.refresh()), ...undo] : []));
  }

  async #correctByText() {
    const [field, item] = [this.view.other, this.items[0]];
    const answer = field.value.trim();
    let wrong = answer ? "" : "Type the right answer first.";
    if (answer && item?.kind === "number") {
      // The server reads numbers as they are written, such as 1 234,5; without a network it does so later.
      const read = await get("number", { text: answer }).catch(() => ({ value: 0 }));
      if (read.value === null) wrong = "Type a number, such as 12.5.";
    }
    if (item !== this.items[0]) return;
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
      help: () => this.help(),
      guidelines: () => (this.find("guidelines").open = !this.find("guidelines").open),
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
      if (performance.now() - this.away > RENEW_EVERY && this.queue !== "table") this.refresh();
    }
  }

  #remember() {
    const here = new URL(location.href);
    here.searchParams.set("place", this.place);
    here.searchParams.set("queue", this.queue);
    history.replaceState(history.state, "", here);
    this.remember(here.search);
  }
}
