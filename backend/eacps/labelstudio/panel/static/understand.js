// The section Understand: why a candidate won, what its numbers mean, where it comes from, and what
// the search cost.

import { el, replace, svg } from "./dom.js";
import { model } from "./model.js";
import { duration, number, percent, place, score, signed } from "./words.js";

export class Understand {
  constructor(root) {
    this.root = root;
    this.why = el("div", { className: "card" });
    this.about = el("div", { className: "card" });
    this.plot = el("div", { className: "card" });
    this.tree = el("div", { className: "card" });
    this.talk = el("div", { className: "card" });
    root.append(this.why, this.about, this.plot, this.tree, this.talk);
    model.listen("content", () => {
      this.#why();
      this.#talk();
    });
    model.listen("content choice", () => {
      this.#about();
      this.#plot();
      this.#tree();
    });
  }

  #why() {
    const { why, warning } = model.content;
    this.why.hidden = !why;
    replace(this.why, el("h2", {}, warning ? "The best of these" : "Why this one won"), el("p", {}, why));
  }

  #about() {
    const shown = model.get(model.shown);
    this.about.hidden = !shown;
    if (!shown) return;
    const other = model.against === "original" ? model.byId.get(model.content.best) : model.get(model.against);
    const against = other && other.id !== shown.id ? other : null;
    replace(
      this.about,
      el("h2", {}, [shown.label, score(shown), place(shown)].filter(Boolean).join(" \u00b7 ")),
      shown.failure ? el("p", { className: shown.state === "failed" ? "notice alarm" : "quiet" }, shown.failure) : null,
      shown.why ? el("div", { className: "quote" }, el("h3", {}, "The judge says"), shown.why) : null,
      measures(shown, against),
      shown.notes.map((note) => el("p", { className: "notice warn" }, note)),
      el("p", { className: "quiet" }, origin(shown)),
    );
  }

  #plot() {
    const points = model.candidates.filter((each) => typeof value(each) === "number");
    this.plot.hidden = points.length < 2;
    if (!this.plot.hidden) replace(this.plot, el("h2", {}, "Score against cost"), plot(points));
  }

  #tree() {
    const children = new Map();
    for (const each of model.candidates) {
      const parent = model.byId.has(each.parent) ? each.parent : "";
      if (!children.has(parent)) children.set(parent, []);
      children.get(parent).push(each);
    }
    const grown = children.size > 1;
    this.tree.hidden = !grown;
    if (grown) replace(this.tree, el("h2", {}, "Where they come from"), branch(children, "", new Set()));
  }

  #talk() {
    const told = model.content.searches.filter((each) => each.strategy);
    this.talk.hidden = !told.length;
    replace(
      this.talk,
      told.map((search) =>
        el(
          "details",
          {},
          el("summary", {}, told.length > 1 ? `How search ${search.id.slice(0, 6)} went` : "How the search went"),
          el("p", { className: "quiet" }, [search.strategy, `${search.count} candidates`, search.nfe ? `${search.nfe} model calls` : "", duration(search.seconds), search.editor].filter(Boolean).join(" \u00b7 ")),
          search.notes.map((note) => el("p", { className: "notice warn" }, note)),
          search.decisions.map((decision) => el("p", { className: "quiet" }, decision)),
        ),
      ),
    );
  }
}

function measures(shown, against) {
  const names = Object.keys(shown.metrics);
  if (!names.length) return el("p", { className: "quiet" }, "There are no measurements.");
  const adds = Object.keys(shown.contributions).length > 0;
  return el(
    "table",
    { className: "measures" },
    el("tr", {}, el("th", {}, ""), el("th", {}, shown.label), against ? el("th", {}, against.label) : null, adds ? el("th", { title: "What it adds to the score" }, "adds") : null),
    names.map((name) => measure(name, shown, against, adds)),
  );
}

function measure(name, shown, against, adds) {
  const words = model.content.metrics[name];
  const [own, other] = [shown.metrics[name], against?.metrics[name]];
  const better = typeof other === "number" && words.better && own !== other && (own > other) === words.better.startsWith("higher");
  const added = shown.contributions[name];
  return el(
    "tr",
    {},
    el("td", {}, el("b", {}, words.title), el("div", { className: "quiet" }, words.better.startsWith("lower") ? `${words.sentence} Lower is better.` : words.sentence)),
    el("td", { className: better ? "better" : "" }, number(own)),
    against ? el("td", { className: "muted" }, number(other)) : null,
    adds ? el("td", { className: "muted" }, typeof added === "number" ? signed(added) : "") : null,
  );
}

