// What became of a command on one device: its progress, its output, its answer.

import { html, useEffect, useRef } from "./html.js";
import { isOpen } from "./following.js";
import { duration, value as written } from "./format.js";
import { Progress, Status } from "./parts.js";

/** What a device answered, or why it did not, in one line. */
export function answer({ status, value, error, fraction, text }) {
  if (status === "running" && fraction !== undefined && fraction !== null) {
    return `${Math.round(fraction * 100)}%${text ? ` ${text}` : ""}`;
  }
  if (error) return `${error.message || error.code}`;
  if (status === "done") return written(value ?? null);
  return text ?? "";
}

/** Everything about one device's outcome. */
export function Outcome({ outcome, label }) {
  const { status, value, error, fraction, text, output, started, finished } = outcome;
  const running = status === "running" || (status === "queued" && fraction !== undefined && fraction !== null);
  return html`<div class="outcome">
    <div class="line"><${Status} word=${status} />
      ${Number.isFinite(started) && Number.isFinite(finished) && html`<span class="quiet">took ${duration(finished - started)}</span>`}
      ${error?.code && html`<span class="quiet">${error.code}</span>`}</div>
    ${running && fraction !== undefined && fraction !== null && html`<${Progress} fraction=${fraction} text=${text} label=${`Progress of ${label}`} />`}
    ${output?.length > 0 && html`<${Output} output=${output} label=${`Output of ${label}`} />`}
    ${status === "done" && html`<pre class="value" aria-label=${`Value of ${label}`}>${pretty(value ?? null)}</pre>`}
    ${error && html`<p class=${isOpen(status) ? "quiet" : "fault"}>${error.message}</p>`}
  </div>`;
}

function pretty(value) {
  return typeof value === "string" ? value : JSON.stringify(value, null, 2);
}

/** Output as it streams in; the end stays in sight unless someone has scrolled up. */
export function Output({ output, label }) {
  const ref = useRef(null);
  const atEnd = useRef(true);
  useEffect(() => {
    if (atEnd.current) ref.current.scrollTop = ref.current.scrollHeight;
  }, [output]);
  return html`<pre class="output" ref=${ref} tabindex="0" role="log" aria-label=${label} onScroll=${({ target }) => {
    atEnd.current = target.scrollHeight - target.scrollTop - target.clientHeight < 4;
  }}>${output.map(({ number, stream, data }) => html`<span key=${number} class=${stream}>${data}</span>`)}</pre>`;
}
