//! Queue in front of a fixed number of threads, which the projects take from in turn.
//!
//! A project gets a part of what the others leave, both of the threads and of the places in the queue. So a project that is
//! alone has most of them, and the first item of another project finds a thread and a place at once.

use std::collections::{HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A queue of items that each belong to a project.
pub(super) struct FairQueue<T> {
    /// Number of threads that take items.
    threads: usize,
    /// Maximum items that wait for a thread; one project may use half of what the others leave.
    waiting_max: usize,
    state: Mutex<QueueState<T>>,
    changed: Condvar,
}

struct QueueState<T> {
    projects: HashMap<String, ProjectItems<T>>,
    /// The projects with waiting items; the first one is the next to get a thread.
    turns: VecDeque<String>,
    waiting: usize,
    running: usize,
    is_closed: bool,
}

/// The items of one project.
struct ProjectItems<T> {
    waiting: VecDeque<T>,
    running: usize,
}

impl<T> FairQueue<T> {
    pub(super) fn new(threads: usize, waiting_max: usize) -> Self {
        let (projects, turns) = (HashMap::new(), VecDeque::new());
        let state = QueueState { projects, turns, waiting: 0, running: 0, is_closed: false };
        Self { threads, waiting_max, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Appends an item, or returns it if its project has used up its places. Never blocks.
    pub(super) fn push(&self, project: &str, item: T) -> Result<(), T> {
        let mut state = self.lock();
        let held = state.projects.get(project).map_or(0, |items| items.waiting.len());
        if held + state.waiting >= self.waiting_max || state.is_closed {
            return Err(item);
        }
        state.waiting += 1;
        if held == 0 {
            state.turns.push_back(project.to_owned());
        }
        if let Some(items) = state.projects.get_mut(project) {
            items.waiting.push_back(item);
        } else {
            state.projects.insert(project.to_owned(), ProjectItems { waiting: VecDeque::from([item]), running: 0 });
        }
        // Otherwise the thread that finishes next takes it.
        if self.may_run(&state, project) {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// Waits for an item that may run and returns it with its project, which [`FairQueue::finish`] needs afterwards. `None` if
    /// the queue is closed.
    pub(super) fn take(&self) -> Option<(String, T)> {
        let mut state = self.lock();
        loop {
            if let Some(index) = state.turns.iter().position(|project| self.may_run(&state, project)) {
                return state.start(index);
            }
            if state.is_closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Returns the thread of an item. The caller must take the next item afterwards.
    pub(super) fn finish(&self, project: &str) {
        let mut state = self.lock();
        state.running -= 1;
        if let Some(items) = state.projects.get_mut(project) {
            items.running -= 1;
            if items.running == 0 && items.waiting.is_empty() {
                state.projects.remove(project);
            }
        }
    }

    /// Ends the threads as soon as they have taken the waiting items.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    /// Whether a project may use a further thread: fewer than twice as many as are free.
    fn may_run(&self, state: &QueueState<T>, project: &str) -> bool {
        let running = state.projects.get(project).map_or(0, |items| items.running);
        running < 2 * (self.threads - state.running)
    }

    fn lock(&self) -> MutexGuard<'_, QueueState<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> QueueState<T> {
    /// Removes the first waiting item of the project at this index of the turns.
    fn start(&mut self, index: usize) -> Option<(String, T)> {
        let project = self.turns.remove(index)?;
        let items = self.projects.get_mut(&project)?;
        let item = items.waiting.pop_front()?;
        items.running += 1;
        if !items.waiting.is_empty() {
            self.turns.push_back(project.clone());
        }
        self.waiting -= 1;
        self.running += 1;
        Some((project, item))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes all items that may run now, and returns them.
    fn take_all(queue: &FairQueue<u32>) -> Vec<(String, u32)> {
        let may_take = || {
            let state = queue.lock();
            state.turns.iter().any(|project| queue.may_run(&state, project))
        };
        std::iter::from_fn(|| may_take().then(|| queue.take().unwrap())).collect()
    }

    #[test]
    fn lonely_project_leaves_threads_and_places_to_others() {
        let queue = FairQueue::new(12, 128);
        let push = |project, count: u32| (0..count).filter(|number| queue.push(project, *number).is_ok()).count();
        assert_eq!((push("shop", 64), take_all(&queue).len()), (64, 8));
        assert_eq!(push("shop", 100), 8, "64 of shop wait");
        assert_eq!((push("blog", 100), take_all(&queue).len()), (32, 3));
        assert_eq!((push("wiki", 1), take_all(&queue)), (1, vec![("wiki".to_owned(), 0)]));
        assert_eq!(push("docs", 100), 18);
        assert!(take_all(&queue).is_empty(), "all threads are busy");
        // The next thread goes to the project without a running item, whichever project returned it.
        queue.finish("shop");
        assert_eq!(take_all(&queue), [("docs".to_owned(), 0)]);
    }

    #[test]
    fn projects_take_turns_and_each_keeps_its_order() {
        let queue = FairQueue::new(1, 100);
        for (project, number) in [("shop", 1), ("shop", 2), ("shop", 3), ("blog", 4), ("blog", 5)] {
            queue.push(project, number).unwrap();
        }
        queue.close();
        assert!(queue.push("shop", 6).is_err());
        let run = || queue.take().inspect(|(project, _)| queue.finish(project)).map(|(_, number)| number);
        assert_eq!(std::iter::from_fn(run).collect::<Vec<_>>(), [1, 4, 2, 5, 3]);
        assert!(queue.lock().projects.is_empty());
    }
}
