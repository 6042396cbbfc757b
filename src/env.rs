//! Settings from environment variables: one table per service says what exists, with default and help text; every
//! fault is reported at once; secrets cannot be printed.

use std::fmt;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// One variable a service understands.
#[derive(Debug, Clone, Copy)]
pub struct Variable {
    /// The name in the environment.
    pub name: &'static str,
    /// What stands when it is unset or empty; an empty default means "not set".
    pub default: &'static str,
    /// One line for `--help`, with the unit and the range where there are any.
    pub help: &'static str,
    /// Whether the value is a secret: it is never printed and `NAME_FILE` names a file to read it from.
    pub secret: bool,
}

impl Variable {
    /// A setting anyone may see.
    #[must_use]
    pub const fn plain(name: &'static str, default: &'static str, help: &'static str) -> Self {
        Self { name, default, help, secret: false }
    }

    /// A setting nobody may see; it can also come from the file that `NAME_FILE` names.
    #[must_use]
    pub const fn secret(name: &'static str, help: &'static str) -> Self {
        Self { name, default: "", help, secret: true }
    }
}

/// A text that shows as `***` wherever it is formatted.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that compares or sends it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

type Lookup<'a> = Box<dyn Fn(&str) -> Option<String> + 'a>;

/// Reads the variables of one table and collects every fault on the way.
///
/// Each getter answers a usable value even after a fault, so that one pass finds all of them; [`Env::finish`] then
/// refuses to go on.
pub struct Env<'a> {
    variables: &'a [Variable],
    lookup: Lookup<'a>,
    faults: Vec<String>,
}

impl<'a> Env<'a> {
    /// Reads from the environment of this process.
    #[must_use]
    pub fn from_process_env(variables: &'a [Variable]) -> Self {
        Self::new(variables, |name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
    }

    /// Reads from `lookup`, which answers `None` for what is not set.
    pub fn new(variables: &'a [Variable], lookup: impl Fn(&str) -> Option<String> + 'a) -> Self {
        Self { variables, lookup: Box::new(lookup), faults: Vec::new() }
    }

    /// Notes that `name` is wrong and why.
    pub fn error(&mut self, name: &str, why: impl fmt::Display) {
        self.faults.push(format!("{name} {why}"));
    }

    /// The value of `name`, its default where it is unset or empty, `None` where the default is empty too.
    pub fn string(&mut self, name: &'static str) -> Option<String> {
        let variable = self.variable(name);
        let given = (self.lookup)(name).filter(|value| !value.is_empty());
        let given = if variable.secret { self.secret_text(name, given) } else { given };
        given.or_else(|| (!variable.default.is_empty()).then(|| variable.default.to_owned()))
    }

    /// A secret that may be missing.
    pub fn secret(&mut self, name: &'static str) -> Option<Secret> {
        self.string(name).map(Secret::new)
    }

    /// A secret this service cannot start without.
    pub fn required_secret(&mut self, name: &'static str) -> Secret {
        if let Some(secret) = self.secret(name) {
            return secret;
        }
        self.error(name, format_args!("is required; make one with: openssl rand -hex 16 (or set {name}_FILE)"));
        Secret::new("")
    }

    /// A whole number within `range`.
    pub fn number<N>(&mut self, name: &'static str, range: RangeInclusive<N>) -> N
    where
        N: FromStr + PartialOrd + Copy + fmt::Display,
    {
        let parsed = self.string(name).and_then(|text| text.trim().parse::<N>().ok());
        match parsed {
            Some(number) if range.contains(&number) => number,
            _ => {
                self.error(name, format_args!("must be a whole number from {} to {}", range.start(), range.end()));
                *range.start()
            }
        }
    }

    /// A switch: `1`, `true`, `yes`, `on` or `0`, `false`, `no`, `off`.
    pub fn boolean(&mut self, name: &'static str) -> bool {
        match self.string(name).unwrap_or_default().trim().to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" | "on" => true,
            "0" | "false" | "no" | "off" | "" => false,
            _ => {
                self.error(name, "must be 1 or 0");
                false
            }
        }
    }

    /// One of `choices`, compared without regard to case; answers the choice as it is written there.
    pub fn one_of(&mut self, name: &'static str, choices: &[&'static str]) -> &'static str {
        let text = self.string(name).unwrap_or_default();
        match choices.iter().find(|choice| choice.eq_ignore_ascii_case(text.trim())) {
            Some(choice) => choice,
            None => {
                self.error(name, format_args!("must be one of {}", choices.join(", ")));
                choices.first().copied().unwrap_or_default()
            }
        }
    }

    /// A comma-separated list without its blanks and empty items.
    pub fn list(&mut self, name: &'static str) -> Vec<String> {
        let text = self.string(name).unwrap_or_default();
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
    }

    /// An IPv4 or IPv6 address to listen on.
    pub fn address(&mut self, name: &'static str) -> IpAddr {
        let text = self.string(name).unwrap_or_default();
        let bare = text.trim().trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse() {
            return address;
        }
        self.error(name, "must be an IPv4 or IPv6 address, such as 0.0.0.0 or ::1");
        IpAddr::from([127, 0, 0, 1])
    }

    /// `Ok` when nothing was wrong, else every fault, one sentence a line.
    ///
    /// # Errors
    /// The faults, for a person to read.
    pub fn finish(self) -> Result<(), Vec<String>> {
        if self.faults.is_empty() { Ok(()) } else { Err(self.faults) }
    }

    fn variable(&self, name: &str) -> Variable {
        // A name that is not in the table would be missing in --help and in the docs; the tests read every name.
        *self.variables.iter().find(|variable| variable.name == name).expect("the name stands in the service's table")
    }

    fn secret_text(&mut self, name: &str, given: Option<String>) -> Option<String> {
        let file_name = format!("{name}_FILE");
        let Some(path) = (self.lookup)(&file_name).filter(|path| !path.is_empty()) else { return given };
        if given.is_some() {
            self.error(name, format_args!("and {file_name} are both set; keep one"));
            return given;
        }
        match std::fs::read_to_string(&path) {
            Ok(text) if !text.trim().is_empty() => Some(text.trim_end_matches(['\r', '\n']).to_owned()),
            Ok(_) => {
                self.error(&file_name, format_args!("names {path}, which is empty"));
                None
            }
            Err(why) => {
                self.error(&file_name, format_args!("names {path}, which cannot be read: {why}"));
                None
            }
        }
    }
}

