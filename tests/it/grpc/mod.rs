//! The gRPC face, from outside.

mod introspect;
