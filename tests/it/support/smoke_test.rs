//! Runs of `deploy/smoke-test.sh` and their results.

use std::process::Output;
use std::time::Duration;

use super::harness::skip;
use super::programs::{deploy_script, is_installed, output_text};

/// Maximum duration of the smoke test.
const DURATION_MAX: Duration = Duration::from_secs(60);

/// Runs deploy/smoke-test.sh with the given arguments, and an environment of only `PATH` and `env`.
pub fn smoke_test(arguments: &[&str], env: &[(&str, String)]) -> Output {
    let env: Vec<_> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
    deploy_script("smoke-test.sh", arguments, &env).output().unwrap()
}

/// Result of a smoke test.
pub struct SmokeResult {
    output: String,
    passed: usize,
    /// Names of the failed checks.
    failed: Vec<String>,
    code: Option<i32>,
    pub duration: Duration,
}

impl SmokeResult {
    /// Parses the output of the script and asserts that its last line has the correct numbers.
    #[track_caller]
    pub fn parse(output: &Output, duration: Duration) -> Self {
        let text = output_text(output);
        let failed: Vec<String> = text
            .lines()
            .filter_map(|line| line.strip_prefix("FAIL  ")?.split_once(": expected "))
            .map(|(name, _)| name.to_owned())
            .collect();
        let passed = text.lines().filter(|line| line.starts_with("ok    ")).count();
        let last = format!("{passed} passed, {} failed", failed.len());
        assert_eq!(text.lines().last(), Some(last.as_str()), "{text}");
        Self { output: text, passed, failed, code: output.status.code(), duration }
    }

    /// Asserts that all checks passed, in time.
    #[track_caller]
    pub fn assert_success(&self) {
        assert!(self.passed > 50, "{}", self.output);
        assert_eq!((self.code, self.failed.len()), (Some(0), 0), "{}", self.output);
        assert!(self.duration < DURATION_MAX, "the smoke test took {:?}", self.duration);
    }

    /// Asserts that exactly these checks failed.
    #[track_caller]
    pub fn assert_failed_checks(&self, failed: &[&str]) {
        assert_eq!(self.failed, failed, "{}", self.output);
        assert_eq!(self.code, Some(1), "{}", self.output);
    }
}

/// Returns whether curl is installed; skips the test if it is not.
pub fn curl_or_skip() -> bool {
    let installed = is_installed("curl");
    if !installed {
        skip("curl is not installed; the smoke test is not tested");
    }
    installed
}
