// Small things that several views are made of.

import { html, useEffect, useLayoutEffect, useRef, useState } from "./html.js";
import { fullTime, time } from "./format.js";

const KINDS = {
  ready: "good", done: "good",
  unready: "calm", queued: "calm", cancelled: "calm", waiting: "calm", offline: "calm", terminated: "calm",
  running: "busy", pausing: "busy", sent: "busy",
  lost: "bad", crashed: "bad", failed: "bad", rejected: "bad", aborted: "bad",
  timed_out: "warn", expired: "warn", interrupted: "warn",
};

/** One word for how something is, with a colour that only underlines it. */
export function Status({ word }) {
  return html`<span class="status ${KINDS[word] ?? "calm"}">${String(word).replace("_", " ")}</span>`;
}

/** A time, with its date where the pointer rests. */
export function Time({ at }) {
  return html`<time title=${fullTime(at)}>${time(at)}</time>`;
}

/** What went wrong, said at once by screen readers. */
export function Failure({ problem, again }) {
  if (!problem) return null;
  return html`<div class="note bad" role="alert">
    <span>${problem.message.split("\n")[0]}${problem.code ? html` <span class="quiet">(${problem.code})</span>` : null}</span>
    ${again && html`<button type="button" class="small" onClick=${again}>Try again</button>`}
  </div>`;
}

/** What stands where there is nothing. */
export function Empty({ children }) {
  return html`<p class="empty">${children}</p>`;
}

/** A heading that is given the focus when its view opens, so that keyboard and screen reader begin there. */
export function Title({ children, focus = true }) {
  const ref = useRef(null);
  useEffect(() => {
    if (focus) ref.current.focus({ preventScroll: true });
  }, []);
  return html`<h1 tabindex="-1" ref=${ref}>${children}</h1>`;
}

/** A button that asks once more before it acts. */
export function Twice({ ask, class: kind = "danger", onConfirm, children, disabled }) {
  const [asked, setAsked] = useState(false);
  const yes = useRef(null);
  useLayoutEffect(() => {
    if (asked) yes.current.focus();
  }, [asked]);
  if (!asked) {
    return html`<button type="button" class=${kind} disabled=${disabled} onClick=${() => setAsked(true)}>${children}</button>`;
  }
  const end = (confirmed) => {
    setAsked(false);
    if (confirmed) onConfirm();
  };
  return html`<span class="twice" role="group" aria-label=${ask} onKeyDown=${(event) => event.key === "Escape" && end(false)}>
    <span>${ask}</span>
    <button type="button" class=${kind} ref=${yes} onClick=${() => end(true)}>Yes</button>
    <button type="button" onClick=${() => end(false)}>No</button>
  </span>`;
}

/** How far something is, from 0 to 1. */
export function Progress({ fraction, text, label }) {
  return html`<div class="progress">
    <progress value=${fraction} max="1" aria-label=${label}></progress>
    <span>${Math.round(fraction * 100)}%${text ? html` <span class="quiet">${text}</span>` : null}</span>
  </div>`;
}

/** Ask for something when the view opens and whenever `given` changes; `load` is given a signal that ends it. */
export function useLoaded(load, given) {
  const [state, setState] = useState({ value: undefined, problem: null, loading: true });
  const [round, setRound] = useState(0);
  useEffect(() => {
    const stop = new AbortController();
    setState((before) => ({ ...before, loading: true }));
    load(stop.signal).then(
      (value) => !stop.signal.aborted && setState({ value, problem: null, loading: false }),
      (problem) => !stop.signal.aborted && setState((before) => ({ ...before, problem, loading: false })),
    );
    return () => stop.abort();
  }, [...given, round]);
  return { ...state, again: () => setRound((before) => before + 1) };
}

/** A value that follows another one when it has rested for so many milliseconds. */
export function useRested(value, milliseconds = 200) {
  const [rested, setRested] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setRested(value), milliseconds);
    return () => clearTimeout(timer);
  }, [value]);
  return rested;
}
