import assert from "node:assert/strict";
import { test } from "node:test";
import { generateTypes } from "../../openapi-types.mjs";

/** Returns the declaration of the type `Tested` with this schema. */
function declare(schema) {
  const other = { type: "string" };
  const text = generateTypes({ Tested: schema, Other: other });
  return text.slice(text.indexOf("\n\n") + 2, text.indexOf("\nexport type Other")).trimEnd();
}
const typeOf = (schema) => declare(schema).replace(/^export type Tested = ([\s\S]*);$/, "$1");

test("schemas have the type of their values", () => {
  for (const [schema, type] of [
    [{}, "unknown"],
    [{ type: "integer", format: "int64", minimum: 1 }, "number"],
    [{ type: ["string", "null"] }, "string | null"],
    [{ type: "boolean", const: true }, "true"],
    [{ enum: ["a", 'b"', null, 1] }, '"a" | "b\\"" | null | 1'],
    [{ type: "array", items: { type: ["number", "null"] } }, "Array<number | null>"],
    [{ type: ["array", "null"] }, "Array<unknown> | null"],
    [{ $ref: "#/components/schemas/Other" }, "Other"],
    [{ oneOf: [{ $ref: "#/components/schemas/Other" }, { type: "null" }] }, "Other | null"],
    [{ allOf: [{ $ref: "#/components/schemas/Other" }, { enum: [1, 2] }] }, "Other & (1 | 2)"],
    [{ type: "object" }, "Record<string, unknown>"],
    [{ type: "object", additionalProperties: true }, "Record<string, unknown>"],
    [{ type: "object", additionalProperties: { type: "integer" } }, "Record<string, number>"],
  ]) {
    assert.equal(typeOf(schema), type, JSON.stringify(schema));
  }
});

test("objects are interfaces whose members are optional unless they are required", () => {
  const schema = {
    type: "object",
    description: "Ends */ here.",
    required: ["a"],
    properties: {
      a: { type: "string", description: "First." },
      b: { type: "object", properties: { c: { type: "null" } } },
    },
  };
  assert.equal(
    declare(schema),
    `/** Ends *\\/ here. */
export interface Tested {
  /** First. */
  a: string;
  b?: {
    c?: null;
  };
}`,
  );
});

test("schemas without an equivalent type are errors", () => {
  const object = { type: "object", properties: { a: {} } };
  for (const [schema, message] of [
    [{ type: "string", not: {} }, "openapi: Tested: the keyword not has no TypeScript type"],
    [{ $ref: "#/components/schemas/Missing" }, "openapi: Tested: #/components/schemas/Missing does not exist"],
    [{ ...object, required: ["b"] }, "openapi: Tested: the required member b is not defined"],
    [
      { ...object, additionalProperties: true },
      "openapi: Tested: properties and additionalProperties together have no TypeScript type",
    ],
    [
      { type: "array", items: { nullable: true } },
      "openapi: Tested/items: the keyword nullable has no TypeScript type",
    ],
  ]) {
    assert.throws(() => generateTypes({ Tested: schema }), { message });
  }
});
