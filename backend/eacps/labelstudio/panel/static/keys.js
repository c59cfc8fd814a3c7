// The keyboard, and the overlay that documents it from the same list.

import { el } from "./dom.js";
import { MODES, model } from "./model.js";

/** All keys: what to press (as events name it), what it does in words, and doing it. */
export function keysFor({ compare, steer, theme, reload }) {
  const { stage } = compare;
  return [
    [["ArrowRight", "j"], "Next candidate", () => model.step(1)],
    [["ArrowLeft", "k"], "Previous candidate", () => model.step(-1)],
    [["Home"], "First candidate", () => model.step(-1e6)],
    [["End"], "Last candidate", () => model.step(1e6)],
    ...MODES.map((mode, index) => [[String(index + 1)], `Mode: ${MODE_WORDS[mode]}`, () => model.setMode(mode)]),
    [[" "], "Turn to the other picture (Blink)", () => stage.flip()],
    [["[", "ArrowLeft+Alt"], "Slider to the left", () => stage.slide(-0.05)],
    [["]", "ArrowRight+Alt"], "Slider to the right", () => stage.slide(0.05)],
    [["+", "="], "Larger", () => stage.zoomBy(1.5)],
    [["-"], "Smaller", () => stage.zoomBy(1 / 1.5)],
    [["0"], "Whole picture", () => stage.fit()],
    [["9"], "Pixel for pixel", () => stage.actual()],
    [["ArrowLeft+Shift"], "Move left", () => stage.pan(-1, 0)],
    [["ArrowRight+Shift"], "Move right", () => stage.pan(1, 0)],
    [["ArrowUp+Shift"], "Move up", () => stage.pan(0, -1)],
    [["ArrowDown+Shift"], "Move down", () => stage.pan(0, 1)],
    [["a"], "Compare the others with this candidate", () => pin()],
    [["o"], "Compare with the original", () => model.compareWith("original")],
    [["x"], "Exchange the two candidates", () => exchange()],
    [["m"], "Outline of the mask", () => model.toggle("outline")],
    [["c"], "Changed places before and after", () => model.toggle("details")],
    [["s"], "Pick this candidate", () => model.pick(model.shown)],
    [["l"], "More like this candidate: Enter asks", () => steer.focus("like")],
    [["n"], "More candidates: Enter asks", () => steer.focus("more")],
    [["t"], "Light, dark, or as the browser", () => theme()],
    [["r"], "Ask the backend again", () => reload()],
  ];
}

const MODE_WORDS = { side: "side by side", slider: "slider", blink: "blink", difference: "what changed", single: "one picture" };
const NAMES = { " ": "Space", ArrowLeft: "\u2190", ArrowRight: "\u2192", ArrowUp: "\u2191", ArrowDown: "\u2193" };

function pin() {
  const { shown } = model;
  const at = model.candidates.findIndex((each) => each.id === shown);
  const other = model.candidates[at + 1] ?? model.candidates[at - 1];
  if (!other) return;
  model.compareWith("original");
  model.choose(other.id);
  model.compareWith(shown);
}

function exchange() {
  if (model.against === "original") return;
  const { shown, against } = model;
  model.compareWith("original");
  model.choose(against);
  model.compareWith(shown);
}

/** Listens to the keyboard. Keys of texts and of focused controls stay theirs. */
export function listenToKeys(keys, help) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.target.closest("input, textarea, select, dialog")) return;
    if (event.key === "?") {
      event.preventDefault();
      help();
      return;
    }
    if (event.key === " " && event.target.closest("button, summary, a")) return;
    const pressed = `${event.key}${event.altKey ? "+Alt" : ""}${event.shiftKey && event.key.startsWith("Arrow") ? "+Shift" : ""}`;
    const found = keys.find(([names]) => names.includes(pressed));
    if (!found) return;
    event.preventDefault();
    found[2]();
  });
}

/** The overlay with all keys. */
export function helpFor(keys) {
  const rows = keys.map(([names, words]) => el("div", {}, el("span", {}, words), el("span", {}, names.map((name) => el("kbd", {}, named(name))).flatMap((node, index) => (index ? [" ", node] : [node])))));
  const dialog = el(
    "dialog",
    { aria: { label: "Keyboard" } },
    el("h2", {}, "Keyboard"),
    el("div", { className: "keys" }, rows),
    el("p", { className: "quiet" }, "With the mouse: drag to move, Ctrl and the wheel to zoom (or the wheel alone after a click on a picture), double-click for pixel for pixel, Shift and a click on a small picture to compare with it."),
    el("form", { method: "dialog" }, el("button", { className: "primary" }, "Close")),
  );
  document.body.append(dialog);
  return () => (dialog.open ? dialog.close() : dialog.showModal());
}

function named(key) {
  return key
    .split("+")
    .filter(Boolean)
    .reverse()
    .map((part) => NAMES[part] ?? part)
    .join(" ") || "+";
}
