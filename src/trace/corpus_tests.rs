//! The traces in `tests/corpus/tracebacks`, and properties of all texts.

use proptest::prelude::*;

use super::extended_location::extended_location;
use super::legacy_location::legacy_location;
use super::scan::is_number;
use super::test_strategies::tracebacks;

#[test]
fn real_traces_are_located() {
    let corpus = [
        ("chrome", "https://shop.example/assets/checkout-4f1c9b2e.js:14", true),
        ("dotnet", "/src/Shop/Cart.cs:31", false),
        ("elixir", "lib/shop/cart.ex:31", false),
        ("firefox", "http://localhost:3000/src/cart.ts:27", true),
        ("go-panic", "/src/internal/pay/total.go:17", false),
        ("go-recovered", "/src/cmd/checkout/server.go:58", false),
        ("java", "Shop.java:9", true),
        ("node", "/srv/shop/lib/pay.js:3", true),
        ("php", "/app/src/Database.php:19", false),
        ("php-trace", "/app/app/Cart.php:31", false),
        ("python", "/app/shop/pay.py:8", true),
        ("ruby", "/app/app/models/checkout.rb:23", false),
        ("ruby-3.3", "/app/lib/price.rb:12", false),
        ("rust", "src/checkout/pay.rs:88", false),
        ("rust-1.72", "src/checkout/pay.rs:41", false),
        ("rust-backtrace", "/rustc/59807616e1fa2540724bfbac14d7976d7e4a3860/library/std/src/panicking.rs:689", true),
        ("safari", "https://shop.example/assets/index-90ab34cd.js:2", true),
    ];
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/tracebacks");
    assert_eq!(
        std::fs::read_dir(&folder).unwrap().count(),
        corpus.len(),
        "a trace without a location, or a location without a trace"
    );
    for (name, location, original_finds_it) in corpus {
        let traceback = std::fs::read_to_string(folder.join(format!("{name}.txt"))).unwrap();
        let found = legacy_location(&traceback);
        assert_eq!(found.is_some(), original_finds_it, "{name}: {found:?}");
        let found = found.or_else(|| extended_location(&traceback)).map(|location| location.to_string());
        assert_eq!(found.as_deref(), Some(location), "{name}");
    }
}

proptest! {
    #[test]
    fn locations_are_parts_of_the_text(traceback in tracebacks()) {
        for location in [legacy_location(&traceback), extended_location(&traceback)].into_iter().flatten() {
            prop_assert!(is_number(location.line));
            prop_assert!(traceback.contains(location.file) && traceback.contains(location.line));
        }
    }

    #[test]
    fn no_text_makes_the_rules_panic(traceback in "(?s).{0,200}") {
        let _ = legacy_location(&traceback);
        let _ = extended_location(&traceback);
    }
}
