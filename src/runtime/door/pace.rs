//! How long a connection may take: for a request's head, between requests, and for an answer to be
//! taken. What lies between head and answer is not counted here: a handler has times of its own, for
//! the body (`src/ingress/http/extract.rs`) as for the work.
//!
//! A timer that stands earlier than what is waited for by now is left as it is, and set anew when it
//! fires: requests that come one after the other cost no timer each.

use super::HttpLimits;
use crate::meters::table::HTTP_TIMEOUTS;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// What a connection was asked, and how much of that is answered.
#[derive(Default)]
pub(super) struct Work {
    begun: AtomicU64,
    ended: AtomicU64,
}

/// A request, from the end of its head to the end of its answer's body.
pub(super) struct UnderWay(Arc<Work>);

impl UnderWay {
    pub fn begin(work: &Arc<Work>) -> Self {
        work.begun.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(work))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}

/// What is waited for.
#[derive(Clone, Copy)]
enum Awaited {
    /// The first byte of another request.
    Request(Instant),
    /// The rest of a head.
    Head(Instant),
}

/// A connection that ends when it takes too long.
pub(super) struct Paced<S> {
    stream: S,
    limits: HttpLimits,
    work: Arc<Work>,
    /// How many requests had begun when `awaited` was last looked at.
    begun: u64,
    awaited: Option<Awaited>,
    /// When the answer must have been taken that was not taken at once.
    taken: Option<Instant>,
    reading: Timer,
    writing: Timer,
}

impl<S> Paced<S> {
    pub fn new(stream: S, limits: HttpLimits, work: Arc<Work>) -> Self {
        Self {
            stream,
            limits,
            work,
            begun: 0,
            // Who connects wants something: no byte at all is a head that does not end.
            awaited: Some(Awaited::Head(Instant::now() + limits.head)),
            taken: None,
            reading: Timer::default(),
            writing: Timer::default(),
        }
    }

    /// Whether nothing is under way that the other side has asked for.
    fn waits(&mut self) -> bool {
        let begun = self.work.begun.load(Ordering::Relaxed);
        if begun != self.begun {
            self.begun = begun;
            self.awaited = None;
        }
        begun == self.work.ended.load(Ordering::Relaxed)
    }

    /// Nothing came yet. Too late for a head is an error; too late for another request is an end.
    fn nothing_came(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(self.late(cx)) {
            Awaited::Request(_) => {
                count("idle");
                Poll::Ready(Ok(()))
            }
            Awaited::Head(_) => {
                count("head");
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }

    /// Pending as long as it is not too late for what is awaited, if anything is.
    fn late(&mut self, cx: &mut Context<'_>) -> Poll<Awaited> {
        if !self.waits() {
            return Poll::Pending;
        }
        let idle = || Awaited::Request(Instant::now() + self.limits.idle);
        let awaited = *self.awaited.get_or_insert_with(idle);
        let (Awaited::Request(deadline) | Awaited::Head(deadline)) = awaited;
        self.reading.poll(cx, deadline).map(|()| awaited)
    }

    fn something_came(&mut self) {
        if self.waits() && !matches!(self.awaited, Some(Awaited::Head(_))) {
            self.awaited = Some(Awaited::Head(Instant::now() + self.limits.head));
        }
    }

    /// What a write came to, or an error where it has waited too long.
    fn in_time<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            return written;
        }
        let deadline = *self.taken.get_or_insert_with(|| Instant::now() + self.limits.answer);
        ready!(self.writing.poll(cx, deadline));
        count("answer");
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

/// A connection was ended because something took too long.
pub(super) fn count(what: &'static str) {
    HTTP_TIMEOUTS.counter(&[what]).increment(1);
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let paced = self.get_mut();
        let before = buffer.filled().len();
        match Pin::new(&mut paced.stream).poll_read(cx, buffer) {
            Poll::Pending => paced.nothing_came(cx),
            Poll::Ready(read) => {
                if buffer.filled().len() > before {
                    paced.something_came();
                }
                Poll::Ready(read)
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let paced = self.get_mut();
        let written = Pin::new(&mut paced.stream).poll_write(cx, bytes);
        paced.in_time(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let paced = self.get_mut();
        let written = Pin::new(&mut paced.stream).poll_write_vectored(cx, slices);
        paced.in_time(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let paced = self.get_mut();
        let flushed = Pin::new(&mut paced.stream).poll_flush(cx);
        if flushed.is_ready() {
            paced.taken = None;
            // Hyper may have asked for the next request before this one was answered, and asks again
            // only when it is woken: so the timer is set here. What it comes to is found by reading.
            let _ = paced.late(cx);
        }
        paced.in_time(cx, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let paced = self.get_mut();
        let shut = Pin::new(&mut paced.stream).poll_shutdown(cx);
        paced.in_time(cx, shut)
    }
}

/// Made when it is first needed, and set anew only where it would fire too late.
#[derive(Default)]
struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}
