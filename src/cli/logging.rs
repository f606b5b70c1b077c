//! Logs go to standard error, as text or JSON; standard output is for answers.
//!
//! A thread of its own writes a server's: whoever reads them may be stuck, and nobody who answers waits for that. What
//! finds the queue full is dropped, and how much that was is said when the reader is back.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{Stderr, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use super::args::{Global, LogFormat};
use super::{Usage, output};

/// Lines that wait to be written.
const QUEUE_LINES: usize = 8 * 1024;

/// How long the last lines are waited for at the end.
const FLUSH_PATIENCE: Duration = Duration::from_secs(1);

/// Waits for the last lines when it is dropped, though not for a reader that is stuck.
#[must_use]
pub(super) struct Flush(Option<(WorkerGuard, Arc<Queue>)>);

impl Drop for Flush {
    fn drop(&mut self) {
        let Some((guard, queue)) = self.0.take() else { return };
        let deadline = Instant::now() + FLUSH_PATIENCE;
        while !queue.is_empty() {
            if Instant::now() >= deadline {
                // To be dropped it would wait for the reader too, and then complain on standard output.
                return std::mem::forget(guard);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// How many lines there were, and what became of them.
#[derive(Default)]
struct Queue {
    sent: AtomicUsize,
    written: AtomicUsize,
    dropped: OnceLock<ErrorCounter>,
}

impl Queue {
    fn dropped(&self) -> usize {
        self.dropped.get().map_or(0, ErrorCounter::dropped_lines)
    }

    fn is_empty(&self) -> bool {
        let gone = self.written.load(Ordering::Acquire) + self.dropped();
        gone >= self.sent.load(Ordering::Acquire)
    }
}

pub(super) fn init(global: &Global, server: bool) -> anyhow::Result<Flush> {
    let default = if server { "info" } else { "warn" };
    let directives = global.log.as_deref().unwrap_or(default);
    let filter = EnvFilter::try_new(directives).map_err(|error| {
        Usage(format!("--log must be a level or a filter, as sophic_auth=debug: {error}"))
    })?;
    // With --output json a command says nothing that is not JSON.
    let format = if output::is_json() { LogFormat::Json } else { global.log_format };
    let (writer, flush) = if server {
        let (writer, guard, queue) = queue(format);
        (writer, Flush(Some((guard, queue))))
    } else {
        (BoxMakeWriter::new(output::log), Flush(None))
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let set = match format {
        LogFormat::Text => builder.with_ansi(output::is_watched()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    set.map_err(|error| anyhow::anyhow!(error))?;
    if server || format == LogFormat::Json {
        log_panics();
    }
    Ok(flush)
}

fn queue(format: LogFormat) -> (BoxMakeWriter, WorkerGuard, Arc<Queue>) {
    let queue = Arc::new(Queue::default());
    let out = Telling { out: output::log(), format, queue: Arc::clone(&queue), said: 0 };
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(QUEUE_LINES)
        .thread_name("log")
        .finish(out);
    // Nothing was sent yet, so this is the first to set it.
    let _ = queue.dropped.set(writer.error_counter());
    let sender = Arc::clone(&queue);
    let make = move || Sending { writer: writer.clone(), queue: Arc::clone(&sender) };
    (BoxMakeWriter::new(make), guard, queue)
}

/// The end of the queue that is filled.
struct Sending {
    writer: NonBlocking,
    queue: Arc<Queue>,
}

impl Write for Sending {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.queue.sent.fetch_add(1, Ordering::AcqRel);
        self.writer.write(line)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The other end: standard error, which is told how many lines did not get there.
struct Telling {
    out: Stderr,
    format: LogFormat,
    queue: Arc<Queue>,
    said: usize,
}

impl Telling {
    fn tell(&mut self, count: usize) -> std::io::Result<()> {
        let text = "lines of the log were lost: whoever reads standard error was too slow";
        match self.format {
            LogFormat::Text => writeln!(self.out, "WARN {count} {text}"),
            LogFormat::Json => {
                let line = serde_json::json!({"level": "WARN", "message": text, "count": count});
                writeln!(self.out, "{line}")
            }
        }
    }
}

impl Write for Telling {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        // A line that cannot be written is as good as written: there is nobody to tell.
        let _ = self.out.write_all(line);
        let dropped = self.queue.dropped();
        if dropped > self.said {
            let _ = self.tell(dropped - self.said);
            self.said = dropped;
        }
        self.queue.written.fetch_add(1, Ordering::AcqRel);
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

/// Has panics told in the log: the usual way is to write to standard error, and to wait for whoever reads that.
fn log_panics() {
    std::panic::set_hook(Box::new(|info| {
        let backtrace = Backtrace::capture();
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("unnamed").to_owned();
        if backtrace.status() == BacktraceStatus::Captured {
            tracing::error!(thread, panic = %info, %backtrace, "panicked");
        } else {
            tracing::error!(thread, panic = %info, "panicked");
        }
    }));
}
