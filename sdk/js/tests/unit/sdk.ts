/** All tested modules in one bundle, so that each test can import a copy with its own state. */

export * from "../../src/errors";
export * from "../../src/extra";
export * from "../../src/index";
export * from "../../src/metrics";
export * from "../../src/stack";
export * from "../../src/transport";
