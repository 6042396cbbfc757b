//! Programs that tests run: scripts of `deploy/`, programs that may be missing, and programs that exchange lines with a
//! test.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use serde_json::Value;

/// Returns whether a program can be started.
pub fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Returns a command for a script of `deploy/` that inherits only `PATH` from the environment.
pub fn deploy_script(name: &str, arguments: &[&str], env: &[(&str, &str)]) -> Command {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name);
    let mut command = Command::new(script);
    command.args(arguments).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.envs(env.iter().copied());
    command
}

/// Returns the stdout and then the stderr of a program.
pub fn output_text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

/// Program that prints lines and runs until its stdin is closed, which happens on drop.
pub struct LineProgram {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl LineProgram {
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdout }
    }

    /// Returns the next line with its newline; an empty string at the end of the output.
    pub fn read_line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line
    }

    #[track_caller]
    pub fn read_json_line(&mut self) -> Value {
        let line = self.read_line();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    pub fn write_json_line(&mut self, value: &Value) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{value}").unwrap();
    }

    /// Stops the program and returns the summary that it prints.
    #[track_caller]
    pub fn stop_and_read_summary(mut self) -> Value {
        drop(self.child.stdin.take());
        self.read_json_line()
    }
}

impl Drop for LineProgram {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
