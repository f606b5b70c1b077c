//! How far long work has come: a bar on a terminal, else a line now and then. On standard error, as all that is not the
//! result.

use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::Mutex;

use super::output;
use crate::service::Service;

/// How often a line is printed where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// What shows how far it has come.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    last: Instant,
}

impl Progress {
    /// Shows nothing yet.
    pub(super) fn new() -> Self {
        let bar = output::is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            // The template is a literal that names what there is.
            let style =
                ProgressStyle::with_template("{msg} {wide_bar} {human_pos}/{human_len} {eta}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Self { bar, last: Instant::now() }
    }

    /// So much is done of so much, of what is called so.
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

    /// Prints a line, the bar kept out of its way, with fields for programs.
    pub(super) fn remark(&self, text: &str, fields: serde_json::Value) {
        match &self.bar {
            Some(bar) => bar.suspend(|| output::note_with_fields(text, fields)),
            None => output::note_with_fields(text, fields),
        }
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Hears how many are done of what is called so, and shows it.
pub(super) fn counter(what: &'static str) -> (Arc<Mutex<Progress>>, impl Fn(u64) + Send + Sync) {
    let shown = Arc::new(Mutex::new(Progress::new()));
    let progress = Arc::clone(&shown);
    (shown, move |count| progress.lock().show(what, count, None))
}

/// Tells the audit log of all that died with its owner. A server that runs does the same, and the two share the work; what is
/// left when this is interrupted, the next server tells.
pub(super) async fn write_pending_ends(service: &Arc<Service>) -> anyhow::Result<()> {
    let (shown, progress) = counter("in the audit log");
    let written = service.tell_revoked(progress).await;
    shown.lock().finish();
    written?;
    Ok(())
}
