//! Patterns that the text of an entry is matched against. Matching a long text can be interrupted, because a short regular
//! expression such as `[ab].{0,1000}[yz]` takes half a minute for a megabyte.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use regex_automata::Input;
use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::meta::{self, Regex};
use regex_automata::nfa::thompson;
use regex_automata::util::syntax;

use crate::error::{Error, Result};

/// Maximum product of the counted repetitions in a regular expression: 60 * 60 for `a.{0,60}b.{0,60}`.
const REPETITIONS_MAX: u64 = 10_000;
/// Maximum memory of a compiled regular expression, in bytes. Its cache during a search has the same limit.
const MEMORY_BYTES_MAX: usize = 1 << 20;
/// Texts up to this length are matched at once, which takes 0.2 s with the slowest patterns.
const WHOLE_TEXT_BYTES_MAX: usize = 4 * 1024;
/// Number of bytes between two checks of the time.
const STEP_BYTES: usize = 1024;
/// Length of the windows of a text that the automaton cannot read, and the distance of their starts.
const WINDOW_BYTES: usize = 32 * 1024;
const WINDOW_STEP_BYTES: usize = 16 * 1024;

/// A compiled pattern.
#[derive(Debug)]
pub(super) struct Pattern {
    regex: Regex,
    /// `None` for substrings, which are found fast in any text.
    automaton: Option<Automaton>,
}

/// Automaton that reads a text byte by byte.
#[derive(Debug)]
struct Automaton {
    dfa: DFA,
    /// States that were computed so far.
    cache: Mutex<Cache>,
}

impl Pattern {
    /// Creates a case-insensitive pattern for texts that contain a substring.
    ///
    /// # Errors
    /// Returns [`Error::Invalid`], naming the parameter, if the substring is too long.
    pub(super) fn substring(name: &str, substring: &str) -> Result<Self> {
        let regex = build(&regex::escape(substring), true);
        let regex = regex.map_err(|_| Error::field(name, "is too long for a search without case"))?;
        Ok(Self { regex, automaton: None })
    }

    /// Compiles a regular expression.
    ///
    /// # Errors
    /// Returns [`Error::Invalid`] if it is invalid or could take too long.
    pub(super) fn regex(pattern: &str) -> Result<Self> {
        if repetition_product(pattern) > REPETITIONS_MAX {
            let rule = "must have counted repetitions, such as {0,60}, whose product is at most 10,000";
            return Err(Error::field("regex", rule));
        }
        let regex = build(pattern, false).map_err(|why| match why.syntax_error() {
            Some(why) => Error::field("regex", format_args!("is not a valid regular expression: {why}")),
            None => Error::field("regex", "is too large when compiled; use fewer or smaller repetitions"),
        })?;
        let config = DFA::config()
            .cache_capacity(MEMORY_BYTES_MAX)
            .skip_cache_capacity_check(true)
            // Stops at the first character that is not ASCII if the pattern has a word boundary.
            .unicode_word_boundary(true);
        let nfa = thompson::Config::new().nfa_size_limit(Some(MEMORY_BYTES_MAX));
        let dfa = DFA::builder().configure(config).thompson(nfa).build(pattern);
        let dfa =
            dfa.map_err(|_| Error::field("regex", "is too large when compiled; use fewer or smaller repetitions"))?;
        let cache = Mutex::new(dfa.create_cache());
        Ok(Self { regex, automaton: Some(Automaton { dfa, cache }) })
    }

    /// Returns whether a text matches; `None` if this was not known before the deadline.
    pub(super) fn is_match(&self, text: &str, deadline: Instant) -> Option<bool> {
        match &self.automaton {
            Some(automaton) if text.len() > WHOLE_TEXT_BYTES_MAX => match automaton.is_match(text, deadline) {
                Step::Result(is_match) => Some(is_match),
                Step::TimedOut => None,
                Step::Unsupported => self.is_match_in_windows(text, deadline),
            },
            _ => Some(self.regex.is_match(text)),
        }
    }

    /// Matches the overlapping windows of a text, each with what is around it for assertions such as `\b`. Only a match
    /// that is longer than the overlap can be missed.
    fn is_match_in_windows(&self, text: &str, deadline: Instant) -> Option<bool> {
        let mut start = 0;
        loop {
            let end = text.floor_char_boundary(start + WINDOW_BYTES);
            if self.regex.is_match(Input::new(text).span(start..end)) {
                return Some(true);
            }
            if end == text.len() {
                return Some(false);
            }
            if Instant::now() >= deadline {
                return None;
            }
            start = text.floor_char_boundary(start + WINDOW_STEP_BYTES);
        }
    }
}

fn build(pattern: &str, case_insensitive: bool) -> std::result::Result<Regex, Box<meta::BuildError>> {
    let limits = meta::Config::new().nfa_size_limit(Some(MEMORY_BYTES_MAX)).hybrid_cache_capacity(MEMORY_BYTES_MAX);
    let syntax = syntax::Config::new().case_insensitive(case_insensitive);
    Regex::builder().configure(limits).syntax(syntax).build(pattern).map_err(Box::new)
}

