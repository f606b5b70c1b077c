//! The gRPC face, from outside.

mod coherence;
mod introspect;
