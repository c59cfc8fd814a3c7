// Starts the panel: reads the task, draws the parts, and follows what goes on while something does.

import { Compare } from "./compare.js";
import { el, replace } from "./dom.js";
import { active, jobLine } from "./jobs.js";
import { helpFor, keysFor, listenToKeys } from "./keys.js";
import { model } from "./model.js";
import { readState, readTask } from "./server.js";
import { Steer } from "./steer.js";
import { current, nextTheme, restoreTheme } from "./theme.js";
import { Understand } from "./understand.js";

const POLL_MS = 1500;
const LONGEST_POLL_MS = 15_000;

restoreTheme();
const notices = document.getElementById("notices");
const banner = document.getElementById("top");
const compare = new Compare(document.getElementById("compare"));
new Understand(document.getElementById("understand"));
const steer = new Steer(document.getElementById("steer"), followNow, reload);

// Label Studio says the instruction above the frame, so that its place is free for the tools.
const framed = window.parent !== window;
document.documentElement.classList.toggle("framed", framed);
const instruction = el("div", { className: "instruction" });
const tools = el("div", { className: "tools" });
banner.append(framed ? compare.toolbar : instruction, tools);

let timer = null;
let pause = POLL_MS;
let asking = false;
let problem = "";

/** Reads the whole task. */
async function reload() {
  if (asking) return;
  asking = true;
  try {
    model.take(await readTask());
    said("");
    pause = POLL_MS;
  } catch (error) {
    said(error.message);
    pause = Math.min(LONGEST_POLL_MS, 2 * pause);
  } finally {
    asking = false;
  }
  next();
}

/** Asks what goes on, and reads the task again if that changed. */
async function follow() {
  if (model.content === null) {
    await reload();
    return;
  }
  try {
    const state = await readState();
    pause = POLL_MS;
    if (problem) said("");
    if (model.takeState(state)) {
      await reload();
      return;
    }
  } catch (error) {
    said(error.message);
    pause = Math.min(LONGEST_POLL_MS, 2 * pause);
  }
  next();
}

/** Asks again only while something runs, or nothing is known, and somebody can see it. */
function next() {
  clearTimeout(timer);
  const needed = model.state?.running || model.content === null;
  if (needed && !document.hidden) timer = setTimeout(follow, pause);
}

document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  if (!document.hidden) follow();
});
window.addEventListener("focus", () => {
  if (!model.state?.running) follow();
});

/** Asks at once, because something was begun. */
export function followNow() {
  clearTimeout(timer);
  return follow();
}

function said(words) {
  problem = words;
  notice();
}

function notice() {
  const content = model.content;
  const jobs = model.state?.jobs ?? [];
  const running = active(model.state);
  // The section Steer shows what people asked for.
  const own = running.filter((job) => !job.asked || content?.may !== "on");
  const [last] = jobs;
  replace(
    notices,
    problem ? el("div", { className: "notice alarm" }, problem) : null,
    own.map((job) => jobLine(job)),
    last?.state === "failed" && !last.asked && !running.length ? el("div", { className: "notice alarm" }, `The last search failed: ${last.failure?.message ?? ""}`) : null,
    content?.warning ? el("div", { className: "notice warn" }, content.warning) : null,
  );
}

function header() {
  const task = model.content?.task;
  const running = model.state?.running;
  if (!framed) {
    instruction.title = task?.instruction ?? "";
    replace(
      instruction,
      task ? task.instruction || "No instruction" : "Loading\u2026",
      task ? el("span", { className: "route", title: task.route_reason }, task.route_name) : null,
    );
  }
  replace(
    tools,
    running ? el("span", { className: "chip live" }, "searching") : null,
    task ? el("span", { className: "chip count" }, `${count(model.candidates.length)}`) : null,
    el("button", { type: "button", className: "icon", title: "Ask the backend again (r)", aria: { label: "Reload" }, on: { click: reload } }, "\u27f3"),
    el("button", { type: "button", className: "icon", title: `Theme: ${current()} (t)`, aria: { label: "Theme" }, on: { click: turnTheme } }, { auto: "\u25d0", light: "\u2600", dark: "\u263e" }[current()]),
    el("button", { type: "button", className: "icon", title: "Keyboard (?)", aria: { label: "Keyboard" }, on: { click: () => help() } }, "?"),
  );
}

function count(number) {
  return number === 1 ? "1 candidate" : `${number} candidates`;
}

function turnTheme() {
  nextTheme();
  header();
}

new ResizeObserver(() => {
  document.documentElement.style.setProperty("--notices", `${notices.offsetHeight ? notices.offsetHeight + 12 : 0}px`);
}).observe(notices);

const keys = keysFor({ compare, steer, theme: turnTheme, reload });
const help = helpFor(keys);
listenToKeys(keys, help);
model.listen("content state", header);
model.listen("content state", notice);
header();
reload();
