//! Tests for the symbolication of stacks: the frames of each engine, and text that must not change.

use proptest::prelude::*;

use super::lookup::{FunctionName, OriginalPosition};
use super::stack::symbolicate_stack;

/// Resolves the positions of `app.js`. The column selects the function: 1 is in a source without content, 2 in an
/// anonymous function, 3 in the module itself, any other in `Cart.add`.
fn resolve(url: &str, line: u32, column: u32) -> Option<OriginalPosition> {
    let function = match column {
        1 => FunctionName::Unknown,
        2 => FunctionName::Anonymous(Some("Cart.load".into())),
        3 => FunctionName::Module,
        _ => FunctionName::Named("Cart.add".into()),
    };
    let name = Some(format!("called{line}"));
    let original =
        OriginalPosition { source: "src/cart.ts".into(), line, column, name, function, ..OriginalPosition::default() };
    url.ends_with("app.js").then_some(original)
}

#[test]
fn frames_keep_the_format_of_their_engine() {
    for (frame, expected) in [
        ("    at t.a (https://x/app.js:7:9)", "    at Cart.add (src/cart.ts:7:9)"),
        ("    at https://x/app.js:7:9", "    at Cart.add (src/cart.ts:7:9)"),
        ("    at async t.a (https://x/app.js:7:9)", "    at async Cart.add (src/cart.ts:7:9)"),
        ("    at async https://x/app.js:7:2", "    at async src/cart.ts:7:2"),
        ("    at new t (https://x/app.js:7:9)", "    at new Cart.add (src/cart.ts:7:9)"),
        ("    at Object.a [as b] (https://x/app.js:7:9)", "    at Cart.add (src/cart.ts:7:9)"),
        ("    at get a [as a] (https://x/(1)/app.js:7:9)\r", "    at Cart.add (src/cart.ts:7:9)\r"),
        ("    at o.b (https://x/app.js:7:2)", "    at src/cart.ts:7:2"),
        ("    at r (https://x/app.js:7:3)", "    at r (src/cart.ts:7:3)"),
        ("    at r (https://x/app.js:7:1)", "    at r (src/cart.ts:7:1)"),
        (
            "    at <instance_members_initializer> (https://x/app.js:7:9)",
            "    at <instance_members_initializer> (src/cart.ts:7:9)",
        ),
        ("    at t (file:///C:/a b/app.js:7:9)", "    at Cart.add (src/cart.ts:7:9)"),
        ("    at t (webpack://shop/app.js:7:9)", "    at Cart.add (src/cart.ts:7:9)"),
        ("t@https://x/app.js:7:9", "add@src/cart.ts:7:9"),
        ("@https://x/app.js:7:9", "add@src/cart.ts:7:9"),
        ("https://x/app.js:7:9", "add@src/cart.ts:7:9"),
        ("t@https://x/npm/@shop/app.js:7:9", "add@src/cart.ts:7:9"),
        ("async*t@https://x/app.js:7:9", "async*add@src/cart.ts:7:9"),
        ("promise callback*t/<@https://x/app.js:7:2", "promise callback*load/<@src/cart.ts:7:2"),
        ("t/<@https://x/app.js:7:9", "add@src/cart.ts:7:9"),
        ("@https://x/app.js:7:2", "@src/cart.ts:7:2"),
        ("global code@https://x/app.js:7:3", "global code@src/cart.ts:7:3"),
    ] {
        assert_eq!(symbolicate_stack(frame, "", resolve).stack, expected);
    }
}

#[test]
fn lines_without_a_resolved_frame_do_not_change() {
    for line in [
        "    at eval (eval at foo (https://x/app.js:7:9), <anonymous>:1:1)",
        "    at eval (eval at foo (https://x/app.js:7:9), https://x/app.js:1:9)",
        "    at <anonymous>",
        "    at <anonymous>:7:9",
        "    at Array.map (<anonymous>)",
        "    at async Promise.all (index 0)",
        "    at JSON.parse (native)",
        "    at t (https://x/other.js:7:9)",
        "    at t (https://x/app.js:7)",
        "    at t (https://x/app.js:0:0)",
        "    at t (https://x/app.js:99999999999:1)",
        "    at t (wasm://wasm/0001:wasm-function[3]:0x1f)",
        "    at t (chrome-extension://abc/content.js:7:9)",
        "    at processTicks (node:internal/process/task_queues:95:5)",
        "t@https://x/app.js line 3 > eval:1:9",
        "t@https://x/app.js line 3 > Function:1:9",
        "forEach@[native code]",
        "t@https://x/app.js:7",
        "eval code@",
        "[native code]",
        "TypeError: a is not a function",
        "at 12:30:15 it began",
        "ratio 4:3:2",
        "    at",
        "    at ",
        "",
        "\u{0}é😀 at @::",
    ] {
        let symbolicated = symbolicate_stack(line, "", resolve);
        assert_eq!((symbolicated.stack.as_str(), symbolicated.frames.len()), (line, 0));
    }
}

