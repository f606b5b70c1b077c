//! Where randomness comes from: passed in, so that tests own it.

/// The source failed; nothing may be made without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system's random source failed")]
pub struct RandomError;

/// A source of randomness fit for secrets.
pub trait Random: Send + Sync {
    /// Fills `bytes`, all of them or none.
    fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomError>;
}

/// Random bytes, as many as the place for them takes.
pub fn random_array<const N: usize>(random: &dyn Random) -> Result<[u8; N], RandomError> {
    let mut bytes = [0; N];
    random.fill(&mut bytes)?;
    Ok(bytes)
}

/// The operating system's source.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsRandom;

impl Random for OsRandom {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomError> {
        #[expect(clippy::disallowed_methods, reason = "the one place that asks the machine")]
        getrandom::fill(bytes).map_err(|_| RandomError)
    }
}
