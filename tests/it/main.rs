//! Integration tests. They run the service binaries with real sockets, files and SQLite databases.

#![allow(missing_docs, unreachable_pub, reason = "a test binary has no public API")]
#![allow(clippy::needless_pass_by_value, reason = "calls read better without & before every literal")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap shows the location and the error")]
#![allow(clippy::print_stderr, reason = "tests print measurements and why they are skipped")]

mod alerts;
mod architecture;
mod backup;
mod backup_script;
mod browser;
mod chaos;
mod collector_answers;
mod collector_caps;
mod collector_client;
mod collector_dashboard;
mod collector_federate;
mod collector_import;
mod collector_isolation;
mod collector_numbers;
mod collector_percentiles;
mod compose;
mod contract;
mod database_files;
mod deliveries;
mod docker;
mod docs;
mod durability;
mod export;
mod figures;
mod hostile;
mod idle;
mod litestream;
mod log_fixtures;
mod log_hostile;
mod log_large;
mod log_rotation;
mod log_tail;
mod neighbors;
mod notify;
mod openapi;
mod outbound;
mod prometheus;
mod proxies;
mod python_client;
mod relay_isolation;
mod relay_outbox;
mod release;
mod remote_write;
mod schema;
mod server;
mod smoke;
mod soak;
mod support;
mod systemd;
mod torture;
mod tracker_isolation;
mod upgrade;
