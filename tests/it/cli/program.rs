//! Runs the program with a clean environment and a given input.

use std::io::{BufReader, Write as _};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::stores::{Database, Fixture};
use crate::waits;

/// The program with a separate database.
pub(crate) struct Program {
    pub(crate) database: Arc<Database>,
}

impl Fixture for Program {
    async fn set_up(database: Arc<Database>) -> Self {
        Self { database }
    }

    async fn tear_down(_: &Database) {}
}

/// Exit code and output of a command.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    /// Standard error, without reports of waits for servers, which appear on a busy machine.
    fn remarks(&self) -> String {
        let waits = ["committed; waiting until ", "every server has confirmed it"];
        let is_wait = |line: &str| {
            let text = line.strip_prefix(r#"{"note":{"message":""#).unwrap_or(line);
            waits.iter().any(|wait| text.starts_with(wait))
        };
        self.err.split_inclusive('\n').filter(|line| !is_wait(line)).collect()
    }

    /// Returns standard output. Asserts success, and that standard error has at most the note of an empty list.
    pub(crate) fn ok(self) -> String {
        let looked = ["nothing found in ", r#"{"note":{"message":"nothing found in "#];
        let remarks = self.remarks();
        let looked = looked.iter().any(|text| remarks.starts_with(text));
        let looked = looked && remarks.lines().count() == 1;
        let err = if looked { "" } else { remarks.as_str() };
        assert_eq!((self.code, err), (Some(0), ""), "{}", self.out);
        self.out
    }

    /// Returns standard output as one line of JSON.
    pub(crate) fn json(self) -> Value {
        let out = self.ok();
        assert_eq!(out.lines().count(), 1, "{out}");
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    }

    /// Returns standard output as one word, such as a token or an id.
    pub(crate) fn word(self) -> String {
        let out = self.ok();
        let word = out.strip_suffix('\n').expect("a line").to_owned();
        assert!(!word.is_empty() && !word.contains(char::is_whitespace), "{word:?}");
        word
    }

    /// Returns standard error. Asserts this exit code and empty standard output.
    pub(crate) fn failed(self, code: i32) -> String {
        assert_eq!((self.code, self.out.as_str()), (Some(code), ""), "{}", self.err);
        self.remarks()
    }
}

/// The program, without the environment variables of the test run.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sophic-auth"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SOPHIC_AUTH_") {
            command.env_remove(name);
        }
    }
    // Forged names, which the program must ignore.
    command.env("USER", "tester").env("LOGNAME", "tester").env_remove("SUDO_USER");
    command.env("COLUMNS", "100");
    command
}

/// The operator in the audit log: the user of the operating system.
pub(crate) fn operator() -> String {
    let id =
        Command::new("id").arg("-un").stdout(Stdio::piped()).spawn().expect("the program runs");
    let output = waits::output(id);
    format!("operator:{}", String::from_utf8(output.stdout).expect("UTF-8").trim_end())
}

/// Runs a command to its end.
pub(crate) fn run(mut command: Command, input: &str) -> Ended {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the process starts");
    // The program may end without reading its input.
    let _ = child.stdin.take().expect("its input").write_all(input.as_bytes());
    let output = waits::output(child);
    Ended {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).expect("UTF-8"),
        err: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

impl Program {
    /// Runs this command line on the database.
    pub(crate) fn run(&self, words: &str) -> Ended {
        self.pipe("", words)
    }

    /// Runs this command line on the database, with this standard input.
    pub(crate) fn pipe(&self, input: &str, words: &str) -> Ended {
        run(self.command(&split(words)), input)
    }

    pub(crate) fn command(&self, words: &[String]) -> Command {
        let mut command = command();
        command.env("SOPHIC_AUTH_DATABASE_URL", self.database.url()).args(words);
        command
    }

    /// Starts a command that runs until it is stopped.
    pub(crate) fn start(&self, words: &str) -> Serving {
        Serving::start(self.command(&split(words)))
    }
}

/// Splits a command line into words. Words with spaces stand in double quotes.
pub(crate) fn split(words: &str) -> Vec<String> {
    let mut split = Vec::new();
    for (quoted, part) in words.split('"').enumerate() {
        if quoted % 2 == 1 {
            split.push(part.to_owned());
        } else {
            split.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    split
}

/// A running server process.
pub(crate) struct Serving {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Serving {
    pub(crate) fn start(command: Command) -> Self {
        Self::start_logging(command, Stdio::null())
    }

    /// Starts a server that logs to `log`.
    pub(crate) fn start_logging(mut command: Command, log: Stdio) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the process starts");
        let out = BufReader::new(child.stdout.take().expect("its output"));
        Self { child, out }
    }

    /// Reads the next line of standard output.
    pub(crate) fn line(&mut self) -> String {
        waits::read_line(self.child.id(), &mut self.out)
    }

    /// Reads the next line of standard output as JSON.
    pub(crate) fn json(&mut self) -> Value {
        let line = self.line();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// Resident memory of the process, in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("the program runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
        let kib = line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number");
        kib * 1_024
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the signal is sent");
    }

    /// Exit status, if the process has ended.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the process is our child")
    }

    /// Waits until the process ends.
    pub(crate) fn end(mut self) -> ExitStatus {
        waits::wait_for_exit(&mut self.child)
    }
}

/// A failed test leaves no server behind.
impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        // Reaps the killed process.
        waits::wait_for_exit(&mut self.child);
    }
}
