// The audit log: every command that was seen on the broker, whoever sent it.

import { html, useState } from "./html.js";
import { args as argsOf } from "./format.js";
import { Older, usePages } from "./pages.js";
import { Empty, Failure, Time, Title, useRested } from "./parts.js";
import { amend, route, to } from "./route.js";
import { session } from "./api.js";

const FIELDS = { device: "Device", command: "Command", requester: "Requester", behalf: "On behalf of" };

/** The view `#/audit`. */
export function Audit() {
  const { query } = route.here;
  const [asked, setAsked] = useState(() => Object.fromEntries(Object.keys(FIELDS).map((name) => [name, query.get(name) ?? ""])));
  const given = useRested(asked);
  const fits = (record) => Object.entries(given).every(([name, value]) => !value || record[name] === value);
  const list = usePages("commands", given, { type: "command", mine: fits });
  const type = (name) => (event) => {
    const next = { ...asked, [name]: event.target.value.trim() };
    setAsked(next);
    amend(next);
  };
  return html`<section>
    <${Title}>Audit log<//>
    <p class="quiet">${session.may("audit") ? "Every command that the hub has heard on the broker, also those sent without it." : "The commands sent with your token."}</p>
    <div class="grid filters">${Object.entries(FIELDS).map(([name, label]) => html`<div class="field"><label for=${`audit-${name}`}>${label}</label>
      <input id=${`audit-${name}`} type="search" value=${asked[name]} autocomplete="off" autocapitalize="off" spellcheck="false" onInput=${type(name)} /></div>`)}</div>
    <${Failure} problem=${list.problem} again=${list.again} />
    ${!list.items.length && !list.problem && html`<${Empty}>${list.loading ? "Asking the hub…" : "No such command."}<//>`}
    ${list.items.length > 0 && html`<div class="scroll"><table class="plain" aria-label="Commands">
      <thead><tr><th scope="col">When</th><th scope="col">Who</th><th scope="col">To</th><th scope="col">Command</th></tr></thead>
      <tbody>${list.items.map((each) => html`<tr key=${each.seq || `${each.id} ${each.device ?? each.group} ${each.received}`}>
        <td><${Time} at=${each.received} /></td>
        <td>${each.behalf ? html`${each.behalf} <span class="quiet">by ${each.requester}</span>` : each.requester || html`<span class="quiet">by hand</span>`}</td>
        <td>${each.device ? html`<a class="clip" title=${each.device} href=${to(["devices", each.device])}>${each.device}</a>`
          : html`<a href=${to(["devices"], { target: each.group === "all" ? "all" : `@${each.group}` })}>${each.group === "all" ? "all" : `@${each.group}`}</a>`}</td>
        <td>${each.id ? html`<a href=${to(["commands", each.id])}>${each.command}</a>` : each.command} <span class="quiet clip" title=${argsOf(each.args)}>${argsOf(each.args)}</span></td>
      </tr>`)}</tbody></table></div>`}
    <${Older} list=${list} />
  </section>`;
}
