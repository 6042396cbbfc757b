//! Monlight: errors, logs, metrics and a door for browsers, in four small programs with one house.
//!
//! Folders are layers, lowest first; a module names only modules of lower layers or of its own folder, which a test
//! checks. `ARCHITECTURE.md` shows the paths a request takes through them.

// layer 0: nouns and threads
pub mod background;
pub mod clock;
pub mod env;
pub mod error;
pub mod json;
pub mod network;
pub mod text;
pub mod trace;
pub mod varint;

// layer 1: what every service stands on
pub mod client;
pub mod db;
pub mod forward;
pub mod http;
pub mod notify;
pub mod random;
pub mod records;

// alerts of any service
pub mod alerting;
// layer 2: what every main would repeat
pub mod service;
// layer 3: the services
pub mod browser_relay;
pub mod error_tracker;
pub mod log_viewer;
pub mod metrics_collector;

// layer 4: what the fuzzer and its corpus need of all of them; not in a program that is built to run
#[cfg(any(test, fuzzing))]
pub mod fuzz;