/// Outcome of [`Automaton::is_match`].
enum Step {
    Result(bool),
    TimedOut,
    /// The text has a character that the automaton cannot judge.
    Unsupported,
}

impl Automaton {
    fn is_match(&self, text: &str, deadline: Instant) -> Step {
        let Self { dfa, cache } = self;
        let cache = &mut *cache.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(mut state) = dfa.start_state_forward(cache, &Input::new(text)) else { return Step::Unsupported };
        for step in text.as_bytes().chunks(STEP_BYTES) {
            for byte in step {
                let Ok(next) = dfa.next_state(cache, state, *byte) else { return Step::Unsupported };
                state = next;
                if !state.is_tagged() {
                    continue;
                }
                if state.is_match() {
                    return Step::Result(true);
                }
                if state.is_dead() {
                    return Step::Result(false);
                }
                if state.is_quit() {
                    return Step::Unsupported;
                }
            }
            if Instant::now() >= deadline {
                return Step::TimedOut;
            }
        }
        // A match is reported one byte late, and therefore at the end.
        dfa.next_eoi_state(cache, state).map_or(Step::Unsupported, |state| Step::Result(state.is_match()))
    }
}

/// Returns the product of the upper bounds of all counted repetitions: 12 for `a{3}(b{1,4})?`. Braces that are not a
/// repetition, such as those in a character class, can make it too high.
fn repetition_product(pattern: &str) -> u64 {
    let mut product = 1_u64;
    let mut rest = pattern;
    while let Some(at) = rest.find(['\\', '{']) {
        let found = &rest[at..];
        if let Some(escaped) = found.strip_prefix('\\') {
            // A code point or a class, such as \x{41} and \p{L}, has braces too.
            let mut characters = escaped.chars();
            let has_braces = matches!(characters.next(), Some('x' | 'u' | 'U' | 'p' | 'P'));
            rest = characters.as_str();
            if has_braces && rest.starts_with('{') {
                rest = rest.split_once('}').map_or("", |(_, rest)| rest);
            }
            continue;
        }
        let Some((bounds, after)) = found[1..].split_once('}') else { break };
        let bounds: String = bounds.chars().filter(|character| !character.is_whitespace()).collect();
        let upper = bounds.split(',').rfind(|bound| !bound.is_empty());
        match upper.map(str::parse::<u64>) {
            Some(Ok(upper)) => {
                product = product.saturating_mul(upper.max(1));
                rest = after;
            }
            _ => rest = &found[1..],
        }
    }
    product
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn a_product_counts_repetitions_and_nothing_else() {
        for (pattern, product) in [
            ("a+b*c?", 1),
            (r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}", 81),
            ("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", 6_144),
            ("(a{10}){20,}b{0}", 200),
            (r"\x{41}\p{L}\u{2028}\{5}a{2}", 2),
            (r"\\{3}", 3),
            ("a{ 2 , 7 }", 7),
            ("{a", 1),
            ("(?:a.{0,60}b.{0,60}c.{0,60}d.{0,60}z)", 12_960_000),
            ("a{99999999999}a{99999999999}", u64::MAX),
        ] {
            assert_eq!(repetition_product(pattern), product, "{pattern}");
        }
        assert!(Pattern::regex("a.{0,60}b.{0,60}z").is_ok());
        let error = Pattern::regex("a.{0,60}b.{0,60}c.{0,60}z").unwrap_err().to_string();
        assert!(error.contains("'regex'") && error.contains("10,000"), "{error}");
    }

    #[test]
    fn a_long_text_is_interrupted() {
        let mut state = 1_u64;
        let letter = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            char::from(b"abcd"[(state >> 62) as usize])
        };
        let text: String = (0..1_000_000).map(letter).collect();
        for name in ["[ab].{0,1000}[yz]", r"[ab].{0,1000}[yz]\b"] {
            let pattern = Pattern::regex(name).unwrap();
            for text in [text.clone(), format!("é{text}")] {
                let started = Instant::now();
                let is_match = pattern.is_match(&text, started + Duration::from_millis(50));
                assert_eq!(is_match, None, "{name} after {:?}, {}", started.elapsed(), &text[..4]);
                assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
            }
        }
    }

    proptest! {
        #[test]
        fn long_texts_match_like_short_ones(
            pattern in prop::sample::select(&["a+b", r"\ba", "^a", "b$", r"é\b", "(?i)É", "a.{0,3}b", "", r"\n^a", "(?m)^b$", "x"][..]),
            text in "[abé \n]{0,12}",
        ) {
            let pattern = Pattern::regex(pattern).unwrap();
            let automaton = pattern.automaton.as_ref().unwrap();
            let expected = pattern.regex.is_match(text.as_str());
            match automaton.is_match(&text, later()) {
                Step::Result(is_match) => prop_assert_eq!(is_match, expected),
                Step::TimedOut => prop_assert!(false),
                Step::Unsupported => prop_assert_eq!(pattern.is_match_in_windows(&text, later()), Some(expected)),
            }
        }
    }
}
