import type { JSX } from "preact";
import { useRef, useState } from "preact/hooks";
import { ApiError, get, query } from "../shared/api.ts";
import { useLoaded } from "../shared/hooks.ts";
import { absolute } from "../shared/time.ts";
import { Trouble } from "../shared/ui.tsx";
import { type Filters, type Histogram, LEVELS } from "./types.ts";

const EVERY_MS = 30_000;
const HEIGHT = 100;
const MINUTE_MS = 60_000;

/** Lines over time by level. What is dragged over becomes the period. */
export function Chart(props: { filters: Filters; onZoom: (since: string, until: string) => void }): JSX.Element | null {
  const path = `api/logs/histogram${query({ ...props.filters })}`;
  const { value, error, reload } = useLoaded(path, (signal) => get<Histogram>(path, signal), EVERY_MS);
  const area = useRef<HTMLDivElement>(null);
  const [from, setFrom] = useState<number>();
  const [pointed, setPointed] = useState<number>();
  if (error && !value) {
    // What is wrong with a filter stands where the lines would be.
    return error instanceof ApiError && error.status === 400 ? null : <Trouble error={error} retry={reload} />;
  }
  if (!value) {
    return <div class="chart" />;
  }
  const size = value.bucket_minutes * MINUTE_MS;
  const times = value.buckets.map(({ bucket }) => Date.parse(bucket));
  const start = times[0];
  if (start === undefined) {
    return null;
  }
  const count = Math.round(((times.at(-1) ?? start) - start) / size) + 1;
  const most = Math.max(...value.buckets.map(({ count }) => count));
  const paths = LEVELS.map((level, rank) => ({
    level,
    d: value.buckets
      .map(({ levels }, index) => {
        const x = ((times[index] ?? start) - start) / size;
        // The gravest stand at the bottom, where they are compared best.
        const below = LEVELS.slice(rank + 1).reduce((sum, graver) => sum + levels[graver], 0);
        const scale = HEIGHT / most;
        return levels[level] > 0 ? `M${x + 0.05} ${HEIGHT - below * scale}h0.9v${-levels[level] * scale}h-0.9z` : "";
      })
      .join(""),
  }));
  const slotAt = (event: PointerEvent): number => {
    const box = area.current?.getBoundingClientRect();
    const part = box ? (event.clientX - box.left) / box.width : 0;
    return Math.min(count - 1, Math.max(0, Math.floor(part * count)));
  };
  const time = (slot: number): string => new Date(start + slot * size).toISOString();
  const zoom = (a: number, b: number): void => {
    const [first, last] = [Math.min(a, b), Math.max(a, b)];
    // Both ends are included.
    props.onZoom(time(first), new Date(start + (last + 1) * size - 1).toISOString());
  };
  const bucket = pointed === undefined ? undefined : value.buckets[times.indexOf(start + pointed * size)];
  const caption =
    pointed === undefined
      ? `at most ${most.toLocaleString()} in ${value.bucket_minutes} min; drag to zoom`
      : `${absolute(time(pointed))}: ${said(bucket)}`;
  const [low, high] =
    from === undefined || pointed === undefined ? [0, -1] : [Math.min(from, pointed), Math.max(from, pointed)];
  return (
    <figure class="chart" aria-label="Lines over time">
      <div
        ref={area}
        class="area"
        onPointerDown={(event) => {
          event.preventDefault();
          event.currentTarget.setPointerCapture(event.pointerId);
          setFrom(slotAt(event));
        }}
        onPointerMove={(event) => setPointed(slotAt(event))}
        onPointerLeave={() => from === undefined && setPointed(undefined)}
        onPointerCancel={() => setFrom(undefined)}
        onPointerUp={(event) => {
          if (from !== undefined) {
            zoom(from, slotAt(event));
          }
          setFrom(undefined);
          setPointed(undefined);
        }}
      >
        <svg
          viewBox={`0 0 ${count} ${HEIGHT}`}
          preserveAspectRatio="none"
          role="img"
          aria-label={`${value.total.toLocaleString()} lines from ${absolute(time(0))} to ${absolute(time(count))}`}
        >
          {paths.map(({ level, d }) => d && <path key={level} class={level.toLowerCase()} d={d} />)}
          {high >= low && <rect class="selected" x={low} y="0" width={high - low + 1} height={HEIGHT} />}
        </svg>
      </div>
      <figcaption>
        <span>{absolute(time(0))}</span>
        <span class="what">
          {caption}
          {value.partial && " (not all could be counted in time)"}
        </span>
        <span>{absolute(time(count))}</span>
      </figcaption>
    </figure>
  );
}

function said(bucket: Histogram["buckets"][number] | undefined): string {
  if (!bucket) {
    return "none";
  }
  const levels = LEVELS.filter((level) => bucket.levels[level] > 0).map(
    (level) => `${bucket.levels[level].toLocaleString()} ${level}`,
  );
  return levels.reverse().join(", ");
}
