//! The log viewer's process.

fn main() -> std::process::ExitCode {
    monlight::service::main(&monlight::log_viewer::SERVICE)
}
