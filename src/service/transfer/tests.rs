//! Lines, columns and checks, without a store.
