//! Memory budget for bodies that wait for an upstream or for the database.
//!
//! A body counts what it has become, not what was received. Small and large bodies have a budget each, and one project may
//! use only a part of each, so that nobody can keep out the reports of others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Result};

/// Bodies above this size are large: the relay forwards one of them at a time.
pub(super) const LARGE_BODY_BYTES: usize = 64 * 1024;
/// Maximum size of all small bodies together.
const SMALL_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Maximum size of all large bodies together: three of the largest.
const LARGE_BYTES_MAX: usize = 3 * 512 * 1024;

/// The budget that all requests share.
#[derive(Debug, Clone, Default)]
pub(super) struct ForwardBudget(Arc<Mutex<BudgetState>>);

#[derive(Debug, Default)]
struct BudgetState {
    /// Reserved bytes of small and of large bodies.
    total: [usize; 2],
    by_project: HashMap<String, [usize; 2]>,
}

/// Memory of one body; dropping it returns the memory to the budget.
#[derive(Debug)]
pub(super) struct BodyReservation {
    budget: ForwardBudget,
    project: String,
    bytes: usize,
}

impl ForwardBudget {
    /// Reserves memory for a body of a project.
    ///
    /// # Errors
    /// [`Error::Busy`] if the budget or the project's part of it is used up.
    pub(super) fn reserve(&self, project: &str, bytes: usize) -> Result<BodyReservation> {
        let class = class(bytes);
        let (total_max, project_max) =
            [(SMALL_BYTES_MAX, SMALL_BYTES_MAX / 2), (LARGE_BYTES_MAX, LARGE_BYTES_MAX / 3 * 2)][class];
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let held = state.by_project.get(project).map_or(0, |held| held[class]);
        if state.total[class] + bytes > total_max || held + bytes > project_max {
            return Err(Error::Busy("Too many reports are being forwarded"));
        }
        state.total[class] += bytes;
        state.by_project.entry(project.to_owned()).or_default()[class] += bytes;
        Ok(BodyReservation { budget: self.clone(), project: project.to_owned(), bytes })
    }
}

impl Drop for BodyReservation {
    fn drop(&mut self) {
        let class = class(self.bytes);
        let mut state = self.budget.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.total[class] -= self.bytes;
        if let Some(held) = state.by_project.get_mut(&self.project) {
            held[class] -= self.bytes;
            if *held == [0, 0] {
                state.by_project.remove(&self.project);
            }
        }
    }
}

/// Returns the index of the budget for a body of this size.
fn class(bytes: usize) -> usize {
    usize::from(bytes > LARGE_BODY_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_project_leaves_memory_to_others() {
        let budget = ForwardBudget::default();
        let reserve_all = |project, bytes| -> Vec<BodyReservation> {
            std::iter::from_fn(|| budget.reserve(project, bytes).ok()).collect()
        };
        let shop = (reserve_all("shop", 512 * 1024), reserve_all("shop", LARGE_BODY_BYTES));
        assert_eq!((shop.0.len(), shop.1.len()), (2, 32));
        let blog = (reserve_all("blog", 512 * 1024), reserve_all("blog", LARGE_BODY_BYTES));
        assert_eq!((blog.0.len(), blog.1.len()), (1, 32));
        assert!(budget.reserve("wiki", 1).is_err());
        drop(shop);
        assert!(budget.reserve("shop", 512 * 1024).is_ok() && budget.reserve("wiki", 1).is_ok());
        drop(blog);
        assert!(budget.0.lock().unwrap().by_project.is_empty());
        assert_eq!(budget.0.lock().unwrap().total, [0, 0]);
    }
}
