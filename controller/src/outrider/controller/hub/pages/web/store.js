// Data that several views show and that changes by itself.

import { useEffect, useState } from "./html.js";

/** Something to look at; those who look are told of changes at most once a frame, however many there were. */
export class Store {
  version = 0;
  #watchers = new Set();
  #due = false;

  /** Call `watcher` after changes; returns what ends it. */
  watch(watcher) {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  /** Say that something changed. */
  changed() {
    this.version += 1;
    if (this.#due) return;
    this.#due = true;
    requestAnimationFrame(() => {
      this.#due = false;
      for (const watcher of [...this.#watchers]) watcher();
    });
  }
}

/** Draw the component again whenever the store changes. */
export function useStore(store) {
  const [, seen] = useState(store.version);
  useEffect(() => {
    seen(store.version);
    return store.watch(() => seen(store.version));
  }, [store]);
  return store;
}
