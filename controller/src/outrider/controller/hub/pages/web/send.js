// Sends a command to a target: whom it means, what they can do, and how it goes out.

import { html, useEffect, useMemo, useState } from "./html.js";
import { get, path, Problem } from "./api.js";
import { fleet } from "./fleet.js";
import { count } from "./format.js";
import { Failure, Status, Title } from "./parts.js";
import { amend, go, route, to } from "./route.js";
import { Run } from "./run.js";
import { useTarget } from "./devices.js";
import { useStore } from "./store.js";

const PREVIEWED = 24;
const KINDS = 50;
const ROLLOUT = { batch: "1,10%,50%", pause: "", abort: "10%", settle: "", cancel: false };

/** The view `#/send`. */
export function Send() {
  useStore(fleet);
  const { query } = route.here;
  const [target, setTarget] = useState(query.get("target") ?? "");
  const [command, setCommand] = useState(query.get("command") ?? "");
  const [way, setWay] = useState("at once");
  const [plan, setPlan] = useState(ROLLOUT);
  const [options, setOptions] = useState({ ifOffline: "", expires: "", timeout: "" });
  const meant = useTarget(target);
  const known = useCommands(meant.found?.devices ?? []);
  const about = known.commands.get(command);
  const change = (set, name) => (event) => set((before) => ({ ...before, [name]: event.target.type === "checkbox" ? event.target.checked : event.target.value }));

  useEffect(() => amend({ target, command }), [target, command]);

  const more = () => ({
    ...(options.ifOffline ? { if_offline: options.ifOffline } : {}),
    ...(options.expires ? { expires: seconds(options.expires, "May start within") } : {}),
    ...(options.timeout ? { timeout: seconds(options.timeout, "May run for") } : {}),
    ...(way === "batches" ? { plan: {
      batch: plan.batch,
      ...(plan.pause ? { pause: seconds(plan.pause, "Pause") } : {}),
      ...(plan.abort ? { abort_on_failure: plan.abort } : {}),
      ...(plan.settle ? { settle: seconds(plan.settle, "Wait for the silent") } : {}),
      ...(plan.cancel ? { cancel_on_abort: true } : {}),
    } } : {}),
  });

  const size = meant.found?.pool ? "one member" : count(meant.found?.count ?? 0, "device");
  const field = (id, label, control, help) => html`<div class="field"><label for=${id}>${label}</label>${control}${help && html`<p class="help quiet">${help}</p>`}</div>`;
  return html`<section>
    <${Title}>Send a command<//>
    <div class="columns">
      <div class="form">
        ${field("send-target", "Target", html`<input id="send-target" type="search" value=${target} placeholder="lamp-1, lamp-*, @kitchen, room=kitchen, any:words, all" autocomplete="off" autocapitalize="off"
            spellcheck="false" aria-describedby="meant" aria-invalid=${meant.problem ? "true" : undefined} onInput=${(event) => setTarget(event.target.value)} />`)}
        <${Failure} problem=${meant.problem} />
        ${field("send-command", "Command", html`<select id="send-command" value=${command} disabled=${!known.commands.size} onChange=${(event) => setCommand(event.target.value)}>
            <option value="">${known.commands.size ? "choose…" : meant.found ? "asking the devices…" : "first a target"}</option>
            ${[...known.commands].map(([name, { have }]) => html`<option value=${name}>${name}${have < known.all ? ` (${have} of ${known.all})` : ""}</option>`)}</select>`)}
        <${Failure} problem=${known.problem} />
        ${about && html`
          <p class="help lines">${about.help}</p>
          ${about.have < known.all && html`<p class="note warn">${count(known.all - about.have, "device")} of these cannot do it and will reject it.</p>`}
          ${about.differ && html`<p class="note warn">Devices of different kinds take it differently; the form is that of ${about.device}.</p>`}
          <${Run} key=${`${command} ${about.digest}`} target=${target.trim()} command=${command} about=${about} more=${more} ready=${Boolean(meant.found)}
            label=${`Send to ${size}`} onSent=${({ id }) => go(["commands", id])}>
            <fieldset class="field"><legend>How it goes out</legend>
              <label class="switch"><input type="radio" name="way" checked=${way === "at once"} onChange=${() => setWay("at once")} /> to all at once</label>
              <label class="switch"><input type="radio" name="way" checked=${way === "batches"} disabled=${Boolean(meant.found?.pool)} onChange=${() => setWay("batches")} /> as a rollout, in batches</label>
              ${way === "batches" && html`<div class="grid">
                ${field("plan-batch", "Batches", html`<input id="plan-batch" value=${plan.batch} onInput=${change(setPlan, "batch")} />`, "the size of each; the last one repeats")}
                ${field("plan-abort", "Abort after failures", html`<input id="plan-abort" value=${plan.abort} onInput=${change(setPlan, "abort")} />`, "a number, or a percentage of those judged")}
                ${field("plan-pause", "Pause, seconds", html`<input id="plan-pause" inputmode="decimal" value=${plan.pause} onInput=${change(setPlan, "pause")} placeholder="0" />`)}
                ${field("plan-settle", "Wait for the silent, seconds", html`<input id="plan-settle" inputmode="decimal" value=${plan.settle} onInput=${change(setPlan, "settle")} placeholder="30" />`)}
                <label class="switch"><input type="checkbox" checked=${plan.cancel} onChange=${change(setPlan, "cancel")} /> an abort also cancels what runs</label>
              </div>`}
            </fieldset>
            <details class="group"><summary>More options</summary><div class="grid">
              ${field("if-offline", "A device that is away", html`<select id="if-offline" value=${options.ifOffline} onChange=${change(setOptions, "ifOffline")}>
                <option value="">gets it when it is back</option><option value="queue">gets it, even if never seen</option><option value="fail">gets nothing: offline</option></select>`)}
              ${field("expires", "May start within, seconds", html`<input id="expires" inputmode="decimal" value=${options.expires} onInput=${change(setOptions, "expires")} placeholder="30" />`)}
              ${field("timeout", "May run for, seconds", html`<input id="timeout" inputmode="decimal" value=${options.timeout} onInput=${change(setOptions, "timeout")} placeholder="as the command says" />`)}
            </div></details>
          <//>`}
      </div>
      <${Preview} meant=${meant} />
    </div>
  </section>`;
}

function seconds(text, label) {
  const number = Number(text);
  if (!text.trim() || !Number.isFinite(number) || number < 0) throw new Problem(0, { detail: `Nothing was sent: “${label}” takes a number of seconds, and “${text}” is none.` });
  return number;
}

/** Whom a target means, beside a form. */
export function Preview({ meant }) {
  const { found } = meant;
  const words = !found ? (meant.problem ? "This target cannot be read, or means nobody." : "Name a target to see whom it means.")
    : found.pool ? `One ready member of the pool ${found.pool} gets it.`
    : `${count(found.count, "device")}: ${Object.entries(found.statuses ?? {}).map(([status, number]) => `${number} ${status}`).join(", ")}`;
  return html`<aside class="card" aria-labelledby="preview-title">
    <h2 id="preview-title">Whom it means</h2>
    <p id="meant" role="status">${words}</p>
    ${found && html`<ul class="preview">${found.devices.slice(0, PREVIEWED).map((id) => html`<li key=${id}>
      <a href=${to(["devices", id])}>${id}</a> <${Status} word=${fleet.devices.get(id)?.status ?? "unknown"} /></li>`)}</ul>
      ${found.devices.length > PREVIEWED && html`<p><a href=${to(["devices"], { target: found.target })}>and ${count(found.devices.length - PREVIEWED, "more device")}</a></p>`}`}
  </aside>`;
}

/** What the devices can do: each kind of device, as told by its digest, is asked for once. */
function useCommands(devices) {
  const [abouts, setAbouts] = useState(new Map());
  const [problem, setProblem] = useState(null);
  const kinds = useMemo(() => {
    const found = new Map();
    for (const id of devices) {
      const digest = fleet.devices.get(id)?.about;
      if (!digest) continue;
      if (!found.has(digest)) found.set(digest, { device: id, number: 0 });
      found.get(digest).number += 1;
    }
    return found;
  }, [devices, fleet.membership]);
  const asked = [...kinds.keys()].slice(0, KINDS).sort().join(" ");

  useEffect(() => {
    let ended = false;
    const missing = asked.split(" ").filter((digest) => digest && !abouts.has(digest));
    Promise.allSettled(missing.map((digest) => get(path("devices", kinds.get(digest).device, "about")))).then((answers) => {
      if (ended) return;
      const next = new Map(abouts);
      answers.forEach(({ value }, index) => value && next.set(missing[index], value));
      if (missing.length) setAbouts(next);
      setProblem(answers.length && answers.every(({ reason }) => reason) ? answers[0].reason : null);
    });
    return () => {
      ended = true;
    };
  }, [asked]);

  return useMemo(() => {
    const commands = new Map();
    let all = 0;
    for (const [digest, { device, number }] of kinds) {
      all += number;
      for (const [name, about] of Object.entries(abouts.get(digest)?.commands ?? {})) {
        const before = commands.get(name);
        if (!before) commands.set(name, { ...about, have: number, differ: false, device, digest });
        else {
          before.have += number;
          before.differ ||= JSON.stringify(before.arguments) !== JSON.stringify(about.arguments);
        }
      }
    }
    return { commands: new Map([...commands].sort(([one], [other]) => one.localeCompare(other))), all, problem };
  }, [abouts, kinds, problem]);
}
