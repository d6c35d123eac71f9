// What devices tell of their own accord: how often over time, summed up exactly, and one by one.

import { html, useEffect, useMemo, useState } from "./html.js";
import { get } from "./api.js";
import { Chart, colour } from "./chart.js";
import { count, value as written } from "./format.js";
import { live } from "./live.js";
import { Older, usePages } from "./pages.js";
import { Empty, Failure, Time, Title, useLoaded, useRested } from "./parts.js";
import { amend, route, to } from "./route.js";

// `level` is what the hub keeps counts for, `step` how wide a step of the line is.
const RANGES = {
  "10 minutes": { seconds: 600, level: 1, step: 10, words: "10 seconds" },
  "1 hour": { seconds: 3600, level: 60, step: 60, words: "minute" },
  "1 day": { seconds: 86_400, level: 60, step: 1800, words: "half hour" },
  "30 days": { seconds: 30 * 86_400, level: 3600, step: 86_400, words: "day" },
};
const LINES = 7;
const AGAIN = 1000;

/** The view `#/events`. */
export function Events() {
  const { query } = route.here;
  const names = useLoaded((signal) => get("events/names", {}, signal), []);
  const [name, setName] = useState(query.get("name") ?? "");
  const [key, setKey] = useState(query.get("key") ?? "");
  const [range, setRange] = useState(query.get("range") in RANGES ? query.get("range") : "10 minutes");
  const known = names.value?.items ?? [];
  const chosen = name || known[0] || "";
  const rested = useRested(key.trim());

  useEffect(() => live.on("event", (record) => !known.includes(record.name) && names.again()), [names.value]);
  useEffect(() => amend({ name, key, range: range === "10 minutes" ? "" : range }), [name, key, range]);

  return html`<section>
    <${Title}>Events<//>
    <${Failure} problem=${names.problem} again=${names.again} />
    <div class="grid filters">
      <div class="field"><label for="event-name">Event</label><select id="event-name" value=${chosen} onChange=${(event) => setName(event.target.value)}>
        ${known.length === 0 && html`<option value="">none yet</option>`}${known.map((each) => html`<option value=${each}>${each}</option>`)}</select></div>
      <div class="field"><label for="event-key">Key</label><input id="event-key" type="search" value=${key} placeholder="all" autocomplete="off" autocapitalize="off" spellcheck="false"
        onInput=${(event) => setKey(event.target.value)} /></div>
      <div class="field"><label for="event-range">Range</label><select id="event-range" value=${range} onChange=${(event) => setRange(event.target.value)}>
        ${Object.keys(RANGES).map((each) => html`<option value=${each}>${each}</option>`)}</select></div>
    </div>
    ${chosen ? html`<${Counts} key=${`${chosen}/${rested}/${range}`} name=${chosen} wanted=${rested} range=${range} />
      <h2>Latest</h2><${Latest} name=${chosen} wanted=${rested} />`
      : html`<${Empty}>${names.loading ? "Asking the hub…" : "No device has told an event yet."}<//>`}
  </section>`;
}

function Counts({ name, wanted, range }) {
  const { seconds, level, step, words } = RANGES[range];
  const [buckets, setBuckets] = useState(null);
  const [summary, setSummary] = useState([]);
  const [problem, setProblem] = useState(null);
  const [now, setNow] = useState(() => Date.now() / 1000);

  useEffect(() => {
    let ended = false;
    let waiting = [];
    let timer = null;
    const load = async () => {
      const until = Date.now() / 1000;
      const about = { name, key: wanted, since: until - seconds };
      waiting = [];
      try {
        const [series, sums] = await Promise.all([
          get("events/series", { ...about, since: floor(about.since, step), until: floor(until, step) + step, step: level }),
          get("events/summary", about),
        ]);
        if (ended) return;
        const found = new Map();
        for (const { key, time, count: number } of series.items) add(found, key, floor(time, step), number);
        for (const record of waiting) add(found, record.key, floor(record.time, step), 1);
        setBuckets(found);
        setSummary(sums.items);
        setProblem(null);
        setNow(until);
      } catch (error) {
        if (!ended) setProblem(error);
      }
    };
    // What comes is drawn at once, and counted by the hub soon after: it drops repeats, and knows follow-ups.
    const ends = [
      live.on("fresh", load),
      live.on("event", (record) => {
        if (record.name !== name) {
          timer ??= setTimeout(() => { timer = null; load(); }, AGAIN); // it may follow up one of these
          return;
        }
        if (wanted && record.key !== wanted) return;
        waiting.push(record);
        setBuckets((before) => {
          const next = new Map([...(before ?? [])].map(([key, times]) => [key, new Map(times)]));
          add(next, record.key, floor(record.time, step), 1);
          return next;
        });
        timer ??= setTimeout(() => { timer = null; load(); }, AGAIN);
      }),
    ];
    const clock = setInterval(() => setNow(Date.now() / 1000), 1000);
    load();
    return () => {
      ended = true;
      clearTimeout(timer);
      clearInterval(clock);
      for (const end of ends) end();
    };
  }, []);

  const { names, times, columns } = useMemo(() => drawn(buckets ?? new Map(), now, seconds, step), [buckets, now]);
  const total = summary.reduce((sum, each) => sum + each.count, 0);
  return html`<${Failure} problem=${problem} />
    <div class="card"><${Chart} label=${`${name} per ${words}, the last ${range}: ${count(total, "event")}`} names=${names} times=${times} columns=${columns} />
      <ul class="legend" aria-label="Lines">${names.map((each, index) => html`<li key=${each}><span class="swatch" style=${{ background: colour(index) }}></span>${each}</li>`)}</ul></div>
    <h2>Sums of the last ${range}</h2>
    ${summary.length === 0 ? html`<${Empty}>None in this time.<//>` : html`<div class="scroll"><table class="plain" aria-label="Sums">
      <thead><tr><th scope="col">Key</th><th scope="col" class="number">Count</th><th scope="col">First</th><th scope="col">Last</th><th scope="col">Followed by</th></tr></thead>
      <tbody>${summary.map((each) => html`<tr key=${String(each.key)}><td>${each.key === null ? html`<span class="quiet">none</span>` : html`<span class="clip" title=${each.key}>${each.key}</span>`}</td><td class="number">${each.count.toLocaleString()}</td>
        <td><${Time} at=${each.earliest} /></td><td><${Time} at=${each.latest} /></td>
        <td>${Object.entries(each.followups ?? {}).map(([other, number]) => `${number} ${other}`).join(", ")}</td></tr>`)}</tbody></table></div>`}`;
}

function Latest({ name, wanted }) {
  const list = usePages("events", { name, key: wanted }, { type: "event", mine: (record) => record.name === name && (!wanted || record.key === wanted), limit: 25 });
  if (list.problem) return html`<${Failure} problem=${list.problem} again=${list.again} />`;
  return html`<div class="scroll"><table class="plain" aria-label="Events">
    <thead><tr><th scope="col">When</th><th scope="col">Device</th><th scope="col">Key</th><th scope="col" class="wide">Subject</th><th scope="col">Data</th></tr></thead>
    <tbody>${list.items.map((each) => html`<tr key=${`${each.device} ${each.id}`}>
      <td><${Time} at=${each.time} /></td><td><a class="clip" title=${each.device} href=${to(["devices", each.device])}>${each.device}</a></td>
      <td><span class="clip short" title=${each.key}>${each.key ?? ""}</span></td>
      <td class="wide"><span class="clip short code" title=${each.subject}>${each.subject ?? ""}</span></td>
      <td><span class="clip code" title=${written(each.data ?? "")}>${written(each.data ?? "")}</span></td></tr>`)}</tbody></table></div><${Older} list=${list} />`;
}

function add(buckets, key, time, number) {
  const name = key ?? "";
  if (!buckets.has(name)) buckets.set(name, new Map());
  buckets.get(name).set(time, (buckets.get(name).get(time) ?? 0) + number);
}

const floor = (time, step) => Math.floor(time / step) * step;

/** The columns of the chart: the keys with most events, and the others together. */
function drawn(buckets, now, seconds, step) {
  const last = floor(now, step);
  const times = [];
  for (let time = floor(now - seconds, step); time <= last; time += step) times.push(time);
  const sum = (counts) => [...counts.values()].reduce((one, other) => one + other, 0);
  const keys = [...buckets].sort(([, one], [, other]) => sum(other) - sum(one)).map(([key]) => key);
  const own = keys.slice(0, LINES);
  const others = keys.slice(LINES);
  const columns = own.map((key) => times.map((time) => buckets.get(key).get(time) ?? 0));
  if (others.length) columns.push(times.map((time) => others.reduce((total, key) => total + (buckets.get(key).get(time) ?? 0), 0)));
  const names = [...own.map((key) => key || "without a key"), ...(others.length ? [`${others.length} others`] : [])];
  return { names, times, columns };
}
