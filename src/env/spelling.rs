//! Misspelt settings: environment variables whose name is almost that of a setting, and which nothing reads.

use super::Variable;

/// Minimum length of the names that are compared, in bytes. Shorter ones, such as `PORT`, resemble names of other programs.
const NAME_BYTES_MIN: usize = 7;
/// Minimum length of the names that may differ by two edits.
const TWO_EDITS_BYTES_MIN: usize = 10;

/// Settings of other services that resemble one of this service. One file can have the settings of all services.
const OF_OTHER_SERVICES: [&str; 2] = ["API_KEY", "API_KEY_FILE"];

/// Returns a sentence for each environment variable whose name is almost that of a setting.
pub fn misspelt_settings(variables: &[Variable], environment: impl Iterator<Item = String>) -> Vec<String> {
    let files = variables.iter().filter(|variable| variable.secret).map(|variable| format!("{}_FILE", variable.name));
    let known: Vec<String> = variables.iter().map(|variable| variable.name.to_owned()).chain(files).collect();
    let sentence = |name: String| {
        let closest = known.iter().map(|setting| (edits(&name, setting), setting)).min()?;
        let edits_max = match name.len() {
            ..NAME_BYTES_MIN => 0,
            NAME_BYTES_MIN..TWO_EDITS_BYTES_MIN => 1,
            _ => 2,
        };
        (1..=edits_max).contains(&closest.0).then(|| format!("{name}: unknown setting; did you mean {}?", closest.1))
    };
    environment.filter(|name| !OF_OTHER_SERVICES.contains(&&**name)).filter_map(sentence).collect()
}

/// Returns the number of bytes to insert, delete, replace or swap with the next one to turn one name into the other: the
/// optimal string alignment distance.
fn edits(from: &str, to: &str) -> usize {
    let (from, to) = (from.as_bytes(), to.as_bytes());
    let mut before_last = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for i in 1..=from.len() {
        let mut row = vec![i];
        for j in 1..=to.len() {
            let replaced = last[j - 1] + usize::from(from[i - 1] != to[j - 1]);
            let mut fewest = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                fewest = fewest.min(before_last[j - 2] + 1);
            }
            row.push(fewest);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        for (from, to, expected) in
            [("", "", 0), ("abc", "abc", 0), ("abc", "ac", 1), ("ac", "abc", 1), ("abc", "acb", 1), ("abcd", "xy", 4)]
        {
            assert_eq!(edits(from, to), expected, "{from} {to}");
        }
    }

    #[test]
    fn names_that_are_almost_those_of_settings_are_reported() {
        let table = [
            Variable::plain("RATE_LIMIT", "", ""),
            Variable::plain("PORT", "", ""),
            Variable::plain("ALERT_EMAILS", "", ""),
            Variable::plain("HTTP_PROXY", "", ""),
            Variable::secret("API_KEYS", ""),
        ];
        let report = |name: &str| misspelt_settings(&table, std::iter::once(name.to_owned()));
        for (name, meant) in [
            ("RATE_LIMT", "RATE_LIMIT"),
            ("RATE_LIMTI", "RATE_LIMIT"),
            ("ALERT_EMAIL", "ALERT_EMAILS"),
            ("API_KEYS_FIEL", "API_KEYS_FILE"),
            ("API_KEYYS", "API_KEYS"),
        ] {
            assert_eq!(report(name), [format!("{name}: unknown setting; did you mean {meant}?")]);
        }
        for name in
            ["RATE_LIMIT", "API_KEY_FILE", "PATH", "POST", "SORT", "http_proxy", "ALERTS", "HOSTNAME", "APP_KEY2"]
        {
            assert_eq!(report(name), Vec::<String>::new(), "{name}");
        }
    }
}
