// One device: how it is, what it can do, what it does now, and what it did.

import { html, useEffect, useRef, useState } from "./html.js";
import { get, path, post, session } from "./api.js";
import { fleet } from "./fleet.js";
import { Following } from "./following.js";
import { args as argsOf, duration, fullTime, value as written } from "./format.js";
import { Jobs } from "./jobs.js";
import { Outcome } from "./outcome.js";
import { Older, usePages } from "./pages.js";
import { Empty, Failure, Status, Time, Title, Twice, useLoaded } from "./parts.js";
import { to } from "./route.js";
import { Run } from "./run.js";
import { useStore } from "./store.js";

const COMMON = ["start", "stop", "terminate", "cancel", "jobs", "result", "about", "stats"];
const KEPT = 5;

/** The view `#/devices/<id>`. */
export function Device({ id }) {
  useStore(fleet);
  const state = fleet.devices.get(id);
  const about = useLoaded((signal) => get(path("devices", id, "about"), {}, signal), [id, state?.about]);
  if (!state) {
    return html`<section><p class="crumbs"><a href=${to(["devices"])}>Devices</a></p><${Title}>${id}<//>${fleet.loaded ? html`<${Empty}>The hub has not seen this device.<//>` : html`<${Empty}>Asking the hub…<//>`}</section>`;
  }
  const commands = Object.entries(about.value?.commands ?? {});
  const own = commands.filter(([name]) => !COMMON.includes(name));
  const common = commands.filter(([name]) => COMMON.includes(name));
  return html`<section>
    <p class="crumbs"><a href=${to(["devices"])}>Devices</a></p>
    <div class="head"><${Title}>${id}<//> <${Status} word=${state.status} /> <${Life} id=${id} /></div>
    <${Facts} state=${state} versions=${about.value?.versions ?? {}} />
    <div class="columns">
      <div>
        <h2>Commands</h2>
        <${Failure} problem=${about.problem} again=${about.again} />
        ${about.loading && !about.value && html`<${Empty}>Asking the hub…<//>`}
        ${own.map(([name, each]) => html`<${Command} key=${`${id}/${name}`} id=${id} name=${name} about=${each} />`)}
        ${common.length > 0 && html`<details class="group"><summary>Commands that every device has</summary>
          ${common.map(([name, each]) => html`<${Command} key=${`${id}/${name}`} id=${id} name=${name} about=${each} />`)}</details>`}
      </div>
      <div>
        <h2>Running now</h2><${Jobs} target=${id} />
        <h2>History</h2><${History} id=${id} />
        <h2>States</h2><${States} id=${id} />
      </div>
    </div>
  </section>`;
}

function Life({ id }) {
  const [following, setFollowing] = useState(null);
  const [problem, setProblem] = useState(null);
  useEffect(() => () => following?.close(), [following]);
  if (!session.may("send")) return null;
  const send = async (command) => {
    setProblem(null);
    try {
      setFollowing(new Following((await post("commands", { target: id, command })).id));
    } catch (error) {
      setProblem(error);
    }
  };
  return html`<div class="life">
    <button type="button" onClick=${() => send("start")}>Start</button>
    <button type="button" onClick=${() => send("stop")}>Stop</button>
    <${Twice} ask="End it for good?" onConfirm=${() => send("terminate")}>Terminate<//>
    <span aria-live="polite">${following && html`<${Said} following=${following} id=${id} />`}</span>
    <${Failure} problem=${problem} />
  </div>`;
}

function Said({ following, id }) {
  useStore(following);
  const outcome = following.outcomes.get(id);
  if (following.problem) return html`<span class="fault">${following.problem.message}</span>`;
  if (!outcome) return html`<span class="quiet">sent</span>`;
  return html`<span class="quiet">${following.info?.command}: </span><${Status} word=${outcome.status} /> ${outcome.error && html`<span class="fault">${outcome.error.message}</span>`}`;
}

function Facts({ state, versions }) {
  const tags = Object.entries(state.tags ?? {});
  const fact = (name, content) => html`<div><dt>${name}</dt><dd>${content}</dd></div>`;
  return html`<dl class="facts">
    ${fact("Since", html`<span title=${fullTime(state.since)}>${duration(Date.now() / 1000 - state.since)}</span>`)}
    ${fact("Groups", state.groups?.length ? state.groups.map((group) => html`<a class="tag" href=${to(["devices"], { target: `@${group}` })}>${group}</a> `) : "none")}
    ${state.pools?.length > 0 && fact("Pools", state.pools.map((pool) => html`<span class="tag">${pool}</span> `))}
    ${fact("Tags", tags.length ? tags.map(([name, each]) => html`<span class="tag">${name}=${written(each)}</span> `) : "none")}
    ${Object.keys(versions).length > 0 && fact("Versions", Object.entries(versions).map(([name, each]) => html`<span class="tag">${name} ${written(each)}</span> `))}
    ${fact("Session", html`<span class="code">${state.session}</span>`)}
  </dl>`;
}

function Command({ id, name, about }) {
  const [open, setOpen] = useState(false);
  const [sent, setSent] = useState([]);
  const all = useRef([]);
  useEffect(() => () => all.current.forEach((each) => each.close()), []);
  const follow = ({ id: given }) => {
    const following = new Following(given);
    all.current.push(following);
    setSent((before) => [following, ...before].slice(0, KEPT));
  };
  const [first = "", ...rest] = String(about.help ?? "").split("\n");
  const more = rest.join("\n").trim();
  return html`<details class="command" onToggle=${({ target }) => setOpen(target.open)}>
    <summary><span class="name">${name}</span> <span class="quiet">${first}</span></summary>
    ${open && html`<div class="body">
      ${more && html`<p class="help lines">${more}</p>`}
      <${Run} target=${id} command=${name} about=${about} onSent=${follow} />
      <div aria-live="polite" aria-label=${`Outcomes of ${name}`}>${sent.map((following) => html`<${Followed} key=${following.id} following=${following} id=${id} />`)}</div>
    </div>`}
  </details>`;
}

function Followed({ following, id }) {
  useStore(following);
  const outcome = following.outcomes.get(id);
  const [problem, setProblem] = useState(null);
  return html`<div class="followed">
    <div class="line"><a class="code" href=${to(["commands", following.id])}>${following.id.slice(0, 8)}</a>
      ${!following.ended && session.may("send") && html`<button type="button" class="small" onClick=${() => following.cancel().catch(setProblem)}>Cancel</button>`}</div>
    <${Failure} problem=${problem ?? following.problem} />
    ${outcome ? html`<${Outcome} outcome=${outcome} label=${following.info?.command ?? following.id} />` : html`<${Status} word="sent" />`}
  </div>`;
}

function History({ id }) {
  const commands = usePages("commands", { device: id }, { type: "command", mine: (record) => record.device === id, limit: 20 });
  const results = usePages("results", { device: id }, { type: "result", mine: (record) => record.device === id, limit: 100 });
  const answers = new Map(results.items.map((result) => [`${result.requester} ${result.id}`, result]));
  // What the hub asks on its own, as the jobs beside this, is in the audit log.
  const asked = commands.items.filter(({ requester, behalf }) => behalf || requester !== session.hub);
  if (commands.problem) return html`<${Failure} problem=${commands.problem} again=${commands.again} />`;
  if (asked.length === 0) return html`<${Empty}>${commands.loading ? "Asking the hub…" : "Nothing has been asked of it, as far as the hub has heard."}<//><${Older} list=${commands} />`;
  return html`<div class="scroll"><table class="plain" aria-label=${`History of ${id}`}>
    <thead><tr><th scope="col">When</th><th scope="col">Command</th><th scope="col" class="wide">By</th><th scope="col">Outcome</th></tr></thead>
    <tbody>${asked.map((each) => {
      const result = answers.get(`${each.requester} ${each.id}`);
      return html`<tr key=${each.seq || each.id}>
        <td><${Time} at=${each.received} /></td>
        <td><a href=${to(["commands", each.id])}>${each.command}</a> <span class="quiet clip">${argsOf(each.args)}</span></td>
        <td class="wide"><span class="clip" title=${each.behalf || each.requester}>${each.behalf || each.requester || "by hand"}</span></td>
        <td>${result ? html`<${Status} word=${result.status} />` : html`<span class="quiet">none yet</span>`}</td></tr>`;
    })}</tbody></table></div><${Older} list=${commands} />`;
}

function States({ id }) {
  const states = usePages(path("devices", id, "states"), {}, { type: "state", mine: (record) => record.device === id, limit: 10 });
  if (states.problem) return html`<${Failure} problem=${states.problem} again=${states.again} />`;
  return html`<ol class="timeline">${states.items.map((each) => html`<li key=${each.seq || `${each.session} ${each.since} ${each.status}`}>
    <${Status} word=${each.status} /> <${Time} at=${each.since} /></li>`)}</ol><${Older} list=${states} />`;
}
