// Runs a script on devices that allow it: paste or choose it, say for whom it is, and watch what it writes.

import { html, useEffect, useMemo, useRef, useState } from "./html.js";
import { Once, Problem, session } from "./api.js";
import { useTarget } from "./devices.js";
import { Following, isOpen } from "./following.js";
import { count, duration } from "./format.js";
import { Output } from "./outcome.js";
import { Empty, Failure, Status, Title, Twice } from "./parts.js";
import { amend, route, to } from "./route.js";
import { Preview } from "./send.js";
import { useStore } from "./store.js";

const POOL = "any:scripts";
const MIB = 1024 * 1024;
const FEW = 3; // devices whose output is open without being asked for
const SHOWN = 100;
const LIMITS = { timeout: "", memory: "", cpu: "", processes: "" };

/** The view `#/scripts`. */
export function Scripts() {
  const { query } = route.here;
  const [id, setId] = useState(query.get("id") ?? "");
  const [target, setTarget] = useState(query.get("target") ?? POOL);
  const meant = useTarget(target);

  useEffect(() => amend({ target: target === POOL ? "" : target, id }), [target, id]);

  return html`<section>
    <${Title}>Run a script<//>
    <div class="columns">
      ${session.may("send") ? html`<${Form} target=${target} onTarget=${setTarget} meant=${meant} onSent=${setId} />` : html`<p class="quiet">This view needs a token with the scope send. One with scripts alone sends to /run-json and asks /status.</p>`}
      <div><${Preview} meant=${meant} />${id && html`<${Watched} key=${id} id=${id} />`}</div>
    </div>
  </section>`;
}