#[test]
fn the_message_does_not_change_even_if_it_looks_like_a_frame() {
    let frames = "    at t (https://x/app.js:7:9)\n    at https://x/app.js:8:9";
    let mapped = "    at Cart.add (src/cart.ts:7:9)\n    at Cart.add (src/cart.ts:8:9)";
    for message in ["full", "two\n    at u (https://x/app.js:1:9)\nlines", "a: b: c", "    at u (https://x/app.js:1:9)"]
    {
        for head in [format!("TypeError: {message}"), message.to_owned(), format!("Shop: Error: {message}")] {
            let symbolicated = symbolicate_stack(&format!("{head}\n{frames}"), message, resolve);
            assert_eq!(symbolicated.stack, format!("{head}\n{mapped}"));
            let first = head.matches('\n').count() + 1;
            assert_eq!(symbolicated.frames.iter().map(|frame| frame.line).collect::<Vec<_>>(), [first, first + 1]);
        }
    }
    // The stacks of Firefox and Safari have no message.
    assert_eq!(symbolicate_stack("t@https://x/app.js:7:9\n", "full", resolve).stack, "add@src/cart.ts:7:9\n");
}

#[test]
fn function_without_content_gets_the_name_its_caller_uses() {
    let stack = "Error\n    at t (https://x/app.js:1:1)\n    at u (https://x/app.js:2:1)\n    at async v (https://x/app.js:3:1)\n\
                 \x20   at Array.map (<anonymous>)\n    at https://x/app.js:4:1\n    at w (https://x/app.js:5:1)";
    let expected = "Error\n    at called2 (src/cart.ts:1:1)\n    at u (src/cart.ts:2:1)\n    at async v (src/cart.ts:3:1)\n\
                    \x20   at Array.map (<anonymous>)\n    at src/cart.ts:4:1\n    at w (src/cart.ts:5:1)";
    assert_eq!(symbolicate_stack(stack, "", resolve).stack, expected);
}

#[test]
fn lookups_and_names_are_bounded() {
    let frame = "    at t (https://x/app.js:7:9)\n";
    let mut lookups = 0;
    let symbolicated = symbolicate_stack(&frame.repeat(2_000), "", |url, line, column| {
        lookups += 1;
        resolve(url, line, column)
    });
    assert_eq!((lookups, symbolicated.frames.len()), (50, 50));
    assert!(symbolicated.stack.ends_with(frame));
    let deep = "x".repeat(70_000) + "\n" + frame;
    assert_eq!(symbolicate_stack(&deep, "", resolve).stack, deep, "beyond 64 KiB");
    let long = "Error: ".to_owned() + &": ".repeat(30_000) + "\n" + frame;
    assert_eq!(symbolicate_stack(&long, "another", resolve).frames.len(), 1);
    let odd = |_: &str, _, _| {
        let function = FunctionName::Named("a\n    at b".into());
        Some(OriginalPosition { source: "a.ts".into(), line: 1, column: 1, function, ..OriginalPosition::default() })
    };
    assert_eq!(symbolicate_stack(frame, "", odd).stack, "    at a    at b (a.ts:1:1)\n");
}

proptest! {
    #[test]
    fn stacks_without_maps_do_not_change(
        lines in prop::collection::vec(prop_oneof![
            "[ at@()a-z:0-9/.<>*\\r]{0,30}", "    at [a-z]{1,3} \\(https://x/app.js:[0-9]{1,3}:[0-9]{1,3}\\)", "\\PC{0,20}",
        ], 0..12),
        message in "[ at@()a-z:0-9\n]{0,20}",
    ) {
        let stack = lines.join("\n");
        prop_assert_eq!(symbolicate_stack(&stack, &message, |_, _, _| None).stack, stack.clone());
        let symbolicated = symbolicate_stack(&stack, &message, resolve);
        prop_assert_eq!(symbolicated.stack.matches('\n').count(), stack.matches('\n').count());
        for frame in &symbolicated.frames {
            let line = symbolicated.stack.split('\n').nth(frame.line).unwrap();
            prop_assert!(line.contains("src/cart.ts:"), "{}", line);
        }
    }
}

#[test]
fn lines_after_the_last_frame_are_not_parsed() {
    let frames = "    at a (https://x/app.js:1:1)\n".repeat(60);
    let mut lookups = 0;
    let symbolicated = symbolicate_stack(&frames, "", |_, _, _| {
        lookups += 1;
        None
    });
    assert_eq!((lookups, symbolicated.stack), (50, frames));
    // Frames that follow a thousand other lines stay as they are.
    let padded = format!("{}    at a (https://x/app.js:1:1)", "\n".repeat(32_000));
    let symbolicated = symbolicate_stack(&padded, "", |_, _, _| panic!("the frame is too far from the start"));
    assert_eq!(symbolicated.stack, padded);
}

#[test]
fn message_full_of_colons_takes_no_quadratic_time() {
    let message = format!("{}x", ": ".repeat(16_000));
    let start = std::time::Instant::now();
    for _ in 0..20 {
        assert_eq!(crate::trace::javascript::header_bytes(&": ".repeat(32_000), &message), 0);
    }
    assert!(start.elapsed() < std::time::Duration::from_millis(500), "{:?}", start.elapsed());
}
