// The page as a whole: who is signed in, the choice of a region, tabs, and help.

import { HELP } from "./keys.js";
import { Notices } from "./notices.js";
import { Outbox } from "./outbox.js";
import { Quality } from "./quality.js";
import { Refused, get } from "./requests.js";
import { Review } from "./review.js";
import { Table } from "./table.js";
import { button, describe, element } from "./view.js";

const find = (id) => document.getElementById(id);
const KEPT = "finetune-assets/place";
const notices = new Notices(find("notices"));

export async function asked(request) {
  // Asks until there is an answer: the server may be starting again.
  for (let patience = 1; ; patience = Math.min(2 * patience, 15)) {
    try {
      const reply = await request();
      notices.well();
      return reply;
    } catch (error) {
      if (error instanceof Refused && error.status !== 401) {
        notices.tell(error.message);
        throw error;
      }
      trouble(error);
      await new Promise((resolve) => setTimeout(resolve, 1000 * patience));
    }
  }
}

function trouble(error) {
  if (error instanceof Refused) notices.signedOut();
  else notices.silent();
}

function outboxOf(name, review) {
  const outbox = new Outbox(name, {
    saved: (event, reply) => (notices.well(), review.saved(event, reply)),
    refused: (event, message) => {
      notices.refused(event, `Not recorded: ${event.example_id} ${describe(event)}. ${message}`);
      review.refused(event);
    },
    trouble,
    full: () => notices.storageIsFull(),
  });
  notices.of(name, () => outbox.waiting().length, ({ order, ...event }) => outbox.add(event));
  return outbox;
}

function choosePlace(places) {
  if (!location.search.includes("place=") && localStorage.getItem(KEPT)) history.replaceState(null, "", location.pathname + localStorage.getItem(KEPT));
  const wanted = new URLSearchParams(location.search).get("place");
  const options = places.map(({ task, region, n_items: n }) => {
    const option = element("option", "", `${task} / ${region} (${n.toLocaleString("en")})`);
    option.value = `${task}/${region}`;
    return option;
  });
  find("place").replaceChildren(...options);
  if (options.some((option) => option.value === wanted)) find("place").value = wanted;
}

function help(guidelines) {
  const keys = HELP.map(([key, words]) => element("li", "", element("kbd", "", key), ` ${words}`));
  const told = guidelines ? [element("h2", "", "Guidelines"), element("p", "guide", guidelines)] : [];
  find("help").replaceChildren(element("h2", "", "Keys"), element("ul", "", ...keys), ...told, button("Close", "Esc", () => find("help").close()));
  find("help").showModal();
}

async function begin() {
  const { reviewer, places } = await asked(() => get("places", {}));
  find("account").firstElementChild.textContent = reviewer.role === "reviewer" ? reviewer.name : `${reviewer.name} (${reviewer.role})`;
  choosePlace(places);
  const review = new Review(find("review"), { notices, asked, remember: (search) => keep(search), help: () => help(review.guidelines) });
  review.outbox = outboxOf(reviewer.name, review);
  const tabs = { review, table: new Table(find("table"), { asked, notices, reviewer, review, open: (id) => (choose("review"), review.openExample(id)) }), quality: new Quality(find("quality"), { asked }) };
  const choose = (name) => {
    for (const made of document.querySelectorAll("[data-tab]")) made.setAttribute("aria-selected", made.dataset.tab === name);
    for (const section of Object.keys(tabs)) find(section).hidden = section !== name;
    if (find("place").value) tabs[name].open(find("place").value);
  };
  for (const made of document.querySelectorAll("[data-tab]")) made.addEventListener("click", () => (made.blur(), choose(made.dataset.tab)));
  find("place").addEventListener("change", () => (find("place").blur(), choose(document.querySelector("[aria-selected=true]").dataset.tab)));
  find("help-button").addEventListener("click", () => (find("help-button").blur(), help(review.guidelines)));
  review.begin();
  if (!places.length) find("nothing").textContent = "No region has been offered to reviewers yet.";
  choose("review");
  if (places.length) return;
  find("review").dataset.state = "empty";
}

function keep(search) {
  try {
    localStorage.setItem(KEPT, search);
  } catch {
    // The browser's storage is full; the address still says it.
  }
}

begin();
