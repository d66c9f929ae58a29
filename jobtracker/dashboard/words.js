// How numbers, times and names are said. One way each, on all pages.

const NUMBER = new Intl.NumberFormat("en");

/** A whole number with separators; a dash for what is not known. */
export function count(value) {
  return Number.isFinite(value) ? NUMBER.format(value) : "–";
}

/** "1 task", "2 tasks". */
export function counted(value, one, many = `${one}s`) {
  return `${count(value)} ${value === 1 ? one : many}`;
}

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/** Bytes in the unit that keeps the number short. */
export function bytes(value) {
  if (!Number.isFinite(value)) return "–";
  let unit = 0;
  let shown = value;
  while (shown >= 1024 && unit < UNITS.length - 1) {
    shown /= 1024;
    unit += 1;
  }
  return `${unit === 0 || shown >= 100 ? Math.round(shown) : shown.toFixed(1)} ${UNITS[unit]}`;
}

/** Milliseconds, as a person would say them. */
export function duration(ms) {
  if (!Number.isFinite(ms)) return "–";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 59_950) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  const two = (part) => String(part).padStart(2, "0");
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${two(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${two(Math.floor((seconds % 3600) / 60))} min`;
}

/** A moment, in the reader's time zone; with its day when that is not today. */
export function moment(time) {
  if (!Number.isFinite(time)) return "–";
  const when = new Date(time);
  if (Number.isNaN(when.getTime())) return "–";
  const clock = when.toLocaleTimeString("en-GB");
  return when.toDateString() === new Date().toDateString() ? clock : `${when.toLocaleDateString("sv-SE")} ${clock}`;
}

/** The beginning of a digest, by which people name it. */
export function short(digest) {
  return typeof digest === "string" ? digest.slice(0, 8) : "–";
}

/** "a", "a and b", "a, b and c". */
export function list(names) {
  if (names.length < 2) return names.join("");
  return `${names.slice(0, -1).join(", ")} and ${names[names.length - 1]}`;
}

/** "2 of 3 replicas say so". */
export function sayers(alike, of) {
  return `${alike} of ${counted(of, "replica")} ${alike === 1 ? "says" : "say"} so`;
}

export const tracker = (id) => `tracker-${id}`;
export const replica = (id) => `replica-${id}`;
export const job = (id) => `job-${id}`;
