// The fleet: every device in a table, live, and which of them a target means.

import { html, useEffect, useMemo, useState } from "./html.js";
import { get, session } from "./api.js";
import { fleet, inOrder } from "./fleet.js";
import { count, duration, fullTime, tags } from "./format.js";
import { Failure, Status, Title, useRested } from "./parts.js";
import { amend, route, to } from "./route.js";
import { useStore } from "./store.js";
import { Table } from "./table.js";

const AGAIN = 500;
const TICK = 10_000;
const STATUSES = ["ready", "unready", "lost", "terminated"];

/** Which devices a target means, asked of the hub, and again when states change; null while there is no target. */
export function useTarget(target) {
  const [meant, setMeant] = useState({ target: "", set: null, found: null, problem: null });
  const asked = useRested(target.trim(), 150);
  const [round, setRound] = useState(0);

  useEffect(() => {
    if (!asked) return undefined;
    let timer = null;
    const end = fleet.watch(() => {
      timer ??= setTimeout(() => {
        timer = null;
        setRound((before) => before + 1);
      }, AGAIN);
    });
    return () => {
      end();
      clearTimeout(timer);
    };
  }, [asked]);

  useEffect(() => {
    const stop = new AbortController();
    if (!asked) {
      setMeant({ target: "", set: null, found: null, problem: null });
      return undefined;
    }
    get("targets", { target: asked }, stop.signal).then(
      (found) => setMeant({ target: asked, set: new Set(found.devices), found, problem: null }),
      (problem) => !stop.signal.aborted && setMeant({ target: asked, set: new Set(), found: null, problem }),
    );
    return () => stop.abort();
  }, [asked, round]);

  return meant;
}

const ORDERS = {
  device: inOrder,
  status: (one, other) => order(fleet.devices.get(one)?.status, fleet.devices.get(other)?.status) || inOrder(one, other),
  since: (one, other) => (fleet.devices.get(other)?.since ?? 0) - (fleet.devices.get(one)?.since ?? 0) || inOrder(one, other),
};

function order(one, other) {
  return STATUSES.indexOf(one) - STATUSES.indexOf(other);
}

const cell = (id, of) => {
  const device = fleet.devices.get(id);
  return device ? of(device) : "";
};

const clipped = (text) => html`<span class="clip" title=${text}>${text}</span>`;

const COLUMNS = [
  { name: "device", title: "Device", order: true, cell: (id, tab) => html`<a href=${to(["devices", id])} tabindex=${tab}>${id}</a>` },
  { name: "status", title: "Status", order: true, cell: (id) => cell(id, ({ status }) => html`<${Status} word=${status} />`) },
  { name: "groups", title: "Groups", class: "wide", cell: (id) => cell(id, ({ groups }) => clipped((groups ?? []).join(", "))) },
  { name: "tags", title: "Tags", class: "middle", cell: (id) => cell(id, (device) => clipped(tags(device.tags))) },
  {
    name: "since", title: "Since", class: "wide number", order: true,
    cell: (id) => cell(id, ({ since }) => html`<span title=${fullTime(since)}>${duration(Date.now() / 1000 - since)}</span>`),
  },
];

/** The view `#/devices`. */
export function Devices() {
  useStore(fleet);
  const target = route.here.query.get("target") ?? "";
  const [typed, setTyped] = useState(target);
  const [sorted, setSorted] = useState({ name: "device", down: false });
  const meant = useTarget(typed);

  const [, tick] = useState(0);
  useEffect(() => { // what is a minute ago soon is two
    const timer = setInterval(() => tick((before) => before + 1), TICK);
    return () => clearInterval(timer);
  }, []);

  const type = (next) => {
    setTyped(next);
    amend({ target: next });
  };

  const moving = sorted.name === "device" ? 0 : fleet.version;
  const keys = useMemo(() => {
    const some = meant.set === null ? fleet.ids : fleet.ids.filter((id) => meant.set.has(id));
    if (sorted.name === "device") return sorted.down ? [...some].reverse() : some;
    const ordered = [...some].sort(ORDERS[sorted.name]);
    return sorted.down ? ordered.reverse() : ordered;
  }, [fleet.membership, meant.set, sorted, moving]);

  const counts = fleet.counts;
  const shown = meant.set === null ? count(fleet.devices.size, "device") : `${count(keys.length, "device")} of ${fleet.devices.size}`;
  const nothing = !fleet.loaded && !fleet.problem ? "Asking the hub…"
    : meant.problem ? "This target cannot be shown."
    : fleet.devices.size ? "No device is meant by this target." : "No device has been seen yet. Start one: outrider-device run --id lamp-1";
  return html`<section class="fill">
    <div class="head"><${Title} focus=${false}>Devices<//>
      ${session.may("send") && html`<a class="button primary" href=${to(["send"], { target: typed })}>Send a command</a>`}</div>
    <div class="filter">
      <label for="target">Target</label>
      <input id="target" type="search" value=${typed} placeholder="all, lamp-*, @kitchen, room=kitchen and is:ready" autocomplete="off" autocapitalize="off" spellcheck="false"
        aria-describedby="shown" aria-invalid=${meant.problem ? "true" : undefined} onInput=${(event) => type(event.target.value)} />
      <div class="chips" role="group" aria-label="Statuses">${STATUSES.filter((status) => counts[status]).map((status) => {
        const own = `is:${status}`;
        return html`<button type="button" class="chip" aria-pressed=${typed.trim() === own ? "true" : "false"} onClick=${() => type(typed.trim() === own ? "" : own)}>
          <${Status} word=${status} /> ${counts[status].toLocaleString()}</button>`;
      })}</div>
    </div>
    <p id="shown" class="quiet" role="status">${shown}</p>
    <${Failure} problem=${meant.problem ?? fleet.problem} again=${fleet.problem ? () => fleet.load() : undefined} />
    <${Table} label="Devices" columns=${COLUMNS} keys=${keys} sorted=${sorted} onSort=${setSorted} empty=${nothing} />
  </section>`;
}
