// Lists that the hub gives page by page, newest first, and that grow at their beginning while one looks.

import { html, useEffect, useRef, useState } from "./html.js";
import { get } from "./api.js";
import { live } from "./live.js";

const KEPT = 1000;

/** What a route lists, with what comes live put before it; `mine` says whether a live record belongs to the list. */
export function usePages(path, query, { type, mine, limit = 50 } = {}) {
  const [state, setState] = useState({ items: [], next: null, problem: null, loading: true });
  const key = `${path}?${JSON.stringify(query)}`;
  const now = useRef(key);
  now.current = key;

  const load = async (cursor) => {
    setState((before) => ({ ...before, loading: true }));
    try {
      const page = await get(path, { ...query, cursor, limit });
      if (now.current !== key) return;
      setState((before) => ({
        items: cursor === undefined ? page.items : [...before.items, ...page.items],
        next: page.next ?? null, problem: null, loading: false,
      }));
    } catch (problem) {
      if (now.current === key) setState((before) => ({ ...before, problem, loading: false }));
    }
  };

  useEffect(() => {
    setState({ items: [], next: null, problem: null, loading: true });
    load();
    let waiting = [];
    let due = null;
    const ends = [live.on("fresh", () => load())];
    if (type) {
      ends.push(live.on(type, (record) => {
        if (!mine(record)) return;
        waiting.unshift(record);
        due ??= requestAnimationFrame(() => {
          const come = waiting;
          waiting = [];
          due = null;
          setState((before) => {
            const known = new Set(before.items.map(({ seq }) => seq));
            const fresh = come.filter(({ seq }) => !seq || !known.has(seq));
            return { ...before, items: [...fresh, ...before.items].slice(0, Math.max(KEPT, before.items.length)) };
          });
        });
      }));
    }
    return () => {
      for (const end of ends) end();
      cancelAnimationFrame(due);
    };
  }, [key]);

  return { ...state, again: () => load(), older: () => load(state.next) };
}

/** A button for what is older, where there is more. */
export function Older({ list }) {
  if (list.next === null || list.next === undefined) return null;
  return html`<div class="actions"><button type="button" disabled=${list.loading} onClick=${list.older}>Show older ones</button></div>`;
}
