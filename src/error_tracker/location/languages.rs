//! The traces the original finds no location in: Go, Rust, Ruby, PHP, .NET and Elixir.
//!
//! Two wishes choose the frame. It should be the innermost, where the error was raised; and it should be the program's
//! own, since a library raises the same error for many reasons, and its path often carries a version. So it is the
//! innermost of the program's own frames where a trace lets us tell them, otherwise the innermost of all.

use super::{Location, file_line, file_line_column, is_number, leading_number};

/// A mark that a text must have, and the rule for such texts: looking for a mark is cheap, and most texts that come here
/// have none. The first rule that finds a location decides.
const RULES: [(&str, Rule); 9] = [
    (".go:", go),
    ("panicked at ", rust),
    (":in ", ruby),
    (PHP_TRACE, php_exception),
    (MONOLOG_TRACE, php_monolog),
    (" on line ", php_notice),
    ("): ", php_call),
    (" in ", dotnet),
    (".e", elixir),
];

type Rule = fn(&str) -> Option<Location<'_>>;

/// What stands between an exception and its frames.
const PHP_TRACE: &str = "\nStack trace:";
const MONOLOG_TRACE: &str = "\n[stacktrace]";

/// What Go calls on the way from the raising line to the printed stack.
const GO_RAISING: [&str; 5] = ["runtime.", "runtime/", "log.Panic", "log.(*Logger).Panic", "created by "];

/// Erlang's and Elixir's own applications.
const ELIXIR_ITSELF: [&str; 4] = ["elixir", "stdlib", "kernel", "erts"];

/// Where the error was raised, in a text for which the original's rules find nothing.
pub(in crate::error_tracker) fn in_further_languages(traceback: &str) -> Option<Location<'_>> {
    RULES.iter().filter(|(mark, _)| traceback.contains(mark)).find_map(|(_, rule)| rule(traceback))
}

/// A line naming a function, and below it, indented, `/app/pay.go:12 +0x1d`: the innermost frame of the first goroutine
/// that is not Go's machinery of raising.
///
/// A stack printed by whoever recovered the panic starts with the recovering code and has a frame of `panic` further
/// down, so the frame below the last `panic` wins: it raised the first error of all.
fn go(traceback: &str) -> Option<Location<'_>> {
    let mut innermost = None;
    let mut raised = None;
    let mut function = "";
    for line in lines(traceback) {
        if let Some(place) = go_place(line) {
            if function.starts_with("panic(") {
                raised = None;
            } else if !GO_RAISING.iter().any(|name| function.starts_with(name)) {
                raised = raised.or(Some(place));
                innermost = innermost.or(raised);
            }
        } else if innermost.is_some() && line.starts_with("goroutine ") {
            break;
        }
        function = line;
    }
    raised.or(innermost)
}

fn go_place(line: &str) -> Option<Location<'_>> {
    let place = line.strip_prefix(['\t', ' '])?.trim_start();
    let end = place.rfind(".go:")? + ".go".len();
    let (number, offset) = leading_number(&place[end + 1..])?;
    let whole = offset.is_empty() || offset.starts_with(" +0x");
    whole.then_some(Location { file: &place[..end], line: number })
}

/// `panicked at src/main.rs:3:5:`, or before Rust 1.73 `panicked at 'message', src/main.rs:3:5`: where the first panic was
/// raised, which Rust itself moves out of `unwrap` and its like to their caller.
fn rust(traceback: &str) -> Option<Location<'_>> {
    let rust_file = |place: &Location<'_>| place.file.ends_with(".rs");
    let mut quoted = false;
    for line in lines(traceback) {
        if let Some((_, panic)) = line.split_once("panicked at ") {
            quoted |= panic.starts_with('\'');
            let place = panic.strip_suffix(':').and_then(file_line_column).filter(rust_file);
            if place.is_some() {
                return place;
            }
        }
        // The quoted message may go over several lines.
        if quoted && let Some((_, place)) = line.rsplit_once("', ") {
            let place = file_line_column(place).filter(rust_file);
            if place.is_some() {
                return place;
            }
        }
    }
    None
}

/// `/app/pay.rb:12:in 'Pay#charge'`, with a backquote before Ruby 3.4: the first frame outside gems and Ruby's library,
/// since Ruby lists the innermost first.
fn ruby(traceback: &str) -> Option<Location<'_>> {
    let own = |place: &Location<'_>| {
        !place.file.starts_with("<internal:") && !place.file.contains("/gems/") && !place.file.contains("/lib/ruby/")
    };
    first_own(lines(traceback).filter_map(ruby_frame).map(|place| (place, own(&place))))
}

