// Asks for the dashboard again and again while somebody looks, whatever storage there is, and draws it as SVG.

const EVERY = 1000; // milliseconds from an answer to the next question
const SHOWN = 60; // rates in the lower chart
const WIDTH = 780;
const LETTERS = "abcdefghijklmnopqrstuvwxyz";
const TOKEN = "outrider-token"; // for as long as the tab is open

const at = (id) => document.getElementById(id);

function element(name, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function drawLetters(found) {
  const [top, bottom] = [20, 235];
  const most = Math.max(1, ...found.map((each) => Math.max(each.count, each.followups)));
  const room = WIDTH / LETTERS.length;
  const bySymbol = new Map(found.map((each) => [each.symbol, each]));
  const bars = [...LETTERS].map((letter, index) => {
    const { count = 0, followups = 0 } = bySymbol.get(letter) ?? {};
    const bar = (kind, value) => {
      const height = (value / most) * (bottom - top);
      return element("rect", { class: kind, x: index * room + 3, y: bottom - height, width: room - 6, height });
    };
    const label = (y, text) => element("text", { x: (index + 0.5) * room, y }, text);
    const title = element("title", {}, `${letter}: ${count} initial, ${followups} follow-ups`);
    const kind = "aeiou".includes(letter) ? "letter vowel" : "letter";
    const size = (Math.max(count, followups) / most) * (bottom - top);
    return element("g", { class: kind, "data-letter": letter, "data-count": count, "data-followups": followups },
      title, bar("bar", count), bar("followed", followups), label(bottom + 16, letter),
      label(bottom - size - 4, count ? String(count) : ""));
  });
  at("letters").replaceChildren(...bars);
}

function drawRate(rates) {
  const [top, bottom] = [20, 130];
  const most = Math.max(1, ...rates);
  const points = rates.map((rate, index) => {
    const x = WIDTH - (rates.length - 1 - index) * (WIDTH / (SHOWN - 1));
    return `${x.toFixed(1)},${(bottom - (rate / most) * (bottom - top)).toFixed(1)}`;
  });
  const last = rates.at(-1) ?? 0;
  at("rate").replaceChildren(
    element("line", { class: "axis", x1: 0, x2: WIDTH, y1: bottom, y2: bottom }),
    element("polyline", { class: "rate", points: points.join(" ") }),
    element("text", { class: "least", x: 0, y: 14 }, `now ${last.toFixed(1)}/s, at most ${most.toFixed(1)}/s`));
}

function drawRows(found) {
  at("rows").replaceChildren(...found.map((each) => {
    const row = document.createElement("tr");
    for (const value of [each.symbol, each.count, each.followups, each.earliest, each.latest]) {
      row.insertCell().textContent = value;
    }
    return row;
  }));
}

async function asked(lower, upper) {
  const token = sessionStorage.getItem(TOKEN);
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const answer = await fetch(`/dashboard/range/${lower}/${upper}`, { headers });
  at("asked").hidden = answer.status !== 401;
  const said = await answer.json();
  if (!answer.ok) throw new Error(said.detail);
  return said;
}

const rates = [];
let before = null; // the sum of all counts, and when it was asked for

async function refresh() {
  const span = Number(at("span").value);
  const lower = span ? new Date(Date.now() - span * 1000).toISOString() : "1970-01-01";
  const found = await asked(lower, "9999-12-31");
  const all = span ? await asked("1970-01-01", "9999-12-31") : found;
  const now = { sum: all.reduce((sum, each) => sum + each.count, 0), time: performance.now() };
  if (before) rates.push(Math.max(0, now.sum - before.sum) / ((now.time - before.time) / 1000));
  rates.splice(0, rates.length - SHOWN);
  before = now;
  drawLetters(found);
  drawRate(rates);
  drawRows(found);
  const sum = (name) => found.reduce((total, each) => total + each[name], 0).toLocaleString("en");
  return `${sum("count")} initial requests, ${sum("followups")} follow-ups`;
}

let next = 0;
let busy = false;

async function look() {
  clearTimeout(next);
  if (busy) return;
  busy = true;
  try {
    at("said").textContent = await refresh();
    at("said").className = "";
  } catch (error) {
    at("said").textContent = `${error.message}; asking again`;
    at("said").className = "trouble";
  }
  busy = false;
  if (!document.hidden) next = setTimeout(look, EVERY);
}

at("span").addEventListener("change", look);
at("asked").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(TOKEN, at("token").value.trim());
  look();
});
document.addEventListener("visibilitychange", () => document.hidden || look());
look();
