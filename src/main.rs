//! Parse, run, exit code.

use std::process::ExitCode;

/// A tenth of an introspection's time on a core is allocation by the libraries beneath it; this one takes half of that
/// (`benches/README.md`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    sophic_auth::cli::main()
}
