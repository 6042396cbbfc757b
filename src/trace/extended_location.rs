//! The location rules for the traces in which the original's rules find nothing: Go, Rust, Ruby, PHP, .NET and Elixir.
//!
//! Each language prefers the innermost of the program's own frames, where its traces show which those are. A library
//! raises the same error for many reasons, and its path often contains a version. If no frame is the program's own, the
//! innermost of all counts.

use super::languages::LANGUAGES;
use super::location_notation::Location;

/// Returns where an error was raised, for a text in which the original's rules find nothing.
pub fn extended_location(traceback: &str) -> Option<Location<'_>> {
    let rules = LANGUAGES.iter().flat_map(|language| language.location_rules);
    rules.filter(|rule| traceback.contains(rule.mark)).find_map(|rule| (rule.find)(traceback))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::legacy_location::legacy_location;

    /// Checks the location in each text. The original's rules find none in any of them.
    fn assert_locations(cases: &[(&str, Option<&str>)]) {
        for (traceback, expected) in cases {
            assert_eq!(legacy_location(traceback), None, "{traceback}");
            let found = extended_location(traceback).map(|location| location.to_string());
            assert_eq!(found.as_deref(), *expected, "{traceback}");
        }
    }

    #[test]
    fn go_is_located_below_the_last_panic() {
        assert_locations(&[
            ("panic: boom\n\ngoroutine 1 [running]:\nmain.main()\n\t/app/main.go:12 +0x1d", Some("/app/main.go:12")),
            ("goroutine 1 [running]:\r\nmain.main()\r\n\tC:/shop/main.go:12 +0x1d\r\n", Some("C:/shop/main.go:12")),
            ("main.f(...)\n\t/app/inlined.go:3\nmain.main()\n\t/app/main.go:12 +0x1d", Some("/app/inlined.go:3")),
            ("main.f\n    /app/my shop/indented by spaces.go:3", Some("/app/my shop/indented by spaces.go:3")),
            (
                "goroutine 7 [running]:\nruntime/debug.Stack()\n\t/go/src/runtime/debug/stack.go:24 +0x5e\n\
                 main.recovered()\n\t/app/recovered.go:8 +0x1d\npanic({0x1, 0x2})\n\t/go/src/runtime/panic.go:785 +0x132\n\
                 log.Panicf({0x1, 0x2}, {0x0, 0x0, 0x0})\n\t/go/src/log/log.go:439 +0x65\nmain.pay()\n\t/app/pay.go:9 +0x1d",
                Some("/app/pay.go:9"),
            ),
            // Raised twice: first in pay, then again in the code that recovered it.
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
        assert_locations(&[
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
    fn ruby_is_located_outside_gems() {
        assert_locations(&[
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
        assert_locations(&[
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
        assert_locations(&[
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
    fn elixir_is_located_outside_elixir_and_erlang() {
        assert_locations(&[
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
