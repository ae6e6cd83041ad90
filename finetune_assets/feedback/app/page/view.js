// What one example looks like. Data reaches the page as text nodes only, never as markup.

export const QUEUES = {
  doubtful: ["Doubtful", "Labels that wait in quarantine until somebody decides"],
  uncertain: ["Uncertain", "Training examples of which a model that did not learn them is least certain, first some that are unlike each other"],
  disagreement: ["Disagreement", "Training examples whose label a model that did not learn them denies"],
  audit: ["Audit", "A random sample of the examples that judge the models; you see neither label nor model"],
  contested: ["Contested", "Held-out examples whose label some candidate denies; you see neither label nor model"],
  second_opinion: ["Second opinion", "Judged once already; you see neither the label nor what the other said"],
  conflicts: ["Conflicts", "Reviewers disagree, and you decide"],
  in_use: ["Asked", "Questions asked in use that the model leaves to people, and some of its own answers to check"],
};
const VERBS = { accept: "accepted", correct: "corrected", reject: "rejected", skip: "skipped", adjudicate: "decided", comment: "comment" };

export function element(tag, className = "", ...children) {
  const made = document.createElement(tag);
  made.className = className;
  made.append(...children);
  return made;
}

export function button(words, key, act, className = "") {
  const made = element("button", className, element("span", "", words), " ", ...(key ? [element("kbd", "", key)] : []));
  made.type = "button";
  made.addEventListener("click", () => (made.blur(), act()));
  return made;
}

export function percent(share) {
  // Never "100 %": no model is that sure.
  return share > 0.99 && share < 1 ? "over 99 %" : `${Math.round(share * 100)} %`;
}

export function describe(event) {
  const answer = event.answer == null ? "" : ` “${shortened(event.answer, 24)}”`;
  return `${VERBS[event.kind] ?? event.kind}${answer}`;
}

export function shortened(text, length) {
  return text.length > length ? `${text.slice(0, length - 1)}…` : text;
}

export function queueButtons(counts, chosen, open) {
  const shown = Object.keys(QUEUES).filter((name) => counts[name] > 0 || name === chosen);
  return shown.map((name) => {
    const made = button(QUEUES[name][0], "", () => open(name), name === chosen ? "chosen" : "");
    made.title = QUEUES[name][1];
    made.dataset.queue = name;
    made.append(element("b", "", (counts[name] ?? 0).toLocaleString("en")));
    if (name === chosen) made.setAttribute("aria-current", "true");
    return made;
  });
}

export class View {
  constructor(root) {
    for (const id of ["question", "which", "doubt", "answers", "judgements", "accept", "words", "correction", "other", "comment", "reject", "guidelines"])
      this[id] = root.querySelector(`#${id}`);
    this.root = root;
  }

  guide(words) {
    this.guidelines.hidden = !words;
    this.guidelines.lastElementChild.textContent = words;
  }

  show(item, decides, correct) {
    this.root.dataset.picture = item.image ? "yes" : "no";
    this.question.textContent = item.question;
    this.question.scrollTop = 0;
    this.which.textContent = item.id;
    this.doubt.textContent = item.doubt ? `Waits because: ${item.doubt}` : "";
    this.answers.replaceChildren(...rows(item));
    this.judgements.replaceChildren(...item.judgements.map(judgement));
    this.#actions(item, decides ? "Decide" : "Accept", correct);
  }

  #actions(item, verb, correct) {
    this.accept.hidden = item.proposed === null;
    this.accept.replaceChildren(element("span", "", `${verb}: ${item.proposed}`), " ", element("kbd", "", "A"));
    this.reject.firstElementChild.textContent = verb === "Decide" ? "Decide: not usable" : "Reject";
    const words = item.options.map((word, at) => button(word, `${at + 1}`, () => correct(word)));
    for (const made of words) made.classList.toggle("proposed", made.firstElementChild.textContent === item.proposed);
    this.words.replaceChildren(...words);
    this.correction.hidden = item.options.length > 0;
    this.other.value = ["text", "call"].includes(item.kind) ? (item.proposed ?? "") : "";
    this.other.inputMode = item.kind === "number" ? "decimal" : "text";
    this.comment.value = "";
    for (const field of [this.other, this.comment]) field.setCustomValidity("");
  }
}

function rows(item) {
  const told = item.label_value === null || item.kind === "number" ? "" : `score ${Number(item.label_value.toPrecision(3))}`;
  const said = item.model;
  const certain = said?.probability == null ? "" : `right with ${percent(said.probability)}`;
  return [
    ...(said ? row("Model", said.answer ?? "no readable answer", certain, said.model, said.probability) : []),
    ...(said?.base_answer == null ? [] : row("Base model", said.base_answer, differs(item, said.base_answer), "Before fine-tuning")),
    ...(item.label === null ? [] : row("Label", item.label, [told, differs(item, item.label)].filter(Boolean).join(", "), "What the data says now")),
    ...(item.blind ? row("Label", "hidden", "so that your judgement is your own", "No label, no model's answer") : []),
  ];
}

function differs(item, answer) {
  const said = item.model?.answer;
  return item.options.length && said != null && answer !== said ? "differs" : "";
}

function row(name, answer, note, title, share = null) {
  const said = element("dd", note.endsWith("differs") ? "differs" : "", element("strong", "", answer), element("small", "", note));
  said.title = title;
  if (share !== null) {
    const meter = element("meter");
    meter.value = share;
    said.append(meter);
  }
  return [element("dt", "", name), said];
}

function judgement(event) {
  const remark = event.comment ? ` (${event.comment})` : "";
  return element("li", "", element("strong", "", event.reviewer), ` says ${event.answer ?? "not usable"}${remark}`);
}
