//! Memory budget for bodies that wait for an upstream or for the database.
//!
//! A body counts what it has become, not what was received. Small bodies, large ones and those that go to the outbox without
//! an attempt have a budget each. A project gets half of what the others leave, so that nobody can keep out their reports.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Result};

/// Bodies above this size are large: the relay forwards one of them at a time.
pub(super) const LARGE_BODY_BYTES: usize = 64 * 1024;
/// Maximum size of all bodies of each class together, in the order of [`BodyClass`].
const BYTES_MAX: [usize; 3] = [3 * 1024 * 1024, 1024 * 1024, 1536 * 1024];

/// Class of bodies with a common budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BodyClass {
    Small,
    Large,
    /// Bodies that found no place in their own budget. They leave as fast as the database stores them, however slow an
    /// upstream is.
    Overflow,
}

/// The budget that all requests share.
#[derive(Debug, Clone, Default)]
pub(super) struct ForwardBudget(Arc<Mutex<BudgetState>>);

#[derive(Debug, Default)]
struct BudgetState {
    /// Reserved bytes of each class.
    total: [usize; 3],
    by_project: HashMap<String, [usize; 3]>,
}

/// Memory of one body; dropping it returns the memory to the budget.
#[derive(Debug)]
pub(super) struct BodyReservation {
    budget: ForwardBudget,
    project: String,
    class: BodyClass,
    bytes: usize,
}

impl ForwardBudget {
    /// Reserves memory for a body of a project.
    ///
    /// # Errors
    /// [`Error::Busy`] if the project's parts of its budget and of that for the outbox are used up.
    pub(super) fn reserve(&self, project: &str, bytes: usize) -> Result<BodyReservation> {
        let own = if bytes > LARGE_BODY_BYTES { BodyClass::Large } else { BodyClass::Small };
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut classes = [own, BodyClass::Overflow].into_iter();
        let class = classes.find(|class| state.has_room(*class, project, bytes));
        let class = class.ok_or(Error::Busy("Too many reports are being forwarded"))?;
        state.total[class as usize] += bytes;
        state.by_project.entry(project.to_owned()).or_default()[class as usize] += bytes;
        Ok(BodyReservation { budget: self.clone(), project: project.to_owned(), class, bytes })
    }
}

impl BudgetState {
    /// Whether a project may use this much more of a class: half of what the others leave. There is nothing else for an
    /// overflowing body, so the first of a project only has to fit.
    fn has_room(&self, class: BodyClass, project: &str, bytes: usize) -> bool {
        let (max, total) = (BYTES_MAX[class as usize], self.total[class as usize]);
        let held = self.by_project.get(project).map_or(0, |held| held[class as usize]);
        let is_first_overflow = class == BodyClass::Overflow && held == 0;
        let part = if is_first_overflow { max - total } else { (max - (total - held)) / 2 };
        held + bytes <= part && total + bytes <= max
    }
}

impl BodyReservation {
    /// Whether the body may stay in memory until its upstream responds. Otherwise it must go to the outbox at once.
    pub(super) fn may_wait_for_upstream(&self) -> bool {
        self.class != BodyClass::Overflow
    }
}

impl Drop for BodyReservation {
    fn drop(&mut self) {
        let class = self.class as usize;
        let mut state = self.budget.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.total[class] -= self.bytes;
        if let Some(held) = state.by_project.get_mut(&self.project) {
            held[class] -= self.bytes;
            if *held == [0; 3] {
                state.by_project.remove(&self.project);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_project_leaves_memory_to_others() {
        let budget = ForwardBudget::default();
        // Numbers of bodies that wait for the upstream, and of those that go to the outbox.
        let reserve_all = |project, bytes| {
            let reserved: Vec<_> = std::iter::from_fn(|| budget.reserve(project, bytes).ok()).collect();
            let waiting = reserved.iter().filter(|reservation| reservation.may_wait_for_upstream()).count();
            ((waiting, reserved.len() - waiting), reserved)
        };
        let (shop, _shop) = reserve_all("shop", 256 * 1024);
        let (blog, _blog) = reserve_all("blog", 256 * 1024);
        let (wiki, _wiki) = reserve_all("wiki", 256 * 1024);
        assert_eq!((shop, blog, wiki), ((2, 3), (1, 1), (0, 1)));
        drop((_shop, _blog, _wiki));
        assert_eq!(budget.0.lock().unwrap().total, [0; 3]);
        assert!(budget.0.lock().unwrap().by_project.is_empty());

        let (shop, _shop) = reserve_all("shop", LARGE_BODY_BYTES);
        let (blog, _blog) = reserve_all("blog", LARGE_BODY_BYTES);
        assert_eq!((shop, blog), ((24, 12), (12, 6)));
        assert!(budget.reserve("wiki", LARGE_BODY_BYTES).unwrap().may_wait_for_upstream());
    }
}
