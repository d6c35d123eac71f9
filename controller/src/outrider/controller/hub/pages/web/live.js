// One stream of what changes, from the hub to all views, that comes back by itself.

import { createParser } from "./vendor/eventsource-parser.js";
import { ask, Problem, session } from "./api.js";
import { Store } from "./store.js";

const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 10_000;
// The hub says something every 15 s, if only a comment: what is silent for longer is gone.
const SILENCE = 45_000;

class Live extends Store {
  /** "connecting", "open" or "away"; `since` is when that began. */
  state = "connecting";
  since = Date.now();
  why = "";
  #listeners = new Map();
  #pause = FIRST_PAUSE;
  #retry = null;
  #stop = null;
  #began = false;

  /** Call `listener` with each record of a type; `fresh` is told when everything is to be read, at first and anew. */
  on(type, listener) {
    if (!this.#listeners.has(type)) this.#listeners.set(type, new Set());
    this.#listeners.get(type).add(listener);
    return () => this.#listeners.get(type).delete(listener);
  }

  /** Begin, once; signing in begins anew. */
  start() {
    if (this.#began) return;
    this.#began = true;
    session.watch(() => session.needed ? this.#end() : this.again());
    this.again();
  }

  /** Connect now, instead of after the pause. */
  again() {
    if (session.needed || this.#stop) return;
    clearTimeout(this.#retry);
    this.#run();
  }

  async #run() {
    const stop = new AbortController();
    this.#stop = stop;
    let silence;
    const heard = () => {
      clearTimeout(silence);
      silence = setTimeout(() => stop.abort(), SILENCE);
    };
    try {
      heard();
      const response = await ask("GET", "live", { signal: stop.signal, headers: { Accept: "text/event-stream" } });
      this.#become("open");
      this.#pause = FIRST_PAUSE;
      const parser = createParser({ onEvent: (event) => this.#take(event) });
      const decoder = new TextDecoder();
      const reader = response.body.getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        heard();
        parser.feed(decoder.decode(value, { stream: true }));
      }
      this.why = "the hub ended the connection";
    } catch (error) {
      this.why = error instanceof Problem ? error.message : "the connection broke";
    } finally {
      clearTimeout(silence);
      if (this.#stop === stop) this.#stop = null;
    }
    if (session.needed || this.#stop) return;
    this.#become("away");
    this.#retry = setTimeout(() => this.again(), this.#pause);
    this.#pause = Math.min(this.#pause * 2, LONGEST_PAUSE);
  }

  #end() {
    clearTimeout(this.#retry);
    this.#stop?.abort();
    this.#stop = null;
  }

  #become(state) {
    if (this.state === state) return;
    this.state = state;
    this.since = Date.now();
    this.changed();
  }

  #take({ event, data }) {
    // From `hello` on nothing is missed, but what `lost` counts.
    if (event === "hello" || event === "lost") return this.#tell("fresh");
    if (!this.#listeners.get(event)?.size) return undefined;
    let record;
    try {
      record = JSON.parse(data);
    } catch {
      return undefined;
    }
    return this.#tell(event, record);
  }

  #tell(type, record) {
    for (const listener of [...(this.#listeners.get(type) ?? [])]) listener(record);
  }
}

export const live = new Live();
