//! The gRPC face, from outside.

mod audit;
mod bulk;
mod caller_life;
mod coherence;
mod introspect;
mod last_use;
