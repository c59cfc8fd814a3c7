// A small canvas on the original, to draw the part that is edited: rectangles and brush strokes, in
// percent of the picture, by pointer or by keyboard.

import { el, replace } from "./dom.js";

const MOST_POINTS = 2000;
const TINY = 0.5;

export class Drawing {
  #canvas = el("canvas", {
    className: "drawing",
    tabIndex: 0,
    role: "application",
    aria: {
      label:
        "Drawing. Arrow keys move the box, with Shift they change its size, Enter draws it, Backspace removes the last shape.",
    },
  });
  #picture = new Image();
  #source = "";
  #tool = "box";
  #radius = 4;
  #shapes = [];
  #begun = null;
  #cursor = null;
  #changed;

  constructor(root, changed) {
    this.#changed = changed;
    const canvas = this.#canvas;
    canvas.addEventListener("pointerdown", (event) => this.#begin(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    canvas.addEventListener("pointerup", () => this.#end());
    canvas.addEventListener("pointercancel", () => this.#end());
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("blur", () => this.#showCursor(null));
    this.#picture.addEventListener("load", () => this.#size());
    this.#tools = el("div", { className: "toolbar" });
    root.append(this.#tools, canvas);
    this.#drawTools();
  }

  #tools;

  /** What is drawn. */
  get shapes() {
    return this.#shapes;
  }

  /** Shows another picture to draw on; what was drawn stays, if it is the same one. */
  show(source) {
    if (source === this.#source) return;
    this.#source = source ?? "";
    this.#shapes = [];
    this.#canvas.hidden = !source;
    if (source) this.#picture.src = source;
  }

  clear() {
    this.#shapes = [];
    this.#paint();
    this.#changed();
  }

  #drawTools() {
    const choice = (tool, words) =>
      el("button", { type: "button", aria: { pressed: String(this.#tool === tool) }, on: { click: () => this.#choose(tool) } }, words);
    const size = el("input", {
      type: "range", min: "1", max: "15", step: "0.5", value: String(this.#radius),
      aria: { label: "Width of the brush" },
      on: { input: (event) => (this.#radius = Number(event.target.value)) },
    });
    replace(
      this.#tools,
      el("span", { className: "group" }, choice("box", "Rectangle"), choice("brush", "Brush")),
      this.#tool === "brush" ? el("label", { className: "quiet" }, "Width ", size) : null,
      el("button", { type: "button", on: { click: () => this.#undo() } }, "Undo"),
      el("button", { type: "button", on: { click: () => this.clear() } }, "Clear"),
    );
  }

  #choose(tool) {
    this.#tool = tool;
    this.#drawTools();
  }

  #size() {
    const { naturalWidth: width, naturalHeight: height } = this.#picture;
    const scale = Math.min(1, 900 / Math.max(width, height));
    this.#canvas.width = Math.max(1, Math.round(width * scale));
    this.#canvas.height = Math.max(1, Math.round(height * scale));
    // As large as the column, but seen as a whole.
    this.#canvas.style.maxWidth = `min(560px, ${Math.round((62 * width) / Math.max(1, height))}vh)`;
    this.#paint();
  }

  #at(event) {
    const box = this.#canvas.getBoundingClientRect();
    const share = (value, side) => Math.round(Math.min(100, Math.max(0, (100 * value) / side)) * 100) / 100;
    return [share(event.clientX - box.left, box.width), share(event.clientY - box.top, box.height)];
  }

  #begin(event) {
    if (event.button !== 0) return;
    event.preventDefault();
    this.#canvas.focus();
    this.#canvas.setPointerCapture(event.pointerId);
    const [x, y] = this.#at(event);
    this.#begun = this.#tool === "box" ? { from: [x, y], x, y, width: 0, height: 0 } : { points: [[x, y]], radius: this.#radius };
    this.#paint();
  }

  #move(event) {
    const begun = this.#begun;
    if (begun === null) return;
    const [x, y] = this.#at(event);
    if (begun.points) {
      const [lastX, lastY] = begun.points.at(-1);
      const far = Math.hypot(x - lastX, y - lastY) > TINY;
      if (far && begun.points.length < MOST_POINTS) begun.points.push([x, y]);
    } else {
      const [left, top] = begun.from;
      Object.assign(begun, { x: Math.min(x, left), y: Math.min(y, top), width: Math.abs(x - left), height: Math.abs(y - top) });
    }
    this.#paint();
  }

  #end() {
    const begun = this.#begun;
    this.#begun = null;
    if (begun === null) return;
    const large = begun.points || (begun.width > TINY && begun.height > TINY);
    if (large) this.#add(begun.points ? begun : box(begun));
    else this.#paint();
  }

  #add(shape) {
    this.#shapes = [...this.#shapes, shape];
    this.#paint();
    this.#changed();
  }

  #undo() {
    this.#shapes = this.#shapes.slice(0, -1);
    this.#paint();
    this.#changed();
  }

  #key(event) {
    const steps = { ArrowLeft: [-2, 0], ArrowRight: [2, 0], ArrowUp: [0, -2], ArrowDown: [0, 2] };
    const cursor = this.#cursor ?? { x: 35, y: 35, width: 30, height: 30 };
    if (event.key in steps) {
      const [dx, dy] = steps[event.key];
      this.#showCursor(event.shiftKey ? { ...cursor, width: bounded(cursor.width + dx, 2, 100), height: bounded(cursor.height + dy, 2, 100) } : { ...cursor, x: bounded(cursor.x + dx, 0, 98), y: bounded(cursor.y + dy, 0, 98) });
    } else if (event.key === "Enter") this.#add(box(cursor));
    else if (event.key === "Backspace") this.#undo();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  #showCursor(cursor) {
    this.#cursor = cursor;
    this.#paint();
  }

  #paint() {
    const { width, height } = this.#canvas;
    const context = this.#canvas.getContext("2d");
    context.clearRect(0, 0, width, height);
    if (this.#picture.complete && this.#picture.naturalWidth) context.drawImage(this.#picture, 0, 0, width, height);
    const style = getComputedStyle(this.#canvas);
    const ink = style.getPropertyValue("--accent").trim() || "#2f62d9";
    const layer = new OffscreenCanvas(Math.max(1, width), Math.max(1, height));
    const drawing = layer.getContext("2d");
    drawing.fillStyle = drawing.strokeStyle = ink;
    for (const shape of [...this.#shapes, this.#begun].filter(Boolean)) paintShape(drawing, shape, width, height);
    context.globalAlpha = 0.55;
    context.drawImage(layer, 0, 0);
    context.globalAlpha = 1;
    if (this.#cursor) {
      context.strokeStyle = ink;
      context.setLineDash([6, 4]);
      const { x, y, width: w, height: h } = this.#cursor;
      context.strokeRect((x * width) / 100, (y * height) / 100, (w * width) / 100, (h * height) / 100);
      context.setLineDash([]);
    }
  }
}

function box({ x, y, width, height }) {
  return { x, y, width, height };
}

function bounded(value, low, high) {
  return Math.min(high, Math.max(low, value));
}

function paintShape(context, shape, width, height) {
  if (!shape.points) {
    context.fillRect((shape.x * width) / 100, (shape.y * height) / 100, (shape.width * width) / 100, (shape.height * height) / 100);
    return;
  }
  context.lineCap = context.lineJoin = "round";
  context.lineWidth = (2 * shape.radius * width) / 100;
  context.beginPath();
  shape.points.forEach(([x, y], index) => context[index ? "lineTo" : "moveTo"]((x * width) / 100, (y * height) / 100));
  if (shape.points.length === 1) context.lineTo((shape.points[0][0] * width) / 100 + 0.01, (shape.points[0][1] * height) / 100);
  context.stroke();
}
