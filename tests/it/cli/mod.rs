//! The program itself, as a person and a script run it.

mod commands;
mod dev;
mod life;
mod mistakes;
mod outputs;
mod program;
mod serve;
