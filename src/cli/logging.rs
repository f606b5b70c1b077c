//! Logging to standard error, as text or JSON. Standard output is for results.
//!
//! A server logs through a bounded queue and a separate thread, because a blocked reader of standard error must not block
//! requests. Lines are dropped while the queue is full, and their number is logged once the reader continues.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{Stderr, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use super::args::{Global, LogFormat};
use super::{UsageError, output};

/// Capacity of the queue, in lines.
const QUEUE_LINES: usize = 8 * 1024;

/// Time limit for writing the last lines at exit.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Flushes the queue when it is dropped. Gives up after [`FLUSH_TIMEOUT`] if the reader is blocked.
#[must_use]
pub(super) struct Flush(Option<(WorkerGuard, Arc<Queue>)>);

impl Drop for Flush {
    fn drop(&mut self) {
        let Some((guard, queue)) = self.0.take() else { return };
        let deadline = Instant::now() + FLUSH_TIMEOUT;
        while !queue.is_empty() {
            if Instant::now() >= deadline {
                // Dropping the guard would also wait for the reader, and then print to standard output.
                return std::mem::forget(guard);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Counts of lines that were queued, written and dropped.
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
    let filter = filter(directives)?;
    // With --output json, everything that a command prints is JSON.
    let format = if output::is_json() { LogFormat::Json } else { global.log_format };
    let (writer, flush) = if server {
        let (writer, guard, queue) = queue(format);
        (writer, Flush(Some((guard, queue))))
    } else {
        (BoxMakeWriter::new(output::stderr), Flush(None))
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let set = match format {
        LogFormat::Text => builder.with_ansi(output::is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    set.map_err(|error| anyhow::anyhow!(error))?;
    if server || format == LogFormat::Json {
        log_panics();
    }
    Ok(flush)
}

/// Parses `--log`. A bare word must be a level: [`EnvFilter`] takes any other for the name of a module, so that a typo
/// would turn all other logging off.
fn filter(directives: &str) -> Result<EnvFilter, UsageError> {
    let refuse = |why: String| {
        UsageError(format!("--log must be a level or a filter such as sophic_auth=debug: {why}"))
    };
    for word in directives.split(',').map(str::trim) {
        let bare = !word.contains(['=', '[']);
        if bare && !word.is_empty() && word.parse::<LevelFilter>().is_err() {
            return Err(refuse(format!("{word} is not off, error, warn, info, debug or trace")));
        }
    }
    EnvFilter::try_new(directives).map_err(|error| refuse(error.to_string()))
}

fn queue(format: LogFormat) -> (BoxMakeWriter, WorkerGuard, Arc<Queue>) {
    let queue = Arc::new(Queue::default());
    let out = QueueDrain { out: output::stderr(), format, queue: Arc::clone(&queue), reported: 0 };
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(QUEUE_LINES)
        .thread_name("log")
        .finish(out);
    // Nothing else sets it.
    let _ = queue.dropped.set(writer.error_counter());
    let sender = Arc::clone(&queue);
    let make = move || QueueSender { writer: writer.clone(), queue: Arc::clone(&sender) };
    (BoxMakeWriter::new(make), guard, queue)
}

/// Sending end of the queue.
struct QueueSender {
    writer: NonBlocking,
    queue: Arc<Queue>,
}

impl Write for QueueSender {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.queue.sent.fetch_add(1, Ordering::AcqRel);
        self.writer.write(line)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Receiving end of the queue. Writes lines to standard error, and reports how many were dropped.
struct QueueDrain {
    out: Stderr,
    format: LogFormat,
    queue: Arc<Queue>,
    reported: usize,
}

impl QueueDrain {
    fn report_dropped(&mut self, count: usize) -> std::io::Result<()> {
        let text = "lines of the log were lost: the reader of standard error was too slow";
        match self.format {
            LogFormat::Text => writeln!(self.out, "WARN {count} {text}"),
            LogFormat::Json => {
                let line = serde_json::json!({"level": "WARN", "message": text, "count": count});
                writeln!(self.out, "{line}")
            }
        }
    }
}

impl Write for QueueDrain {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        // A failure to write the log cannot be logged.
        let _ = self.out.write_all(line);
        let dropped = self.queue.dropped();
        if dropped > self.reported {
            let _ = self.report_dropped(dropped - self.reported);
            self.reported = dropped;
        }
        self.queue.written.fetch_add(1, Ordering::AcqRel);
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

/// Logs panics through the queue. The default hook writes to standard error and would wait for a blocked reader.
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
