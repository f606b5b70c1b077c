//! Logs go to standard error, as text or JSON; standard output is for answers.

use tracing_subscriber::EnvFilter;

use super::Usage;
use super::args::{Global, LogFormat};

pub(super) fn init(global: &Global, server: bool) -> anyhow::Result<()> {
    let default = if server { "info" } else { "warn" };
    let directives = global.log.as_deref().unwrap_or(default);
    let filter = EnvFilter::try_new(directives).map_err(|error| {
        Usage(format!("--log must be a level or a filter, as sophic_auth=debug: {error}"))
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let set = match global.log_format {
        LogFormat::Text => {
            use std::io::IsTerminal as _;
            builder.with_ansi(std::io::stderr().is_terminal()).try_init()
        }
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    set.map_err(|error| anyhow::anyhow!(error))
}
