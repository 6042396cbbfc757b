//! Settings from environment variables. Each service has one table of variables with defaults and help texts. All invalid
//! settings are reported at once. Secrets cannot be printed.

mod spelling;

use std::fmt;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

pub use spelling::misspelt_settings;

/// One environment variable of a service.
#[derive(Debug, Clone, Copy)]
pub struct Variable {
    /// The name of the variable.
    pub name: &'static str,
    /// The value if the variable is unset or empty. An empty default means "not set".
    pub default: &'static str,
    /// One line for `--help`, with the unit and the range, if any.
    pub help: &'static str,
    /// Whether the value is secret: never printed, and also read from the file that `NAME_FILE` names.
    pub secret: bool,
}

impl Variable {
    /// Creates a setting that may be printed.
    #[must_use]
    pub const fn plain(name: &'static str, default: &'static str, help: &'static str) -> Self {
        Self { name, default, help, secret: false }
    }

    /// Creates a secret setting, which can also be read from the file that `NAME_FILE` names.
    #[must_use]
    pub const fn secret(name: &'static str, help: &'static str) -> Self {
        Self { name, default: "", help, secret: true }
    }
}

/// A string that is formatted as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a string as a secret.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the string, for comparing or sending it.
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

/// Reads the variables of one table and collects all errors.
///
/// Each getter returns a usable value even for an invalid setting, so that one pass finds all errors. [`Env::finish`]
/// returns them.
pub struct Env<'a> {
    variables: &'a [Variable],
    lookup: Lookup<'a>,
    errors: Vec<String>,
}

impl<'a> Env<'a> {
    /// Creates a reader of the environment of this process.
    #[must_use]
    pub fn from_process_env(variables: &'a [Variable]) -> Self {
        Self::new(variables, |name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
    }

    /// Creates a reader of `lookup`, which returns `None` for unset variables.
    pub fn new(variables: &'a [Variable], lookup: impl Fn(&str) -> Option<String> + 'a) -> Self {
        Self { variables, lookup: Box::new(lookup), errors: Vec::new() }
    }

    /// Records that a setting is invalid: `NAME: problem`.
    pub fn error(&mut self, name: &str, problem: impl fmt::Display) {
        self.errors.push(format!("{name}: {problem}"));
    }

    /// Returns a setting, or its default if it is unset or empty, or `None` if the default is empty too.
    pub fn string(&mut self, name: &'static str) -> Option<String> {
        let variable = self.variable(name);
        let value = (self.lookup)(name).filter(|value| !value.is_empty());
        let value = if variable.secret { self.secret_value(name, value) } else { value };
        value.or_else(|| (!variable.default.is_empty()).then(|| variable.default.to_owned()))
    }

    /// Whether a setting has a value other than its default.
    pub fn is_set(&self, name: &'static str) -> bool {
        (self.lookup)(name).is_some_and(|value| !value.is_empty())
    }

    /// Returns the value of a variable that other programs read too, such as `HTTPS_PROXY`: of `name` or, if that is
    /// unset, of its lower-case spelling.
    pub fn any_case(&mut self, name: &'static str) -> Option<String> {
        let lower_case = (self.lookup)(&name.to_ascii_lowercase()).filter(|value| !value.is_empty());
        self.string(name).or(lower_case)
    }

    /// Returns an optional secret.
    pub fn secret(&mut self, name: &'static str) -> Option<Secret> {
        self.string(name).map(Secret::new)
    }

    /// Returns a secret that the service cannot start without, and that the operator makes up.
    pub fn required_secret(&mut self, name: &'static str) -> Secret {
        self.required(name, "generate one with: openssl rand -hex 16")
    }

    /// Returns a secret that the service cannot start without, and that exists elsewhere. `origin` describes it: "a key of the
    /// error tracker".
    pub fn required_foreign_secret(&mut self, name: &'static str, origin: &str) -> Secret {
        self.required(name, &format!("set it to {origin}"))
    }

    fn required(&mut self, name: &'static str, remedy: &str) -> Secret {
        if let Some(secret) = self.secret(name) {
            return secret;
        }
        self.error(name, format_args!("required; {remedy} (or set {name}_FILE)"));
        Secret::new("")
    }

    /// Returns an integer within `range`.
    pub fn number<N>(&mut self, name: &'static str, range: RangeInclusive<N>) -> N
    where
        N: FromStr + PartialOrd + Copy + fmt::Display,
    {
        let parsed = self.string(name).and_then(|text| text.trim().parse::<N>().ok());
        match parsed {
            Some(number) if range.contains(&number) => number,
            _ => {
                self.error(name, format_args!("must be an integer from {} to {}", range.start(), range.end()));
                *range.start()
            }
        }
    }

    /// Returns a boolean: `1`, `true`, `yes`, `on` or `0`, `false`, `no`, `off`.
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

    /// Returns one of `choices`, compared case-insensitively, in the spelling of `choices`.
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

    /// Returns the items of a comma-separated list, trimmed, without empty ones.
    pub fn list(&mut self, name: &'static str) -> Vec<String> {
        let text = self.string(name).unwrap_or_default();
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
    }

    /// Returns an IPv4 or IPv6 address.
    pub fn address(&mut self, name: &'static str) -> IpAddr {
        let text = self.string(name).unwrap_or_default();
        let bare = text.trim().trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse() {
            return address;
        }
        self.error(name, "must be an IPv4 or IPv6 address (examples: 0.0.0.0, ::1)");
        IpAddr::from([127, 0, 0, 1])
    }

    /// Ends reading.
    ///
    /// # Errors
    /// Returns one line for each invalid setting.
    pub fn finish(self) -> Result<(), Vec<String>> {
        if self.errors.is_empty() { Ok(()) } else { Err(self.errors) }
    }

    fn variable(&self, name: &str) -> Variable {
        // A variable that is not in the table would be missing in --help and the docs. The tests read every name.
        *self.variables.iter().find(|variable| variable.name == name).expect("the variable is in the service's table")
    }

    fn secret_value(&mut self, name: &str, value: Option<String>) -> Option<String> {
        let file_name = format!("{name}_FILE");
        let Some(path) = (self.lookup)(&file_name).filter(|path| !path.is_empty()) else { return value };
        if value.is_some() {
            self.error(name, format_args!("{file_name} is also set; set only one of them"));
            return value;
        }
        match std::fs::read_to_string(&path) {
            Ok(text) if !text.trim().is_empty() => Some(text.trim_end_matches(['\r', '\n']).to_owned()),
            Ok(_) => {
                self.error(&file_name, format_args!("the file {path} is empty"));
                None
            }
            Err(why) => {
                self.error(&file_name, format_args!("cannot read {path}: {why}"));
                None
            }
        }
    }
}

/// Returns the table of variables for `--help`: name, help text and default in columns.
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
        Variable::plain("MODE", "FULL", "Durability"),
        Variable::plain("OPEN", "0", "Public"),
        Variable::plain("NAMES", "", "Names"),
        Variable::secret("API_KEY", "API key"),
    ];

