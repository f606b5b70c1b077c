//! The gRPC face, from outside: every RPC through the generated client, and the wire itself where no client would go.

mod acting_user;
mod arguments;
mod batch;
mod callers;
mod canary;
mod coherence;
mod directory;
mod errors;
mod framing;
mod health;
mod introspect;
mod life;
mod pages;
mod permissions;
mod refusal;
mod reserved_slugs;
mod same_answers;
mod shutdown;
mod tls;
mod token_text;
mod unknown_rate;
mod watch;
mod wire;
