//! Tests for the scope scanner with sources of many styles. A comment `/*name*/` names the function that encloses the code
//! after it: empty for the module, `-` for an anonymous function, `name/<` for an anonymous function inside `name`.

use proptest::prelude::*;

use super::scopes::{EnclosingFunction, ScopeScanner};

/// Returns, for each line, the columns from which the enclosing function is another, with its name.
fn enclosing_functions(source: &str) -> Vec<Vec<(u32, String)>> {
    let mut scanner = ScopeScanner::new();
    let mut current = String::new();
    let mut lines = Vec::new();
    for line in source.lines() {
        let mut changes = vec![(0, current.clone())];
        scanner.scan(line, 0, |column, function| {
            let name = match function {
                EnclosingFunction::Module => String::new(),
                EnclosingFunction::Anonymous(None) => "-".to_owned(),
                EnclosingFunction::Anonymous(Some(outer)) => format!("{outer}/<"),
                EnclosingFunction::Named(name) => name.to_owned(),
            };
            assert!(changes.last().unwrap().0 <= column, "{line}");
            changes.push((column, name));
        });
        current = changes.last().unwrap().1.clone();
        lines.push(changes);
    }
    lines
}

fn assert_markers(source: &str) {
    let mut markers = 0;
    for (line, changes) in source.lines().zip(enclosing_functions(source)) {
        for (at, _) in line.match_indices("/*") {
            let expected = line[at + 2..].split_once("*/").unwrap().0;
            let column = line[..at].encode_utf16().count() as u32;
            let name = &changes.iter().rfind(|(from, _)| *from <= column).unwrap().1;
            assert_eq!(name, expected, "column {column} of {line:?} in:\n{source}");
            markers += 1;
        }
    }
    assert!(markers > 0, "{source}");
}

#[test]
fn functions_of_javascript_are_named() {
    for source in [
        "/**/\nfunction load() {\n  /*load*/\n}\n/**/",
        "async function* load(a = {}, {b} = {}) { /*load*/ } /**/",
        "const load = async (path) => {\n  /*load*/\n};\n/**/",
        "const load = path => fetch(/*load*/path)\nconst next = () => /*next*/ 1\nload() /**/",
        "const load = (path) =>\n  fetch(path)\n    .then((answer) => /*load/<*/ answer.json())\n    .catch(() => null);\n/**/",
        "let a = 1, load = function () { /*load*/ }, b = () => /*b*/ 1; /**/",
        "const load = function inner() { /*inner*/ };",
        "exports.load = function () { /*load*/ };\nFoo.prototype.bar = () => { /*bar*/ };",
        "export default function () { /*default*/ }",
        "export default class extends Base { run() { /*default.run*/ } }",
        "export default async () => { /*default*/ };",
        "items.forEach((item) => {\n  /*-*/\n});",
        "function outer() {\n  items.map((item) => {\n    /*outer/<*/\n  }); /*outer*/\n}",
        "const api = {\n  load() { /*load*/ },\n  async 'quoted'() { /*quoted*/ },\n  save: async (x) => { /*save*/ },\n  drop: function () { /*drop*/ },\n  get size() { /*size*/ },\n};\n/**/",
        "if (a) { /**/ } else if (f(b)) { /**/ } for (const x of y) { /**/ } while (z) { /**/ } /**/",
        "function f() { if (a) { /*f*/ } switch (b) { case g(c): { /*f*/ } } try { /*f*/ } catch (e) { /*f*/ } }",
        "function f() { return a ? g(b) : { c: 1 } /*f*/ }\n/**/",
        "const f = () => a ? b : () => { /*f/<*/ };\n/**/",
        "(function () { /*-*/ })();\n(() => { /*-*/ })();\n/**/",
        "setTimeout(async () => await /*-*/ load(), 5);",
        "/**/ const f = () => /*f*/ { return };",
        "const cases = [\n  [\"a\", async /*-*/ () => await b()],\n];\n/**/",
    ] {
        assert_markers(source);
    }
}

