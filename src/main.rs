//! Parse, run, exit code.

use std::process::ExitCode;

/// What an introspection allocates is up to the libraries beneath it; that it takes less time than with the system's
/// allocator was measured (`benches/README.md`, "What was tried").
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    sophic_auth::cli::main()
}
