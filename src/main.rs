//! The `sophic-auth` program.

use std::process::ExitCode;

/// Measured to be faster than the system's allocator, because the gRPC libraries allocate for every introspection
/// (`benches/README.md`, "What was tried").
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    sophic_auth::cli::main()
}
