//! Progress of long work on standard error: a bar on a terminal, otherwise a line at intervals.

use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::Mutex;

use super::output;
use crate::service::Service;

/// Interval between lines if there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Display of progress.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    last: Instant,
}

impl Progress {
    /// Creates a display that shows nothing yet.
    pub(super) fn new() -> Self {
        let bar = output::is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            // The template is a valid literal.
            let style =
                ProgressStyle::with_template("{msg} {wide_bar} {human_pos}/{human_len} {eta}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Self { bar, last: Instant::now() }
    }

    /// Shows the progress: `done` of `of` items. `what` names the items.
    pub(super) fn show(&mut self, what: &'static str, done: u64, of: Option<u64>) {
        if let Some(bar) = &self.bar {
            bar.set_message(what);
            if let Some(of) = of {
                bar.set_length(of);
            }
            bar.set_position(done);
        } else if self.last.elapsed() >= LINE_INTERVAL {
            self.last = Instant::now();
            let of = of.map(|of| format!(" of {of}")).unwrap_or_default();
            output::note(&format!("{what}: {done}{of}"));
        }
    }

    /// Prints a note with additional JSON fields, without disturbing the bar.
    pub(super) fn remark(&self, text: &str, fields: serde_json::Value) {
        match &self.bar {
            Some(bar) => bar.suspend(|| output::note_with_fields(text, fields)),
            None => output::note_with_fields(text, fields),
        }
    }

    /// Removes the bar.
    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Returns a progress display and a callback that updates its count. `what` names the items.
pub(super) fn counter(what: &'static str) -> (Arc<Mutex<Progress>>, impl Fn(u64) + Send + Sync) {
    let shown = Arc::new(Mutex::new(Progress::new()));
    let progress = Arc::clone(&shown);
    (shown, move |count| progress.lock().show(what, count, None))
}

/// Writes pending end events to the audit log: those of credentials that ended with their owner. Running servers share the
/// work. If this is interrupted, the next server writes the rest.
pub(super) async fn write_pending_ends(service: &Arc<Service>) -> anyhow::Result<()> {
    let (shown, progress) = counter("audit events written");
    let written = service.write_pending_ends(progress).await;
    shown.lock().finish();
    written?;
    Ok(())
}
