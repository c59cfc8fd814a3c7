// Talks to the backend. All addresses are relative to the page's, which holds the capability.

/** An answer that is an error, with the backend's own words. */
export class RefusedError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** Everything that the panel shows. */
export const readTask = () => ask("task.json");

/** What goes on with the task's jobs; cheap. */
export const readState = () => ask("state.json");

/** Sends JSON to a route of the panel. */
export function send(path, body) {
  return ask(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
}

async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { credentials: "omit", referrerPolicy: "no-referrer", ...options });
  } catch {
    throw new RefusedError("The backend does not answer. It may be restarting.", 0);
  }
  let content = null;
  try {
    content = await answer.json();
  } catch {
    throw new RefusedError(`The backend answered ${answer.status} without a reason.`, answer.status);
  }
  if (!answer.ok) throw new RefusedError(content?.error?.message ?? "The backend refused.", answer.status);
  return content;
}
