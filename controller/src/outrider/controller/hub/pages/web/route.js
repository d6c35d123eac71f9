// Where one is: the address's part after the `#`, as `#/devices/lamp-1?tab=history`. So every view has an address.

import { Store } from "./store.js";

class Route extends Store {
  /** How often somebody went anywhere: by a link, or back and forward. */
  visits = 0;

  constructor() {
    super();
    addEventListener("hashchange", () => {
      this.visits += 1;
      this.changed();
    });
  }

  /** The parts of the path, and what is asked of it. */
  get here() {
    const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?", 2);
    const parts = path.split("/").filter(Boolean).map(decoded);
    return { parts, query: new URLSearchParams(query) };
  }
}

export const route = new Route();

/** The link to a view. */
export function to(parts, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  const asked = new URLSearchParams(given).toString();
  return `#/${parts.map(encodeURIComponent).join("/")}${asked ? `?${asked}` : ""}`;
}

/** Go to a view. */
export function go(parts, query) {
  location.hash = to(parts, query);
}

/** Change what is asked of this view, without a new entry in the browser's history. */
export function amend(query) {
  const { parts, query: now } = route.here;
  history.replaceState(null, "", to(parts, { ...Object.fromEntries(now), ...query }));
  route.changed();
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
