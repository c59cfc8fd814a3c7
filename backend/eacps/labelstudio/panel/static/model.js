// What the panel knows and what is chosen; all parts read it, and are told when it changes.

/** Modes of comparison, in the order of their keys 1, 2, 3 … */
export const MODES = ["side", "slider", "blink", "difference", "single"];

const ORIGINAL = { id: "original", label: "Original", state: "original", metrics: {} };

class Model {
  #listeners = new Map();
  content = null;
  state = null;
  candidates = [];
  byId = new Map();
  shown = "";
  against = "original";
  mode = "side";
  order = "machine";
  picks = new Set();
  outline = false;
  details = false;

  /** Calls a function now and whenever one of these things changes: content, state, choice, picks. */
  listen(names, listener) {
    for (const name of names.split(" ")) {
      if (!this.#listeners.has(name)) this.#listeners.set(name, []);
      this.#listeners.get(name).push(listener);
    }
  }

  /** Tells everybody who listens that something changed. */
  tell(name) {
    for (const listener of this.#listeners.get(name) ?? []) listener(this);
  }

  /** Takes what the backend answered for the whole task. */
  take(content) {
    const first = this.content === null;
    const followed = !first && this.shown === this.content.best;
    this.content = content;
    this.state = content.state;
    this.byId = new Map(content.candidates.map((each) => [each.id, each]));
    this.#arrange();
    if (!this.byId.has(this.shown) || followed) this.shown = content.best ?? this.#firstWithPicture();
    if (this.against !== "original" && !this.byId.has(this.against)) this.against = "original";
    this.picks = new Set([...this.picks].filter((id) => this.byId.has(id)));
    this.tell("content");
    this.tell("state");
    this.tell("choice");
    this.tell("picks");
  }

  /** Takes what goes on; returns whether the whole task must be read again. */
  takeState(state) {
    const changed = this.content !== null && state.revision !== this.content.state.revision;
    this.state = state;
    this.tell("state");
    return changed;
  }

  /** A candidate, or the original. */
  get(id) {
    if (id === "original") return { ...ORIGINAL, picture: this.content?.pictures.original ?? null };
    return this.byId.get(id) ?? null;
  }

  choose(id) {
    if (!this.byId.has(id) || id === this.shown) return;
    this.shown = id;
    if (this.against === id) this.against = "original";
    this.tell("choice");
  }

  compareWith(id) {
    if (id !== "original" && !this.byId.has(id)) return;
    this.against = id === this.against || id === this.shown ? "original" : id;
    this.tell("choice");
  }

  step(by) {
    const at = this.candidates.findIndex((each) => each.id === this.shown);
    const next = this.candidates[Math.min(this.candidates.length - 1, Math.max(0, at + by))];
    if (next) this.choose(next.id);
  }

  setMode(mode) {
    this.mode = mode;
    this.tell("choice");
  }

  setOrder(order) {
    this.order = order;
    this.#arrange();
    this.tell("content");
    this.tell("choice");
  }

  toggle(name) {
    this[name] = !this[name];
    this.tell("choice");
  }

  pick(id) {
    if (!this.byId.has(id)) return;
    if (!this.picks.delete(id)) this.picks.add(id);
    this.tell("picks");
  }

  /** The annotation in whose order the candidates stand, or null. */
  get annotation() {
    return this.content?.annotations.find((each) => String(each.id) === this.order) ?? null;
  }

  #firstWithPicture() {
    return (this.candidates.find((each) => each.picture) ?? this.candidates[0])?.id ?? "";
  }

  #arrange() {
    const all = this.content.candidates;
    const saved = this.annotation;
    if (!saved) {
      if (this.order !== "machine") this.order = "machine";
      this.candidates = all;
      return;
    }
    const place = new Map(saved.ranked.map((id, index) => [id, index]));
    saved.rejected.forEach((id, index) => place.set(id, 1e6 + index));
    const at = (each) => place.get(each.id) ?? 1e5;
    this.candidates = [...all].sort((one, other) => at(one) - at(other));
  }
}

export const model = new Model();
