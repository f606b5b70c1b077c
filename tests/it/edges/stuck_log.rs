//! A reader of standard error that is stuck: the server still answers, and later reports how many lines were lost.

use std::io::{BufReader, Read as _};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use super::{KilledOnDrop, Remote, SERVE, page};
use crate::cli::program::{Program, split};
use crate::stores::on_every_store;
use crate::waits;

on_every_store! {
    a_stuck_reader_of_the_log_blocks_no_request,
    the_last_lines_are_written_before_the_end,
}

/// More lines at `trace` than the queue and the pipe hold.
const REQUESTS: usize = 1_500;

async fn a_stuck_reader_of_the_log_blocks_no_request(p: Program) {
    let token = p.run("caller create gateway --permission introspect --output token").word();
    let mut command = p.command(&split(&format!("{SERVE} --log trace --log-format json")));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut server = KilledOnDrop(command.spawn().expect("it starts"));
    let out = server.0.stdout.take().expect("its output");
    let line = waits::read_line(server.0.id(), &mut BufReader::new(out));
    let urls: serde_json::Value = serde_json::from_str(&line).expect("it runs");
    let remote = Remote::connect(urls["grpc"].as_str().expect("a URL"), &token).await;
    for _ in 0..REQUESTS {
        assert!(!remote.is_active("nobody's").await.expect("an answer"));
    }
    assert_eq!(page(urls["http"].as_str().expect("a URL"), "/healthz").await, 200);

    // The reader resumes.
    let mut err = server.0.stderr.take().expect("its log");
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        err.read_to_string(&mut text).map(|_| text)
    });
    remote.is_active("nobody's").await.expect("an answer");
    kill_process(Pid::from_child(&server.0), Signal::TERM).expect("it is there");
    assert_eq!(waits::wait_for_exit(&mut server.0).code(), Some(0));
    let text = reader.join().expect("it reads").expect("UTF-8");
    let lost = text.lines().find(|line| line.contains("lines of the log were lost"));
    let lost: serde_json::Value = serde_json::from_str(lost.expect("it says so")).expect("JSON");
    assert!(lost["count"].as_u64().expect("a number") > 0, "{lost}");
    for line in text.lines() {
        serde_json::from_str::<serde_json::Value>(line).expect("each line is whole");
    }
}

async fn the_last_lines_are_written_before_the_end(p: Program) {
    let mut command = p.command(&split(SERVE));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut server = KilledOnDrop(command.spawn().expect("it starts"));
    let out = server.0.stdout.take().expect("its output");
    waits::read_line(server.0.id(), &mut BufReader::new(out));
    kill_process(Pid::from_child(&server.0), Signal::TERM).expect("it is there");
    let mut text = String::new();
    let mut log = server.0.stderr.take().expect("its log");
    waits::while_child_runs("its log ends", server.0.id(), || log.read_to_string(&mut text))
        .expect("UTF-8");
    assert!(text.lines().last().expect("a line").contains("stopped"), "{text}");
}
