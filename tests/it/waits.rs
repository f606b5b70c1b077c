//! Every wait of the tests. Each names its condition, and fails when a minute has passed without it.
//!
//! No other file sleeps, sets a time limit or yields: `house_tests.rs` holds that.

use std::process::{Child, ExitStatus, Output};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// What takes longer than this does not happen, on however busy a machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
/// The same for a whole test.
const TEST_PATIENCE: Duration = Duration::from_mins(10);
/// Pause between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Awaits a future.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    limited(PATIENCE, what, future).await
}

/// Awaits a whole test, so that an await without a limit of its own ends too.
pub(crate) async fn test<T>(name: &str, future: impl Future<Output = T>) -> T {
    limited(TEST_PATIENCE, name, future).await
}

async fn limited<T>(limit: Duration, what: &str, future: impl Future<Output = T>) -> T {
    let outcome = tokio::time::timeout(limit, future).await;
    outcome.unwrap_or_else(|_| panic!("{limit:?} have passed, and still not: {what}"))
}

/// Looks at a condition until it holds.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    found(what, async || holds().await.then_some(())).await;
}

/// Asks until there is an answer.
pub(crate) async fn found<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(found) = ask().await {
                return found;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    within(what, asking).await
}

/// Awaits a future that should still be pending after this time.
pub(crate) async fn still_waits<T>(time: Duration, what: &str, future: impl Future<Output = T>) {
    let outcome = tokio::time::timeout(time, future).await;
    assert!(outcome.is_err(), "should not be so yet: {what}");
}

/// Awaits a future, and drops it if it is still pending after this time.
pub(crate) async fn cut_short<T>(time: Duration, future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(time, future).await.ok()
}

/// Lets time pass, where time itself is what is tested or where a load is paced. Not for what can be awaited.
pub(crate) async fn let_time_pass(_why: &str, time: Duration) {
    tokio::time::sleep(time).await;
}

/// The same up to a moment.
pub(crate) async fn let_time_pass_until(_why: &str, moment: tokio::time::Instant) {
    tokio::time::sleep_until(moment).await;
}

/// The same on the current thread, as a slow function does.
pub(crate) fn block(_why: &str, time: Duration) {
    std::thread::sleep(time);
}

/// Does what ends no later than this child process, such as reading its output.
pub(crate) fn of_process<T>(what: &str, child: u32, work: impl FnOnce() -> T) -> T {
    ending(PATIENCE, what, child, work)
}

fn ending<T>(limit: Duration, what: &str, child: u32, work: impl FnOnce() -> T) -> T {
    let (done, ended) = channel::<()>();
    std::thread::scope(|scope| {
        let watching = scope.spawn(move || {
            let late = ended.recv_timeout(limit) == Err(RecvTimeoutError::Timeout);
            let pid = i32::try_from(child).ok().and_then(Pid::from_raw);
            if let Some(pid) = pid.filter(|_| late) {
                // It may have ended in this very moment.
                let _ = kill_process(pid, Signal::KILL);
            }
            late
        });
        let outcome = work();
        drop(done);
        assert!(
            !watching.join().expect("it counts"),
            "a process was killed after {limit:?}: {what}"
        );
        outcome
    })
}

/// Waits for the end of a process.
pub(crate) fn end(child: &mut Child) -> ExitStatus {
    of_process("it ends", child.id(), || child.wait().expect("it can be waited for"))
}

/// The same, reading what it prints.
pub(crate) fn output(child: Child) -> Output {
    let id = child.id();
    of_process("it ends", id, || child.wait_with_output().expect("it can be read"))
}

/// The same of a program that is a whole test.
pub(crate) fn test_output(child: Child) -> Output {
    let id = child.id();
    ending(TEST_PATIENCE, "it ends", id, || child.wait_with_output().expect("it can be read"))
}

/// Reads a line of what a process prints.
pub(crate) fn line(child: u32, printed: &mut impl std::io::BufRead) -> String {
    let mut line = String::new();
    of_process("it prints a line", child, || printed.read_line(&mut line).expect("it can be read"));
    line
}