function origin(shown) {
  return [
    shown.detail || shown.lineage,
    shown.words && `told: ${shown.words}`,
    typeof shown.seed === "number" ? `seed ${shown.seed}` : "",
    shown.nfe ? `${shown.nfe} model calls` : "",
    duration(shown.seconds),
  ]
    .filter(Boolean)
    .join(" \u00b7 ");
}

function branch(children, parent, above) {
  const some = (children.get(parent) ?? []).filter((each) => !above.has(each.id));
  return el(
    "ul",
    { className: "tree" },
    some.map((each) =>
      el(
        "li",
        { className: each.rank === 1 && each.newest ? "best" : each.rank ? "" : "weak" },
        el(
          "button",
          { type: "button", aria: { current: String(each.id === model.shown) }, on: { click: () => model.choose(each.id) } },
          el("span", { className: "swatch" }),
          `${each.label} ${score(each)}`,
        ),
        children.has(each.id) ? branch(children, each.id, new Set([...above, each.id])) : null,
      ),
    ),
  );
}

/** What stands on the upright axis. */
function value(candidate) {
  return typeof candidate.score === "number" ? candidate.score : candidate.potential;
}

/** Every candidate at the cost up to which it was made, and how the best score rose with it. */
function plot(points) {
  const [width, height, left, bottom] = [320, 150, 34, 20];
  const made = [...points].sort(byTrial);
  const costs = [];
  let sum = 0;
  for (const each of made) costs.push((sum += each.nfe || 1));
  const values = made.map(value);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const span = high - low || 1;
  const x = (cost) => left + ((width - left - 8) * cost) / sum;
  const y = (each) => height - bottom - 8 - ((height - bottom - 18) * (each - low)) / span;
  let best = -Infinity;
  const rise = made.map((each, index) => {
    best = Math.max(best, each.state === "finished" || each.state === "made" ? value(each) : -Infinity);
    return best === -Infinity ? null : [x(costs[index]), y(best)];
  }).filter(Boolean);
  const words = values.every((each) => each >= 0 && each <= 1) ? percent : number;
  const unit = made.some((each) => each.nfe) ? "model calls" : "candidates";
  return svg(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, class: "plot", role: "img", "aria-label": "Score of each candidate against the cost up to it" },
    svg("line", { class: "axis", x1: left, y1: height - bottom, x2: width, y2: height - bottom }),
    svg("line", { class: "axis", x1: left, y1: 0, x2: left, y2: height - bottom }),
    label(left - 4, y(high) + 3, words(high), "end"),
    label(left - 4, y(low) + 3, high === low ? "" : words(low), "end"),
    label(width, height - 6, `${sum.toLocaleString("en")} ${unit}`, "end"),
    label(left, height - 6, "0", "start"),
    rise.length ? svg("path", { class: "rise", d: steps(rise) }) : null,
    made.map((each, index) => dot(each, x(costs[index]), y(value(each)))),
  );
}

function dot(each, cx, cy) {
  const kind = each.id === model.shown ? "shown" : each.rank === 1 && each.newest ? "best" : each.rank || each.state === "made" ? "" : "weak";
  const title = svg("title");
  title.textContent = `${each.label} ${score(each)}, ${place(each)}`;
  return svg("circle", { class: `dot ${kind}`, cx, cy, r: each.id === model.shown ? 5 : 3.5, on: { click: () => model.choose(each.id) } }, title);
}

function label(x, y, words, anchor) {
  const node = svg("text", { x, y, "text-anchor": anchor });
  node.textContent = words;
  return node;
}

function steps(points) {
  return points.map(([x, y], index) => (index ? `H${x.toFixed(1)}V${y.toFixed(1)}` : `M${x.toFixed(1)} ${y.toFixed(1)}`)).join("");
}

/** In the order in which a search numbers its trials; earlier searches first. */
function byTrial(one, other) {
  const trial = (each) => Number(/\d+/.exec(each.id)?.[0] ?? 0);
  return Number(one.newest) - Number(other.newest) || one.search.localeCompare(other.search) || trial(one) - trial(other);
}
