//! The body of a response: tonic's, or that of the hot path, which needs no box.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tonic::Status;

use super::introspect::Once;
use super::message::Reserved;
use super::strangers::Seat;
use crate::service::UnderWay;

/// Either, and what is held until it is sent.
#[derive(Debug)]
pub struct Answer {
    body: Kind,
    #[expect(dead_code, reason = "held until it is dropped")]
    held: Option<Box<Held>>,
}

#[derive(Debug)]
enum Kind {
    Tonic(tonic::body::Body),
    Once(Once),
}

/// What a request holds until its answer has left.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) under_way: UnderWay,
    /// For what is large.
    pub(super) reserved: Reserved,
    /// Of a stranger.
    pub(super) seat: Option<Seat>,
}

impl Answer {
    /// Of a service of tonic's.
    pub(super) const fn tonic(body: tonic::body::Body) -> Self {
        Self { body: Kind::Tonic(body), held: None }
    }

    /// Of the hot path.
    pub(super) const fn once(body: Once) -> Self {
        Self { body: Kind::Once(body), held: None }
    }

    /// The same, with what it holds.
    pub(super) fn holding(self, held: Held) -> Self {
        Self { held: Some(Box::new(held)), ..self }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match &mut self.get_mut().body {
            Kind::Tonic(body) => Pin::new(body).poll_frame(context),
            Kind::Once(body) => Pin::new(body)
                .poll_frame(context)
                .map(|frame| frame.map(|frame| frame.map_err(|never| match never {}))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            Kind::Tonic(body) => body.is_end_stream(),
            Kind::Once(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Kind::Tonic(body) => body.size_hint(),
            Kind::Once(body) => body.size_hint(),
        }
    }
}
