// A form made from a command's JSON Schema: a field for each argument, with its help and what is wrong with it.

import { html, useId, useState } from "./html.js";
import { choices, hint, initial, kind, own, resolve, Unreadable } from "./schema.js";
import { value as written } from "./format.js";

const LEVELS = 6;

/** All arguments of a command. `faults` are by path; `value` is an object, `onChange` is given the next one. */
export function Arguments({ schema, value, onChange, faults }) {
  const properties = own(schema, "properties");
  if (!properties || typeof properties !== "object" || Object.keys(properties).length === 0) {
    return html`<p class="quiet">It takes no arguments.</p>`;
  }
  return html`<${Parts} schema=${schema} root=${schema} value=${value} onChange=${onChange} faults=${faults} at="" level=${0} />`;
}

function Parts({ schema, root, value, onChange, faults, at, level }) {
  const required = Array.isArray(own(schema, "required")) ? schema.required : [];
  return Object.entries(schema.properties).map(([name, each]) => html`<${Field}
    key=${name} name=${name} schema=${resolve(each, root)} root=${root} required=${required.includes(name)} level=${level}
    value=${own(value, name)} at=${`${at}/${name}`} faults=${faults}
    onChange=${(next) => onChange(replaced(value, name, next))} />`);
}

function replaced(object, name, next) {
  const entries = Object.entries(object ?? {}).filter(([each]) => each !== name);
  return Object.fromEntries(next === undefined ? entries : [...entries, [name, next]]);
}

/** One argument: its name, its help, its input, and what is wrong with it. */
function Field({ name, schema, root, required, value, onChange, faults, at, level }) {
  const id = useId();
  const { nullable, others } = choices(schema, root);
  const [picked, pick] = useState(0);
  const chosen = others[Math.min(picked, others.length - 1)] ?? {};
  const shown = others.length === 1 ? { ...chosen, ...withoutChoices(schema) } : chosen;
  const asked = level < LEVELS ? kind(shown) : "json";
  const fault = faults.get(at);
  const help = own(schema, "description") ?? own(shown, "description");
  const fallback = own(schema, "default");
  const hints = [asked === "choice" || asked === "switch" ? "" : hint(shown)];
  if (fallback !== undefined && asked !== "switch" && asked !== "choice") hints.push(`${written(fallback)} if left out`);
  else if (nullable || !required) hints.push(asked === "switch" ? "" : "may be left out");
  const said = hints.filter(Boolean).join("; ");
  const described = `${help || said ? `${id}-help ` : ""}${fault ? `${id}-fault` : ""}`.trim() || undefined;
  const input = { id, "aria-describedby": described, "aria-invalid": fault ? "true" : undefined, "aria-required": required ? "true" : undefined, "data-at": at };
  const grouped = asked === "object" || asked === "list";
  const body = html`<${Input} asked=${asked} schema=${shown} root=${root} required=${required && !nullable} fallback=${fallback}
    value=${value} onChange=${onChange} faults=${faults} at=${at} level=${level} input=${input} name=${name} />`;
  const choice = others.length > 1 && html`<select aria-label=${`Kind of ${name}`} value=${picked} onChange=${(event) => {
    pick(Number(event.target.value));
    onChange(undefined);
  }}>${others.map((each, index) => html`<option value=${index}>${own(each, "title") ?? hint(each) ?? "JSON"}</option>`)}</select>`;
  const notes = html`
    ${(help || said) && html`<p class="help" id=${`${id}-help`}>${help ? `${help} ` : ""}${said && html`<span class="quiet">${said}</span>`}</p>`}
    ${fault && html`<p class="fault" id=${`${id}-fault`}>${name} ${fault}</p>`}`;
  const mark = required ? html`<span class="required" title="required">*</span>` : null;
  if (grouped) {
    return html`<fieldset class="field" aria-describedby=${described}><legend>${name}${mark}</legend>${choice}${notes}${body}</fieldset>`;
  }
  if (asked === "switch") return html`<div class="field"><span class="switch">${body}<label for=${id}>${name}</label></span>${choice}${notes}</div>`;
  return html`<div class="field"><label for=${id}>${name}${mark}</label>${choice}${body}${notes}</div>`;
}

function withoutChoices(schema) {
  const { anyOf, oneOf, type, ...rest } = schema;
  return anyOf || oneOf || Array.isArray(type) ? rest : schema;
}

function Input(props) {
  switch (props.asked) {
    case "switch": return html`<${Switch} ...${props} />`;
    case "choice": return html`<${Choice} ...${props} />`;
    case "integer": case "number": return html`<${Numeric} ...${props} />`;
    case "text": return html`<${Words} ...${props} />`;
    case "list": return html`<${List} ...${props} />`;
    case "object": return html`<${Whole} ...${props} />`;
    default: return html`<${Json} ...${props} />`;
  }
}

