/** Everything that is tested, in one module, so that each test can have its own. */

export * from "../../src/errors";
export * from "../../src/index";
export * from "../../src/metrics";
export * from "../../src/stack";
export * from "../../src/transport";
