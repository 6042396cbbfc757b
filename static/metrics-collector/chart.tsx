import type { JSX } from "preact";
import { useEffect, useId, useMemo, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import type { Release } from "../generated/metrics-collector.ts";
import { formatValue, type Unit } from "./format.ts";
import { MetricName } from "./metric-name.tsx";
import { releaseLabel } from "./releases.tsx";
import { bucketTimes, isolatedIndexes, latestValue, maxValue, type Values } from "./series.ts";
import type { BucketRange, TimeRange } from "./time-range.ts";

const HEIGHT_PX = 190;
const AXIS_WIDTH_PX = 68;
/** A shorter drag is a click. */
const DRAG_MIN_PX = 6;
const TABLE_ROWS_MAX = 200;
/** Maximum distance between the pointer and a release to show its tooltip. */
const RELEASE_DISTANCE_MAX_PX = 8;
/** Maximum length of a release name in a chart, in characters. */
const RELEASE_NAME_MAX = 18;
/** Maximum number of lines in a chart. style.css has a color for each. */
export const LINES_MAX = 8;
/** Synchronizes the crosshairs of all charts on the page. */
const CROSSHAIR = uPlot.sync("page").key;

const TIME_FORMAT = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hour12: false });
const DAY_FORMAT = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });
const FULL_FORMAT = new Intl.DateTimeFormat(undefined, {
  month: "short",
  day: "numeric",
  hour: "2-digit",
  minute: "2-digit",
  hour12: false,
});

export interface Line {
  label: string;
  values: Values;
}

