// How far a rollout is: its batches one after the other, its failures, and why it was aborted.

import { html } from "./html.js";
import { count } from "./format.js";
import { Status } from "./parts.js";
import { to } from "./route.js";

const SHOWN = 12;
const NAMED = 5;

/** The batches of a rollout; `ended` says that no device of it is waited for. */
export function Stages({ rollout, count: total, ended }) {
  const sizes = rollout.batches;
  const waiting = rollout.in_flight.length;
  const over = ended || (!waiting && rollout.addressed >= total);
  const standing = rollout.aborted ? "aborted" : over ? "done" : "running";
  const from = Math.max(0, Math.min(rollout.batch - Math.ceil(SHOWN / 2), sizes.length - SHOWN));
  const state = (number) => {
    if (number > rollout.batch) return rollout.aborted ? "cancelled" : "waiting";
    if (number < rollout.batch || over) return rollout.aborted && number === rollout.batch ? "aborted" : "done";
    if (rollout.aborted) return "aborted";
    return waiting ? "running" : "pausing";
  };
  return html`<div class="rollout">
    <p role="status"><${Status} word=${standing} /> ${rollout.addressed} of ${count(total, "device")} addressed${rollout.failures || rollout.judged
      ? `, ${rollout.failures} of ${rollout.judged} judged failed` : ""}</p>
    ${rollout.aborted && html`<p class="note bad">Aborted: ${rollout.aborted}</p>`}
    ${waiting > 0 && html`<p class="quiet">Waiting for ${rollout.in_flight.slice(0, NAMED).map((id, at) => html`${at ? ", " : ""}<a href=${to(["devices", id])}>${id}</a>`)}${waiting > NAMED ? ` and ${waiting - NAMED} more` : ""}.</p>`}
    ${sizes.length > 0 && html`<ol class="stages" aria-label="Batches" start=${from + 1}>
      ${from > 0 && html`<li class="more quiet">${count(from, "batch").replace("batchs", "batches")} before</li>`}
      ${sizes.slice(from, from + SHOWN).map((size, index) => {
        const number = from + index + 1;
        return html`<li key=${number} class=${`stage ${state(number)}`} aria-current=${number === rollout.batch && !over ? "step" : undefined}>
          <b>Batch ${number}</b><span class="quiet">${count(size, "device")}</span><${Status} word=${state(number)} /></li>`;
      })}
      ${from + SHOWN < sizes.length && html`<li class="more quiet">${sizes.length - from - SHOWN} more</li>`}
    </ol>`}
  </div>`;
}
