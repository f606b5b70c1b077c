//! The gRPC face, from outside.

mod batch;
mod coherence;
mod introspect;
mod outage;
mod unknown_rate;
mod watch;
