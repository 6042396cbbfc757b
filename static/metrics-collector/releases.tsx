import type { JSX } from "preact";
import type { Release } from "./types.ts";

/** Of more, the earlier ones are folded away. */
const LISTED_MAX = 12;
const TIME = new Intl.DateTimeFormat(undefined, {
  month: "short",
  day: "numeric",
  hour: "2-digit",
  minute: "2-digit",
  hour12: false,
});

/** A release, with its project where there are several. */
export function nameOf({ release, project }: Release, all: Release[]): string {
  return all.some((other) => other.project !== project) ? `${release} (${project})` : release;
}

/** What the charts mark, for who cannot see them. */
export function Releases({ releases }: { releases: Release[] }): JSX.Element | null {
  if (releases.length === 0) {
    return null;
  }
  const latest = releases.toReversed();
  const list = (some: Release[]): JSX.Element => (
    <ul>
      {some.map((release, index) => (
        <li key={index}>
          <b>{nameOf(release, releases)}</b> at <time dateTime={release.at}>{TIME.format(Date.parse(release.at))}</time>
        </li>
      ))}
    </ul>
  );
  return (
    <section class="releases paper" aria-labelledby="releases">
      <h2 id="releases">Releases in view</h2>
      {list(latest.slice(0, LISTED_MAX))}
      {latest.length > LISTED_MAX && (
        <details>
          <summary>{latest.length - LISTED_MAX} earlier</summary>
          {list(latest.slice(LISTED_MAX))}
        </details>
      )}
    </section>
  );
}
