import type { JSX } from "preact";
import type { Release } from "../generated/metrics-collector.ts";

/** Above this number, earlier releases are collapsed. */
const LISTED_MAX = 12;
const TIME = new Intl.DateTimeFormat(undefined, {
  month: "short",
  day: "numeric",
  hour: "2-digit",
  minute: "2-digit",
  hour12: false,
});

/** Returns the name of a release, followed by its project if the releases belong to several projects. */
export function releaseLabel({ release, project }: Release, all: Release[]): string {
  return all.some((other) => other.project !== project) ? `${release} (${project})` : release;
}

/** The list of the releases that the charts mark, as an accessible alternative. */
export function Releases({ releases }: { releases: Release[] }): JSX.Element | null {
  if (releases.length === 0) {
    return null;
  }
  const latest = releases.toReversed();
  const renderList = (part: Release[]): JSX.Element => (
    <ul>
      {part.map((release, index) => (
        <li key={index}>
          <b>{releaseLabel(release, releases)}</b> at{" "}
          <time dateTime={release.at}>{TIME.format(Date.parse(release.at))}</time>
        </li>
      ))}
    </ul>
  );
  return (
    <section class="releases card" aria-labelledby="releases">
      <h2 id="releases">Releases</h2>
      {renderList(latest.slice(0, LISTED_MAX))}
      {latest.length > LISTED_MAX && (
        <details>
          <summary>Show {latest.length - LISTED_MAX} earlier</summary>
          {renderList(latest.slice(LISTED_MAX))}
        </details>
      )}
    </section>
  );
}