#[test]
fn class_members_are_qualified() {
    assert_markers(
        "class Cart extends Base {\n  static limit = 2;\n  #secret = 1;\n  handle = (event) => {\n    /*Cart.handle*/\n  };\n\
         \x20 constructor(a) { /*Cart*/ super(a); }\n  static async from(names) { /*Cart.from*/ }\n\
         \x20 get total() { /*Cart.total*/ }\n  *[Symbol.iterator]() { /*Cart/<*/ }\n  #hide() { /*Cart.#hide*/ }\n\
         \x20 static { /*Cart*/ }\n}\n/**/\nconst Named = class { run() { /*Named.run*/ } };",
    );
    assert_markers(
        "@Component({ selector: 'x' })\nexport class View<T extends { a: number }> implements A<T>, B {\n\
         \x20 @Input() value: string;\n  private readonly load = async (a: string): Promise<void> => {\n    /*View.load*/\n  };\n\
         \x20 constructor(private a: A, public b = () => 1) {\n    /*View*/\n  }\n\
         \x20 public save<K>(key: K, done?: (x: { y: number }) => void): { ok: boolean } {\n    /*View.save*/\n  }\n\
         \x20 abstract draw(): void;\n  overload(a: string): void;\n  overload(a: any) { /*View.overload*/ }\n}\n/**/",
    );
}

#[test]
fn types_are_not_functions() {
    for source in [
        "interface A {\n  run(a: string): void;\n  done: (x: number) => void;\n}\n/**/",
        "type F = (a: number) => { b: string };\nconst f: F = (a) => { /*f*/ return g; };\n/**/",
        "function f(this: void, a: Map<string, () => void>): (b: number) => void {\n  /*f*/\n}\n/**/",
        "function f(a: string): void;\nfunction f(a: any): a is string {\n  /*f*/\n}\n/**/",
        "const f = <T,>(a: T): T => {\n  /*f*/\n};\n/**/",
        "enum E { A = 1, B }\nnamespace N {\n  export function f() { /*f*/ }\n}\n/**/",
        "const x = y as unknown as { z: () => void };\n/**/",
    ] {
        assert_markers(source);
    }
}

#[test]
fn names_may_come_from_strings_keywords_and_the_last_assignment() {
    for source in [
        "calls[\"on-load\"] = async () => { /*on-load*/ };\nconst a = { ['b']() { /*b*/ }, [c]() { /*-*/ } };\n/**/",
        "class A {\n  catch(a) { /*A.catch*/ }\n  get async() { /*A.async*/ }\n  static return(a) { /*A.return*/ }\n}\n/**/",
        "const a = b.c = () => { /*c*/ };\nlet D = e.E = class { run() { /*E.run*/ } };\n/**/",
    ] {
        assert_markers(source);
    }
}

#[test]
fn functions_in_conditionals_and_cases_are_separate() {
    for source in [
        "const f = a\n  ? (b) => g(b)\n  : (c) => { /*f*/ };\n/**/",
        "const f = (a) => a ? (b) => /*f/<*/ g(b) : /*f*/ (c ? d : e);\n/**/",
        "function f() {\n  switch (a) {\n    case g(b):\n      return (c) => { /*f/<*/ };\n    case \"d\": return (e) => { /*f/<*/ };\n  }\n}",
        "function f() {\n  return g(a)\n    ? { b: /*f*/ c() }\n    : d(a) || { e: /*f*/ c() };\n}\n/**/",
    ] {
        assert_markers(source);
    }
}

