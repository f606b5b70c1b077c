//! Running the program: with nothing of the environment that would change what it does, and its input given.

use std::io::{BufReader, Write as _};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::stores::{Database, Fixture};
use crate::waits;

/// The program on a database of its own.
pub(crate) struct Program {
    pub(crate) database: Arc<Database>,
}

impl Fixture for Program {
    async fn set_up(database: Arc<Database>) -> Self {
        Self { database }
    }

    async fn tear_down(_: &Database) {}
}

/// How it ended and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    /// What it said on standard error, but for how long it waits for servers: of that a machine with much else to do hears.
    fn remarks(&self) -> String {
        let waits = ["committed; waiting until ", "confirmed by every server"];
        let is_wait = |line: &str| {
            let text = line.strip_prefix(r#"{"note":{"message":""#).unwrap_or(line);
            waits.iter().any(|wait| text.starts_with(wait))
        };
        self.err.split_inclusive('\n').filter(|line| !is_wait(line)).collect()
    }

    /// What it said on standard output, all being well.
    /// Of a list that is empty it may also say where it looked.
    pub(crate) fn ok(self) -> String {
        let looked = ["nothing found in ", r#"{"note":{"message":"nothing found in "#];
        let remarks = self.remarks();
        let looked = looked.iter().any(|text| remarks.starts_with(text));
        let looked = looked && remarks.lines().count() == 1;
        let err = if looked { "" } else { remarks.as_str() };
        assert_eq!((self.code, err), (Some(0), ""), "{}", self.out);
        self.out
    }

    /// The same as one line of JSON.
    pub(crate) fn json(self) -> Value {
        let out = self.ok();
        assert_eq!(out.lines().count(), 1, "{out}");
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    }

    /// The same as one word, which is a token or an id.
    pub(crate) fn word(self) -> String {
        let out = self.ok();
        let word = out.strip_suffix('\n').expect("a line").to_owned();
        assert!(!word.is_empty() && !word.contains(char::is_whitespace), "{word:?}");
        word
    }

    /// What it said on standard error, having failed with this code and printed nothing else.
    pub(crate) fn failed(self, code: i32) -> String {
        assert_eq!((self.code, self.out.as_str()), (Some(code), ""), "{}", self.err);
        self.remarks()
    }
}

/// The program, without the variables of whoever runs the tests.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sophic-auth"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SOPHIC_AUTH_") {
            command.env_remove(name);
        }
    }
    // As if somebody were to pretend.
    command.env("USER", "tester").env("LOGNAME", "tester").env_remove("SUDO_USER");
    command.env("COLUMNS", "100");
    command
}

/// Who the audit log says works here: the user whom the operating system knows.
pub(crate) fn operator() -> String {
    let id = Command::new("id").arg("-un").stdout(Stdio::piped()).spawn().expect("it runs");
    let output = waits::output(id);
    format!("operator:{}", String::from_utf8(output.stdout).expect("UTF-8").trim_end())
}

/// Runs it to its end.
pub(crate) fn run(mut command: Command, input: &str) -> Ended {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    // It may end without reading.
    let _ = child.stdin.take().expect("its input").write_all(input.as_bytes());
    let output = waits::output(child);
    Ended {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).expect("UTF-8"),
        err: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

impl Program {
    /// Runs these words on its database.
    pub(crate) fn run(&self, words: &str) -> Ended {
        self.pipe("", words)
    }

    /// The same with this on standard input.
    pub(crate) fn pipe(&self, input: &str, words: &str) -> Ended {
        run(self.command(&split(words)), input)
    }

    pub(crate) fn command(&self, words: &[String]) -> Command {
        let mut command = command();
        command.env("SOPHIC_AUTH_DATABASE_URL", self.database.url()).args(words);
        command
    }

    /// Starts these words, which run until they are told to stop.
    pub(crate) fn start(&self, words: &str) -> Serving {
        Serving::start(self.command(&split(words)))
    }
}

/// Words as a shell has them, with "…" for those with spaces.
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

/// A server that runs.
pub(crate) struct Serving {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Serving {
    pub(crate) fn start(command: Command) -> Self {
        Self::start_logging(command, Stdio::null())
    }

    /// The same with its log going there.
    pub(crate) fn start_logging(mut command: Command, log: Stdio) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("it starts");
        let out = BufReader::new(child.stdout.take().expect("its output"));
        Self { child, out }
    }

    /// The next line that it says.
    pub(crate) fn line(&mut self) -> String {
        waits::read_line(self.child.id(), &mut self.out)
    }

    /// The same as JSON.
    pub(crate) fn json(&mut self) -> Value {
        let line = self.line();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// Bytes of memory that it has.
    pub(crate) fn resident(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
        let kib = line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number");
        kib * 1_024
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it is there to be told");
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("it is this one's child")
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> ExitStatus {
        waits::wait_for_exit(&mut self.child)
    }
}

/// What fails leaves no server behind.
impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        // Killed, it ends.
        waits::wait_for_exit(&mut self.child);
    }
}
