// Schedules a job, waits for it, and draws the words that occur most often. Pages are strangers': text only, no markup.

const MOST = 30;
const form = document.querySelector("form");
const status = document.querySelector("[role=status]");
const table = document.querySelector("table");

async function ask(path, options = {}) {
  const token = form.token.value;
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const answer = await fetch(path, { ...options, headers });
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.message ?? body.detail ?? answer.statusText);
  return body.data;
}

async function ended(id) {
  for (let pause = 100; ; pause = Math.min(pause * 1.5, 2000)) {
    const job = await ask(`/word-count?job_id=${encodeURIComponent(id)}`);
    if (job.status !== "IN_PROGRESS") return job;
    status.textContent = "In progress: waiting for a worker";
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

function draw(counts) {
  const words = Object.entries(counts).sort(([a, x], [b, y]) => y - x || (a < b ? -1 : 1));
  const rows = words.slice(0, MOST).map(([word, times]) => {
    const row = document.createElement("tr");
    const bar = document.createElement("meter");
    bar.max = words[0][1];
    bar.value = times;
    for (const content of [word, times.toLocaleString(), bar]) row.insertCell().append(content);
    return row;
  });
  table.tBodies[0].replaceChildren(...rows);
  table.hidden = false;
  const total = words.reduce((sum, [, times]) => sum + times, 0);
  status.textContent = `${total.toLocaleString()} words, ${words.length.toLocaleString()} different`;
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  table.hidden = true;
  status.textContent = "Scheduling";
  try {
    const { job_id: id } = await ask("/word-count", { method: "POST", body: JSON.stringify({ url: form.url.value }) });
    const job = await ended(id);
    if (job.status === "FAIL") throw new Error(job.error);
    draw(job.result);
  } catch (error) {
    status.textContent = error.message;
  }
});
