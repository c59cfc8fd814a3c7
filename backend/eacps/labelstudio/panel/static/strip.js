// All candidates as small pictures; nodes are kept, so that live updates load nothing twice.

import { el, replace } from "./dom.js";
import { model } from "./model.js";
import { place, score } from "./words.js";

export class Strip {
  #root;
  #nodes = new Map();

  constructor(root) {
    this.#root = root;
    root.setAttribute("role", "listbox");
    root.setAttribute("aria-label", "Candidates");
    model.listen("content", () => this.#draw());
    model.listen("choice picks", () => this.#mark());
  }

  #draw() {
    const known = this.#nodes;
    this.#nodes = new Map(model.candidates.map((each) => [each.id, this.#node(known.get(each.id), each)]));
    replace(this.#root, ...[...this.#nodes.values()].map(({ node }) => node));
    this.#root.hidden = this.#nodes.size === 0;
    this.#mark();
  }

  #node(known, candidate) {
    const written = JSON.stringify([candidate.thumbnail, candidate.label, score(candidate), place(candidate)]);
    if (known?.written === written) return known;
    const node = el(
      "button",
      {
        type: "button",
        className: `thumb${candidate.rank === 1 && candidate.newest ? " best" : ""}${weak(candidate) ? " weak" : ""}`,
        role: "option",
        tabIndex: -1,
        title: `${candidate.label}: ${[score(candidate), place(candidate), candidate.lineage].filter(Boolean).join(", ")}`,
        data: { id: candidate.id },
        on: {
          click: (event) => clicked(event, candidate.id),
        },
      },
      candidate.thumbnail
        ? el("img", { loading: "lazy", decoding: "async", alt: "", src: candidate.thumbnail, draggable: false })
        : el("div", { className: "blank" }, candidate.state === "failed" ? "failed" : "no picture"),
      el("div", { className: "line" }, el("b", { className: candidate.label.length > 4 ? "long" : "" }, candidate.label), el("span", {}, score(candidate))),
      el("div", { className: "sub" }, place(candidate)),
      el("span", { className: "pick", title: "Pick (s)", aria: { hidden: "true" } }),
    );
    return { node, written };
  }

  #mark() {
    for (const [id, { node }] of this.#nodes) {
      const chosen = id === model.shown;
      node.setAttribute("aria-selected", String(chosen));
      node.classList.toggle("against", id === model.against);
      const picked = model.picks.has(id);
      const mark = node.querySelector(".pick");
      mark.classList.toggle("on", picked);
      mark.textContent = picked ? "\u2713" : "";
      node.setAttribute("aria-description", picked ? "picked" : "");
      if (chosen) this.#reveal(node);
    }
  }

  /** Scrolls the strip alone: `scrollIntoView` would also scroll Label Studio. */
  #reveal(node) {
    const [left, right] = [node.offsetLeft - this.#root.offsetLeft, node.offsetLeft - this.#root.offsetLeft + node.offsetWidth];
    const { scrollLeft, clientWidth } = this.#root;
    if (left < scrollLeft) this.#root.scrollLeft = left - 40;
    else if (right > scrollLeft + clientWidth) this.#root.scrollLeft = right - clientWidth + 40;
  }
}

function clicked(event, id) {
  if (event.target.closest(".pick") || event.ctrlKey || event.metaKey) model.pick(id);
  else if (event.shiftKey) model.compareWith(id);
  else model.choose(id);
}

function weak(candidate) {
  return ["pruned", "failed", "preview"].includes(candidate.state);
}
