// The keys. They do nothing while somebody types; Escape leaves what is typed.

const TYPED = "input:not([type=range]):not([type=checkbox]), textarea, select, [contenteditable=true]";
const ACTS = {
  a: "accept", e: "correct", x: "reject", s: "skip", c: "comment", u: "undo", backspace: "undo", "?": "help", g: "guidelines",
  "+": "zoom-in", "=": "zoom-in", "-": "zoom-out",
};
const LIGHTS = { b: ["brightness", 1], B: ["brightness", -1], v: ["contrast", 1], V: ["contrast", -1] };
const SECOND_DIGIT = 700; // milliseconds

export const HELP = [
  ["A", "Accept what is proposed; where label and model are hidden nothing is"], ["1 2 …", "Answer by its number; of two digits type both"],
  ["E", "Write the answer"], ["X", "Reject: the example is not usable"], ["S", "Skip; it comes back when all else is done"],
  ["U", "Undo your last answer, without a network too"], ["C", "Comment; Enter sends it alone"], ["G", "Guidelines"],
  ["+ − 0", "Zoom in, out, reset"], ["B V", "Brightness and contrast, with Shift less"], ["Esc", "Leave a field"],
];

export function listen(root, { act, word, light, options }) {
  const number = numbers(word, options);
  window.addEventListener("keydown", (event) => {
    if (root.hidden || document.querySelector("dialog[open]")) return;
    if (event.target.matches?.(TYPED)) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const takesBack = (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z";
    // A key that is held down must not answer example after example.
    if (event.repeat || event.altKey || ((event.ctrlKey || event.metaKey) && !takesBack)) return;
    const name = takesBack ? "undo" : ACTS[event.key.toLowerCase()];
    if (/^[0-9]$/.test(event.key) && number(event.key)) event.preventDefault();
    else if (event.key === "0") act("reset");
    else if (LIGHTS[event.key]) light(...LIGHTS[event.key]);
    else if (name) act(name);
    else return;
    event.preventDefault();
  });
}

function numbers(word, options) {
  // Of more than nine answers, the first digit waits for a second one where there may be one.
  let typed = "";
  let waits;
  const choose = () => {
    clearTimeout(waits);
    const at = Number(typed) - 1;
    typed = "";
    word(at);
  };
  return (digit) => {
    if (!typed && digit === "0") return false;
    typed += digit;
    clearTimeout(waits);
    if (Number(typed) * 10 > options()) choose();
    else waits = setTimeout(choose, SECOND_DIGIT);
    return true;
  };
}

export function onEnter(field, act) {
  field.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    act();
  });
}
