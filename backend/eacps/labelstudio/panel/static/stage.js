// The large pictures: one or two panes that share one camera.

import { el, replace } from "./dom.js";
import { model } from "./model.js";
import { picture } from "./pictures.js";
import { cropOf, difference, outlineOf, release } from "./pixels.js";
import { percent, place, score } from "./words.js";

const BLINK_MS = 700;
const MOST_ZOOM = 32;

export class Stage {
  #root;
  #crops;
  #panes = [];
  #camera = { zoom: 1, x: 0.5, y: 0.5 };
  #split = 0.5;
  #blink = null;
  #front = "shown";
  #turn = 0;
  #size = [1, 1];
  #onZoom;

  constructor(root, crops, onZoom) {
    this.#root = root;
    this.#crops = crops;
    this.#onZoom = onZoom;
    new ResizeObserver(() => this.#place()).observe(root);
    model.listen("choice content", () => this.show());
  }

  /** Draws what is chosen; what was asked for before and arrives later is dropped. */
  async show() {
    const turn = (this.#turn += 1);
    const [against, shown] = [model.get(model.against), model.get(model.shown)];
    const busy = this.#busyLater(turn);
    const [before, after, mask] = await Promise.all([
      loaded(against?.picture),
      loaded(shown?.picture),
      model.outline ? loaded(model.content?.pictures.mask) : null,
    ]);
    clearTimeout(busy);
    if (turn !== this.#turn) return;
    this.#build(against, shown, before, after, mask);
    this.#prefetch();
  }

  zoomBy(factor, at = null) {
    const camera = this.#camera;
    const zoom = Math.min(MOST_ZOOM, Math.max(1, camera.zoom * factor));
    if (at) {
      const keep = 1 - camera.zoom / zoom;
      camera.x += (at.x - camera.x) * keep;
      camera.y += (at.y - camera.y) * keep;
    }
    camera.zoom = zoom;
    this.#place();
  }

  fit() {
    this.#camera = { zoom: 1, x: 0.5, y: 0.5 };
    this.#place();
  }

  /** One pixel of the picture on one pixel of the screen. */
  actual() {
    const box = this.#box();
    if (box) this.zoomBy(1 / (this.#fitScale(box) * devicePixelRatio) / this.#camera.zoom);
  }

  pan(right, down) {
    const reach = 0.2 / this.#camera.zoom;
    this.#camera.x += right * reach;
    this.#camera.y += down * reach;
    this.#place();
  }

  /** Moves the divider of the slider. */
  slide(by) {
    this.#split = Math.min(1, Math.max(0, this.#split + by));
    this.#place();
  }

  /** Shows the other one of two pictures that lie on each other. */
  flip() {
    this.#stopBlinking();
    this.#front = this.#front === "shown" ? "against" : "shown";
    this.#turnFront();
  }

  #busyLater(turn) {
    return setTimeout(() => {
      if (turn !== this.#turn) return;
      for (const pane of this.#panes) pane.node.append(el("div", { className: "busy" }));
    }, 150);
  }

  #build(against, shown, before, after, mask) {
    this.#stopBlinking();
    this.#front = "shown";
    release(this.#root);
    release(this.#crops);
    const outline = mask ? outlineOf(mask) : null;
    const sized = after ?? before;
    this.#size = sized ? [sized.naturalWidth, sized.naturalHeight] : [1, 1];
    const compared = before && after && (model.mode === "difference" || model.details) ? difference(before, after) : null;
    // Two candidates may have the same picture, and a node stands in one place.
    const old = { name: "against", candidate: against, image: before === after ? before?.cloneNode() : before };
    const now = { name: "shown", candidate: shown, image: after };
    const makers = {
      side: () => [pane([old], outline), pane([now], outline)],
      difference: () => [pane([now], outline), heat(compared, against, shown, outline)],
      slider: () => [pane([now, old], outline, divider())],
      blink: () => [pane([old, now], outline)],
      single: () => [pane([now], outline)],
    };
    this.#panes = shown || against ? (makers[model.mode] ?? makers.side)() : [];
    replace(this.#root, ...(this.#panes.length ? this.#panes.map((each) => each.node) : [nothing()]));
    this.#root.dataset.mode = model.mode;
    for (const each of this.#panes) this.#handle(each);
    this.#showCrops(compared, before, after);
    this.#place();
    if (model.mode === "blink") this.#startBlinking();
  }

  #showCrops(compared, before, after) {
    this.#crops.hidden = !model.details;
    if (!model.details) return;
    if (!compared) {
      replace(this.#crops, el("span", { className: "quiet" }, "There is nothing to compare."));
      return;
    }
    const references = model.content.pictures.references;
    const rows = compared.places.map((where, index) =>
      el(
        "div",
        { className: "crop" },
        captioned(cropOf(before, where), "before"),
        captioned(cropOf(after, where), "after"),
        references.length ? captioned(el("img", { src: references[Math.min(index, references.length - 1)], alt: "" }), "character") : null,
      ),
    );
    replace(this.#crops, ...(rows.length ? rows : [el("span", { className: "quiet" }, "No place changed visibly.")]));
  }

  #handle(each) {
    const { node } = each;
    node.addEventListener("wheel", (event) => this.#wheel(event, each), { passive: false });
    node.addEventListener("dblclick", () => (this.#camera.zoom > 1.01 ? this.fit() : this.actual()));
    node.addEventListener("pointerdown", (event) => this.#drag(event, each));
  }

  #wheel(event, each) {
    // A page that scrolls must not be caught by a picture that the mouse happens to be over.
    if (!event.ctrlKey && !event.metaKey && !each.node.contains(document.activeElement)) return;
    event.preventDefault();
    const box = each.node.getBoundingClientRect();
    const scale = this.#fitScale(box) * this.#camera.zoom;
    const x = this.#camera.x + (event.clientX - box.left - box.width / 2) / (this.#size[0] * scale);
    const y = this.#camera.y + (event.clientY - box.top - box.height / 2) / (this.#size[1] * scale);
    this.zoomBy(Math.exp(-event.deltaY / 300), { x, y });
  }

  #drag(event, each) {
    if (event.button !== 0) return;
    const { node } = each;
    const slides = event.target.classList.contains("divider");
    node.focus({ preventScroll: true });
    node.setPointerCapture(event.pointerId);
    node.classList.add("dragging");
    const box = node.getBoundingClientRect();
    const move = (moved) => {
      if (slides) {
        this.#split = Math.min(1, Math.max(0, (moved.clientX - box.left) / box.width));
      } else {
        const scale = this.#fitScale(box) * this.#camera.zoom;
        this.#camera.x -= moved.movementX / (this.#size[0] * scale);
        this.#camera.y -= moved.movementY / (this.#size[1] * scale);
      }
      this.#place();
    };
    node.addEventListener("pointermove", move);
    node.addEventListener(
      "lostpointercapture",
      () => {
        node.classList.remove("dragging");
        node.removeEventListener("pointermove", move);
      },
      { once: true },
    );
  }

  #box() {
    return this.#panes[0]?.node.getBoundingClientRect();
  }

  #fitScale(box) {
    return Math.min(box.width / this.#size[0], box.height / this.#size[1]) || 1;
  }

  /** Puts every layer where the camera sees it. */
  #place() {
    const box = this.#box();
    if (!box || !box.width) return;
    const fit = this.#fitScale(box);
    const scale = fit * this.#camera.zoom;
    const [width, height] = this.#size.map((side) => side * scale);
    this.#camera.x = held(this.#camera.x, box.width / width);
    this.#camera.y = held(this.#camera.y, box.height / height);
    const x = box.width / 2 - this.#camera.x * width;
    const y = box.height / 2 - this.#camera.y * height;
    for (const { drawn, node, split } of this.#panes) {
      for (const each of drawn) {
        each.style.width = `${width}px`;
        each.style.height = `${height}px`;
        each.style.transform = `translate(${x}px, ${y}px)`;
        each.classList.toggle("crisp", scale * devicePixelRatio > 3);
      }
      if (!split) continue;
      node.querySelector(".divider").style.left = `${100 * this.#split}%`;
      split.style.clipPath = `inset(0 ${100 - 100 * this.#split}% 0 0)`;
    }
    this.#onZoom(scale * devicePixelRatio, this.#camera.zoom);
  }

  #startBlinking() {
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
    this.#blink = setInterval(() => {
      this.#front = this.#front === "shown" ? "against" : "shown";
      this.#turnFront();
    }, BLINK_MS);
  }

  #stopBlinking() {
    clearInterval(this.#blink);
    this.#blink = null;
  }

  #turnFront() {
    const [only] = this.#panes;
    if (!only || only.layers.length < 2) return;
    for (const [name, layer, tag] of only.layers) {
      layer.classList.toggle("off", name !== this.#front);
      tag.hidden = name !== this.#front;
    }
  }

  #prefetch() {
    const at = model.candidates.findIndex((each) => each.id === model.shown);
    for (const near of [model.candidates[at + 1], model.candidates[at - 1]]) loaded(near?.picture);
  }
}

/** A pane with pictures on each other, the last one on top. */
function pane(sides, outline, divider = null) {
  const node = el("figure", { className: "pane", tabIndex: -1 });
  const caption = el("figcaption", {});
  const drawn = [];
  const layers = sides.map(({ name, candidate, image }) => {
    const layer = el("div", { className: "layer", data: { side: name } });
    if (image) drawn.push(image);
    if (image) layer.append(image);
    else layer.append(el("div", { className: "empty" }, missing(candidate)));
    const tag = tagOf(candidate);
    return [name, layer, tag];
  });
  node.append(...layers.map(([, layer]) => layer));
  if (outline) {
    const copy = el("canvas", { className: "outline", width: outline.width, height: outline.height });
    copy.getContext("2d").drawImage(outline, 0, 0);
    drawn.push(copy);
    node.append(el("div", { className: "layer" }, copy));
  }
  // The slider shows the one compared with on its left.
  const tags = layers.map(([, , tag]) => tag);
  caption.append(...(divider ? tags.reverse() : tags));
  if (divider) node.append(divider);
  node.append(caption);
  if (sides.length > 1 && !divider) layers[0][1].classList.add("off"), (layers[0][2].hidden = true);
  return { node, drawn, layers, split: divider ? layers.at(-1)[1] : null };
}

function heat(compared, against, shown, outline) {
  const made = pane([], outline);
  if (!compared) {
    made.node.prepend(el("div", { className: "layer" }, el("div", { className: "empty" }, "There is nothing to compare.")));
    return made;
  }
  made.drawn.push(compared.canvas);
  made.node.prepend(el("div", { className: "layer", data: { side: "difference" } }, compared.canvas));
  const words = `${against.label} \u2194 ${shown.label}`;
  made.node.querySelector("figcaption").append(el("span", { className: "tag" }, el("b", {}, "Difference"), el("span", { className: "dim" }, words)));
  made.node.append(el("div", { className: "legend" }, "same", el("i", {}), `different \u00b7 ${share(compared.share)} of the picture changed`));
  return made;
}

function share(value) {
  if (value === 0) return "0%";
  return value < 0.01 ? "less than 1%" : percent(value);
}

function divider() {
  return el("div", { className: "divider", role: "separator", aria: { orientation: "vertical", label: "Slider" } });
}

function tagOf(candidate) {
  if (!candidate) return el("span", { className: "tag" }, "\u2013");
  const where = place(candidate);
  return el(
    "span",
    { className: "tag", data: { of: candidate.id } },
    el("b", {}, candidate.label),
    score(candidate) ? el("span", {}, score(candidate)) : null,
    where ? el("span", { className: where === "best" ? "best" : "dim" }, where) : null,
  );
}

function missing(candidate) {
  if (!candidate) return "Nothing is chosen.";
  return candidate.failure || (candidate.picture ? "This picture is no longer kept." : "There is no picture.");
}

function nothing() {
  return el("div", { className: "pane" }, el("div", { className: "empty" }, "There are no candidates yet."));
}

function captioned(node, words) {
  return el("figure", {}, node, words);
}

/** The centre of the camera, so that no more than needed lies beside the picture. */
function held(centre, visible) {
  return visible >= 1 ? 0.5 : Math.min(1 - visible / 2, Math.max(visible / 2, centre));
}

function loaded(address) {
  return address ? picture(address).catch(() => null) : Promise.resolve(null);
}
