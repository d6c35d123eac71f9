// Draws counts over time, one line for each key.

import uPlot from "./vendor/uplot.js";
import { html, useEffect, useLayoutEffect, useRef, useState } from "./html.js";

const HEIGHT = 260;
const COLOURS = 8;
const HALF_A_LABEL = 32; // pixels, so that the last one is not cut off

/** The colour of the line with this number, as the page's style sheet has it. */
export function colour(number) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--line-${number % COLOURS}`).trim();
}

/** A chart of `times` and, for each of `names`, as many counts in `columns`. */
export function Chart({ label, names, times, columns }) {
  const box = useRef(null);
  const chart = useRef(null);
  const dark = useDark();
  const drawn = JSON.stringify(names);

  useLayoutEffect(() => {
    const style = getComputedStyle(document.documentElement);
    const ink = style.getPropertyValue("--quiet").trim();
    const grid = { stroke: style.getPropertyValue("--line").trim(), width: 1 };
    const axis = { stroke: ink, grid, ticks: grid, font: "12px system-ui, sans-serif" };
    const days = times.at(-1) - times[0] > 2 * 86_400;
    const words = new Intl.DateTimeFormat(undefined, days ? { month: "short", day: "numeric" } : { hour: "2-digit", minute: "2-digit" });
    const clock = (_, splits) => splits.map((at) => words.format(new Date(at * 1000)));
    chart.current = new uPlot({
      width: box.current.clientWidth,
      height: HEIGHT,
      padding: [null, HALF_A_LABEL, null, null],
      legend: { show: false },
      cursor: { drag: { x: false, y: false }, points: { size: 6 } },
      scales: { y: { range: (_, low, high) => [0, Math.max(4, (high ?? 0) * 1.1)] } },
      axes: [{ ...axis, values: clock, space: 80, incrs: [60, 120, 300, 600, 1800, 3600, 7200, 14_400, 43_200, 86_400, 432_000] }, { ...axis, size: 48, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 1e6, 1e7] }],
      series: [{}, ...names.map((_, index) => ({
        stroke: colour(index), width: 2, paths: uPlot.paths.stepped({ align: 1 }), points: { show: false },
        fill: names.length === 1 ? `${colour(index)}22` : undefined,
      }))],
    }, [times, ...columns], box.current);
    const observer = new ResizeObserver(() => chart.current.setSize({ width: box.current.clientWidth, height: HEIGHT }));
    observer.observe(box.current);
    return () => {
      observer.disconnect();
      chart.current.destroy();
    };
  }, [drawn, dark]);

  useEffect(() => chart.current.setData([times, ...columns]), [times, columns]);

  return html`<div class="chart" ref=${box} role="img" aria-label=${label}></div>`;
}

function useDark() {
  const query = matchMedia("(prefers-color-scheme: dark)");
  const [dark, setDark] = useState(query.matches);
  useEffect(() => {
    const look = () => setDark(query.matches);
    query.addEventListener("change", look);
    return () => query.removeEventListener("change", look);
  }, []);
  return dark;
}
