import { Fragment, type JSX } from "preact";

/** A metric's name, broken between its words where it has to be. */
export function Name({ of }: { of: string }): JSX.Element {
  return (
    <>
      {of.split(/(?<=[_./:-])/).map((part, index) => (
        <Fragment key={index}>
          {index > 0 && <wbr />}
          {part}
        </Fragment>
      ))}
    </>
  );
}
