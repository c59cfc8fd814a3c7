// Numbers and places as words.

const MINUS = "\u2212";

/** A score from 0 to 1 as a percentage. */
export function percent(share) {
  return typeof share === "number" ? `${Math.round(share * 100)}%` : "";
}

/** A measured value. */
export function number(value) {
  if (typeof value !== "number") return "\u2013";
  const text = Math.abs(value) < 10 ? Math.abs(value).toFixed(3) : Math.abs(value).toFixed(1);
  return value < 0 ? MINUS + text : text;
}

/** A count that need not be whole. */
export function rounded(value) {
  return String(Math.round(10 * value) / 10);
}

/** A measured value, always with its sign. */
export function signed(value) {
  return value >= 0 ? `+${number(value)}` : number(value);
}

/** Seconds as people say them. */
export function duration(seconds) {
  if (typeof seconds !== "number") return "";
  if (seconds < 90) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

/** The place of a candidate: by the machine, or what else became of it. */
export function place(candidate) {
  const others = {
    pruned: candidate.finished_as ? `finished as ${candidate.finished_as}` : "not finished",
    failed: "failed",
    made: "not ranked yet",
    preview: "unfinished",
    original: "",
    "earlier version": "of an earlier version",
  };
  if (candidate.state in others) return others[candidate.state];
  if (!candidate.rank) return "not ranked";
  return candidate.rank === 1 ? "best" : `place ${candidate.rank}`;
}

/** The score of a candidate as the cards say it, or its potential while there is no score. */
export function score(candidate) {
  if (typeof candidate.score === "number") return percent(candidate.score);
  return typeof candidate.potential === "number" ? number(candidate.potential) : "";
}