/** What is to be run, and how. */
function Form({ target, onTarget, meant, onSent }) {
  const [files, setFiles] = useState([{ name: "script.py", text: "" }]);
  const [shown, setShown] = useState(0);
  const [main, setMain] = useState("script.py");
  const [words, setWords] = useState({ args: "", packages: "", stdin: "" });
  const [infer, setInfer] = useState(true);
  const [limits, setLimits] = useState(LIMITS);
  const [problem, setProblem] = useState(null);
  const [sending, setSending] = useState(false);
  const once = useRef(new Once());
  const file = files[Math.min(shown, files.length - 1)];
  const change = (set, name) => ({ target: { value } }) => set((before) => ({ ...before, [name]: value }));
  const edit = (changed) => setFiles((before) => before.map((each) => each === file ? { ...each, ...changed } : each));

  const choose = async ({ target: chooser }) => {
    setProblem(null);
    try {
      const read = await Promise.all([...chooser.files].map(async (each) => ({ name: each.name, text: await textOf(each) })));
      if (!read.length) return;
      setFiles(read);
      setShown(0);
      setMain(read.find(({ name }) => name === "main.py")?.name ?? read[0].name);
    } catch (error) {
      setProblem(error);
    }
    chooser.value = ""; // so that the same file can be chosen again once it has changed
  };

  const rename = ({ target: { value } }) => {
    if (main === file.name) setMain(value);
    edit({ name: value });
  };

  const send = async (event) => {
    event.preventDefault();
    setProblem(null);
    setSending(true);
    try {
      const { id } = await once.current.post("commands", bodyOf({ target, files, main, words, infer, limits }));
      onSent(id);
    } catch (error) {
      setProblem(error);
    } finally {
      setSending(false);
    }
  };

  const field = (id, label, control, help) => html`<div class="field"><label for=${id}>${label}</label>${control}${help && html`<p class="help quiet" id=${`${id}-help`}>${help}</p>`}</div>`;
  const number = (name, label, placeholder) => field(`limit-${name}`, label, html`<input id=${`limit-${name}`} inputmode="decimal" autocomplete="off"
    value=${limits[name]} placeholder=${placeholder} onInput=${change(setLimits, name)} />`);
  const size = meant.found?.pool ? "one member" : count(meant.found?.count ?? 0, "device");
  const empty = meant.problem?.code === "no-member" && target.trim() === POOL;
  return html`<form onSubmit=${send} noValidate aria-label="Run a script">
    <div class="grid">
      ${field("script-files", "Files", html`<input id="script-files" type="file" accept=".py,text/x-python" multiple onChange=${choose} />`, "or paste a script below")}
      ${field("script-name", "Name", html`<input id="script-name" value=${file.name} spellcheck="false" autocapitalize="off" autocomplete="off" onInput=${rename} />`)}
    </div>
    ${files.length > 1 && html`<div class="field"><div class="chips" role="group" aria-label="Files">${files.map((each, at) => html`<button type="button" class="chip"
        aria-pressed=${each === file ? "true" : "false"} onClick=${() => setShown(at)}>${each.name}</button>`)}</div></div>
      ${field("script-main", "Which is run", html`<select id="script-main" value=${main} onChange=${({ target: { value } }) => setMain(value)}>
        ${files.map(({ name }) => html`<option value=${name}>${name}</option>`)}</select>`)}`}
    ${field("script-code", "Script", html`<textarea id="script-code" class="code editor" rows="12" spellcheck="false" autocapitalize="off" autocomplete="off"
      placeholder="print('hello')" value=${file.text} onInput=${({ target: { value } }) => edit({ text: value })}></textarea>`)}
    ${field("script-target", "Target", html`<input id="script-target" type="search" value=${target} spellcheck="false" autocapitalize="off" autocomplete="off"
      aria-describedby="meant" aria-invalid=${meant.problem ? "true" : undefined} onInput=${({ target: { value } }) => onTarget(value)} />`)}
    ${empty ? html`<p class="note warn" role="alert">The pool scripts has no ready device: start one with <code>outrider-device run --allow-scripts --ready</code>.</p>` : html`<${Failure} problem=${meant.problem} />`}
    <div class="grid">
      ${field("script-args", "Arguments", html`<textarea id="script-args" class="code" rows="2" spellcheck="false" aria-describedby="script-args-help" value=${words.args}
        onInput=${change(setWords, "args")}></textarea>`, "one on each line")}
      ${field("script-packages", "Packages", html`<textarea id="script-packages" class="code" rows="2" spellcheck="false" aria-describedby="script-packages-help" value=${words.packages}
        onInput=${change(setWords, "packages")}></textarea>`, "one on each line, as httpx>=0.27")}
    </div>
    <label class="switch"><input type="checkbox" checked=${infer} onChange=${({ target: { checked } }) => setInfer(checked)} /> install what it imports</label>
    <details class="group"><summary>Limits and input</summary>
      <div class="grid">
        ${number("timeout", "Time, seconds", "as the device says")}
        ${number("memory", "Memory, MiB", "256")}
        ${number("cpu", "Processor time, seconds", "60")}
        ${number("processes", "Processes", "64")}
      </div>
      ${field("script-stdin", "Standard input", html`<textarea id="script-stdin" class="code" rows="2" spellcheck="false" value=${words.stdin} onInput=${change(setWords, "stdin")}></textarea>`)}
    </details>
    <${Failure} problem=${problem} />
    <div class="actions"><button type="submit" class="primary" disabled=${sending || !meant.found}>Run on ${size}</button></div>
  </form>`;
}

/** The command that runs it. */
function bodyOf({ target, files, main, words, infer, limits }) {
  if (files.every(({ text }) => !text.trim())) throw refused("There is no script: paste one, or choose a file.");
  const names = new Set(files.map(({ name }) => name));
  if (names.size < files.length) throw refused("Two files have the same name.");
  const code = files.length === 1 ? { source: files[0].text } : { files: Object.fromEntries(files.map(({ name, text }) => [name, text])) };
  const given = {
    memory: number(limits.memory, "Memory") && Math.round(number(limits.memory, "Memory") * MIB),
    cpu: number(limits.cpu, "Processor time"),
    processes: number(limits.processes, "Processes"),
  };
  const some = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  return {
    target: target.trim(),
    command: "run_script",
    args: {
      ...code,
      main,
      args: lines(words.args),
      requirements: lines(words.packages).map((each) => each.trim()),
      infer_requirements: infer,
      stdin: words.stdin,
      ...(Object.keys(some).length ? { limits: some } : {}),
    },
    ...(limits.timeout.trim() ? { timeout: number(limits.timeout, "Time") } : {}),
  };
}

