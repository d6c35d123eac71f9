// One command on its way: whom it was sent to, what has come of it on each device, and an end to it.

import { html, useEffect, useMemo, useState } from "./html.js";
import { session } from "./api.js";
import { inOrder } from "./fleet.js";
import { Following, isOpen } from "./following.js";
import { count, time } from "./format.js";
import { answer, Outcome } from "./outcome.js";
import { usePages } from "./pages.js";
import { Empty, Failure, Status, Time, Title, Twice } from "./parts.js";
import { to } from "./route.js";
import { Stages } from "./stages.js";
import { useStore } from "./store.js";
import { Table } from "./table.js";

const ORDER = ["done", "running", "queued", "offline", "failed", "rejected", "timed_out", "expired", "interrupted", "cancelled"];

/** The view `#/commands/<id>`. */
export function Command({ id }) {
  const following = useMemo(() => new Following(id), [id]);
  useEffect(() => () => following.close(), [following]);
  useStore(following);
  const [problem, setProblem] = useState(null);
  const [only, setOnly] = useState("");
  const [opened, setOpened] = useState(null);
  const { info, counts } = following;
  const statuses = Object.keys(counts).sort((one, other) => ORDER.indexOf(one) - ORDER.indexOf(other));
  const keys = following.devices.filter((device) => !only || following.outcomes.get(device).status === only);

  useEffect(() => {
    if (opened) following.outputOf(opened).catch(() => {}); // what came before; what comes, comes live
  }, [opened]);

  if (!info) return html`<${Heard} id=${id} problem=${following.problem} />`;
  const total = info.count ?? following.outcomes.size;
  const settled = [...following.outcomes.values()].filter(({ status }) => !isOpen(status)).length;
  const sum = statuses.map((status) => `${counts[status]} ${status.replace("_", " ")}`).join(", ");
  const columns = [
    { name: "device", title: "Device", cell: (device, tab) => html`<button type="button" class="link" tabindex=${tab} aria-expanded=${opened === device ? "true" : "false"}
        onClick=${() => setOpened(opened === device ? null : device)}>${device}</button>` },
    { name: "status", title: "Status", cell: (device) => html`<${Status} word=${following.outcomes.get(device)?.status ?? "queued"} />` },
    { name: "answer", title: "Answer", class: "grow", cell: (device) => {
      const text = answer(following.outcomes.get(device) ?? {});
      return html`<span class="clip" title=${text}>${text}</span>`;
    } },
  ];
  return html`<section class="fill">
    <p class="crumbs">${info.rollout ? html`<a href=${to(["rollouts"])}>Rollouts</a>` : html`<a href=${to(["audit"])}>Audit log</a>`}</p>
    <div class="head"><${Title}>${info.command} <span class="quiet">to ${info.target}</span><//>
      ${!info.ended && session.may("send") && html`<${Twice} ask=${info.rollout ? "Abort, and cancel what runs?" : "Cancel it where it runs?"}
        onConfirm=${() => following.cancel().catch(setProblem)}>${info.rollout ? "Abort the rollout" : "Cancel"}<//>`}</div>
    <p class="quiet">${info.behalf ? `by ${info.behalf}, ` : ""}sent at ${time(info.issued)}, <span class="code">${id}</span></p>
    <${Failure} problem=${problem ?? following.problem} />
    ${info.rollout && html`<${Stages} rollout=${info.rollout} count=${total} />`}
    <div class="sum">
      <progress value=${settled} max=${Math.max(1, total)} aria-label="Devices that have answered"></progress>
      <p role="status">${settled} of ${count(total, "device")} ended${info.ended ? "" : ", waiting"}: ${sum || "nobody has answered yet"}</p>
      <div class="chips" role="group" aria-label="Show only">${statuses.map((status) => html`<button type="button" class="chip"
        aria-pressed=${only === status ? "true" : "false"} onClick=${() => setOnly(only === status ? "" : status)}><${Status} word=${status} /> ${counts[status]}</button>`)}</div>
    </div>
    ${opened && following.outcomes.has(opened) && html`<aside class="card" aria-label=${`Outcome of ${opened}`}>
      <div class="head"><h2><a href=${to(["devices", opened])}>${opened}</a></h2><button type="button" class="small" onClick=${() => setOpened(null)}>Close</button></div>
      <${Outcome} outcome=${following.outcomes.get(opened)} label=${opened} /></aside>`}
    <${Table} label="Outcomes" columns=${columns} keys=${keys} empty="No device yet." />
  </section>`;
}

/** A command that this hub did not send, or that is another's: what was heard of it on the broker. */
function Heard({ id, problem }) {
  const commands = usePages("commands", { id });
  const results = usePages("results", { id }, { type: "result", mine: (record) => record.id === id });
  const found = commands.items[0];
  return html`<section><${Title}>${found ? found.command : "Command"} <span class="quiet code">${id}</span><//>
    ${!problem && html`<${Empty}>Asking the hub…<//>`}
    ${problem && (!found || problem.status !== 404) && html`<${Failure} problem=${problem} />`}
    ${problem && found && html`<p class="quiet">It was not sent by this hub. Heard on the broker: by ${found.behalf || found.requester || "hand"}, <${Time} at=${found.received} />.</p>
      <div class="scroll"><table class="plain" aria-label="Results"><thead><tr><th scope="col">Device</th><th scope="col">Status</th><th scope="col">Answer</th></tr></thead>
      <tbody>${[...results.items].sort((one, other) => inOrder(one.device, other.device)).map((each) => html`<tr key=${each.device}>
        <td><a href=${to(["devices", each.device])}>${each.device}</a></td><td><${Status} word=${each.status} /></td><td><span class="clip">${answer(each)}</span></td></tr>`)}</tbody></table></div>`}
  </section>`;
}
