//! The error tracker's process.

fn main() -> std::process::ExitCode {
    monlight::service::main(&monlight::error_tracker::SERVICE)
}
