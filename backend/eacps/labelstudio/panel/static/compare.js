// The section Compare: toolbar, stage, changed places and the strip of candidates.

import { el, replace } from "./dom.js";
import { MODES, model } from "./model.js";
import { Stage } from "./stage.js";
import { Strip } from "./strip.js";

const NAMES = {
  side: ["Side", "Side by side: both pictures next to each other"],
  slider: ["Slider", "One over the other, with a divider to drag"],
  blink: ["Blink", "One after the other at the same place; Space turns by hand"],
  difference: ["Changes", "A heat map of what changed"],
  single: ["One", "The candidate alone"],
};

export class Compare {
  constructor(root) {
    this.toolbar = el("div", { className: "toolbar", role: "toolbar", aria: { label: "How to compare" } });
    const stage = el("div", { className: "stage" });
    const crops = el("div", { className: "crops", hidden: true });
    const strip = el("div", { className: "strip" });
    root.append(this.toolbar, stage, crops, strip);
    this.zoom = el("span", { className: "zoom quiet" });
    this.stage = new Stage(stage, crops, (scale) => (this.zoom.textContent = `${Math.round(100 * scale)}%`));
    this.strip = new Strip(strip);
    this.#tools();
    model.listen("choice content", () => this.#tools());
  }

  #tools() {
    const content = model.content;
    const held = this.toolbar.contains(document.activeElement) ? document.activeElement.dataset.tool : null;
    replace(
      this.toolbar,
      el("div", { className: "group", role: "group", aria: { label: "Mode" } }, MODES.map((mode, index) => modeButton(mode, index))),
      el(
        "div",
        { className: "group", role: "group", aria: { label: "Zoom" } },
        tool("\u2212", "out", "Smaller (-)", () => this.stage.zoomBy(1 / 1.5)),
        tool("Fit", "fit", "Whole picture (0)", () => this.stage.fit()),
        tool("1:1", "actual", "Pixel for pixel (9)", () => this.stage.actual()),
        tool("+", "in", "Larger (+)", () => this.stage.zoomBy(1.5)),
      ),
      this.zoom,
      content?.pictures.mask ? toggle("Mask", "outline", "Outline of the mask (m)") : null,
      toggle(isSwap() ? "Faces" : "Close-ups", "details", isSwap() ? "Faces before and after (c)" : "Changed places before and after (c)"),
      el("span", { className: "spring" }),
      model.against !== "original"
        ? tool(`Against ${model.get(model.against)?.label ?? ""} \u00d7`, "against", "Compare with the original again (o)", () => model.compareWith("original"))
        : null,
      orders(),
    );
    if (held) this.toolbar.querySelector(`[data-tool="${held}"]`)?.focus();
  }
}

function modeButton(mode, index) {
  const [name, about] = NAMES[mode];
  return el(
    "button",
    {
      type: "button",
      title: `${about} (${index + 1})`,
      aria: { pressed: String(model.mode === mode) },
      data: { tool: mode },
      on: { click: () => model.setMode(mode) },
    },
    name,
  );
}

function tool(name, id, title, act) {
  return el("button", { type: "button", title, data: { tool: id }, on: { click: act } }, name);
}

function toggle(name, what, title) {
  return el(
    "button",
    { type: "button", title, aria: { pressed: String(model[what]) }, data: { tool: what }, on: { click: () => model.toggle(what) } },
    name,
  );
}

function isSwap() {
  return ["face_swap", "character"].includes(model.content?.task.route);
}

/** In which order the candidates stand: the machine's, or that of a saved annotation. */
function orders() {
  const saved = model.content?.annotations ?? [];
  if (model.content?.withheld) return el("span", { className: "quiet", title: model.content.withheld }, "Orders of annotations are not shown");
  if (!saved.length) return null;
  const options = [
    ["machine", "Order of the scores"],
    ...saved.map((each) => [String(each.id), `Order of annotation #${each.id}`]),
  ];
  const select = el(
    "select",
    { title: "In which order the candidates stand", data: { tool: "order" }, on: { change: (event) => model.setOrder(event.target.value) } },
    options.map(([value, name]) => el("option", { value }, name)),
  );
  select.value = model.order;
  return select;
}
