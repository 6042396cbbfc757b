//! Monlight: error tracking, logs, metrics and browser monitoring for small servers, as four programs on one library.
//!
//! Modules are in layers. A module uses only modules of lower layers or of its own folder; a test enforces this.
//! `ARCHITECTURE.md` describes the layers and the path of a request through them.

// Layer 0: leaves.
pub mod clock;
pub mod error;
pub mod ip_network;
pub mod text;
pub mod varint;

// Layer 1: basics, and stack traces.
pub mod background;
pub mod env;
pub mod json;
pub mod page_path;
pub mod random;
pub mod trace;

// Layer 2: values that services and formats exchange.
pub mod records;

// Layer 3: storage and network.
pub mod client;
pub mod db;
pub mod http;

// Layer 4: outbound data.
pub mod forward;
pub mod notify;
pub mod quota;

// Layer 5: alerts of every service.
pub mod alerting;

// Layer 6: code that every program needs.
pub mod service;

// Layer 7: the services.
pub mod browser_relay;
pub mod error_tracker;
pub mod log_viewer;
pub mod metrics_collector;

// Layer 8: fuzz targets. Not part of the programs.
#[cfg(any(test, fuzzing))]
pub mod fuzz;
