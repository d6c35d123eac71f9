// The page: what surrounds every view, signing in, and which view is shown.

import { html, render, useEffect, useErrorBoundary, useState } from "./html.js";
import { get, session } from "./api.js";
import { Audit } from "./audit.js";
import { Command } from "./command.js";
import { Device } from "./device.js";
import { Devices } from "./devices.js";
import { Events } from "./events.js";
import { time } from "./format.js";
import { live } from "./live.js";
import { Rollouts } from "./rollouts.js";
import { route, to } from "./route.js";
import { Scripts } from "./scripts.js";
import { Send } from "./send.js";
import { useStore } from "./store.js";

const VIEWS = { devices: "Devices", send: "Send", scripts: "Scripts", rollouts: "Rollouts", events: "Events", audit: "Audit" };

function Page() {
  useStore(session);
  useStore(route);
  const { parts } = route.here;
  const place = parts[0] ?? "devices";
  useEffect(() => {
    document.title = `${parts[1] ?? VIEWS[place] ?? "outrider"} · outrider`;
  }, [parts.join("/")]);
  useEffect(() => {
    live.start();
    if (!session.needed) session.meet().catch(() => {}); // the stream says what is wrong
  }, [session.token, session.needed]);
  return html`
    <a class="skip" href="#main" onClick=${(event) => {
      event.preventDefault();
      document.querySelector("main").focus();
    }}>To the content</a>
    <header>
      <a class="brand" href=${to(["devices"])}><span class="mark" aria-hidden="true"></span>outrider</a>
      ${!session.needed && html`<nav aria-label="Views">${Object.entries(VIEWS).map(([name, title]) => html`
        <a href=${to([name])} aria-current=${name === place ? "page" : undefined}>${title}</a>`)}</nav>`}
      <div class="who"><${Connection} />
        ${session.token && html`<span class="quiet">${session.name}</span><button type="button" class="small" onClick=${() => session.signOut()}>Sign out</button>`}</div>
    </header>
    <${Away} />
    <main id="main" tabindex="-1">${session.needed ? html`<${SignIn} />` : html`<${Guarded} key=${route.visits} parts=${parts} />`}</main>`;
}

function View({ parts: [view = "devices", id] }) {
  switch (view) {
    case "devices": return id ? html`<${Device} id=${id} />` : html`<${Devices} />`;
    case "send": return html`<${Send} />`;
    case "scripts": return html`<${Scripts} />`;
    case "rollouts": return html`<${Rollouts} />`;
    case "events": return html`<${Events} />`;
    case "audit": return html`<${Audit} />`;
    case "commands": return id ? html`<${Command} id=${id} />` : html`<${Audit} />`;
    default: return html`<section><h1>There is nothing here</h1><p><a href=${to(["devices"])}>To the devices</a></p></section>`;
  }
}

/** A view, and what stands in its place when it fails: the others still work then. */
function Guarded({ parts }) {
  const [error, forget] = useErrorBoundary((caught) => console.error(caught));
  if (error) {
    return html`<section><h1>This view failed</h1><p class="note bad" role="alert">${String(error.message ?? error)}</p>
      <button type="button" onClick=${forget}>Show it again</button></section>`;
  }
  return html`<${View} parts=${parts} />`;
}

function Connection() {
  useStore(live);
  const words = { open: "live", connecting: "connecting", away: "hub away", paused: "paused" };
  return html`<span class=${`connection ${live.state}`} role="status">${words[live.state]}</span>`;
}

function Away() {
  useStore(live);
  if (live.state !== "away" || session.needed) return null;
  return html`<div class="away" role="alert"><span>The hub is away: ${live.why}. What you see is from ${time(live.since / 1000)}; it goes on by itself when the hub is back.</span>
    <button type="button" class="small" onClick=${() => live.again()}>Try now</button></div>`;
}

function SignIn() {
  const [token, setToken] = useState("");
  const [problem, setProblem] = useState(null);
  const [asking, setAsking] = useState(false);
  const enter = async (event) => {
    event.preventDefault();
    setAsking(true);
    setProblem(null);
    session.signIn(token.trim());
    try {
      await get("me");
    } catch (error) {
      if (error.status !== 401) setProblem(error); // else this form is shown again, and says so
    }
    setAsking(false);
  };
  const refused = session.refused ? "The hub does not know this token, or it has expired." : problem?.message;
  return html`<section class="signin"><form class="card" onSubmit=${enter}>
    <h1>Sign in</h1>
    <p class="quiet">This hub asks for a token. Whoever runs it makes one with <code>outrider hub token add NAME --scope send</code>. It is kept until this tab is closed.</p>
    <div class="field"><label for="token">Token</label>
      <input id="token" type="password" autocomplete="current-password" spellcheck="false" required value=${token} aria-invalid=${refused ? "true" : undefined}
        aria-describedby=${refused ? "refused" : undefined} onInput=${(event) => setToken(event.target.value)} ref=${(element) => element && !element.dataset.seen && (element.dataset.seen = "1", element.focus())} /></div>
    ${refused && html`<p class="fault" id="refused" role="alert">${refused}</p>`}
    <div class="actions"><button type="submit" class="primary" disabled=${asking || !token.trim()}>Sign in</button></div>
  </form></section>`;
}

render(html`<${Page} />`, document.getElementById("page"));
