//! Tasks that a request starts, and that may outlive it: its client can cancel the request at any time. Such a task holds
//! the request's share of the server until its work has ended, so that a caller cannot pile up work by cancelling.

use std::any::Any;
use std::sync::Arc;

use futures::future::BoxFuture;
use tokio_util::task::TaskTracker;

tokio::task_local! {
    static SHARE: Option<Share>;
}

/// What a request has taken of a shared resource. It is given back when the last clone is dropped.
pub type Share = Arc<dyn Any + Send + Sync>;

/// Runs a request. The tasks that it starts by [`RequestTasks::spawn`] hold `share` too.
pub async fn with_share<F: Future>(share: Share, request: F) -> F::Output {
    SHARE.scope(Some(share), request).await
}

/// Starts the tasks of requests.
#[derive(Debug)]
pub struct RequestTasks {
    /// Tracks the tasks.
    pub tracker: TaskTracker,
}

impl RequestTasks {
    /// Runs `work` in a task, then passes its outcome to `report`. The task holds the share of the current request. It
    /// gives it back before it reports, so a client that has the answer has its permit back.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
        report: impl FnOnce(T) + Send + 'static,
    ) -> tokio::task::JoinHandle<()> {
        let share = SHARE.try_with(Clone::clone).unwrap_or_default();
        // Boxed, so that the task is compiled once and not for each kind of work.
        let task: BoxFuture<'static, ()> = Box::pin(async move {
            let outcome = SHARE.scope(share, work).await;
            report(outcome);
        });
        self.tracker.spawn(task)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::FutureExt as _;
    use tokio::sync::oneshot;
    use tokio_util::task::TaskTracker;

    use super::{RequestTasks, Share, with_share};

    #[tokio::test]
    async fn a_task_and_its_tasks_hold_the_share_until_their_work_has_ended() {
        let tasks = Arc::new(RequestTasks { tracker: TaskTracker::new() });
        let (end, ended) = oneshot::channel::<()>();
        let (started, has_started) = oneshot::channel();
        let (reporter, report) = oneshot::channel();
        let share: Share = Arc::new(());
        let held = Arc::downgrade(&share);
        let mut request = Box::pin(with_share(share, async move {
            let inner = Arc::clone(&tasks);
            let outer = async move {
                drop(inner.spawn(ended, |_| reporter.send(()).expect("it waits")));
            };
            tasks.spawn(outer, |()| started.send(()).expect("it waits"));
            std::future::pending::<()>().await;
        }));
        assert!(request.as_mut().now_or_never().is_none());
        has_started.await.expect("it reports");
        drop(request);
        assert!(held.upgrade().is_some(), "the inner task has not ended");
        end.send(()).expect("it waits");
        report.await.expect("it reports");
        assert!(held.upgrade().is_none(), "the share is given back before the report");
    }
}