#[test]
fn type_parameters_and_annotations_end_before_the_function() {
    for source in [
        "export function load<\n  const A extends string = string,\n  B = A,\n>(a: A): Promise<Map<A, B>> {\n  /*load*/\n}\n/**/",
        "class Cart {\n  load: Load<\n    A,\n    B\n  > = (a) => {\n    /*Cart.load*/\n  };\n  types!: Types<A>\n\
         \x20 init = (n: number): Foo<A, B> => {\n    /*Cart.init*/\n  }\n  save?: Save<A, B> = () => { /*Cart.save*/ };\n}\n/**/",
        "const f: (a: number) => Map<string, () => void> = (a) => {\n  /*f*/\n};\nconst g: Map<A, B> = () => { /*g*/ };\n/**/",
        "export class Route<\n  in out A = {},\n>\n  extends Base<A>\n  implements\n    Core<A>\n{\n  constructor(a?: B<A>) {\n    /*Route*/\n  }\n}\n/**/",
        "const f = () => {\n  return <A = B, C = Record<string, any>>(a?: A) => {\n    /*f/<*/\n  };\n};\n/**/",
        "export function f(a: string, b = /*f*/ now()): string { /*f*/ }\n/**/",
        "const isMatch = <A, B extends string>(\n  a: A,\n): a is Foo<A, B>['b'] => {\n  /*isMatch*/\n};\n/**/",
        "class Cart {\n  find<A extends Map<B, C>, D>(a: A): D | { e: F } {\n    /*Cart.find*/\n  }\n}\n/**/",
    ] {
        assert_markers(source);
    }
}

#[test]
fn jsx_attributes_name_their_functions() {
    for source in [
        "function View() {\n  return (\n    <div>\n      {a && <b class=\"c\">{d}</b>}\n      <i class=\"e\">{/*View*/ f()}</i>\n    </div>\n  );\n}\n/**/",
        "function View() {\n  return (\n    <A\n      b={1}\n      onCatch={\n        c\n          ? (error) => {\n              /*onCatch*/\n            }\n          : undefined\n      }\n    />\n  ); /*View*/\n}\n/**/",
        "const view = <A onClick={() => { /*onClick*/ }} />;\n/**/",
    ] {
        assert_markers(source);
    }
}

#[test]
fn bodies_without_indentation_stay_open() {
    for source in [
        "(function (a) {\n'use strict';\nconst b = 1;\nfunction f() {\n  /*f*/\n}\nconst g = () => {\n  /*g*/\n};\n/*-*/\n})(this);\n/**/",
        "load(\nfunction(a) {\nvar b = 1;\nvar c = 2; /*-*/\n});\n/**/",
        "(function () {\nvar a;\nfunction f() {\n  g({ ( ;\n}\nfunction h() {\n  /*h*/\n}\n/*-*/\n})();",
        "function f() {\n  const a = `\n<script>\n`;\n  /*f*/\n}\n/**/",
    ] {
        assert_markers(source);
    }
}

#[test]
fn brackets_in_strings_and_jsx_text_are_ignored() {
    for source in [
        "function f() {\n  const a = '}', b = \"\\\"}\", c = /[/}]\\/}/g; // }\n  /* } */\n  return `}${g({ a: `}` })}}`;\n  /*f*/\n}\n/**/"
            .replace("  /* } */\n", "")
            .as_str(),
        "function f() {\n  const a = b / c; const d = (e) / 2; /*f*/\n}\n/**/",
        "export function View({ items }) {\n  return (\n    <div onClick={() => { /*onClick*/ }}>\n      It's {items.map((item) => <b key={item}>don't {item} :)</b>)} here\n      <i a='x' />\n    </div>\n  ); /*View*/\n}\n/**/",
        "function f() {\n  return <p>broken } text</p>;\n}\nexport function g() {\n  /*g*/\n}\n/**/",
        "<template>\n  <p>it's (</p>\n</template>\n<script setup>\nfunction f() {\n  /*f*/\n}\n</script>",
        "const a = '😀é'; function f() { /*f*/ }",
    ] {
        assert_markers(source);
    }
}

proptest! {
    #[test]
    fn arbitrary_tokens_never_panic(words in prop::collection::vec(prop::sample::select(&[
        "function", "class", "const", "a", "(", ")", "{", "}", "[", "]", "=>", "=", ":", ",", ";", "`", "${", "'", "\"",
        "/", "//", "/*", "*/", "<", ">", "?", ".", "\n", " ", "é😀", "async", "static", "\\",
    ][..]), 0..120)) {
        enclosing_functions(&words.concat());
    }
}
