// A table of any length: only the rows in sight are in the document, and it is still a table to a screen reader.

import { html, useEffect, useLayoutEffect, useRef, useState } from "./html.js";

const ROW = 40;
const SPARE = 8;

/**
 * A table whose rows all have the same height.
 *
 * `columns` are `{ name, title, cell(key), class, order }`; where there is an `order`, the heading sorts by it.
 * `keys` says which rows there are, in their order. Arrow keys go from row to row, Enter follows a row's link.
 */
export function Table({ label, columns, keys, sorted, onSort, empty }) {
  const box = useRef(null);
  const [view, setView] = useState({ top: 0, height: 600 });
  const [active, setActive] = useState(0);
  const moved = useRef(false);

  useLayoutEffect(() => {
    const element = box.current;
    const look = () => setView({ top: element.scrollTop, height: element.clientHeight });
    const observer = new ResizeObserver(look);
    observer.observe(element);
    element.addEventListener("scroll", look, { passive: true });
    look();
    return () => {
      observer.disconnect();
      element.removeEventListener("scroll", look);
    };
  }, []);

  const first = Math.max(0, Math.min(Math.floor(view.top / ROW) - SPARE, keys.length - 1));
  const last = Math.min(keys.length, Math.ceil((view.top + view.height) / ROW) + SPARE);
  const current = Math.min(active, Math.max(0, keys.length - 1));
  // Tab always finds a row: the active one, or the first in sight where that has been scrolled away.
  const reachable = current >= first && current < last ? current : Math.max(first, Math.ceil(view.top / ROW));

  useEffect(() => {
    if (!moved.current) return;
    moved.current = false;
    box.current.querySelector(`tr[data-row="${current}"] a, tr[data-row="${current}"] button`)?.focus({ preventScroll: true });
  });

  const press = (event) => {
    const row = Number(event.target.closest("tr[data-row]")?.dataset.row);
    if (!Number.isInteger(row)) return;
    const page = Math.max(1, Math.floor(view.height / ROW) - 1);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (!(event.key in steps)) return;
    event.preventDefault();
    const next = Math.min(keys.length - 1, Math.max(0, row + steps[event.key]));
    const element = box.current;
    const bottom = element.clientHeight - ROW; // the heading covers one row's height
    if (next * ROW < element.scrollTop) element.scrollTop = next * ROW;
    if ((next + 1) * ROW > element.scrollTop + bottom) element.scrollTop = (next + 1) * ROW - bottom;
    setView({ top: element.scrollTop, height: element.clientHeight });
    moved.current = true;
    setActive(next);
  };

  const heading = (column) => {
    if (!column.order) return html`<th scope="col" class=${column.class}>${column.title}</th>`;
    const mine = sorted?.name === column.name;
    const direction = mine ? (sorted.down ? "descending" : "ascending") : "none";
    const turn = () => onSort({ name: column.name, down: mine && !sorted.down });
    return html`<th scope="col" class=${column.class} aria-sort=${direction}>
      <button type="button" class="heading" onClick=${turn}>${column.title}<span aria-hidden="true">${mine ? (sorted.down ? " ↓" : " ↑") : ""}</span></button>
    </th>`;
  };

  const rows = [];
  for (let index = first; index < last; index += 1) {
    const key = keys[index];
    rows.push(html`<tr key=${key} data-row=${index} aria-rowindex=${index + 2} class=${index % 2 ? "odd" : ""}>
      ${columns.map((column) => html`<td key=${column.name} class=${column.class}>${column.cell(key, index === reachable ? 0 : -1)}</td>`)}
    </tr>`);
  }
  return html`<div class="rows" ref=${box} role="region" aria-label=${label} tabindex=${keys.length ? -1 : 0}>
    <table aria-label=${label} aria-rowcount=${keys.length + 1}>
      <thead><tr aria-rowindex="1">${columns.map(heading)}</tr></thead>
      <tbody onKeyDown=${press} onFocusIn=${(event) => {
        const row = event.target.closest("tr[data-row]");
        if (row) setActive(Number(row.dataset.row));
      }}>
        ${first > 0 && html`<tr key="above" class="space" aria-hidden="true" style=${{ height: `${first * ROW}px` }}><td></td></tr>`}
        ${rows}
        ${last < keys.length && html`<tr key="below" class="space" aria-hidden="true" style=${{ height: `${(keys.length - last) * ROW}px` }}><td></td></tr>`}
      </tbody>
    </table>
    ${keys.length === 0 && html`<p class="empty">${empty}</p>`}
  </div>`;
}
