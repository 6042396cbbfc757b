//! Integration tests: the real binaries over real sockets, real files and a real SQLite.

#![allow(missing_docs, unreachable_pub, reason = "a test binary has no public face")]
#![allow(clippy::needless_pass_by_value, reason = "calls read better without & before every literal")]
#![allow(clippy::unwrap_used, reason = "a test that unwraps fails with the place and the value")]
#![allow(clippy::print_stderr, reason = "what was measured or skipped is told to whoever runs the tests")]

mod alerts;
mod backup;
mod backup_script;
mod browser;
mod chaos;
mod collector;
mod collector_caps;
mod collector_client;
mod collector_dashboard;
mod collector_federate;
mod collector_import;
mod collector_percentiles;
mod compose;
mod contract;
mod dice;
mod docker;
mod docker_log;
mod docs;
mod durability;
mod engine;
mod export;
mod figures;
mod harness;
mod hostile;
mod idle;
mod litestream;
mod log_fixtures;
mod log_tail;
mod logs;
mod measured;
mod notify;
mod openapi;
mod peers;
mod prometheus;
mod proxies;
mod python;
mod python_client;
mod receiver;
mod relay_outbox;
mod release;
mod remote_write;
mod server;
mod smoke;
mod soak;
mod stack;
mod systemd;
mod tidy;
mod torture;
mod upgrade;
