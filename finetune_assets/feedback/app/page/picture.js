// The image of an example, or several side by side: loaded before they are shown, zoomed together about the pointer, brightness and contrast kept from image to image.

const STEP = 1.25;
const MOST = 40;

export class Picture {
  constructor(root, asked) {
    // `asked` brings the answer of an address.
    this.asked = asked;
    this.window = { box: root.querySelector("#window"), low: root.querySelector("#low"), high: root.querySelector("#high"), range: root.querySelector("#range") };
    for (const field of [this.window.low, this.window.high]) field.addEventListener("change", () => this.#level());
    this.stage = root.querySelector("#stage");
    this.zoomed = root.querySelector("#zoom");
    this.sliders = { brightness: root.querySelector("#brightness"), contrast: root.querySelector("#contrast") };
    this.loaded = new Map();
    this.pointers = new Map();
    this.stage.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    this.stage.addEventListener("dblclick", (event) => this.zoom(this.scale > 1 ? 1 / this.scale : 4, event));
    this.stage.addEventListener("pointerdown", (event) => this.#down(event));
    this.stage.addEventListener("pointermove", (event) => this.#move(event));
    for (const end of ["pointerup", "pointercancel"])
      this.stage.addEventListener(end, (event) => this.pointers.delete(event.pointerId));
    for (const slider of Object.values(this.sliders)) {
      slider.addEventListener("input", () => this.#light());
      slider.addEventListener("change", () => slider.blur());
    }
    this.fit();
  }

  preload(urls) {
    // Keeps exactly these, decoded, so that showing one costs no time.
    for (const url of this.loaded.keys()) if (!urls.includes(url)) this.loaded.delete(url);
    for (const url of urls) if (!this.loaded.has(url)) this.loaded.set(url, load(url));
  }

  show(url, deep = false, shown = [{ url, label: null }]) {
    // `url` is the one in question, whose own values can be windowed.
    for (const one of shown) if (!this.loaded.has(one.url)) this.loaded.set(one.url, load(one.url));
    Object.assign(this, { url, shown, image: this.loaded.get(url), asking: null });
    this.stage.replaceChildren(...shown.map((one) => labelled(this.loaded.get(one.url), one.label)));
    this.fit();
    this.window.box.hidden = !deep;
    if (deep) this.#range(url);
  }

  async #range(url) {
    // What black and white may be: the values that the image holds. What is typed before they are known stays.
    for (const field of [this.window.low, this.window.high]) field.value = "";
    const { low, high } = await this.asked(`${address(url)}&range=1`);
    if (this.url !== url) return;
    this.window.low.placeholder = low;
    this.window.high.placeholder = high;
    this.window.range.textContent = `values ${low} to ${high}`;
  }

  async #level() {
    // The image's own values, not those of the copy in 8 bits, from black to white.
    const [low, high] = [this.window.low, this.window.high].map((field) => Number((field.value || field.placeholder).replace(",", ".")));
    const wrong = low < high ? "" : "White must be above black, both numbers.";
    this.window.high.setCustomValidity(wrong);
    if (wrong) return void this.window.high.reportValidity();
    // Of two that are on their way the last one counts, whichever comes first.
    const image = (this.asking = load(`${this.url}&low=${low}&high=${high}`));
    await image.decode().catch(() => {});
    if (this.asking !== image) return;
    this.image.replaceWith(image);
    this.image = image;
    this.#place();
  }

  fit() {
    Object.assign(this, { scale: 1, x: 0, y: 0 });
    this.#place();
  }

  reset() {
    for (const slider of Object.values(this.sliders)) slider.value = 1;
    this.#light();
    if (this.url) this.show(this.url, !this.window.box.hidden, this.shown);
    this.fit();
  }

  light(name, steps) {
    this.sliders[name].value = Number(this.sliders[name].value) + 0.2 * steps;
    this.#light();
  }

  zoom(factor, point) {
    // The point under the pointer stays where it is; without a pointer, the centre does.
    const box = this.#cell(point);
    const from = point ? [point.clientX - box.left - box.width / 2, point.clientY - box.top - box.height / 2] : [0, 0];
    const scale = Math.min(Math.max(this.scale * factor, 1), MOST);
    this.x = from[0] - ((from[0] - this.x) * scale) / this.scale;
    this.y = from[1] - ((from[1] - this.y) * scale) / this.scale;
    this.scale = scale;
    this.#place();
  }

  zoomBy(steps) {
    this.zoom(STEP ** steps);
  }

  #cell(point) {
    // Where the image under a point is shown; all of several have as much room.
    const boxes = [...this.stage.children].map((cell) => cell.getBoundingClientRect());
    const under = (box) => point && box.left <= point.clientX && point.clientX <= box.right && box.top <= point.clientY && point.clientY <= box.bottom;
    return boxes.find(under) ?? boxes[0] ?? this.stage.getBoundingClientRect();
  }

  #place() {
    const box = this.#cell();
    const room = [(box.width * (this.scale - 1)) / 2, (box.height * (this.scale - 1)) / 2];
    this.x = Math.min(Math.max(this.x, -room[0]), room[0]);
    this.y = Math.min(Math.max(this.y, -room[1]), room[1]);
    this.zoomed.value = `${Math.round(this.scale * 100)} %`;
    this.stage.classList.toggle("zoomed", this.scale > 1);
    for (const image of this.stage.querySelectorAll("img")) image.style.transform = `translate(${this.x}px, ${this.y}px) scale(${this.scale})`;
  }

  #light() {
    for (const [name, slider] of Object.entries(this.sliders)) this.stage.style.setProperty(`--${name}`, slider.value);
  }

  #wheel(event) {
    event.preventDefault();
    this.zoom(STEP ** (-event.deltaY / 100), event);
  }

  #down(event) {
    if (this.scale === 1 && event.pointerType === "mouse") return;
    this.stage.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, event);
  }

  #move(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const other = [...this.pointers.values()].find((pointer) => pointer.pointerId !== event.pointerId);
    this.pointers.set(event.pointerId, event);
    if (other) this.zoom(distance(event, other) / (distance(before, other) || 1), middle(event, other));
    else {
      this.x += event.clientX - before.clientX;
      this.y += event.clientY - before.clientY;
      this.#place();
    }
  }
}

function address(url) {
  return url.replace("/review/", "");
}

function labelled(image, label) {
  const shown = document.createElement("div");
  shown.append(image);
  if (label) shown.append(Object.assign(document.createElement("span"), { textContent: label }));
  return shown;
}

function load(url) {
  const image = new Image();
  image.src = url;
  image.alt = "The image that the question is about";
  image.draggable = false;
  image.decode().catch(() => image.classList.add("broken"));
  return image;
}

function distance(a, b) {
  return Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
}

function middle(a, b) {
  return { clientX: (a.clientX + b.clientX) / 2, clientY: (a.clientY + b.clientY) / 2 };
}
