import { Fragment, type JSX } from "preact";

/** A metric's name, which can wrap between its words. */
export function MetricName({ name }: { name: string }): JSX.Element {
  return (
    <>
      {name.split(/(?<=[_./:-])/).map((part, index) => (
        <Fragment key={index}>
          {index > 0 && <wbr />}
          {part}
        </Fragment>
      ))}
    </>
  );
}
