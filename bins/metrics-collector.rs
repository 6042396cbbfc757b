//! The metrics collector's process.

fn main() -> std::process::ExitCode {
    monlight::service::main(&monlight::metrics_collector::SERVICE)
}