function Switch({ value, fallback, onChange, input }) {
  return html`<input type="checkbox" ...${input} checked=${value ?? fallback === true} onChange=${(event) => onChange(event.target.checked)} />`;
}

function Choice({ schema, value, fallback, required, onChange, input }) {
  const options = Array.isArray(own(schema, "enum")) ? schema.enum : [schema.const];
  const index = options.findIndex((each) => written(each) === written(value ?? null) && value !== undefined);
  const none = fallback === undefined ? (required ? "choose…" : "left out") : `${written(fallback)} (default)`;
  return html`<select ...${input} value=${index} onChange=${(event) => {
    const chosen = Number(event.target.value);
    onChange(chosen < 0 ? undefined : options[chosen]);
  }}><option value="-1">${none}</option>${options.map((each, at) => html`<option value=${at}>${written(each)}</option>`)}</select>`;
}

function Numeric({ schema, value, fallback, onChange, input, asked }) {
  const shown = value instanceof Unreadable ? value.text : value ?? "";
  const read = (text) => {
    const trimmed = text.trim();
    if (trimmed === "") return undefined;
    const number = Number(trimmed);
    if (!Number.isFinite(number)) return new Unreadable(text, "is not a number");
    if (asked === "integer" && !Number.isInteger(number)) return new Unreadable(text, "must be a whole number");
    if (Number.isInteger(number) && !Number.isSafeInteger(number)) return new Unreadable(text, "is larger than this page can send exactly");
    return number;
  };
  const [typed, setText] = useState(String(shown));
  const text = same(read(typed), value) ? typed : String(shown); // what was typed is kept as long as it means the value
  return html`<input type="text" inputmode=${asked === "integer" && own(schema, "minimum") >= 0 ? "numeric" : "text"} autocomplete="off"
    ...${input} value=${text} placeholder=${fallback === undefined ? "" : written(fallback)}
    onInput=${(event) => {
      setText(event.target.value);
      onChange(read(event.target.value));
    }} />`;
}

function Words({ schema, value, fallback, required, onChange, input }) {
  // Left empty, a text that need not be given is not given.
  const take = (event) => onChange(event.target.value === "" && !required ? undefined : event.target.value);
  const options = { ...input, value: value ?? "", placeholder: fallback === undefined ? "" : written(fallback), onInput: take };
  if (own(schema, "maxLength") === undefined && own(schema, "format") === undefined) {
    return html`<textarea rows="1" ...${options}></textarea>`;
  }
  return html`<input type="text" autocomplete="off" ...${options} />`;
}

function List({ schema, root, value, onChange, faults, at, level, name }) {
  const items = Array.isArray(value) ? value : [];
  const each = resolve(schema.items, root);
  return html`<ol class="items">${items.map((item, index) => html`<li key=${index}>
    <${Field} name=${`${name} ${index + 1}`} schema=${each} root=${root} required=${true} level=${level + 1} value=${item} faults=${faults}
      at=${`${at}/${index}`} onChange=${(next) => onChange(items.map((other, place) => place === index ? next ?? null : other))} />
    <button type="button" class="small" aria-label=${`Remove ${name} ${index + 1}`} onClick=${() => {
      const left = items.filter((_, place) => place !== index);
      onChange(left.length ? left : undefined);
    }}>Remove</button></li>`)}</ol>
    <button type="button" class="small" data-at=${at} onClick=${() => onChange([...items, initial(each, root) ?? null])}>Add to ${name}</button>`;
}

function Whole({ schema, root, value, required, onChange, faults, at, level, name }) {
  if (value === undefined && !required) {
    return html`<button type="button" class="small" data-at=${at} onClick=${() => onChange(initial(schema, root))}>Give ${name}</button>`;
  }
  return html`<div class="parts"><${Parts} schema=${schema} root=${root} value=${value} onChange=${onChange} faults=${faults} at=${at} level=${level + 1} /></div>
    ${!required && html`<button type="button" class="small" onClick=${() => onChange(undefined)}>Leave ${name} out</button>`}`;
}

function Json({ value, fallback, onChange, input }) {
  const shown = value instanceof Unreadable ? value.text : value === undefined ? "" : JSON.stringify(value);
  const [typed, setText] = useState(shown);
  const text = same(parsed(typed), value) ? typed : shown;
  return html`<textarea rows="2" spellcheck="false" class="code" ...${input} value=${text}
    placeholder=${fallback === undefined ? "JSON, as {\"a\": 1} or [1, 2]" : written(fallback)}
    onInput=${(event) => {
      const next = event.target.value;
      setText(next);
      onChange(parsed(next));
    }}></textarea>`;
}

function parsed(text) {
  if (text.trim() === "") return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return new Unreadable(text, "is not JSON");
  }
}

function same(one, other) {
  if (one instanceof Unreadable || other instanceof Unreadable) return one?.text === other?.text;
  return JSON.stringify(one) === JSON.stringify(other);
}
