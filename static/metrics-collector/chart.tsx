import type { JSX } from "preact";
import { useEffect, useId, useMemo, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import { highest, latest, lonely, times, type Values } from "./data.ts";
import { format, type Unit } from "./format.ts";
import { Name } from "./name.tsx";
import type { Frame, Span } from "./range.ts";
import { nameOf } from "./releases.tsx";
import type { Release } from "./types.ts";

const HEIGHT = 190;
const AXIS_WIDTH = 68;
/** A drag of fewer pixels is a click. */
const DRAG_MIN = 6;
const ROWS_MAX = 200;
/** So close to a release it is pointed at. */
const NEAR_PX = 8;
/** Letters of a release's name that are drawn. */
const NAME_MAX = 18;
/** As many as can be told apart; style.css has a colour for each. */
export const LINES_MAX = 8;
/** All charts of a page show the same moment. */
const CROSSHAIR = uPlot.sync("page").key;

const TIME = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hour12: false });
const DAY = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });
const FULL = new Intl.DateTimeFormat(undefined, {
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

/** Lines over time, what they are worth where the pointer is, and the same as a table. */
export function Chart(props: {
  title: string;
  frame: Frame;
  releases: Release[];
  lines: Line[];
  unit: Unit;
  onZoom: (span: Span | undefined) => void;
}): JSX.Element {
  const { title, frame, releases, lines, unit } = props;
  const shown = lines.slice(0, LINES_MAX);
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot>(undefined);
  const current = useRef(props);
  current.current = props;
  const [at, setAt] = useState<number | null>(null);
  const [near, setNear] = useState<Release>();
  const id = useId();
  const x = useMemo(() => times(frame), [frame]);
  const count = shown.length;

  useEffect(() => {
    const parent = box.current;
    if (!parent) {
      return;
    }
    const colors = new Colors(parent);
    const drawn = new uPlot(
      {
        width: parent.clientWidth,
        height: HEIGHT,
        legend: { show: false },
        cursor: {
          y: false,
          drag: { x: true, y: false, setScale: false },
          // A drag is for one chart to report.
          sync: { key: CROSSHAIR, setSeries: false, filters: { pub: (type) => /^mouse(move|leave)$/.test(type) } },
          points: { size: 7 },
          bind: {
            dblclick: () => () => {
              current.current.onZoom(undefined);
              return null;
            },
          },
        },
        scales: {
          x: { range: () => [current.current.frame.from, current.current.frame.to] },
          y: { range: (_, min, max) => (min >= 0 ? [0, max > 0 ? max * 1.08 : 1] : [min * 1.08, Math.max(max, 0)]) },
        },
        axes: [
          {
            stroke: () => colors.of("--quiet"),
            grid: { stroke: () => colors.of("--line"), width: 1 },
            ticks: { show: false },
            space: 64,
            size: 28,
            values: (_, splits, _axis, _space, every) => splits.map((split) => moment(split, every)),
          },
          {
            stroke: () => colors.of("--quiet"),
            grid: { stroke: () => colors.of("--line"), width: 1 },
            ticks: { show: false },
            size: AXIS_WIDTH,
            values: (_, splits) => splits.map((split) => format(split, current.current.unit)),
          },
        ],
        series: [
          {},
          ...Array.from({ length: count }, (_, index) => ({
            stroke: () => colors.of(`--line-${index + 1}`),
            width: 1.75,
            points: { size: 5, filter: () => lonely(current.current.lines[index]?.values ?? []) },
          })),
        ],
        hooks: {
          draw: [(plot) => drawReleases(plot, current.current.releases, colors)],
          setCursor: [
            (plot) => {
              setAt(plot.cursor.idx ?? null);
              setNear(releaseNear(plot, current.current.releases));
            },
          ],
          setSelect: [
            (plot) => {
              const { left, width } = plot.select;
              if (width >= DRAG_MIN) {
                plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
                current.current.onZoom({ from: plot.posToVal(left, "x"), to: plot.posToVal(left + width, "x") });
              }
            },
          ],
        },
      },
      // The numbers come with the next effect.
      [[], ...Array.from({ length: count }, () => [])],
      parent,
    );
    plot.current = drawn;
    const stopTheme = colors.onChange(() => drawn.redraw(false));
    const resized = new ResizeObserver(() => drawn.setSize({ width: parent.clientWidth, height: HEIGHT }));
    resized.observe(parent);
    return () => {
      resized.disconnect();
      stopTheme();
      drawn.destroy();
    };
  }, [count]);

  useEffect(() => {
    const data: uPlot.AlignedData = [x, ...shown.map(({ values }) => values)];
    const draw = (): void => plot.current?.setData(data);
    // New numbers would end a drag under the reader's hand.
    if (plot.current && plot.current.select.width > 0) {
      addEventListener("mouseup", draw, { once: true });
      return () => removeEventListener("mouseup", draw);
    }
    draw();
  }, [x, lines, count]);

  useEffect(() => plot.current?.redraw(false), [releases, count]);

  const summary = shown.map(
    ({ label, values }) => `${label}: latest ${format(latest(values), unit)}, highest ${format(highest(values), unit)}`,
  );
  const time = at === null ? undefined : x[at];
  return (
    <section class="chart paper" aria-labelledby={id}>
      <h3 id={id}>
        <Name of={title} />
      </h3>
      <ul class="legend" aria-hidden="true">
        {shown.map(({ label, values }, index) => (
          <li key={index}>
            <i class={`line-${index + 1}`} />
            <span class="name">{label}</span>
            <b>{format(time === undefined ? latest(values) : values[at ?? 0], unit)}</b>
          </li>
        ))}
        <li class="moment quiet">{time === undefined ? "latest" : FULL.format(time * 1000)}</li>
      </ul>
      <div ref={box} class="plot" role="img" aria-label={`${title}. ${summary.join("; ")}`}>
        {near && (
          <p class="near" aria-hidden="true">
            Release <b>{nameOf(near, releases)}</b> at {FULL.format(Date.parse(near.at))}
          </p>
        )}
      </div>
      <Table title={title} x={x} lines={lines} unit={unit} />
    </section>
  );
}

/** The same numbers for who cannot see a chart, or wants to copy them. */
function Table({ title, x, lines, unit }: { title: string; x: number[]; lines: Line[]; unit: Unit }): JSX.Element {
  const [open, setOpen] = useState(false);
  const filled = open
    ? x.flatMap((_, index) =>
        lines.some(({ values }) => values[index] !== null && values[index] !== undefined) ? [index] : [],
      )
    : [];
  const rows = filled.slice(-ROWS_MAX).reverse();
  return (
    <details onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>
        Table<span class="hidden"> of {title}</span>
      </summary>
      {open && (
        <div class="scroll" tabIndex={0} role="group" aria-label={`${title}, as a table`}>
          <table class="figures">
            <caption class="quiet">
              {rows.length < filled.length ? `The latest ${rows.length} of ${filled.length} rows` : "The latest first"}
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
                  <th scope="row">{FULL.format((x[row] ?? 0) * 1000)}</th>
                  {lines.map(({ values }, index) => (
                    <td key={index}>{format(values[row], unit)}</td>
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

/** Thin lines where releases began, with as many names as there is room for. */
function drawReleases(plot: uPlot, releases: Release[], colors: Colors): void {
  const { ctx, bbox } = plot;
  const scale = devicePixelRatio;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  ctx.strokeStyle = colors.of("--release");
  ctx.fillStyle = colors.of("--release");
  ctx.lineWidth = scale;
  ctx.setLineDash([4 * scale, 3 * scale]);
  ctx.font = `${11 * scale}px system-ui, sans-serif`;
  ctx.textBaseline = "top";
  ctx.textAlign = "left";
  let free = bbox.left;
  for (const release of releases) {
    const x = Math.round(plot.valToPos(Date.parse(release.at) / 1000, "x", true)) + scale / 2;
    if (x < bbox.left || x > bbox.left + bbox.width) {
      continue;
    }
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    const name = shortened(release.release);
    const width = ctx.measureText(name).width + 4 * scale;
    // At the right edge it stands in front of its line.
    const left = x + width > bbox.left + bbox.width ? x - width : x + 4 * scale;
    if (left >= free) {
      ctx.fillText(name, left, bbox.top + 2 * scale);
      free = left + width + 2 * scale;
    }
  }
  ctx.restore();
}

function shortened(name: string): string {
  return name.length > NAME_MAX ? `${name.slice(0, NAME_MAX)}…` : name;
}

/** The release that is pointed at. */
function releaseNear(plot: uPlot, releases: Release[]): Release | undefined {
  const { left } = plot.cursor;
  if (left === undefined || left < 0) {
    return undefined;
  }
  const away = (release: Release): number => Math.abs(plot.valToPos(Date.parse(release.at) / 1000, "x") - left);
  const nearest = releases.toSorted((a, b) => away(a) - away(b))[0];
  return nearest && away(nearest) <= NEAR_PX ? nearest : undefined;
}

function moment(seconds: number, every: number): string {
  const date = new Date(seconds * 1000);
  const isMidnight = date.getHours() === 0 && date.getMinutes() === 0;
  return every >= 86_400 || isMidnight ? DAY.format(date) : TIME.format(date);
}

/** The style sheet's colours as a canvas takes them, in the theme of the moment. */
class Colors {
  private readonly known = new Map<string, string>();

  constructor(private readonly element: HTMLElement) {}

  of(name: string): string {
    let color = this.known.get(name);
    if (color === undefined) {
      const probe = document.createElement("i");
      probe.style.color = `var(${name})`;
      this.element.append(probe);
      color = getComputedStyle(probe).color;
      probe.remove();
      this.known.set(name, color);
    }
    return color;
  }

  /** Calls back whenever the theme has changed. Answers how to stop that. */
  onChange(call: () => void): () => void {
    const changed = (): void => {
      this.known.clear();
      call();
    };
    const chosen = new MutationObserver(changed);
    chosen.observe(document.documentElement, { attributeFilter: ["data-theme"] });
    const preferred = matchMedia("(prefers-color-scheme: dark)");
    preferred.addEventListener("change", changed);
    return () => {
      chosen.disconnect();
      preferred.removeEventListener("change", changed);
    };
  }
}
