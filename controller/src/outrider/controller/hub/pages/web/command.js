// One command on its way: whom it was sent to, what has come of it on each device, and an end to it.

import { html, useEffect, useMemo, useState } from "./html.js";
import { session } from "./api.js";
import { Following, isOpen } from "./following.js";
import { args as argsOf, count, time } from "./format.js";
import { answer, Outcome } from "./outcome.js";
import { Empty, Failure, Status, Title, Twice } from "./parts.js";
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

  if (!info) {
    return html`<section><${Title}>Command <span class="quiet code">${id}</span><//>
      ${following.problem ? html`<${Failure} problem=${following.problem} again=${() => following.look(true)} />` : html`<${Empty}>Asking the hub…<//>`}</section>`;
  }
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
      ${!info.ended && session.mayCancel(info) && html`<${Twice} ask=${info.rollout ? "Abort, and cancel what runs?" : "Cancel it where it runs?"}
        onConfirm=${() => following.cancel().catch(setProblem)}>${info.rollout ? "Abort the rollout" : "Cancel"}<//>`}</div>
    <p class="quiet">${argsOf(info.args)}</p>
    <p class="quiet">by ${info.behalf || info.requester || "hand"}, sent at ${time(info.issued)}, <span class="code">${id}</span></p>
    <${Failure} problem=${problem ?? following.problem} />
    ${info.rollout && html`<${Stages} rollout=${info.rollout} count=${total} ended=${info.ended} />`}
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
