// The keys. They do nothing while somebody types; Escape leaves what is typed.

const TYPED = "input:not([type=range]), textarea, select, [contenteditable=true]";
const ACTS = {
  a: "accept", e: "correct", x: "reject", s: "skip", c: "comment", u: "undo", backspace: "undo",
  "+": "zoom-in", "=": "zoom-in", "-": "zoom-out", 0: "reset",
};
const LIGHTS = { b: ["brightness", 1], B: ["brightness", -1], v: ["contrast", 1], V: ["contrast", -1] };

export function listen(root, { act, word, light }) {
  window.addEventListener("keydown", (event) => {
    if (root.offsetParent === null) return; // another tab of the page is open
    if (event.target.matches?.(TYPED)) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const takesBack = (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z";
    // A key that is held down must not answer example after example.
    if (event.repeat || event.altKey || ((event.ctrlKey || event.metaKey) && !takesBack)) return;
    const name = takesBack ? "undo" : ACTS[event.key.toLowerCase()];
    if (/^[1-9]$/.test(event.key)) word(Number(event.key) - 1);
    else if (LIGHTS[event.key]) light(...LIGHTS[event.key]);
    else if (name) act(name);
    else return;
    event.preventDefault();
  });
}

export function onEnter(field, act) {
  field.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    act();
  });
}
