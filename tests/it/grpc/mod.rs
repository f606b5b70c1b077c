//! The gRPC face, from outside.

mod audit;
mod batch;
mod bulk;
mod caller_life;
mod coherence;
mod introspect;
mod last_use;
mod outage;
mod purge;
mod unknown_rate;
mod watch;
