// Asking for more: each request says its price before, and is sent at most once.

import { el, replace } from "./dom.js";
import { Drawing } from "./draw.js";
import { active, jobLine } from "./jobs.js";
import { model } from "./model.js";
import { send } from "./server.js";
import { duration, rounded } from "./words.js";

const DISTANCES = { close: 0.2, usual: 0.4, far: 0.8 };

export class Steer {
  #root;
  #begun;
  #said = el("p", { className: "said", role: "status", aria: { live: "polite" } });
  #continues = el("span", { className: "quiet" });
  #left = el("span", { className: "quiet" });
  #count = el("input", { type: "number", min: "1", max: "32", value: "4", aria: { label: "Candidates" }, on: { input: () => this.#prices() } });
  #angle = el("select", { aria: { label: "How far from the picked candidates" } }, Object.keys(DISTANCES).map((name) => el("option", { value: name, selected: name === "usual" }, name)));
  #words = el("textarea", { rows: 2, maxLength: 500, placeholder: "What should be better? For example: keep the hat, less red", aria: { label: "What should be better" }, on: { input: () => this.#prices() } });
  #quote = el("button", { type: "button", data: { action: "quote" }, on: { click: () => this.#useCriticism() } }, "Use the judge's words");
  #instruction = el("textarea", { rows: 2, maxLength: 4000, aria: { label: "Instruction" }, on: { input: () => this.#prices() } });
  #partly = el("textarea", { rows: 2, maxLength: 4000, placeholder: "What to change in the drawn part", aria: { label: "What to change in the drawn part" }, on: { input: () => this.#prices() } });
  #character = el("select", { aria: { label: "Character" } });
  #buttons = {};
  #drawing;
  #tokens = new Map();
  #sending = new Set();
  #waitsFor = new Map();
  #jobsShown = "";
  #jobs = el("div", { className: "jobs" });
  #instructionShown = null;

