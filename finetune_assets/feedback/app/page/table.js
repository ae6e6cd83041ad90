// Base model, fine-tuned model, label and people side by side, page by page; a row opens its example.

import { split } from "./quality.js";
import { get, post, uuid } from "./requests.js";
import { button, element } from "./view.js";

const HEADS = ["", "", "Question", "Base", "Model", "Label", "Reviewers"];
const WORDS = { reject: "not usable", conflict: "they disagree", waits: "waits for a second blind judgement" };
const HELD_OUT = ["calibration", "test"];

export class Table {
  constructor(root, { asked, notices, reviewer, review, open }) {
    Object.assign(this, { root, asked, notices, reviewer, review, openExample: open, offset: 0, chosen: new Map() });
    this.find = (id) => root.querySelector(`#${id}`);
    this.find("wanted").addEventListener("change", () => this.#turn(0));
    this.find("search").addEventListener("input", () => (clearTimeout(this.typing), (this.typing = setTimeout(() => this.#turn(0), 250))));
    this.find("back").addEventListener("click", () => this.#turn(this.offset - 25));
    this.find("on").addEventListener("click", () => this.#turn(this.offset + 25));
    const acts = [["Accept label", (row) => this.#say(row, "accept", row.label)], ["Reject", (row) => this.#say(row, "reject", null)]];
    if (reviewer.role === "admin") acts.push(["Make gold", (row) => this.#gold(row)]);
    this.find("bulk").append(...acts.map(([words, act]) => button(words, "", () => this.#all(act))));
  }

  async open(place) {
    [this.task, this.region] = split(place);
    await this.review.outbox.settled();
    await this.#turn(place === this.place ? this.offset : 0);
    this.place = place;
  }

  async #turn(offset) {
    this.offset = Math.max(0, offset);
    const where = { task: this.task, region: this.region, wanted: this.find("wanted").value, text: this.find("search").value, offset: this.offset };
    const asking = (this.asking = Symbol());
    const { rows, total } = await this.asked(() => get("table", where));
    if (asking !== this.asking) return; // a later question was faster
    this.chosen.clear();
    this.#choose();
    const last = this.offset + rows.length;
    this.find("where").textContent = rows.length ? `${(this.offset + 1).toLocaleString("en")} to ${last.toLocaleString("en")} of ${total.toLocaleString("en")}` : "none";
    this.find("back").disabled = this.offset === 0;
    this.find("on").disabled = last >= total;
    const heads = element("tr", "", ...HEADS.map((head) => element("th", "", head)));
    this.find("rows").replaceChildren(element("table", "side-by-side cards", heads, ...rows.map((row) => this.#row(row))));
  }

  #row(row) {
    const box = element("input");
    Object.assign(box, { type: "checkbox", ariaLabel: `Choose ${row.id}` });
    box.addEventListener("change", () => (box.checked ? this.chosen.set(row.id, row) : this.chosen.delete(row.id), this.#choose()));
    const cells = [box, ...cellsOf(row)];
    const made = element("tr", "", ...cells.map((cell, at) => {
      const data = element("td", "", ...(Array.isArray(cell) ? cell : [cell]));
      data.dataset.head = HEADS[at];
      return data;
    }));
    made.tabIndex = 0;
    made.addEventListener("click", (event) => event.target !== box && this.openExample(row.id));
    made.addEventListener("keydown", (event) => event.key === "Enter" && event.target !== box && this.openExample(row.id));
    return made;
  }

  #choose() {
    this.find("bulk").hidden = !this.chosen.size;
    this.find("chosen").textContent = `${this.chosen.size} chosen `;
  }

  async #all(act) {
    for (const row of [...this.chosen.values()]) await act(row);
    await this.review.outbox.settled();
    await this.#turn(this.offset);
  }

  #say(row, kind, answer) {
    if (kind === "accept" && row.label === null) return this.notices.tell(`${row.id} has no label to accept.`);
    if (HELD_OUT.includes(row.split)) this.notices.tell("What is said here of held-out examples is kept, and waits for blind judgements.");
    const place = { task: this.task, region: this.region, example_id: row.id };
    this.review.outbox.add({ key: uuid(), ...place, queue: "table", kind, answer, content: row.content });
  }

  async #gold(row) {
    const answer = row.answer ?? row.label;
    await this.asked(() => post("gold", { task: this.task, region: this.region, example_id: row.id, answer })).then(
      () => this.notices.tell(`${row.id} is a gold question now: ${answer}.`), () => {});
  }
}

function cellsOf(row) {
  const said = row.model;
  const certain = said && said.probability !== null ? `right with ${Math.round(said.probability * 100)} %` : "";
  return [
    row.images.map(picture),
    [row.question, element("small", "", `${row.id} · ${row.split}`)],
    judged(said?.base_answer, row),
    [judged(said?.answer, row), element("small", "", certain), element("small", "", said?.model ?? "")],
    [row.label ?? "", element("small", "", row.doubt ?? "")],
    [WORDS[row.verdict] ?? row.answer ?? "", element("small", "", row.reviewers.join(", "))],
  ];
}

function picture({ url, label }) {
  const image = new Image();
  Object.assign(image, { loading: "lazy", alt: label ?? "", title: label ?? "", src: url });
  return image;
}

function judged(answer, row) {
  // Right or wrong where it is one of several words and the truth is known.
  const truth = ["answer", "reject"].includes(row.verdict) ? row.answer : row.label;
  const known = answer != null && truth !== null && row.options.length;
  return element("span", known ? (answer === truth ? "right" : "wrong") : "", answer ?? "");
}
