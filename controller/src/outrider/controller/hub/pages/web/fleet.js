// Everything that is known of the devices' states, kept up to date.

import { all } from "./api.js";
import { live } from "./live.js";
import { Store } from "./store.js";

class Fleet extends Store {
  /** By id. */
  devices = new Map();
  /** Grows when devices come or go, and not when they change. */
  membership = 0;
  loaded = false;
  problem = null;
  #ids = [];
  #idsOf = -1;
  #loading = null;
  #heard = new Set();

  constructor() {
    super();
    live.on("state", (state) => {
      this.#heard.add(state.device);
      this.take(state);
    });
    live.on("fresh", () => this.load());
  }

  /** The ids in order. */
  get ids() {
    if (this.#idsOf !== this.membership) {
      this.#ids = [...this.devices.keys()].sort(inOrder);
      this.#idsOf = this.membership;
    }
    return this.#ids;
  }

  /** How many devices there are of each status. */
  get counts() {
    const counts = {};
    for (const { status } of this.devices.values()) counts[status] = (counts[status] ?? 0) + 1;
    return counts;
  }

  /** Note what a device says of itself; what is older than what is known is left out. */
  take(state) {
    const known = this.devices.get(state.device);
    if (known && known.session > state.session) return;
    if (!known) this.membership += 1;
    this.devices.set(state.device, state);
    this.changed();
  }

  /** Read all of them; those who are no longer there go. */
  async load() {
    this.#loading?.abort();
    const loading = new AbortController();
    this.#loading = loading;
    const seen = (this.#heard = new Set()); // who is heard of meanwhile is there too
    try {
      await all("devices", {}, (states) => {
        for (const state of states) {
          seen.add(state.device);
          this.take(state);
        }
      }, loading.signal, 10_000);
    } catch (error) {
      if (loading.signal.aborted) return;
      this.problem = error;
      this.changed();
      return;
    }
    const before = this.devices.size;
    for (const id of this.devices.keys()) if (!seen.has(id)) this.devices.delete(id);
    if (this.devices.size !== before) this.membership += 1;
    this.loaded = true;
    this.problem = null;
    this.changed();
  }
}

const collator = new Intl.Collator("en", { numeric: true });

/** The order of ids: lamp-9 comes before lamp-10. */
export const inOrder = (one, other) => collator.compare(one, other);

export const fleet = new Fleet();
