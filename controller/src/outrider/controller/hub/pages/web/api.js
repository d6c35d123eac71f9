// Asks the hub over HTTP: the token, errors as the hub words them, pages one after the other.

import { Store } from "./store.js";

const BASE = new URL("api/v1/", document.baseURI);
const KEY = "outrider-token";

/** An answer that is not what was asked for; `status` is 0 where the hub did not answer at all. */
export class Problem extends Error {
  constructor(status, { title, detail, code, field } = {}) {
    super(detail || title || (status ? `the hub answered with ${status}` : "the hub does not answer"));
    this.status = status;
    this.code = code;
    this.field = field;
  }
}

/** Who is signed in. The token lives as long as the browser's tab. */
class Session extends Store {
  token = sessionStorage.getItem(KEY);
  needed = false;
  refused = false;
  name = "";
  /** What the hub itself is called by devices. */
  hub = "";
  scopes = null;

  /** Whether one may do something, as far as is known: the hub judges it. */
  may(scope) {
    return this.scopes === null || this.scopes.includes(scope) || this.scopes.includes("admin");
  }

  /** Whether one may cancel what the hub sent, to a requester, on somebody's behalf. */
  mayCancel({ requester, behalf }) {
    return requester === this.hub && this.may("send") && (behalf === this.name || this.may("admin"));
  }

  /** Whether one may cancel a command of this requester on this one's behalf: one's own, or as an admin any of the hub's. */
  mayCancel({ requester, behalf }) {
    return this.may("send") && requester === this.hub && (behalf === this.name || this.may("admin"));
  }

  /** Ask who this is. */
  async meet() {
    const { name, scopes, hub } = await get("me");
    this.name = name;
    this.hub = hub;
    this.scopes = scopes;
    this.changed();
  }

  signIn(token) {
    this.token = token;
    this.needed = false;
    this.refused = false;
    sessionStorage.setItem(KEY, token);
    this.changed();
  }

  signOut() {
    this.token = null;
    this.needed = true;
    this.refused = false;
    sessionStorage.removeItem(KEY);
    this.changed();
  }

  /** The hub wants a token, or another one than `used`. */
  demand(used) {
    if (used !== this.token || this.needed) return;
    this.refused = used !== null;
    this.needed = true;
    this.token = null;
    sessionStorage.removeItem(KEY);
    this.changed();
  }
}

export const session = new Session();

/** The address of a route, with what is asked for; empty values are left out. */
export function address(path, query = {}) {
  const url = new URL(path, BASE);
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== null && value !== "") url.searchParams.set(name, value);
  }
  return url;
}

/** Send a request and return the response, whose body is still to be read. */
export async function ask(method, path, { query, body, signal, headers = {} } = {}) {
  const token = session.token;
  const sent = { ...headers };
  if (token) sent.Authorization = `Bearer ${token}`;
  if (body !== undefined) sent["Content-Type"] = "application/json";
  let response;
  try {
    const content = body === undefined ? undefined : JSON.stringify(body);
    response = await fetch(address(path, query), { method, headers: sent, body: content, signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0);
  }
  if (response.ok) return response;
  if (response.status === 401) session.demand(token);
  throw new Problem(response.status, await response.json().catch(() => ({})));
}

async function json(method, path, options) {
  const response = await ask(method, path, options);
  return response.status === 204 ? null : response.json();
}

/** A path whose parts are not ours. */
export function path(...parts) {
  return parts.map((part) => encodeURIComponent(part)).join("/");
}

export const get = (path, query, signal) => json("GET", path, { query, signal });
export const remove = (path) => json("DELETE", path);
export const post = (path, body, headers) => json("POST", path, { body, headers });

/** Posts what is to be done once: the same again after a broken connection carries the same idempotency key. */
export class Once {
  #asked = null;
  #key = null;

  async post(path, body) {
    const asked = JSON.stringify([path, body]);
    if (this.#asked !== asked) {
      this.#asked = asked;
      this.#key = crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`;
    }
    try {
      const sent = await post(path, body, { "Idempotency-Key": this.#key });
      this.#asked = null;
      return sent;
    } catch (error) {
      if (error instanceof Problem && error.status) this.#asked = null;
      throw error;
    }
  }
}

/** Everything that a route has, page after page; `more` is given the items of each as it comes. */
export async function all(path, query, more, signal, limit = 1000) {
  let cursor;
  do {
    const page = await get(path, { ...query, cursor, limit }, signal);
    more(page.items);
    cursor = page.next;
  } while (cursor !== null && cursor !== undefined);
}
