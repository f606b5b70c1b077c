//! The source of randomness. It is a trait so that tests can control it.

/// The random source failed. Nothing may be created without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system's random source failed")]
pub struct RandomError;

/// A cryptographically secure source of randomness.
pub trait Random: Send + Sync {
    /// Fills all of `bytes`, or fails.
    fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomError>;
}

/// Returns `N` random bytes.
pub fn random_array<const N: usize>(random: &dyn Random) -> Result<[u8; N], RandomError> {
    let mut bytes = [0; N];
    random.fill(&mut bytes)?;
    Ok(bytes)
}

/// The random source of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsRandom;

impl Random for OsRandom {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomError> {
        #[expect(
            clippy::disallowed_methods,
            reason = "the only place that reads the system's random source"
        )]
        getrandom::fill(bytes).map_err(|_| RandomError)
    }
}
