//! Environment variables: ignores empty ones, and warns of unknown ones.

use std::collections::BTreeSet;

use clap::builder::{OsStr, Resettable};
use clap::{Arg, Command};

const PREFIX: &str = "SOPHIC_AUTH_";
/// Prefix of the tests' variables.
const TEST_PREFIX: &str = "SOPHIC_AUTH_TEST_";
/// Variables of the example gateway, in the command that `dev` prints.
const CLIENT_VARIABLES: [&str; 2] = ["SOPHIC_AUTH_ENDPOINT", "SOPHIC_AUTH_CALLER_TOKEN"];
/// Minimum similarity of a name that is suggested instead.
const SIMILARITY_MIN: f64 = 0.85;

/// Returns the command without the variables that are set to the empty string.
pub(super) fn ignore_empty(command: Command) -> Command {
    let is_empty = |arg: &Arg| {
        let value = arg.get_env().and_then(std::env::var_os);
        value.is_some_and(|value| value.is_empty())
    };
    command
        .mut_args(|arg| if is_empty(&arg) { arg.env(Resettable::<OsStr>::Reset) } else { arg })
        .mut_subcommands(ignore_empty)
}

/// Warns of unknown variables with the prefix of this program.
pub(super) fn warn_of_unknown(command: &Command) {
    let known = known(command);
    let set = std::env::vars_os().filter_map(|(name, value)| {
        Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
    });
    for name in unknown(&known, set) {
        // Does not log the value, which may be a password.
        let meant = nearest(&known, &name).map(|meant| format!(": did you mean {meant}?"));
        tracing::warn!("{name} is not a known variable{}", meant.unwrap_or_default());
    }
}

/// Returns the variables of all flags of all commands.
fn known(command: &Command) -> BTreeSet<String> {
    let mut names: BTreeSet<_> = command
        .get_arguments()
        .filter_map(|arg| Some(arg.get_env()?.to_str()?.to_owned()))
        .collect();
    names.extend(command.get_subcommands().flat_map(known));
    names
}

fn unknown(
    known: &BTreeSet<String>,
    set: impl Iterator<Item = (String, String)>,
) -> BTreeSet<String> {
    set.filter(|(name, value)| {
        name.starts_with(PREFIX)
            && !name.starts_with(TEST_PREFIX)
            && !known.contains(name)
            && !CLIENT_VARIABLES.contains(&name.as_str())
            && !is_set_by_kubernetes(name, value)
    })
    .map(|(name, _)| name)
    .collect()
}

/// Whether Kubernetes sets this variable, in every container, for a Service named `sophic-auth`.
fn is_set_by_kubernetes(name: &str, value: &str) -> bool {
    let rest = name.strip_prefix(PREFIX).unwrap_or(name);
    let port = rest == "PORT" || rest.starts_with("PORT_");
    let by_port = port && (value.contains("://") || rest.contains("_TCP") || rest.contains("_UDP"));
    by_port || rest == "SERVICE_HOST" || rest.starts_with("SERVICE_PORT")
}

fn nearest<'k>(known: &'k BTreeSet<String>, name: &str) -> Option<&'k str> {
    let part = |name: &str| name.strip_prefix(PREFIX).unwrap_or(name).to_owned();
    let similarity = |other: &&String| strsim::jaro_winkler(&part(name), &part(other));
    let best = known.iter().max_by(|a, b| similarity(a).total_cmp(&similarity(b)))?;
    (similarity(&best) >= SIMILARITY_MIN).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_other_programs_cause_no_warning() {
        let known = BTreeSet::from(["SOPHIC_AUTH_OUTPUT".to_owned()]);
        let set = [
            ("SOPHIC_AUTH_OUTPUT", "json"),
            ("SOPHIC_AUTH_SERVICE_HOST", "10.0.0.1"),
            ("SOPHIC_AUTH_SERVICE_PORT", "50051"),
            ("SOPHIC_AUTH_SERVICE_PORT_GRPC", "50051"),
            ("SOPHIC_AUTH_PORT", "tcp://10.0.0.1:50051"),
            ("SOPHIC_AUTH_PORT_50051_TCP_ADDR", "10.0.0.1"),
            ("SOPHIC_AUTH_ENDPOINT", "http://127.0.0.1:50051"),
            ("SOPHIC_AUTH_TEST_VENV", "venv"),
            ("PATH", "/bin"),
            ("SOPHIC_AUTH_PORT_", "1"),
            ("SOPHIC_AUTH_OUTPUTS", "json"),
        ];
        let set = set.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let found: Vec<_> = unknown(&known, set.into_iter()).into_iter().collect();
        assert_eq!(found, ["SOPHIC_AUTH_OUTPUTS", "SOPHIC_AUTH_PORT_"]);
        assert_eq!(nearest(&known, "SOPHIC_AUTH_OUTPUTS"), Some("SOPHIC_AUTH_OUTPUT"));
        assert_eq!(nearest(&known, "SOPHIC_AUTH_PORT_"), None);
    }
}
