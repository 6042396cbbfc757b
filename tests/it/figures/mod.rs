//! Benchmark figures: a recorder for the tables that long test runs measure, and tests of `benches/figures.py`, the
//! script that compares figures and renders them into `docs/benchmarks.md`.

mod recorder;
mod script;

pub use recorder::{Figures, round_to};
