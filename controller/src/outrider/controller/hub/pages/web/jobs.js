// What runs on devices right now, whoever asked for it.

import { html, useEffect, useState } from "./html.js";
import { get, path, remove, session } from "./api.js";
import { live } from "./live.js";
import { Empty, Failure, Progress, Status, Time } from "./parts.js";
import { to } from "./route.js";

const AGAIN = 300;

/** The jobs of a device: asked when the view opens and when something begins or ends there. */
export function Jobs({ target }) {
  const [jobs, setJobs] = useState(null);
  const [problem, setProblem] = useState(null);

  useEffect(() => {
    let timer = null;
    let ended = false;
    const load = async () => {
      timer = null;
      try {
        const { running } = await get("jobs", { target });
        if (!ended) setJobs(running.filter(({ job }) => job.command !== "jobs"));
        setProblem(null);
      } catch (error) {
        if (!ended) setProblem(error);
      }
    };
    const soon = (record) => {
      // The question itself is a command too, and its answer must not lead to the next one.
      if (record === undefined || (record.device === target && record.command !== "jobs")) timer ??= setTimeout(load, AGAIN);
    };
    const ends = [
      live.on("fresh", () => soon()),
      live.on("result", soon),
      live.on("progress", (record) => {
        if (record.device !== target) return;
        if (record.accepted) soon(record);
        else if (record.fraction !== null && record.fraction !== undefined) {
          setJobs((before) => before && before.map((each) => each.job.id === record.id
            ? { ...each, job: { ...each.job, fraction: record.fraction, text: record.text } } : each));
        }
      }),
    ];
    load();
    return () => {
      ended = true;
      clearTimeout(timer);
      for (const end of ends) end();
    };
  }, [target]);

  if (problem) return html`<${Failure} problem=${problem} />`;
  if (!jobs?.length) return html`<${Empty}>${jobs ? "Nothing runs." : "Asking the device…"}<//>`;
  return html`<ul class="jobs">${jobs.map(({ device, job }) => html`<li key=${`${device} ${job.id}`}>
    <div class="line"><${Status} word=${job.started ? "running" : "waiting"} /> <a href=${to(["commands", job.id])}>${job.command}</a>
      <span class="quiet">by ${job.behalf || job.requester || "hand"}, <${Time} at=${job.started ?? job.received} /></span>
      ${session.mayCancel(job) && html`<button type="button" class="small" onClick=${() => remove(path("commands", job.id)).catch(setProblem)}>Cancel</button>`}</div>
    ${job.fraction !== null && job.fraction !== undefined && html`<${Progress} fraction=${job.fraction} text=${job.text} label=${`Progress of ${job.command}`} />`}
  </li>`)}</ul>`;
}
