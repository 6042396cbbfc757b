//! Code that every program needs: command line, configuration, logging, start and stop, health, metrics of the program
//! itself, the web UI and its sign-in.

mod allocator;
pub(crate) mod assets;
mod command_line;
mod command_routes;
mod config;
mod health;
mod lifecycle;
mod logging;
#[cfg(test)]
mod openapi_tests;
mod prometheus;
mod quota;
mod signals;
mod start_error;
mod state;
mod stats;
mod warnings_cache;
mod web_ui;

pub use assets::{Asset, asset_route};
pub(crate) use assets::{embed_asset, openapi_asset, ui_assets};
pub use command_line::{Service, Tool, main};
pub use command_routes::{IngestCommand, command_route, ingest_route};
pub use config::{CommonConfig, Defaults, common_variables};
pub use health::common_routes;
pub use lifecycle::{RunningService, serve};
#[cfg(test)]
pub(crate) use openapi_tests::assert_openapi_matches;
pub use prometheus::{PrometheusText, escape_label};
pub use start_error::StartError;
pub use state::{Core, ServiceState};
pub use stats::{Stat, StatValue, StatsCache};
pub use web_ui::WebUi;
