// Keeps the status page up to date. Only parts that have changed are replaced, so nothing flickers;
// the server is asked only while somebody can see the page, and answers 304 if nothing has changed.
"use strict";

const root = document.documentElement;
const usual = 1000 * Number(root.dataset.seconds);
const longest = 60_000;
// The clock of this machine may differ from the server's.
const clockDifference = Date.now() / 1000 - Number(root.dataset.now);
let tag = `"${root.dataset.tag}"`;
let pause = usual;
let timer = 0;
let asking = false;
let pressed = false;
let waiting = null;
const shown = new Map();

function parts(page) {
  return [...page.querySelectorAll("[data-live]")];
}

// A part as text, without the ages, which change every second.
function content(part) {
  const copy = part.cloneNode(true);
  for (const time of copy.querySelectorAll("time")) time.textContent = "";
  return copy.outerHTML;
}

// As `age` in job_facts.py.
function age(seconds) {
  for (const [unit, length] of [["d", 86400], ["h", 3600], ["min", 60]]) {
    if (seconds >= length) return `${Math.floor(seconds / length)} ${unit}`;
  }
  return `${Math.max(0, Math.floor(seconds))} s`;
}

function updateAges() {
  const now = Date.now() / 1000 - clockDifference;
  for (const time of document.querySelectorAll("time[data-at]")) {
    const words = age(now - Number(time.dataset.at));
    if (time.textContent !== words) time.textContent = words;
  }
}

function isSelected(part) {
  const selection = window.getSelection();
  return selection && !selection.isCollapsed && selection.intersectsNode(part);
}

function show(page) {
  // A button that is replaced between press and release would not be clicked.
  if (pressed) {
    waiting = page;
    return;
  }
  const news = parts(page);
  const ids = news.map((part) => part.id).join(" ");
  if (ids !== parts(document).map((part) => part.id).join(" ")) {
    // The queue was lost or found: there is another set of parts.
    window.location.reload();
    return;
  }
  const focused = document.activeElement?.id;
  for (const part of news) {
    const old = document.getElementById(part.id);
    const text = content(part);
    if (shown.get(part.id) === text || isSelected(old)) continue;
    shown.set(part.id, text);
    old.replaceWith(document.adoptNode(part));
  }
  if (focused && document.activeElement?.id !== focused) {
    document.getElementById(focused)?.focus({ preventScroll: true });
  }
  updateAges();
}

function say(words, alarm) {
  const flash = document.getElementById("flash");
  flash.replaceChildren();
  if (!words) return;
  const line = document.createElement("p");
  line.className = alarm ? "flash alarm" : "flash";
  line.textContent = words;
  flash.append(line);
}

function parsed(text) {
  return new DOMParser().parseFromString(text, "text/html");
}

async function refresh() {
  window.clearTimeout(timer);
  if (document.hidden || asking) return;
  asking = true;
  try {
    const address = new URL(window.location.href);
    // What was just done needs to be said once.
    address.searchParams.delete("said");
    const answer = await fetch(address, { headers: { "If-None-Match": tag }, cache: "no-store" });
    if (answer.ok) {
      tag = answer.headers.get("ETag") ?? tag;
      show(parsed(await answer.text()));
    } else if (answer.status !== 304) {
      throw new Error(`the server answers ${answer.status}`);
    }
    if (root.dataset.lost) {
      delete root.dataset.lost;
      say("");
    }
    pause = usual;
  } catch (error) {
    root.dataset.lost = "yes";
    say(`This page is not up to date: ${error.message}.`, true);
    pause = Math.min(longest, 2 * pause);
  } finally {
    asking = false;
    timer = window.setTimeout(refresh, pause);
  }
}

async function act(event) {
  const form = event.target;
  if (form.method !== "post") return;
  event.preventDefault();
  const body = new URLSearchParams(new FormData(form, event.submitter));
  event.submitter.disabled = true;
  try {
    // Not `form.action`, which is the button of that name.
    const answer = await fetch(form.getAttribute("action"), { method: "POST", body });
    if (answer.ok) {
      const page = parsed(await answer.text());
      say(page.getElementById("flash").textContent.trim());
      show(page);
    } else {
      const problem = await answer.json().catch(() => null);
      say(problem?.error?.message ?? `The server answers ${answer.status}.`, true);
    }
  } catch (error) {
    say(`Nothing was done: ${error.message}.`, true);
  } finally {
    event.submitter.disabled = false;
  }
  refresh();
}

function release() {
  pressed = false;
  if (waiting) {
    const page = waiting;
    waiting = null;
    // After the click that follows.
    window.setTimeout(() => show(page));
  }
}

for (const part of parts(document)) shown.set(part.id, content(part));
updateAges();
window.setInterval(updateAges, 1000);
document.addEventListener("submit", act);
document.addEventListener("pointerdown", () => (pressed = true));
for (const end of ["pointerup", "pointercancel"]) document.addEventListener(end, release);
document.addEventListener("visibilitychange", refresh);
timer = window.setTimeout(refresh, usual);
