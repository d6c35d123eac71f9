// Fills in a command's arguments and sends it.

import { html, useEffect, useRef, useState } from "./html.js";
import { Once, session } from "./api.js";
import { Arguments } from "./form.js";
import { Failure } from "./parts.js";
import { faults as faultsOf, initial, plain } from "./schema.js";

/**
 * A form for one command. `onSent` is given what the hub says of it.
 *
 * `more` is added to what is sent, `check` says what is wrong with it. The same filling-in is sent once: a repeat after
 * a broken connection carries the same idempotency key.
 */
export function Run({ target, command, about, more = () => ({}), onSent, label, children, ready = true }) {
  const [args, setArgs] = useState(() => initial({ ...about.arguments, type: "object" }, about.arguments) ?? {});
  const [tried, setTried] = useState(false);
  const [refused, setRefused] = useState(null);
  const [sending, setSending] = useState(false);
  const form = useRef(null);
  const once = useRef(new Once());
  const found = faultsOf(args, about.arguments ?? {});
  if (refused?.field && tried) found.set(`/${refused.field.replace(/^args[./]?/, "")}`, refused.message);
  const shown = tried ? found : new Map([...found].filter(([, words]) => words !== "is missing"));

  useEffect(() => {
    if (tried && found.size) form.current.querySelector("[aria-invalid=true], .fault")?.focus?.();
  }, [tried]);

  const change = (next) => {
    setArgs(next);
    setRefused(null);
  };

  const send = async (event) => {
    event.preventDefault();
    setTried(true);
    setRefused(null);
    if (faultsOf(args, about.arguments ?? {}).size) {
      const first = form.current.querySelector("[aria-invalid=true], [aria-required=true]");
      first?.focus();
      return;
    }
    setSending(true);
    try {
      const body = { target, command, args: plain(args), ...more() };
      const sent = await once.current.post("commands", body);
      setTried(false);
      onSent(sent);
    } catch (error) {
      setRefused(error);
    } finally {
      setSending(false);
    }
  };

  if (!session.may("send")) return html`<p class="quiet">Your token may look, and not send.</p>`;
  return html`<form ref=${form} onSubmit=${send} noValidate aria-label=${`Send ${command}`}>
    <${Arguments} schema=${about.arguments ?? {}} value=${args} onChange=${change} faults=${shown} />
    ${children}
    ${refused && html`<${Failure} problem=${refused} />`}
    ${tried && found.size > 0 && !refused && html`<p class="fault" role="alert">Nothing was sent: ${[...found].map(([at, words]) => `${at.slice(1) || "the arguments"} ${words}`).join("; ")}.</p>`}
    <div class="actions"><button type="submit" class="primary" disabled=${sending || !ready}>${label ?? `Run ${command}`}</button></div>
  </form>`;
}
