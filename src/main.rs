//! Parse, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    sophic_auth::cli::main()
}
