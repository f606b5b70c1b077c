//! All waits of the tests. Each names its condition, and fails if the condition is not met within a minute.
//!
//! No other file sleeps, sets a timeout or yields. `house_tests.rs` enforces that.

use std::process::{Child, ExitStatus, Output};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// Time limit of one wait. It is long enough for a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
/// Time limit of a whole test.
const TEST_PATIENCE: Duration = Duration::from_mins(10);
/// Interval between two checks of a condition.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// Awaits a future within the time limit.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    limited(PATIENCE, what, future).await
}

/// Awaits a whole test, so that an await without a limit ends too.
pub(crate) async fn test<T>(name: &str, future: impl Future<Output = T>) -> T {
    limited(TEST_PATIENCE, name, future).await
}

async fn limited<T>(limit: Duration, what: &str, future: impl Future<Output = T>) -> T {
    let outcome = tokio::time::timeout(limit, future).await;
    outcome.unwrap_or_else(|_| panic!("{limit:?} have passed, and still not: {what}"))
}

/// Checks a condition until it holds.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    eventually_some(what, async || holds().await.then_some(())).await;
}

/// Polls until there is a value.
pub(crate) async fn eventually_some<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(found) = ask().await {
                return found;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    };
    within(what, asking).await
}

/// Checks that a future is still pending after this time.
pub(crate) async fn stays_pending<T>(time: Duration, what: &str, future: impl Future<Output = T>) {
    let outcome = tokio::time::timeout(time, future).await;
    assert!(outcome.is_err(), "should not be so yet: {what}");
}

/// Awaits a future, and drops it if it is still pending after this time.
pub(crate) async fn drop_after<T>(time: Duration, future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(time, future).await.ok()
}

/// Sleeps. Only for tests of time itself and for pacing a load, never in place of a condition.
pub(crate) async fn let_time_pass(_why: &str, time: Duration) {
    tokio::time::sleep(time).await;
}

/// Sleeps until an instant.
pub(crate) async fn let_time_pass_until(_why: &str, moment: tokio::time::Instant) {
    tokio::time::sleep_until(moment).await;
}

/// Blocks the current thread, as a slow function does.
pub(crate) fn block(_why: &str, time: Duration) {
    std::thread::sleep(time);
}

/// Runs blocking work that ends when this child process ends, such as reading its output. Kills the process at the time
/// limit.
pub(crate) fn while_child_runs<T>(what: &str, child: u32, work: impl FnOnce() -> T) -> T {
    kill_after(PATIENCE, what, child, work)
}

fn kill_after<T>(limit: Duration, what: &str, child: u32, work: impl FnOnce() -> T) -> T {
    let (done, ended) = channel::<()>();
    std::thread::scope(|scope| {
        let watching = scope.spawn(move || {
            let late = ended.recv_timeout(limit) == Err(RecvTimeoutError::Timeout);
            let pid = i32::try_from(child).ok().and_then(Pid::from_raw);
            if let Some(pid) = pid.filter(|_| late) {
                // The process may have ended at this moment.
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

/// Waits until a process exits.
pub(crate) fn wait_for_exit(child: &mut Child) -> ExitStatus {
    while_child_runs("it ends", child.id(), || child.wait().expect("it can be waited for"))
}

/// Waits until a process exits, and reads its output.
pub(crate) fn output(child: Child) -> Output {
    let id = child.id();
    while_child_runs("it ends", id, || child.wait_with_output().expect("it can be read"))
}

/// Waits until a program that is a whole test exits, and reads its output.
pub(crate) fn test_output(child: Child) -> Output {
    let id = child.id();
    kill_after(TEST_PATIENCE, "it ends", id, || child.wait_with_output().expect("it can be read"))
}

/// Reads a line of a process's output.
pub(crate) fn read_line(child: u32, printed: &mut impl std::io::BufRead) -> String {
    let mut line = String::new();
    while_child_runs("it prints a line", child, || {
        printed.read_line(&mut line).expect("it can be read")
    });
    line
}

/// Lets other tasks run.
pub(crate) async fn yield_once() {
    tokio::task::yield_now().await;
}
