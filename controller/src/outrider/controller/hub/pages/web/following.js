// One command as it goes on: what the hub says of it, and what devices say meanwhile.

import { get, path, remove } from "./api.js";
import { inOrder } from "./fleet.js";
import { live } from "./live.js";
import { Store } from "./store.js";

const LOOK = 1000;
const LOOK_AT_ALL = 10_000;
const EXPIRED = 60; // seconds after which nobody waits for it any more
const KEPT = 200_000;
const FEW = 3; // devices whose output is shown without being asked for
const OPEN = new Set(["queued", "running", "offline", "sent", "waiting"]);

/** Whether a device may still say more about a command. */
export const isOpen = (status) => OPEN.has(status);

/** Follows a command until nobody looks: `close` ends it. */
export class Following extends Store {
  /** What the hub says of it as a whole; null until it has. */
  info = null;
  problem = null;
  /** By device: `{ device, status, value, error, fraction, text, output }`. */
  outcomes = new Map();
  #ends = [];
  #timer = null;
  #looked = 0;
  #closed = false;

  constructor(id) {
    super();
    this.id = id;
    this.#ends = [
      live.on("progress", (record) => record.id === id && this.#progress(record)),
      live.on("result", (record) => record.id === id && this.#result(record)),
      live.on("fresh", () => this.look(true)),
    ];
    this.look(true);
  }

  close() {
    this.#closed = true;
    clearTimeout(this.#timer);
    for (const end of this.#ends) end();
  }

  /** The devices in order. */
  get devices() {
    return [...this.outcomes.keys()].sort(inOrder);
  }

  /** How many devices have which status; they add up to all. */
  get counts() {
    const counts = {};
    for (const { status } of this.outcomes.values()) counts[status] = (counts[status] ?? 0) + 1;
    return counts;
  }

  get ended() {
    return this.info?.ended ?? false;
  }

  /** Cancel it: nobody is asked any more, and who runs it is told to stop. */
  async cancel() {
    await remove(path("commands", this.id));
    await this.look(true);
  }

  /** Ask the hub, for every outcome or only for how it stands as a whole. */
  async look(everything = false) {
    clearTimeout(this.#timer);
    try {
      if (everything) await this.#all();
      else await this.#whole();
      this.problem = null;
    } catch (error) {
      this.problem = error;
    }
    if (this.#closed) return;
    this.changed();
    if (!this.ended && this.problem?.status !== 404) {
      const old = this.info?.expires && Date.now() / 1000 > this.info.expires + EXPIRED && !this.counts.running;
      this.#timer = setTimeout(() => this.look(Date.now() - this.#looked > LOOK_AT_ALL), old ? LOOK_AT_ALL : LOOK);
    }
  }

  async #whole() {
    const info = await get(path("commands", this.id), { limit: 1 });
    if (info.ended && !this.ended) return this.#all();
    this.info = info;
    return undefined;
  }

  async #all() {
    this.#looked = Date.now();
    let cursor;
    do {
      const info = await get(path("commands", this.id), { limit: 1000, cursor });
      this.info = info;
      for (const outcome of info.outcomes) this.#note(outcome.device, outcome);
      cursor = info.next;
    } while (cursor !== null && cursor !== undefined);
    if (this.outcomes.size <= FEW) await Promise.all([...this.outcomes.keys()].map((device) => this.outputOf(device)));
  }

  #note(device, said) {
    const known = this.outcomes.get(device) ?? { device, status: "queued", output: [] };
    // A final answer that came live is not taken back by what the hub had said just before.
    if (isOpen(said.status ?? known.status) && !isOpen(known.status)) return;
    this.outcomes.set(device, { ...known, ...said });
  }

  #progress({ device, number, fraction, text, stream, data }) {
    const known = this.outcomes.get(device) ?? { device, status: "running", output: [] };
    const next = { ...known, status: isOpen(known.status) ? "running" : known.status };
    if (fraction !== null && fraction !== undefined) Object.assign(next, { fraction, text });
    if (stream) next.output = together(known.output, [{ number, stream, data: data ?? "" }]);
    this.outcomes.set(device, next);
    this.changed();
  }

  #result({ device, status, value, error, started, finished }) {
    this.#note(device, { status, value, error, started, finished });
    this.changed();
  }

  /** Add the output of a device that came before anybody looked. */
  async outputOf(device) {
    const page = await get(path("commands", this.id, "progress"), { device, limit: 1000 });
    const output = page.items.filter(({ stream }) => stream).map(({ number, stream, data }) => ({ number, stream, data: data ?? "" }));
    const known = this.outcomes.get(device);
    if (known && output.length) {
      this.outcomes.set(device, { ...known, output: together(known.output, output) });
      this.changed();
    }
  }
}

/** Chunks of output in their order, each once, as many of the last ones as are kept. */
function together(known, come) {
  const numbers = new Set(known.map(({ number }) => number));
  const fresh = come.filter(({ number }) => !numbers.has(number));
  const output = [...known, ...fresh].sort((one, other) => one.number - other.number);
  let size = 0;
  let from = output.length;
  while (from > 0 && size < KEPT) {
    from -= 1;
    size += output[from].data.length;
  }
  return output.slice(from);
}