/// The table of variables as `--help` prints it: name, default and help text in columns.
#[must_use]
pub fn help(variables: &[Variable]) -> String {
    let width = variables.iter().map(|variable| variable.name.len()).max().unwrap_or(0);
    variables.iter().fold(String::new(), |mut text, variable| {
        let _ = write!(text, "  {:width$}  {}", variable.name, variable.help);
        if !variable.default.is_empty() {
            let _ = write!(text, " [{}]", variable.default);
        }
        if variable.secret {
            text.push_str(" (secret)");
        }
        text.push('\n');
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[Variable] = &[
        Variable::plain("PORT", "5010", "Port to listen on"),
        Variable::plain("LISTEN_ADDR", "0.0.0.0", "Address to listen on"),
        Variable::plain("MODE", "FULL", "How hard to write"),
        Variable::plain("OPEN", "0", "Whether anyone may look"),
        Variable::plain("NAMES", "", "Names"),
        Variable::secret("API_KEY", "The key"),
    ];

    fn env(pairs: &'static [(&'static str, &'static str)]) -> Env<'static> {
        Env::new(TABLE, |name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn unset_and_empty_variables_take_their_defaults() {
        let mut env = env(&[("PORT", ""), ("API_KEY", "k")]);
        assert_eq!(env.number("PORT", 0..=65_535u16), 5010);
        assert_eq!(env.one_of("MODE", &["FULL", "NORMAL"]), "FULL");
        assert!(!env.boolean("OPEN"));
        assert_eq!(env.list("NAMES"), Vec::<String>::new());
        assert_eq!(env.required_secret("API_KEY").reveal(), "k");
        assert_eq!(env.finish(), Ok(()));
    }

    #[test]
    fn every_fault_is_reported_at_once() {
        let mut env = env(&[("PORT", "65536"), ("LISTEN_ADDR", "here"), ("MODE", "fast"), ("OPEN", "maybe")]);
        env.number("PORT", 0..=65_535u32);
        env.address("LISTEN_ADDR");
        env.one_of("MODE", &["FULL", "NORMAL"]);
        env.boolean("OPEN");
        env.required_secret("API_KEY");
        let faults = env.finish().unwrap_err();
        assert_eq!(faults.len(), 5);
        assert_eq!(faults[0], "PORT must be a whole number from 0 to 65535");
        assert!(faults[4].starts_with("API_KEY is required"), "{faults:?}");
    }

    #[test]
    fn a_secret_comes_from_a_file_and_never_shows() {
        let path = std::env::temp_dir().join(format!("monlight-secret-{}", std::process::id()));
        std::fs::write(&path, "s3cret\n").unwrap();
        let name = path.to_string_lossy().into_owned();
        let mut env = Env::new(TABLE, |key| (key == "API_KEY_FILE").then(|| name.clone()));
        let secret = env.required_secret("API_KEY");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(secret.reveal(), "s3cret");
        assert_eq!(format!("{secret:?}"), "***");
    }

    #[test]
    fn a_secret_given_twice_or_unreadable_is_a_fault() {
        let mut both = env(&[("API_KEY", "k"), ("API_KEY_FILE", "/dev/null")]);
        both.secret("API_KEY");
        assert_eq!(both.finish().unwrap_err(), ["API_KEY and API_KEY_FILE are both set; keep one"]);
        let mut missing = env(&[("API_KEY_FILE", "/nonexistent/key")]);
        missing.secret("API_KEY");
        assert!(missing.finish().unwrap_err()[0].starts_with("API_KEY_FILE names /nonexistent/key"));
    }

    #[test]
    fn an_address_may_stand_in_brackets() {
        assert_eq!(env(&[("LISTEN_ADDR", "[::1]")]).address("LISTEN_ADDR"), "::1".parse::<IpAddr>().unwrap());
    }
}
