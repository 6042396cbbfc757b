//! The browser relay's process.

fn main() -> std::process::ExitCode {
    monlight::service::main(&monlight::browser_relay::SERVICE)
}