fn ruby_frame(line: &str) -> Option<Location<'_>> {
    let frame = line.trim_start();
    let frame = frame.strip_prefix("from ").unwrap_or(frame);
    let (place, method) = frame.split_once(":in ")?;
    // A colon and a blank in front are no path but the prefix of a log line, or of a trace printed outermost first.
    file_line(place).filter(|place| method.starts_with(['\'', '`']) && !place.file.contains(": "))
}

/// `… in /app/pay.php:3` above the frames: where the exception was thrown, in a chain the root cause, which PHP writes
/// first.
fn php_exception(traceback: &str) -> Option<Location<'_>> {
    let (_, place) = line_above(traceback, PHP_TRACE)?.rsplit_once(" in ")?;
    file_line(place)
}

/// `… at /app/pay.php:3)` above the frames, as Monolog and with it Laravel log an exception.
fn php_monolog(traceback: &str) -> Option<Location<'_>> {
    let (_, place) = line_above(traceback, MONOLOG_TRACE)?.rsplit_once(" at ")?;
    file_line(place.strip_suffix(')')?)
}

fn line_above<'t>(traceback: &'t str, mark: &str) -> Option<&'t str> {
    let (above, _) = traceback.split_once(mark)?;
    above.trim_end().rsplit('\n').next()
}

/// `… in /app/pay.php on line 3`: a warning or a fatal error, which has no frames.
fn php_notice(traceback: &str) -> Option<Location<'_>> {
    lines(traceback).find_map(|line| {
        let (message, line) = line.rsplit_once(" on line ")?;
        let (_, file) = message.rsplit_once(" in ")?;
        is_number(line).then_some(Location { file, line })
    })
}

/// `#0 /app/buy.php(7): charge()`: where the innermost call outside `vendor` was made. It counts last, since it is the
/// caller of what threw.
fn php_call(traceback: &str) -> Option<Location<'_>> {
    let own = |place: &Location<'_>| !place.file.contains("/vendor/");
    first_own(lines(traceback).filter_map(php_frame).map(|place| (place, own(&place))))
}

fn php_frame(line: &str) -> Option<Location<'_>> {
    let (_depth, frame) = leading_number(line.strip_prefix('#')?)?;
    let (place, _call) = frame.strip_prefix(' ')?.split_once("): ")?;
    let (file, line) = place.rsplit_once('(')?;
    is_number(line).then_some(Location { file, line })
}

/// `at Shop.Pay.Charge(Order o) in /src/Pay.cs:line 12` (Mono: `/src/Pay.cs:12`): the first frame with a location,
/// which is the innermost of the root cause. The framework's frames have none.
fn dotnet(traceback: &str) -> Option<Location<'_>> {
    lines(traceback).find_map(dotnet_frame)
}

fn dotnet_frame(line: &str) -> Option<Location<'_>> {
    let (_method, place) = line.trim_start().strip_prefix("at ")?.split_once(" in ")?;
    let place = match place.rsplit_once(":line ") {
        Some((file, line)) => is_number(line).then_some(Location { file, line }),
        None => file_line(place),
    };
    // Mono writes `<module id>:0` where it knows no file.
    place.filter(|place| !place.file.starts_with('<'))
}

/// `(shop 0.1.0) lib/pay.ex:12: Shop.Pay.charge/1`, with or without the application: the first frame, innermost first,
/// that is neither of Elixir nor of Erlang.
fn elixir(traceback: &str) -> Option<Location<'_>> {
    first_own(lines(traceback).filter_map(elixir_frame))
}

fn elixir_frame(line: &str) -> Option<(Location<'_>, bool)> {
    let frame = line.trim_start();
    let (application, frame) = match frame.strip_prefix('(') {
        Some(frame) => frame.split_once(") ")?,
        None => ("", frame),
    };
    let (place, _function) = frame.split_once(": ")?;
    let place = file_line(place).filter(|place| [".ex", ".exs", ".erl"].iter().any(|end| place.file.ends_with(end)))?;
    let name = application.split(' ').next().unwrap_or(application);
    Some((place, !ELIXIR_ITSELF.contains(&name)))
}

/// The first frame that is the program's own, which the flag says, or the first at all.
fn first_own<'t>(frames: impl Iterator<Item = (Location<'t>, bool)>) -> Option<Location<'t>> {
    let mut first = None;
    for (place, own) in frames {
        if own {
            return Some(place);
        }
        first = first.or(Some(place));
    }
    first
}