/** A line chart with a legend that shows the values at the crosshair, and the same values as a table. */
export function Chart(props: {
  title: string;
  range: BucketRange;
  releases: Release[];
  lines: Line[];
  unit: Unit;
  /** Called with the range of a drag, or with `undefined` after a double click. */
  onZoom: (range: TimeRange | undefined) => void;
}): JSX.Element {
  const { title, range, releases, lines, unit } = props;
  const shownLines = lines.slice(0, LINES_MAX);
  const container = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot>(undefined);
  const latestProps = useRef(props);
  latestProps.current = props;
  const [cursorIndex, setCursorIndex] = useState<number | null>(null);
  const [hoveredRelease, setHoveredRelease] = useState<Release>();
  const id = useId();
  const times = useMemo(() => bucketTimes(range), [range]);
  const count = shownLines.length;

  useEffect(() => {
    const parent = container.current;
    if (!parent) {
      return;
    }
    const colors = new ThemeColors(parent);
    const created = new uPlot(
      {
        width: parent.clientWidth,
        height: HEIGHT_PX,
        legend: { show: false },
        cursor: {
          y: false,
          drag: { x: true, y: false, setScale: false },
          // Only the chart under the pointer reports a drag.
          sync: { key: CROSSHAIR, setSeries: false, filters: { pub: (type) => /^mouse(move|leave)$/.test(type) } },
          points: { size: 7 },
          bind: {
            dblclick: () => () => {
              latestProps.current.onZoom(undefined);
              return null;
            },
          },
        },
        scales: {
          x: { range: () => [latestProps.current.range.from, latestProps.current.range.to] },
          y: { range: (_, min, max) => (min >= 0 ? [0, max > 0 ? max * 1.08 : 1] : [min * 1.08, Math.max(max, 0)]) },
        },
        axes: [
          {
            stroke: () => colors.get("--muted"),
            grid: { stroke: () => colors.get("--border"), width: 1 },
            ticks: { show: false },
            space: 64,
            size: 28,
            values: (_, splits, _axis, _space, step) => splits.map((split) => formatTick(split, step)),
          },
          {
            stroke: () => colors.get("--muted"),
            grid: { stroke: () => colors.get("--border"), width: 1 },
            ticks: { show: false },
            size: AXIS_WIDTH_PX,
            values: (_, splits) => splits.map((split) => formatValue(split, latestProps.current.unit)),
          },
        ],
        series: [
          {},
          ...Array.from({ length: count }, (_, index) => ({
            stroke: () => colors.get(`--line-${index + 1}`),
            width: 1.75,
            points: { size: 5, filter: () => isolatedIndexes(latestProps.current.lines[index]?.values ?? []) },
          })),
        ],
        hooks: {
          draw: [(plot) => drawReleases(plot, latestProps.current.releases, colors)],
          setCursor: [
            (plot) => {
              setCursorIndex(plot.cursor.idx ?? null);
              setHoveredRelease(findReleaseAtCursor(plot, latestProps.current.releases));
            },
          ],
          setSelect: [
            (plot) => {
              const { left, width } = plot.select;
              if (width >= DRAG_MIN_PX) {
                plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
                latestProps.current.onZoom({ from: plot.posToVal(left, "x"), to: plot.posToVal(left + width, "x") });
              }
            },
          ],
        },
      },
      // The next effect sets the data.
      [[], ...Array.from({ length: count }, () => [])],
      parent,
    );
    plot.current = created;
    const stopObservingTheme = colors.onChange(() => created.redraw(false));
    const resizeObserver = new ResizeObserver(() => created.setSize({ width: parent.clientWidth, height: HEIGHT_PX }));
    resizeObserver.observe(parent);
    return () => {
      resizeObserver.disconnect();
      stopObservingTheme();
      created.destroy();
    };
  }, [count]);

  useEffect(() => {
    const data: uPlot.AlignedData = [times, ...shownLines.map(({ values }) => values)];
    const draw = (): void => plot.current?.setData(data);
    // Setting the data would abort a drag.
    if (plot.current && plot.current.select.width > 0) {
      addEventListener("mouseup", draw, { once: true });
      return () => removeEventListener("mouseup", draw);
    }
    draw();
  }, [times, lines, count]);

  useEffect(() => plot.current?.redraw(false), [releases, count]);

  const summary = shownLines.map(
    ({ label, values }) =>
      `${label}: latest ${formatValue(latestValue(values), unit)}, max ${formatValue(maxValue(values), unit)}`,
  );
  const time = cursorIndex === null ? undefined : times[cursorIndex];
  return (
    <section class="chart card" aria-labelledby={id}>
      <h3 id={id}>
        <MetricName name={title} />
      </h3>
      <ul class="legend" aria-hidden="true">
        {shownLines.map(({ label, values }, index) => (
          <li key={index}>
            <i class={`line-${index + 1}`} />
            <span class="name">{label}</span>
            <b>{formatValue(time === undefined ? latestValue(values) : values[cursorIndex ?? 0], unit)}</b>
          </li>
        ))}
        <li class="time muted">{time === undefined ? "latest" : FULL_FORMAT.format(time * 1000)}</li>
      </ul>
      <div ref={container} class="plot" role="img" aria-label={`${title}. ${summary.join("; ")}`}>
        {hoveredRelease && (
          <p class="release-tooltip" aria-hidden="true">
            Release <b>{releaseLabel(hoveredRelease, releases)}</b> at{" "}
            {FULL_FORMAT.format(Date.parse(hoveredRelease.at))}
          </p>
        )}
      </div>
      <ValueTable title={title} times={times} lines={lines} unit={unit} />
    </section>
  );
}

