//! The gRPC face, from outside.

mod batch;
mod coherence;
mod introspect;
mod unknown_rate;
mod watch;
