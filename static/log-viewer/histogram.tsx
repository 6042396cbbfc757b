import type { JSX } from "preact";
import { useRef, useState } from "preact/hooks";
import type { Histogram } from "../generated/log-viewer.ts";
import { ApiError, get, query } from "../shared/api.ts";
import { useFetch } from "../shared/hooks.ts";
import { formatAbsolute } from "../shared/time.ts";
import { ErrorMessage } from "../shared/ui.tsx";
import { type Filters, LEVELS } from "./filters.ts";

const REFRESH_INTERVAL_MS = 30_000;
/** Height of the chart in SVG units. */
const HEIGHT = 100;
const MINUTE_MS = 60_000;

/** A stacked bar chart of log lines by level. Dragging over it selects a period. */
export function HistogramChart(props: {
  filters: Filters;
  onZoom: (since: string, until: string) => void;
}): JSX.Element | null {
  const path = `api/logs/histogram${query({ ...props.filters })}`;
  const { value, error, reload } = useFetch(path, (signal) => get<Histogram>(path, signal), REFRESH_INTERVAL_MS);
  const area = useRef<HTMLDivElement>(null);
  // Indexes of the bucket where a drag started and of the bucket under the pointer.
  const [dragStart, setDragStart] = useState<number>();
  const [hovered, setHovered] = useState<number>();
  if (error && !value) {
    // The list of lines already shows the error of an invalid filter.
    return error instanceof ApiError && error.status === 400 ? null : <ErrorMessage error={error} retry={reload} />;
  }
  if (!value) {
    return <div class="chart" />;
  }
  const bucketMs = value.bucket_minutes * MINUTE_MS;
  const times = value.buckets.map(({ bucket }) => Date.parse(bucket));
  const start = times[0];
  if (start === undefined) {
    return null;
  }
  const count = Math.round(((times.at(-1) ?? start) - start) / bucketMs) + 1;
  const max = Math.max(...value.buckets.map(({ count }) => count));
  const paths = LEVELS.map((level, rank) => ({
    level,
    d: value.buckets
      .map(({ levels }, index) => {
        const x = ((times[index] ?? start) - start) / bucketMs;
        // The most severe levels are at the bottom, where heights are easiest to compare.
        const below = LEVELS.slice(rank + 1).reduce((sum, level) => sum + levels[level], 0);
        const scale = HEIGHT / max;
        return levels[level] > 0 ? `M${x + 0.05} ${HEIGHT - below * scale}h0.9v${-levels[level] * scale}h-0.9z` : "";
      })
      .join(""),
  }));
  const bucketIndexAt = (event: PointerEvent): number => {
    const box = area.current?.getBoundingClientRect();
    const fraction = box ? (event.clientX - box.left) / box.width : 0;
    return Math.min(count - 1, Math.max(0, Math.floor(fraction * count)));
  };
  const bucketTime = (index: number): string => new Date(start + index * bucketMs).toISOString();
  const zoom = (a: number, b: number): void => {
    const [first, last] = [Math.min(a, b), Math.max(a, b)];
    // `until` is inclusive.
    props.onZoom(bucketTime(first), new Date(start + (last + 1) * bucketMs - 1).toISOString());
  };
  const bucket = hovered === undefined ? undefined : value.buckets[times.indexOf(start + hovered * bucketMs)];
  const caption =
    hovered === undefined
      ? `max ${max.toLocaleString()} per ${value.bucket_minutes} min; drag to zoom`
      : `${formatAbsolute(bucketTime(hovered))}: ${describeBucket(bucket)}`;
  const [low, high] =
    dragStart === undefined || hovered === undefined
      ? [0, -1]
      : [Math.min(dragStart, hovered), Math.max(dragStart, hovered)];
  return (
    <figure class="chart" aria-label="Log lines over time">
      <div
        ref={area}
        class="area"
        onPointerDown={(event) => {
          event.preventDefault();
          event.currentTarget.setPointerCapture(event.pointerId);
          setDragStart(bucketIndexAt(event));
        }}
        onPointerMove={(event) => setHovered(bucketIndexAt(event))}
        onPointerLeave={() => dragStart === undefined && setHovered(undefined)}
        onPointerCancel={() => setDragStart(undefined)}
        onPointerUp={(event) => {
          if (dragStart !== undefined) {
            zoom(dragStart, bucketIndexAt(event));
          }
          setDragStart(undefined);
          setHovered(undefined);
        }}
      >
        <svg
          viewBox={`0 0 ${count} ${HEIGHT}`}
          preserveAspectRatio="none"
          role="img"
          aria-label={`${value.total.toLocaleString()} lines from ${formatAbsolute(bucketTime(0))} to ${formatAbsolute(bucketTime(count))}`}
        >
          {paths.map(({ level, d }) => d && <path key={level} class={level.toLowerCase()} d={d} />)}
          {high >= low && <rect class="selected" x={low} y="0" width={high - low + 1} height={HEIGHT} />}
        </svg>
      </div>
      <figcaption>
        <span>{formatAbsolute(bucketTime(0))}</span>
        <span class="caption">
          {caption}
          {value.partial && " (search timed out; counts are incomplete)"}
        </span>
        <span>{formatAbsolute(bucketTime(count))}</span>
      </figcaption>
    </figure>
  );
}

/** Returns the counts of a bucket by level, most severe first. */
function describeBucket(bucket: Histogram["buckets"][number] | undefined): string {
  if (!bucket) {
    return "no lines";
  }
  const levels = LEVELS.filter((level) => bucket.levels[level] > 0).map(
    (level) => `${bucket.levels[level].toLocaleString()} ${level}`,
  );
  return levels.reverse().join(", ");
}
