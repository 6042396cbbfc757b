//! How sending goes, for those who ask for a service's health.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a server may be away until `/health` warns of it.
const WARN_AFTER: Duration = Duration::from_secs(60);

/// What keeps records from being taken, if anything does.
#[derive(Debug)]
pub struct Trouble {
    /// What is sent, as people call it.
    what: &'static str,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When nothing waited last.
    level: Instant,
    /// Since when nothing is taken, and why.
    trouble: Option<(Instant, String)>,
}

impl Trouble {
    /// None so far with what is called so.
    #[must_use]
    pub fn of(what: &'static str) -> Self {
        Self { what, state: Mutex::new(State { level: Instant::now(), trouble: None }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something was not taken.
    pub fn note(&self, why: String) {
        match &mut self.state().trouble {
            Some((_, said)) => *said = why,
            none => {
                log::warn!("{} waits: {why}", self.what);
                *none = Some((Instant::now(), why));
            }
        }
    }

    /// Something was taken.
    pub fn is_over(&self) {
        if self.state().trouble.take().is_some() {
            log::info!("{} goes on", self.what);
        }
    }

    /// Nothing waits.
    pub fn is_level(&self) {
        self.state().level = Instant::now();
    }

    /// Seconds since nothing waited.
    #[must_use]
    pub fn lag_s(&self) -> i64 {
        self.state().level.elapsed().as_secs().cast_signed()
    }

    /// That nothing was taken for a while, and why.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let state = self.state();
        let (since, why) = state.trouble.as_ref().filter(|(since, _)| since.elapsed() > WARN_AFTER)?;
        Some(format!("{} has waited for {} s: {why}", self.what, since.elapsed().as_secs()))
    }
}
