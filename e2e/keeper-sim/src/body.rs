//! Bodies that come whole, break off, stop half-way, or never seem to end.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, SizeHint};

use crate::reply::Rest;

/// Bytes that one frame of filler has.
const FRAME: u64 = 64 * 1024;

/// The body of an answer.
#[derive(Debug)]
pub(crate) enum SimBody {
    /// Some bytes, and what comes of the rest.
    Bytes { now: Bytes, rest: Rest },
    /// An end before the end, once what came before it is on its way.
    Cut { flushed: bool },
    /// Filler.
    Filler { left: u64, declared: bool },
}

impl SimBody {
    pub(crate) fn new(body: Bytes, rest: Rest) -> Self {
        let now = match rest {
            Rest::Sent => body,
            Rest::Cut | Rest::Stalled => body.slice(..body.len() / 2),
        };
        Self::Bytes { now, rest }
    }
}

impl Body for SimBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match &mut *self {
            Self::Bytes { now, rest } if !now.is_empty() => {
                let now = std::mem::take(now);
                if *rest == Rest::Cut {
                    *self = Self::Cut { flushed: false };
                }
                Poll::Ready(Some(Ok(Frame::data(now))))
            }
            Self::Bytes { rest, .. } => match rest {
                Rest::Sent => Poll::Ready(None),
                Rest::Cut => Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into()))),
                Rest::Stalled => Poll::Pending,
            },
            Self::Cut { flushed: true } => {
                Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())))
            }
            Self::Cut { flushed } => {
                // hyper drops what it holds when a body fails, and writes it when a body has to wait.
                *flushed = true;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Self::Filler { left: 0, .. } => Poll::Ready(None),
            Self::Filler { left, .. } => {
                let size = (*left).min(FRAME);
                *left -= size;
                let filler = Bytes::from_static(&[b'x'; FRAME as usize]);
                let end = usize::try_from(size).unwrap_or(filler.len());
                Poll::Ready(Some(Ok(Frame::data(filler.slice(..end)))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Bytes { now, rest } => now.is_empty() && *rest == Rest::Sent,
            Self::Cut { .. } => false,
            Self::Filler { left, .. } => *left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Bytes {
                now,
                rest: Rest::Sent,
            } => SizeHint::with_exact(now.len() as u64),
            Self::Filler {
                left,
                declared: true,
            } => SizeHint::with_exact(*left),
            Self::Bytes { .. } | Self::Cut { .. } | Self::Filler { .. } => SizeHint::default(),
        }
    }
}