const refused = (detail) => new Problem(0, { detail: `Nothing was sent. ${detail}` });

const lines = (text) => text.split("\n").filter((line) => line.trim() !== "");

function number(text, label) {
  if (!text.trim()) return undefined;
  const value = Number(text);
  if (!Number.isFinite(value) || value <= 0) throw refused(`“${label}” takes a number above 0, and “${text}” is none.`);
  return value;
}

async function textOf(file) {
  if (file.size > MIB) throw refused(`${file.name} is too large.`);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
  } catch {
    throw refused(`${file.name} is not UTF-8.`);
  }
}

/** A script that was sent: what it writes on each device, and how it ends there. */
function Watched({ id }) {
  const following = useMemo(() => new Following(id), [id]);
  const [problem, setProblem] = useState(null);
  const heading = useRef(null);
  useEffect(() => () => following.close(), [following]);
  useEffect(() => heading.current?.scrollIntoView({ block: "nearest" }), []);
  useStore(following);
  const { info, devices } = following;
  const open = devices.filter((device) => isOpen(following.outcomes.get(device).status)).length;
  return html`<div class="runs">
    <div class="head"><h2 ref=${heading}>Output</h2>
      ${info && html`<span class="quiet" role="status">${open ? `${count(open, "device")} of ${devices.length} still at it` : devices.length ? "ended" : "sent"}</span>
        <a href=${to(["commands", id])}>the command</a>`}
      ${info && !info.ended && (open || !devices.length) && session.mayCancel(info) && html`<${Twice} ask="End it wherever it runs?" onConfirm=${() => following.cancel().catch(setProblem)}>Cancel<//>`}</div>
    <${Failure} problem=${problem ?? following.problem} again=${following.problem ? () => following.look(true) : undefined} />
    ${!info && !following.problem && html`<${Empty}>Asking the hub…<//>`}
    ${devices.slice(0, SHOWN).map((device) => html`<${OnDevice} key=${device} device=${device} following=${following} few=${devices.length <= FEW} />`)}
    ${devices.length > SHOWN && html`<p><a href=${to(["commands", id])}>and ${count(devices.length - SHOWN, "more device")}</a></p>`}
  </div>`;
}

function OnDevice({ device, following, few }) {
  const { status, value, error, started, finished, output } = following.outcomes.get(device);
  const ended = status === "done" && value !== null && typeof value === "object" ? value : null;
  const word = ended && (ended.exit_code !== 0 || ended.killed_by) ? "crashed" : status;
  const facts = ended ? [`exit code ${ended.exit_code}`, ended.killed_by && `ended by ${ended.killed_by}`, duration(ended.duration),
    ended.peak_memory > 0 && `${Math.ceil(ended.peak_memory / MIB)} MiB`]
    : [Number.isFinite(started) && Number.isFinite(finished) && duration(finished - started)];
  const written = output?.length ? output : result(ended);
  return html`<details class="command" open=${few} onToggle=${({ target }) => target.open && following.outputOf(device).catch(() => {})}>
    <summary><span class="name">${device}</span> <${Status} word=${word} /> <span class="quiet">${facts.filter(Boolean).join(", ")}</span></summary>
    <div class="body">
      ${error && html`<p class=${isOpen(status) ? "quiet" : "fault"}>${error.message || error.code}</p>`}
      ${written.length ? html`<${Output} output=${written} label=${`Output of ${device}`} />` : html`<${Empty}>${isOpen(status) ? "It has written nothing yet." : "It wrote nothing."}<//>`}
    </div>
  </details>`;
}

/** What a result holds of the output, for one whose output was not recorded. */
function result(ended) {
  if (!ended) return [];
  const parts = [["stdout", ended.stdout], ["stderr", ended.stderr]];
  return parts.filter(([, data]) => typeof data === "string" && data).map(([stream, data], number) => ({ number, stream, data }));
}
