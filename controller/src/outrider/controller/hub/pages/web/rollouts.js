// The rollouts that this hub has sent, newest first, and how far each is.

import { html, useEffect, useState } from "./html.js";
import { path, remove, session } from "./api.js";
import { count } from "./format.js";
import { live } from "./live.js";
import { Older, usePages } from "./pages.js";
import { Empty, Failure, Time, Title, Twice } from "./parts.js";
import { to } from "./route.js";
import { Stages } from "./stages.js";

const AGAIN = 1000;

/** The view `#/rollouts`. */
export function Rollouts() {
  const list = usePages("rollouts", {}, { limit: 20 });
  const [problem, setProblem] = useState(null);
  const running = list.items.some(({ ended }) => !ended);
  useEffect(() => {
    if (!running) return undefined;
    const timer = setInterval(list.again, AGAIN);
    return () => clearInterval(timer);
  }, [running]);
  useEffect(() => live.on("command", () => !running && list.again()), [running]);

  return html`<section>
    <div class="head"><${Title}>Rollouts<//>${session.may("send") && html`<a class="button primary" href=${to(["send"])}>New rollout</a>`}</div>
    <${Failure} problem=${problem ?? list.problem} again=${list.again} />
    ${!list.items.length && !list.problem && html`<${Empty}>${list.loading ? "Asking the hub…" : "No rollout yet. Send a command “as a rollout, in batches”."}<//>`}
    ${list.items.map((each) => html`<article class="card" key=${each.id} aria-labelledby=${`rollout-${each.id}`}>
      <div class="head"><h2 id=${`rollout-${each.id}`}><a href=${to(["commands", each.id])}>${each.command} <span class="quiet">to ${each.target}</span></a></h2>
        ${!each.ended && session.mayCancel(each) && html`<${Twice} ask="Abort, and cancel what runs?" onConfirm=${() => remove(path("commands", each.id)).then(list.again, setProblem)}>Abort<//>`}</div>
      <p class="quiet">${each.behalf ? `by ${each.behalf}, ` : ""}<${Time} at=${each.issued} />, ${count(each.count, "device")}</p>
      ${each.rollout && html`<${Stages} rollout=${each.rollout} count=${each.count} ended=${each.ended} />`}
    </article>`)}
    <${Older} list=${list} />
  </section>`;
}