  /** `begun` is called after a request was taken, `refresh` reads the task again. */
  constructor(root, begun, refresh) {
    this.#root = root;
    this.#begun = begun;
    root.classList.add("card");
    const drawn = el("div", { className: "drawn" });
    this.#drawing = new Drawing(drawn, () => this.#prices());
    root.append(
      el("h2", {}, "Ask for more"),
      el(
        "div",
        { className: "toolbar" },
        el("label", {}, "Candidates ", this.#count),
        this.#button("like", "primary"),
        el("label", { className: "quiet" }, "distance ", this.#angle),
        this.#button("more"),
        this.#button("finish"),
      ),
      this.#said,
      this.#jobs,
      el("p", {}, this.#continues, this.#left),
      el(
        "div",
        { className: "fields" },
        el("div", {}, el("h3", {}, "Refine with words"), this.#words, this.#button("refine"), this.#quote),
        el("div", {}, el("h3", {}, "Change the instruction"), this.#instruction, this.#button("instruction")),
      ),
      el(
        "details",
        { className: "part", on: { toggle: (event) => event.target.open && refresh() } },
        el("summary", {}, "Draw a part: edit only there, or swap that face"),
        el("div", { className: "fields" }, drawn, el("div", {}, this.#partly, this.#button("here"), el("div", { className: "toolbar face" }, el("label", {}, "Character ", this.#character), this.#button("face")))),
      ),
    );
    model.listen("content", () => this.#draw());
    model.listen("choice picks", () => this.#prices());
    model.listen("state", () => this.#follow());
  }

  /** Puts the keyboard onto a button, so that Enter asks. */
  focus(action) {
    this.#root.scrollIntoView({ block: "nearest" });
    this.#buttons[action].focus();
  }

  #button(action, className = "") {
    const button = el("button", { type: "button", className, data: { action }, on: { click: () => this.#ask(action) } });
    this.#buttons[action] = button;
    return button;
  }

  #follow() {
    const asked = model.content?.steer ? active(model.state).filter((job) => job.asked) : [];
    // Only what changed: a button that is replaced while it is pressed is not pressed.
    const written = JSON.stringify(asked);
    if (written !== this.#jobsShown) replace(this.#jobs, asked.map((job) => jobLine(job, (id) => this.cancel(id))));
    this.#jobsShown = written;
    this.#arrived();
  }

  #draw() {
    const offer = model.content.steer;
    this.#root.hidden = !offer;
    if (!offer) return;
    const before = this.#instructionShown;
    const now = offer.instruction || model.content.task.instruction;
    if (before === null || this.#instruction.value === before) this.#instruction.value = now;
    if (before === null || this.#partly.value === before) this.#partly.value = now;
    this.#instructionShown = now;
    this.#count.max = String(offer.most);
    this.#continues.classList.toggle("alarm", Boolean(offer.refused));
    this.#continues.textContent = offer.refused || continues(offer, now);
    this.#left.textContent = ` Left today: ${offer.left.actions} requests and ${offer.left.candidates} candidates.`;
    this.#drawing.show(model.content.pictures.original);
    const references = model.content.pictures.references;
    replace(this.#character, references.map((_, index) => el("option", { value: String(index) }, `picture ${index + 1}`)));
    this.#prices();
    this.#arrived();
  }

  #targets() {
    const picked = [...model.picks].map((id) => model.byId.get(id)).filter(Boolean);
    const shown = model.byId.get(model.shown);
    return picked.length ? picked : shown ? [shown] : [];
  }

  #number() {
    const number = Math.round(Number(this.#count.value));
    return Number.isFinite(number) ? Math.min(Number(this.#count.max), Math.max(1, number)) : 1;
  }

  /** Writes what each request costs onto its button, and switches off what cannot be asked for. */
  #prices() {
    const offer = model.content?.steer;
    if (!offer) return;
    const targets = this.#targets();
    const names = targets.length > 3 ? `${targets.length} picked` : targets.map((each) => each.label).join(", ");
    const usable = targets.length > 0 && targets.every((each) => each.search && each.seed !== null && each.state !== "failed");
    const previews = targets.filter((each) => (each.state === "pruned" || each.drafted_in) && !each.finished_as);
    const swaps = offer.route === "face_swap";
    const varied = usable && !swaps;
    const each = this.#number();
    const children = each * targets.length;
    this.#quote.hidden = !targets.some((one) => one.criticism);
    const drawn = this.#drawing.shapes.length > 0 || offer.drawn;
    const here = this.#drawing.shapes.length ? "Edit only here" : offer.drawn ? "Edit only in the regions drawn in Label Studio" : "Edit only here";
    this.#label("more", "More candidates", each, each, offer.searched && !swaps);
    this.#label("like", names ? `More like ${names}` : "More like this", children, children, varied);
    this.#label("refine", names ? `Refine ${names}` : "Refine", children, children, varied && this.#words.value.trim() !== "");
    this.#label("instruction", "Search with this instruction", offer.search.candidates, offer.search.renders, this.#instruction.value.trim() !== "");
    this.#label("here", here, offer.search.candidates, offer.search.renders, drawn && this.#partly.value.trim() !== "");
    const preview = previews.map((one) => one.label).join(", ");
    this.#label("finish", `Finish ${preview}`, previews.length, previews.length, previews.length > 0 && previews.length === targets.length && !swaps);
    this.#buttons.finish.hidden = previews.length === 0;
    const characters = this.#character.options.length;
    this.#label("face", "Swap this face", offer.swaps, 0, drawn && characters > 0);
    this.#buttons.face.parentElement.hidden = characters === 0;
    this.#angle.disabled = !varied;
  }

  /** Writes what the judge finds wrong into the field, for the person to change and send. */
  #useCriticism() {
    const said = [...new Set(this.#targets().map((each) => each.criticism).filter(Boolean))];
    this.#words.value = said.join(" ").slice(0, this.#words.maxLength);
    this.#words.focus();
    this.#prices();
  }

  #label(action, words, candidates, renders, possible) {
    const { seconds, devices, left } = model.content.steer;
    const time = seconds && renders ? `, ~${duration((seconds * renders) / Math.max(1, Math.min(devices, candidates)))}` : "";
    const cost = renders ? `${rounded(renders)} render${renders === 1 ? "" : "s"}${time}` : `${candidates} choices, no render`;
    const most = action === "finish" || action === "instruction" || action === "here" ? "\u2264 " : "";
    const button = this.#buttons[action];
    const room = left.actions > 0 && candidates <= left.candidates;
    replace(button, words, el("span", { className: "price" }, ` \u00b7 ${most}${cost}`));
    button.disabled = !possible || !room || this.#sending.has(action);
    button.title = room ? "" : "This task's limit for today is reached.";
  }

  #body(action) {
    const picks = this.#targets().map((each) => each.id);
    return {
      more: { candidates: this.#number() },
      like: { picks, candidates: this.#number(), angle: DISTANCES[this.#angle.value] },
      refine: { picks, candidates: this.#number(), words: this.#words.value },
      instruction: { instruction: this.#instruction.value },
      here: { shapes: this.#drawing.shapes, instruction: this.#partly.value },
      face: { shapes: this.#drawing.shapes, reference: Number(this.#character.value || 0) },
      finish: { picks },
    }[action];
  }

  async #ask(action) {
    if (this.#sending.has(action)) return;
    const body = { action, ...this.#body(action) };
    const written = JSON.stringify(body);
    // The same token until an answer has come: a request that was sent twice is one.
    if (!this.#tokens.has(written)) this.#tokens.set(written, crypto.getRandomValues(new Uint32Array(4)).join("-").slice(0, 60));
    this.#sending.add(action);
    this.#prices();
    const before = new Set(model.byId.keys());
    try {
      const answer = await send("actions", { token: this.#tokens.get(written), ...body });
      this.#tokens.delete(written);
      this.#waitsFor.set(answer.job, before);
      this.#tell("Asked. The new candidates appear here as they are made.");
      if (action === "refine") this.#words.value = "";
      if (action === "here" || action === "face") this.#drawing.clear();
      await this.#begun();
    } catch (error) {
      // Without an answer nobody knows whether it was taken: asking again sends the same token.
      if (error.status) this.#tokens.delete(written);
      this.#tell(error.message, true);
    } finally {
      this.#sending.delete(action);
      this.#prices();
    }
  }

  /** Cancels a request. */
  async cancel(job) {
    try {
      await send("actions", { action: "cancel", job });
      await this.#begun();
    } catch (error) {
      this.#tell(error.message, true);
    }
  }

  /** Shows the best new candidate when what was asked for has ended. */
  #arrived() {
    const ended = (model.content?.state.jobs ?? []).filter((job) => this.#waitsFor.has(job.id) && ["done", "failed", "cancelled"].includes(job.state));
    for (const job of ended) {
      const before = this.#waitsFor.get(job.id);
      this.#waitsFor.delete(job.id);
      if (job.state === "failed") this.#tell(`${job.asked}: ${job.failure?.message ?? "failed"}`, true);
      if (job.state === "cancelled") this.#tell(`${job.asked}: cancelled.`);
      if (job.state !== "done") continue;
      const fresh = model.content.candidates.filter((each) => each.key === job.key && !before.has(each.id) && each.picture);
      const place = (each) => each.rank ?? 1e6;
      const best = [...fresh].sort((one, other) => place(one) - place(other))[0];
      this.#tell(fresh.length ? `New: ${fresh.map((each) => each.label).join(", ")}. Label Studio shows them when the task is reloaded.` : "Nothing new came of it: this search had been made before.");
      if (best) model.choose(best.id);
    }
  }

  #tell(words, alarm = false) {
    this.#said.textContent = words;
    this.#said.classList.toggle("alarm", alarm);
  }
}

/** What a request continues, or why there is nothing to continue. */
function continues(offer, instruction) {
  if (!offer.searched) return "The task has no finished search yet: an instruction or a drawn part begins one.";
  if (offer.route === "face_swap") return "A face swap has no noise to vary: all choices are shown. Draw another face, or give an instruction.";
  return `Continues \u201c${instruction}\u201d${offer.masked ? ", inside its mask" : ""}, unless a picked candidate is of another search.`;
}