/** A table of the chart's values, for screen readers and for copying. */
function ValueTable(props: { title: string; times: number[]; lines: Line[]; unit: Unit }): JSX.Element {
  const { title, times, lines, unit } = props;
  const [open, setOpen] = useState(false);
  const rowsWithValues = open
    ? times.flatMap((_, index) =>
        lines.some(({ values }) => values[index] !== null && values[index] !== undefined) ? [index] : [],
      )
    : [];
  const rows = rowsWithValues.slice(-TABLE_ROWS_MAX).reverse();
  return (
    <details onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>
        Table<span class="hidden"> of {title}</span>
      </summary>
      {open && (
        <div class="scroll" tabIndex={0} role="group" aria-label={`${title}, as a table`}>
          <table class="figures">
            <caption class="muted">
              {rows.length < rowsWithValues.length
                ? `Newest ${rows.length} of ${rowsWithValues.length} rows`
                : "Newest first"}
            </caption>
            <thead>
              <tr>
                <th scope="col">Time</th>
                {lines.map(({ label }, index) => (
                  <th key={index} scope="col">
                    {label}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {rows.map((row) => (
                <tr key={row}>
                  <th scope="row">{FULL_FORMAT.format((times[row] ?? 0) * 1000)}</th>
                  {lines.map(({ values }, index) => (
                    <td key={index}>{formatValue(values[row], unit)}</td>
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </details>
  );
}

/** Draws a line at each release, and its name if the name does not overlap the previous one. */
function drawReleases(plot: uPlot, releases: Release[], colors: ThemeColors): void {
  const { ctx, bbox } = plot;
  const scale = devicePixelRatio;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  ctx.strokeStyle = colors.get("--release");
  ctx.fillStyle = colors.get("--release");
  ctx.lineWidth = scale;
  ctx.setLineDash([4 * scale, 3 * scale]);
  ctx.font = `${11 * scale}px system-ui, sans-serif`;
  ctx.textBaseline = "top";
  ctx.textAlign = "left";
  let freeFrom = bbox.left;
  for (const release of releases) {
    const x = Math.round(plot.valToPos(Date.parse(release.at) / 1000, "x", true)) + scale / 2;
    if (x < bbox.left || x > bbox.left + bbox.width) {
      continue;
    }
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    const name = truncateName(release.release);
    const width = ctx.measureText(name).width + 4 * scale;
    // At the right edge, the name is on the left of its line.
    const left = x + width > bbox.left + bbox.width ? x - width : x + 4 * scale;
    if (left >= freeFrom) {
      ctx.fillText(name, left, bbox.top + 2 * scale);
      freeFrom = left + width + 2 * scale;
    }
  }
  ctx.restore();
}

function truncateName(name: string): string {
  return name.length > RELEASE_NAME_MAX ? `${name.slice(0, RELEASE_NAME_MAX)}…` : name;
}

/** Returns the release nearest to the pointer, if it is close enough. */
function findReleaseAtCursor(plot: uPlot, releases: Release[]): Release | undefined {
  const { left } = plot.cursor;
  if (left === undefined || left < 0) {
    return undefined;
  }
  const distance = (release: Release): number => Math.abs(plot.valToPos(Date.parse(release.at) / 1000, "x") - left);
  const nearest = releases.toSorted((a, b) => distance(a) - distance(b))[0];
  return nearest && distance(nearest) <= RELEASE_DISTANCE_MAX_PX ? nearest : undefined;
}

/** Formats a label of the time axis. `stepSeconds` is the distance between labels. */
function formatTick(seconds: number, stepSeconds: number): string {
  const date = new Date(seconds * 1000);
  const isMidnight = date.getHours() === 0 && date.getMinutes() === 0;
  return stepSeconds >= 86_400 || isMidnight ? DAY_FORMAT.format(date) : TIME_FORMAT.format(date);
}

/** Resolves the style sheet's colors for the canvas, in the current theme. */
class ThemeColors {
  private readonly cache = new Map<string, string>();

  constructor(private readonly element: HTMLElement) {}

  get(name: string): string {
    let color = this.cache.get(name);
    if (color === undefined) {
      const probe = document.createElement("i");
      probe.style.color = `var(${name})`;
      this.element.append(probe);
      color = getComputedStyle(probe).color;
      probe.remove();
      this.cache.set(name, color);
    }
    return color;
  }

  /** Calls back when the theme changes. Returns a function that stops this. */
  onChange(callback: () => void): () => void {
    const onThemeChange = (): void => {
      this.cache.clear();
      callback();
    };
    const observer = new MutationObserver(onThemeChange);
    observer.observe(document.documentElement, { attributeFilter: ["data-theme"] });
    const systemTheme = matchMedia("(prefers-color-scheme: dark)");
    systemTheme.addEventListener("change", onThemeChange);
    return () => {
      observer.disconnect();
      systemTheme.removeEventListener("change", onThemeChange);
    };
  }
}
