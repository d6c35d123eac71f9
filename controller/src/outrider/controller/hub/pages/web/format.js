// Times, values and counts as people read them. Everything here returns text.

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const DATE = new Intl.DateTimeFormat(undefined, {
  year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit",
});
const COUNT = new Intl.NumberFormat();
const LONG = 2000;

/** A time in Unix seconds: the clock today, else with its date. */
export function time(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  const then = new Date(seconds * 1000);
  return (then.toDateString() === new Date().toDateString() ? CLOCK : DATE).format(then);
}

/** A time in Unix seconds with its date, for titles. */
export function fullTime(seconds) {
  return Number.isFinite(seconds) ? DATE.format(new Date(seconds * 1000)) : "";
}

/** Seconds as one unit: `850 ms`, `12 s`, `3 min`, `4 h`, `2 d`. */
export function duration(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  if (seconds < 1) return `${Math.max(0, Math.round(seconds * 1000))} ms`;
  if (seconds < 90) return `${Math.round(seconds * 10) / 10} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 129_600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86_400)} d`;
}

/** A count, and what is counted: `1 device`, `10,000 devices`. */
export function count(number, noun) {
  return `${COUNT.format(number)} ${number === 1 ? noun : `${noun}s`}`;
}

/** A JSON value as it is written, on one line; text at the top as it is. */
export function value(given) {
  const text = typeof given === "string" ? given : JSON.stringify(given);
  if (text === undefined) return "";
  return text.length > LONG ? `${text.slice(0, LONG)}… (${COUNT.format(text.length)} characters)` : text;
}

/** Tags: `room=kitchen, fw=2.1`. */
export function tags(given) {
  return Object.entries(given ?? {}).map(([name, each]) => `${name}=${each}`).join(", ");
}

/** A command's arguments, named or by position. */
export function args(given) {
  if (given === null || given === undefined) return "";
  if (Array.isArray(given)) return given.map(value).join(" ");
  return Object.entries(given).map(([name, each]) => `${name}=${value(each)}`).join(" ");
}
