// A line about a job: what it is, how far it has come, and a button to cancel it.

import { el } from "./dom.js";

const ACTIVE = ["queued", "running", "delivering"];

/** The jobs that have not ended. */
export function active(state) {
  return (state?.jobs ?? []).filter((job) => ACTIVE.includes(job.state));
}

/** `cancel` is called with the job's id; without it there is no button. */
export function jobLine(job, cancel = null) {
  const bar = el("progress", { max: Math.max(1, job.expected), aria: { label: "Candidates" } });
  if (job.expected && job.state !== "queued") bar.value = job.finished;
  return el(
    "div",
    { className: "notice job", data: { job: job.id } },
    job.state === "queued" ? null : bar,
    el("span", {}, job.asked ? `${job.asked.charAt(0).toUpperCase()}${job.asked.slice(1)}: ` : "", job.stage),
    cancel ? el("button", { type: "button", on: { click: () => cancel(job.id) } }, "Cancel") : null,
    job.note ? el("span", { className: "quiet" }, job.note) : null,
  );
}
