// Prints the functions that enclose code of real packages, according to an independent parser. Each line is JSON:
//   {"path": …, "kind": …, "functions": [label, …], "positions": [line, column, index of the label, …]}
// Lines and columns start at 0; columns count UTF-16 code units. Positions are those at which code can throw. A label is
// empty for the module, `name` for a named function, `-` for an anonymous one, and `name/<` for an anonymous one inside
// `name`.
//   node scopes.mjs
//
// Names are those that V8 shows in stack traces of the unminified source, with these differences:
// - A method has the name of its class, wherever it is called from, and no name of an object: `load`, not `Object.load`.
// - A function assigned to a property has the name of the property only: `load`, not `exports.load`.
// - Field initializers and static blocks have the name of their class.
// - A function in a JSX attribute has the name of the attribute.
import { readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { parse } from "@babel/parser";

const here = dirname(fileURLToPath(import.meta.url));
const nodeModules = join(here, "node_modules");
const repository = join(here, "../..");

// Folders of this repository: TypeScript and JSX.
const OWN_FOLDERS = ["sdk/js/src", "sdk/js/tests", "static"];
// Folders in node_modules. The lock file pins their contents.
const PACKAGE_FOLDERS = [
  "@jridgewell/gen-mapping/src",
  "@jridgewell/sourcemap-codec/src",
  "@jridgewell/trace-mapping/src",
  "@tanstack/history/src",
  "@tanstack/react-router/src",
  "@tanstack/react-store/src",
  "@tanstack/router-core/src",
  "@tanstack/store/src",
  "acorn/dist",
  "ajv/dist",
  "ajv/lib",
  "ajv-keywords/src",
  "enhanced-resolve/lib",
  "esbuild/lib",
  "playwright-core/lib",
  "postcss/lib",
  "react-dom/cjs",
  "rollup/dist",
  "source-map/lib",
  "terser/lib",
  "three/examples/jsm",
  "three/src",
  "vite/dist",
  "watchpack/lib",
  "webpack/hot",
  "webpack/lib",
];
const FILE_BYTES_MAX = 400_000;
// A file with longer lines on average counts as minified.
const LINE_BYTES_MAX = 200;

function* sourceFiles(path) {
  if (statSync(path).isDirectory()) {
    for (const name of readdirSync(path).sort()) {
      if (name !== "node_modules" && name !== "dist") yield* sourceFiles(join(path, name));
    }
  } else if (/\.[cm]?[jt]sx?$/.test(path) && !/\.d\.[cm]?ts$/.test(path)) {
    yield path;
  }
}

function kindOf(path, source) {
  if (source.length / source.split("\n").length > LINE_BYTES_MAX) return "minified";
  if (/\.[jt]sx$/.test(path)) return "tsx";
  return /\.[cm]?ts$/.test(path) ? "typescript" : "javascript";
}

const MODULE = { label: "", named: null };

/** Returns the scope of a function or class body inside another one. `name` is `null` if it is anonymous. */
function innerScope(outer, name) {
  if (name !== null) return { label: name, named: name };
  return { label: outer.named === null ? "-" : `${outer.named}/<`, named: outer.named };
}

/** Finds the scopes of the positions in a file. */
class Walker {
  /** Scopes by offset. */
  positions = new Map();
  /** Offsets at which functions start. Whether such an offset belongs to the function is a matter of definition. */
  functionStarts = new Set();

  add(offset, scope) {
    if (!this.positions.has(offset)) this.positions.set(offset, scope);
  }

  /** Walks a node. `name` is the name that a function or class gets if the node is one or evaluates to one. */
  walk(node, scope, name = null) {
    if (node.type.startsWith("TS") && !(node.type in TYPESCRIPT_VALUES)) return;
    this.addPosition(node, scope);
    switch (node.type) {
      case "FunctionDeclaration":
      case "FunctionExpression":
      case "ArrowFunctionExpression":
        return this.walkFunction(node, scope, node.id?.name ?? name);
      case "ObjectMethod":
        this.walkKey(node, scope);
        return this.walkFunction(node, scope, keyName(node));
      case "ClassDeclaration":
      case "ClassExpression":
        return this.walkClass(node, scope, node.id?.name ?? name);
      case "VariableDeclarator":
        this.walk(node.id, scope);
        if (node.init) this.walk(node.init, scope, targetName(node.id));
        return;
      case "AssignmentExpression":
      case "AssignmentPattern": {
        this.walk(node.left, scope);
        const isAssignment = ["=", "||=", "&&=", "??=", undefined].includes(node.operator);
        return this.walk(node.right, scope, isAssignment ? targetName(node.left) : null);
      }
      case "ObjectProperty":
        this.walkKey(node, scope);
        return this.walk(node.value, scope, keyName(node));
      case "ConditionalExpression":
        this.walk(node.test, scope);
        this.walk(node.consequent, scope, name);
        return this.walk(node.alternate, scope, name);
      case "LogicalExpression":
        this.walk(node.left, scope, name);
        return this.walk(node.right, scope, name);
      case "SequenceExpression":
        node.expressions.slice(0, -1).forEach((expression) => this.walk(expression, scope));
        return this.walk(node.expressions.at(-1), scope, name);
      case "TSAsExpression":
      case "TSSatisfiesExpression":
      case "TSNonNullExpression":
      case "TSTypeAssertion":
        return this.walk(node.expression, scope, name);
      case "ExportDefaultDeclaration":
        return this.walk(node.declaration, scope, "default");
      case "JSXAttribute": {
        const isExpression = node.value?.type === "JSXExpressionContainer";
        if (node.value) this.walk(isExpression ? node.value.expression : node.value, scope, node.name.name);
        return;
      }
    }
    this.walkChildren(node, scope);
  }

  walkChildren(node, scope) {
    for (const key in node) {
      if (["loc", "extra", "leadingComments", "trailingComments", "innerComments", "errors"].includes(key)) continue;
      for (const child of Array.isArray(node[key]) ? node[key] : [node[key]]) {
        if (typeof child?.type === "string") this.walk(child, scope);
      }
    }
  }

  walkFunction(node, scope, name) {
    this.functionStarts.add(node.start);
    const inner = innerScope(scope, name);
    for (const parameter of node.params) this.walk(parameter, inner);
    this.walk(node.body, inner);
  }

  walkClass(node, scope, name) {
    for (const decorator of node.decorators ?? []) this.walk(decorator, scope);
    if (node.superClass) this.walk(node.superClass, scope);
    const inner = innerScope(scope, name);
    for (const member of node.body.body) {
      for (const decorator of member.decorators ?? []) this.walk(decorator, scope);
      if (member.key) this.walkKey(member, scope);
      const key = member.key ? keyName(member) : null;
      const isConstructor = member.kind === "constructor";
      const memberName = isConstructor ? name : key !== null && name !== null ? `${name}.${key}` : key;
      if (member.type === "StaticBlock") {
        this.walkChildren(member, inner);
      } else if (member.type === "ClassMethod" || member.type === "ClassPrivateMethod") {
        this.walkFunction(member, inner, memberName);
      } else if (member.value) {
        this.walk(member.value, inner, memberName);
      }
    }
  }

  /** Walks a computed key, which is evaluated outside the member. */
  walkKey(member, scope) {
    if (member.computed) this.walk(member.key, scope);
  }

  addPosition(node, scope) {
    switch (node.type) {
      case "CallExpression":
      case "OptionalCallExpression":
      case "NewExpression":
      case "ThrowStatement":
      case "AwaitExpression":
      case "YieldExpression":
      case "TaggedTemplateExpression":
      case "JSXOpeningElement":
        return this.add(node.start, scope);
      case "MemberExpression":
      case "OptionalMemberExpression":
        return this.add(node.property.start, scope);
    }
  }
}

// TypeScript nodes that contain code. All others are types.
const TYPESCRIPT_VALUES = {
  TSAsExpression: 1,
  TSSatisfiesExpression: 1,
  TSNonNullExpression: 1,
  TSTypeAssertion: 1,
  TSInstantiationExpression: 1,
  TSParameterProperty: 1,
  TSExportAssignment: 1,
  TSEnumDeclaration: 1,
  TSEnumBody: 1,
  TSEnumMember: 1,
  TSModuleDeclaration: 1,
  TSModuleBlock: 1,
};

/** Returns the name of a property or member, or `null` if it is computed. */
function keyName({ key, computed }) {
  if (key.type === "StringLiteral") return key.value;
  if (computed) return null;
  if (key.type === "PrivateName") return `#${key.id.name}`;
  return key.type === "NumericLiteral" ? String(key.value) : (key.name ?? null);
}

/** Returns the name that a function gets by assignment to a pattern or expression. */
function targetName(target) {
  if (target.type === "Identifier") return target.name;
  if (target.type === "TSAsExpression" || target.type === "TSNonNullExpression") return targetName(target.expression);
  if (target.type !== "MemberExpression") return null;
  return keyName({ key: target.property, computed: target.computed });
}

function parseSource(path, source) {
  const plugins = ["decorators"];
  if (/\.[cm]?tsx?$/.test(path)) plugins.push("typescript");
  if (/x$/.test(path) || !plugins.includes("typescript")) plugins.push("jsx");
  const options = { sourceType: "unambiguous", allowReturnOutsideFunction: true, errorRecovery: true, plugins };
  return parse(source, options).program;
}

const folders = [
  ...OWN_FOLDERS.map((folder) => join(repository, folder)),
  ...PACKAGE_FOLDERS.map((folder) => join(nodeModules, folder)),
];
for (const path of folders.flatMap((folder) => [...sourceFiles(folder)])) {
  const source = readFileSync(path, "utf8");
  if (source.length > FILE_BYTES_MAX) continue;
  const kind = kindOf(path, source);
  const walker = new Walker();
  walker.walk(parseSource(path, source), MODULE);
  const functions = [];
  const indexes = new Map();
  const positions = [];
  let line = 0;
  let lineStart = 0;
  for (const [offset, { label }] of [...walker.positions].sort(([a], [b]) => a - b)) {
    if (walker.functionStarts.has(offset)) continue;
    for (let end; (end = source.indexOf("\n", lineStart)) >= 0 && end < offset; lineStart = end + 1) line++;
    if (!indexes.has(label)) indexes.set(label, functions.push(label) - 1);
    positions.push(line, offset - lineStart, indexes.get(label));
  }
  console.log(JSON.stringify({ path: relative(repository, path), kind, functions, positions }));
}
