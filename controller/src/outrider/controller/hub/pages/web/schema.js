// Reads the JSON Schema of a command's arguments, which a device wrote: nothing in it is trusted.

import { Validator } from "./vendor/json-schema/index.js";

const HOPS = 20;

/** What a person typed and no JSON can be made of, in the place of its value. */
export class Unreadable {
  constructor(text, why) {
    this.text = text;
    this.why = why;
  }
}

/** An object's own property; a device may call an argument `constructor`. */
export function own(object, name) {
  return object !== null && typeof object === "object" && Object.hasOwn(object, name) ? object[name] : undefined;
}

/** The schema that a `$ref` leads to within its document; `{}`, which allows all, where it leads nowhere. */
export function resolve(schema, root) {
  let found = schema;
  for (let hop = 0; typeof own(found, "$ref") === "string"; hop += 1) {
    const { $ref: ref, ...beside } = found;
    if (hop === HOPS || !ref.startsWith("#")) return {};
    const steps = ref.slice(1).split("/").filter(Boolean);
    const target = steps.reduce((at, step) => own(at, unescaped(step)), root);
    found = { ...(typeof target === "object" && target !== null ? target : {}), ...beside };
  }
  return typeof found === "object" && found !== null && !Array.isArray(found) ? found : {};
}

function unescaped(step) {
  try {
    return decodeURIComponent(step).replaceAll("~1", "/").replaceAll("~0", "~");
  } catch {
    return step;
  }
}

/** Whether null may be given, and the other choices that there are. */
export function choices(schema, root) {
  const listed = own(schema, "anyOf") ?? own(schema, "oneOf");
  const types = own(schema, "type");
  let all = [schema];
  if (Array.isArray(listed)) all = listed.map((each) => resolve(each, root));
  else if (Array.isArray(types)) all = types.map((type) => ({ ...schema, type }));
  const others = all.filter((each) => own(each, "type") !== "null");
  return { nullable: others.length < all.length, others };
}

/** How a value is asked for: `switch`, `choice`, `integer`, `number`, `text`, `list`, `object` or `json`. */
export function kind(schema) {
  if (Array.isArray(own(schema, "enum")) || own(schema, "const") !== undefined) return "choice";
  const type = own(schema, "type");
  if (type === "boolean") return "switch";
  if (type === "integer" || type === "number") return type;
  if (type === "string") return "text";
  if (type === "array" && own(schema, "items") && typeof schema.items === "object" && !own(schema, "prefixItems")) return "list";
  if (type === "object" && own(schema, "properties") && typeof schema.properties === "object") return "object";
  return "json";
}

const TYPES = { integer: "whole number", number: "number", text: "text", list: "list", object: "object", json: "JSON" };
const FORMATS = {
  "date-time": "as 2026-11-25T10:00:00Z", date: "as 2026-11-25", time: "as 10:00:00", duration: "as PT5S",
  uuid: "a UUID", email: "an e-mail address", uri: "an address", binary: "base64",
};

/** What may be given, in a few words. */
export function hint(schema) {
  const parts = [TYPES[kind(schema)]];
  const format = own(schema, "format") ?? (own(schema, "contentEncoding") === "base64" ? "binary" : undefined);
  if (Object.hasOwn(FORMATS, format ?? "")) parts.push(FORMATS[format]);
  const low = own(schema, "minimum");
  const high = own(schema, "maximum");
  if (low !== undefined && high !== undefined) parts.push(`${low} to ${high}`);
  else if (low !== undefined) parts.push(`from ${low}`);
  else if (high !== undefined) parts.push(`up to ${high}`);
  if (own(schema, "exclusiveMinimum") !== undefined) parts.push(`more than ${schema.exclusiveMinimum}`);
  if (own(schema, "exclusiveMaximum") !== undefined) parts.push(`less than ${schema.exclusiveMaximum}`);
  if (own(schema, "multipleOf") !== undefined) parts.push(`in steps of ${schema.multipleOf}`);
  if (own(schema, "minLength") !== undefined) parts.push(`at least ${schema.minLength} characters`);
  if (own(schema, "maxLength") !== undefined) parts.push(`at most ${schema.maxLength} characters`);
  if (own(schema, "pattern") !== undefined) parts.push(`like ${schema.pattern}`);
  return parts.filter(Boolean).join(", ");
}

/** What to begin with, for lists and objects that are asked for part by part. */
export function initial(schema, root) {
  const given = own(schema, "default");
  if (given !== undefined) return given;
  switch (kind(schema)) {
    case "switch": return false;
    case "list": return [];
    case "object": {
      const required = Array.isArray(own(schema, "required")) ? schema.required : [];
      const parts = Object.entries(schema.properties).filter(([name]) => required.includes(name));
      return Object.fromEntries(parts.map(([name, each]) => {
        const only = choices(resolve(each, root), root).others;
        return [name, only.length === 1 && kind(only[0]) === "switch" ? false : undefined];
      }));
    }
    default: return undefined;
  }
}

/**
 * What is wrong with arguments, in words, by path (`/level`, `/points/0/x`).
 *
 * The hub and the device check them too. Patterns are left to them: a regular expression of a device's could hold up
 * this page for as long as it likes, and Python's are not quite a browser's.
 */
export function faults(args, schema) {
  const found = new Map();
  unreadable(args, "", found);
  if (found.size) return found;
  let errors = [];
  try {
    errors = new Validator(withoutPatterns(schema, true), "2020-12", false).validate(plain(args)).errors;
  } catch {
    return found; // a schema that cannot be read; the hub says what is wrong
  }
  for (const { keyword, instanceLocation, error } of errors) {
    const at = instanceLocation.replace(/^#/, "");
    const missing = keyword === "required" ? /"([^"]*)"\.?$/.exec(error)?.[1] : undefined;
    const place = missing === undefined ? at : `${at}/${missing}`;
    const words = missing === undefined ? worded(keyword, error) : "is missing";
    if (words && !found.has(place)) found.set(place, words);
  }
  // What says that something in it is wrong tells nothing where that itself is told.
  for (const place of found.keys()) if ([...found.keys()].some((other) => other.startsWith(`${place}/`))) found.delete(place);
  return found;
}

function worded(keyword, error) {
  if (keyword === "properties" || keyword === "items" || keyword === "$ref") return "";
  if (keyword === "type") return error.replace(/^Instance type "(.*?)" is invalid\. Expected "(.*?)"\.$/, "is $1 and must be $2");
  return error.replace(/^Instance /, "").replace(/\.$/, "");
}

function unreadable(value, at, found) {
  if (value instanceof Unreadable) found.set(at, value.why);
  else if (value !== null && typeof value === "object") {
    for (const [name, each] of Object.entries(value)) unreadable(each, `${at}/${name}`, found);
  }
}

function withoutPatterns(schema, isSchema) {
  if (Array.isArray(schema)) return schema.map((each) => withoutPatterns(each, isSchema));
  if (schema === null || typeof schema !== "object") return schema;
  const kept = Object.entries(schema).filter(([name]) => !isSchema || !["pattern", "patternProperties", "format", "$id", "$schema", "$anchor"].includes(name));
  return Object.fromEntries(kept.map(([name, each]) => {
    if (isSchema && ["enum", "const", "default", "examples"].includes(name)) return [name, each];
    return [name, withoutPatterns(each, !(isSchema && ["properties", "$defs", "definitions", "dependentSchemas"].includes(name)))];
  }));
}

/** What goes to the hub: without what was not given. */
export function plain(value) {
  return JSON.parse(JSON.stringify(value ?? {}));
}