    fn env(pairs: &'static [(&'static str, &'static str)]) -> Env<'static> {
        Env::new(TABLE, |name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn unset_and_empty_variables_have_their_defaults() {
        let mut env = env(&[("PORT", ""), ("API_KEY", "k")]);
        assert_eq!(env.number("PORT", 0..=65_535u16), 5010);
        assert_eq!(env.one_of("MODE", &["FULL", "NORMAL"]), "FULL");
        assert!(!env.boolean("OPEN"));
        assert_eq!(env.list("NAMES"), Vec::<String>::new());
        assert_eq!(env.required_secret("API_KEY").reveal(), "k");
        assert_eq!(env.finish(), Ok(()));
    }

    #[test]
    fn all_errors_are_reported_at_once() {
        let mut env = env(&[("PORT", "65536"), ("LISTEN_ADDR", "here"), ("MODE", "fast"), ("OPEN", "maybe")]);
        env.number("PORT", 0..=65_535u32);
        env.address("LISTEN_ADDR");
        env.one_of("MODE", &["FULL", "NORMAL"]);
        env.boolean("OPEN");
        env.required_secret("API_KEY");
        let errors = env.finish().unwrap_err();
        assert_eq!(errors.len(), 5);
        assert_eq!(errors[0], "PORT: must be an integer from 0 to 65535");
        assert!(errors[4].starts_with("API_KEY: required"), "{errors:?}");
    }

    #[test]
    fn secrets_are_read_from_files_and_never_printed() {
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
    fn ambiguous_and_unreadable_secrets_are_rejected() {
        let mut both = env(&[("API_KEY", "k"), ("API_KEY_FILE", "/dev/null")]);
        both.secret("API_KEY");
        assert_eq!(both.finish().unwrap_err(), ["API_KEY: API_KEY_FILE is also set; set only one of them"]);
        let mut missing = env(&[("API_KEY_FILE", "/nonexistent/key")]);
        missing.secret("API_KEY");
        assert!(missing.finish().unwrap_err()[0].starts_with("API_KEY_FILE: cannot read /nonexistent/key"));
    }

    #[test]
    fn addresses_may_be_bracketed() {
        assert_eq!(env(&[("LISTEN_ADDR", "[::1]")]).address("LISTEN_ADDR"), "::1".parse::<IpAddr>().unwrap());
    }
}
