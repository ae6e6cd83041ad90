// How far reviewers agree, and how good each is.

import { get } from "./requests.js";
import { element } from "./view.js";

const EXPLAINED =
  "Agreement: 1 is full, 0 what chance alone would make; in brackets the 95 % interval. A rejection counts as an answer of its own, except among " +
  "numbers. “By the others” is the chance to be right by Dawid and Skene's estimate, from what several people have judged. Gold questions have a known answer.";

export class Quality {
  constructor(root, { asked }) {
    Object.assign(this, { root, asked });
  }

  async open(place) {
    const [task, region] = split(place);
    const found = await this.asked(() => get("quality", { task, region }));
    this.root.replaceChildren(
      ...agreement(place, found.region), ...agreement(`All regions of ${task}`, found.task),
      element("h3", "", "Reviewers"),
      found.reviewers.length ? table(["", "Judged", "Gold right", "By the others", "Seconds (median)"], found.reviewers.map(reviewer)) : element("p", "", "Nobody has judged yet."),
      element("p", "", EXPLAINED));
  }
}

export function split(place) {
  const at = place.indexOf("/");
  return [place.slice(0, at), place.slice(at + 1)];
}

function reviewer(one) {
  const seconds = one.median_seconds === null ? "" : one.median_seconds.toFixed(1);
  return [
    one.reviewer, one.n.toLocaleString("en"), one.n_gold ? `${one.n_gold_right} of ${one.n_gold}` : "none asked",
    one.by_others === null ? "too few" : `${Math.round(one.by_others * 100)} %`, one.too_fast ? `${seconds}: too fast to have looked` : seconds,
  ];
}

function agreement(name, found) {
  if (!found.n) return [element("h3", "", name), element("p", "", "No example was judged by two reviewers yet.")];
  const rows = found.pairs.map((pair) => [pair.reviewers.join(" and "), pair.n.toLocaleString("en"), `${Math.round(pair.share * 100)} %`, estimate(pair.kappa)]);
  const words = ["Krippendorff's alpha ", element("b", "", estimate(found.alpha)), ` over ${found.n.toLocaleString("en")} examples that at least two have judged.`];
  return [element("h3", "", name), element("p", "", ...words), table(["", "Judged by both", "Say the same", "Cohen's kappa"], rows)];
}

function estimate(found) {
  return found ? `${found.value.toFixed(2)} [${found.low.toFixed(2)}, ${found.high.toFixed(2)}]` : "not defined yet";
}

function table(heads, rows) {
  const cells = (kind, row) => element("tr", "", ...row.map((cell) => element(kind, "", cell)));
  return element("table", "side-by-side", cells("th", heads), ...rows.map((row) => cells("td", row)));
}