/// The lines of a text without what ends them.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n').map(str::trim_end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error_tracker::location::by_the_original_rules;

    /// The location found in each text, none of which the original finds one in.
    fn check(cases: &[(&str, Option<&str>)]) {
        for (traceback, place) in cases {
            assert_eq!(by_the_original_rules(traceback), None, "{traceback}");
            let found = in_further_languages(traceback).map(|place| place.to_string());
            assert_eq!(found.as_deref(), *place, "{traceback}");
        }
    }

    #[test]
    fn go_is_located_below_the_last_panic() {
        check(&[
            ("panic: boom\n\ngoroutine 1 [running]:\nmain.main()\n\t/app/main.go:12 +0x1d", Some("/app/main.go:12")),
            ("goroutine 1 [running]:\r\nmain.main()\r\n\tC:/shop/main.go:12 +0x1d\r\n", Some("C:/shop/main.go:12")),
            ("main.f(...)\n\t/app/inlined.go:3\nmain.main()\n\t/app/main.go:12 +0x1d", Some("/app/inlined.go:3")),
            ("main.f\n    /app/my shop/tabs as blanks.go:3", Some("/app/my shop/tabs as blanks.go:3")),
            (
                "goroutine 7 [running]:\nruntime/debug.Stack()\n\t/go/src/runtime/debug/stack.go:24 +0x5e\n\
                 main.recovered()\n\t/app/recovered.go:8 +0x1d\npanic({0x1, 0x2})\n\t/go/src/runtime/panic.go:785 +0x132\n\
                 log.Panicf({0x1, 0x2}, {0x0, 0x0, 0x0})\n\t/go/src/log/log.go:439 +0x65\nmain.pay()\n\t/app/pay.go:9 +0x1d",
                Some("/app/pay.go:9"),
            ),
            // Raised twice: first in pay, then again in what recovered it.
            (
                "panic: a [recovered]\n\tpanic: b\n\ngoroutine 7 [running]:\nmain.recovered()\n\t/app/recovered.go:8 +0x1d\n\
                 panic({0x1, 0x2})\n\t/go/src/runtime/panic.go:785 +0x132\nmain.pay()\n\t/app/pay.go:9 +0x1d",
                Some("/app/pay.go:9"),
            ),
            // Cut off below the panic.
            (
                "main.recovered()\n\t/app/recovered.go:8 +0x1d\npanic({0x1, 0x2})\n\t/go/src/runtime/panic.go:785 +0x132",
                Some("/app/recovered.go:8"),
            ),
            (
                "fatal error: all goroutines are asleep - deadlock!\n\ngoroutine 1 [chan receive]:\nmain.main()\n\
                 \t/app/main.go:12 +0x1d\n\ngoroutine 6 [select]:\npanic(0x1)\n\t/go/src/runtime/panic.go:785 +0x132\n\
                 main.other()\n\t/app/other.go:5 +0x1d",
                Some("/app/main.go:12"),
            ),
            (
                "main.f()\n\t/go/pkg/mod/shop.example/ui@v1.2.0/ui.go:3 +0x1d",
                Some("/go/pkg/mod/shop.example/ui@v1.2.0/ui.go:3"),
            ),
            ("runtime.main()\n\t/go/src/runtime/proc.go:283 +0x28b", None),
            ("./main.go:5:2: undefined: pay", None),
            ("\t/app/main.go:5:2: undefined: pay", None),
        ]);
    }

    #[test]
    fn rust_is_located_at_its_panic() {
        check(&[
            ("thread 'main' panicked at src/main.rs:3:5:\nboom", Some("src/main.rs:3")),
            ("thread 'main' (4711) panicked at src\\main.rs:3:5:\r\nboom", Some("src\\main.rs:3")),
            ("thread 'main' panicked at 'f(x) failed', src/main.rs:3:5", Some("src/main.rs:3")),
            ("thread 'main' panicked at 'left (1)\nright', src/main.rs:3:5\nnote: run with", Some("src/main.rs:3")),
            ("a worker panicked at dawn\nthread 'w' panicked at src/w.rs:3:5:\n", Some("src/w.rs:3")),
            ("two\nlines', src/main.rs:3:5", None),
            ("thread 'main' panicked at noon: 3:5:", None),
        ]);
    }

    #[test]
    fn ruby_is_located_in_its_own_code() {
        check(&[
            ("/app/a.rb:12:in 'm': boom (RuntimeError)\n\tfrom /app/b.rb:3:in '<main>'", Some("/app/a.rb:12")),
            ("/app/a.rb:12:in `m': boom (RuntimeError)\n\tfrom /app/b.rb:3:in `<main>'", Some("/app/a.rb:12")),
            ("/app/a.rb:12:in `m': no unit:in 'stock'", Some("/app/a.rb:12")),
            ("C:/shop/a.rb:12:in 'm'\r\nC:/shop/b.rb:3:in '<main>'\r\n", Some("C:/shop/a.rb:12")),
            ("<internal:kernel>:187:in 'loop'\n/app/a.rb:12:in 'm'", Some("/app/a.rb:12")),
            ("/gems/rack-3.1/lib/rack.rb:7:in 'call'\n\tfrom /app/a.rb:12:in 'm'", Some("/app/a.rb:12")),
            (
                "/gems/rack-3.1/lib/rack.rb:7:in 'call'\n/gems/puma-6.4/lib/puma.rb:9:in 'run'",
                Some("/gems/rack-3.1/lib/rack.rb:7"),
            ),
            // Ruby 2.5 to 2.7 print to a terminal with the innermost frame last.
            ("Traceback (most recent call last):\n\t1: from b.rb:3:in `<main>'\na.rb:12:in `m': boom", Some("a.rb:12")),
            ("/app/a.rb:in 'm'", None),
            ("found two:in 'stock'", None),
        ]);
    }

    #[test]
    fn php_is_located_at_the_throw() {
        check(&[
            (
                "PHP Fatal error: Uncaught Exception: x in /app/a.php:3\nStack trace:\n#0 /app/b.php(7): f()\n#1 {main}",
                Some("/app/a.php:3"),
            ),
            (
                "Exception: lost in space: 9\nin two lines in C:\\shop\\a.php:3\r\nStack trace:\r\n#0 {main}",
                Some("C:\\shop\\a.php:3"),
            ),
            (
                "TypeError: f(): must be of type int, called in /app/b.php on line 12 and defined in /app/a.php:3\n\
                 Stack trace:\n#0 /app/b.php(12): f()\n#1 {main}\n  thrown in /app/a.php on line 3",
                Some("/app/a.php:3"),
            ),
            ("PHP Warning:  Undefined variable $x in /app/a.php on line 12", Some("/app/a.php:12")),
            (
                "[object] (RuntimeException(code: 0): boom at /app/a.php:3)\n[stacktrace]\n#0 /app/b.php(7): f()\n",
                Some("/app/a.php:3"),
            ),
            (
                "#0 [internal function]: f('ops@shop.example')\n#1 /app/b (old).php(7): array_map()",
                Some("/app/b (old).php:7"),
            ),
            ("#0 /app/vendor/ui/a.php(7): f()\n#1 /app/b.php(9): g()\n#2 {main}", Some("/app/b.php:9")),
            ("#0 /app/vendor/ui/a.php(7): f()\n#1 {main}", Some("/app/vendor/ui/a.php:7")),
            ("#0 {main}", None),
            ("Stack trace:\n#1 issue (12)", None),
            ("mistake on line 7", None),
        ]);
    }

    #[test]
    fn dotnet_is_located_at_the_first_frame_with_a_location() {
        check(&[
            (
                "System.Exception: x\n   at System.Linq.Enumerable.First[T](IEnumerable`1 source)\n\
                 \x20  at Shop.Pay.Charge(Order o, Int32 n) in /src/Pay.cs:line 12\n   at Shop.Pay.Main() in /src/Pay.cs:line 3",
                Some("/src/Pay.cs:12"),
            ),
            ("   at Shop.Pay.Main() in C:\\in the shop\\Pay.cs:line 3\r\n", Some("C:\\in the shop\\Pay.cs:3")),
            ("  at Shop.Pay.Main () [0x00012] in /src/Pay.cs:3 ", Some("/src/Pay.cs:3")),
            ("  at Shop.Pay.Main () [0x00000] in <4f1c9b2e90ab>:0 ", None),
            ("   at Shop.Pay.Main()", None),
            ("   at Shop.Pay.Main() in /src/Pay.cs:line ?", None),
        ]);
    }

    #[test]
    fn elixir_is_located_in_its_own_code() {
        check(&[
            (
                "** (E) x\n    (shop 0.1.0) lib/pay.ex:12: Shop.Pay.charge/1\n    pay.exs:3: (file)",
                Some("lib/pay.ex:12"),
            ),
            (
                "    (stdlib 6.1) gen_server.erl:2345: :gen_server.x/4\n    (shop) lib/pay.ex:12: Pay.charge/1",
                Some("lib/pay.ex:12"),
            ),
            ("    (elixir 1.17.3) lib/enum.ex:2531: Enum.reduce/3", Some("lib/enum.ex:2531")),
            ("    pay.exs:3: (file)\r\n", Some("pay.exs:3")),
            ("config.toml:3: unexpected end", None),
        ]);
    }
}
