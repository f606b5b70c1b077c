//! The client and its tower layer against real servers: answers, the cache, refusals.

mod asking;
mod coherence;
mod documented;
mod gateway;
mod generated;
mod layer_grpc;
mod layer_http;
mod newer_service;
mod other_languages;
mod outages;
mod remembering;
mod rows;
mod secure;
mod stage;
