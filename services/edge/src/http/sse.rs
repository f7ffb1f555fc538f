//! The driver of one stream of server-sent events: each frame that a socket would get is a message, and its id has the
//! cursors of all rooms, so that a browser that comes back by itself brings them. The body is asked for more only when
//! what it gave is written: a slow reader's session falls back to the log, as a socket's does.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use actix_web::HttpResponse;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use bytes::{BufMut, Bytes, BytesMut};
use rowcast_protocol::CloseCode;
use rowcast_protocol::frame::ServerFrame;

use super::{Carried, Entered};
use crate::metrics::Metrics;
use crate::reach::Reach;
use crate::session::Outgoing;
use crate::worker::Transport;

/// Bytes that are taken at a time, roughly, and handed over, exactly: actix's buffer grows by what it is given.
const CHUNK: usize = 32 * 1024;

/// What comes first: after how many milliseconds a browser comes back when the stream breaks off.
const OPENING: &[u8] = b"retry: 2000\n\n";

/// Answers with a stream.
pub fn response(entered: Entered) -> HttpResponse {
    let Entered { carried, reach, metrics, .. } = entered;
    let stream = EventStream {
        carried,
        reach,
        metrics,
        rest: Bytes::new(),
        opened: false,
        said_bye: false,
        ended: None,
    };
    HttpResponse::Ok()
        .insert_header(("content-type", "text/event-stream"))
        .insert_header(("cache-control", "no-store"))
        // nginx would keep it back until its buffers are full.
        .insert_header(("x-accel-buffering", "no"))
        .body(BoxBody::new(stream))
}

struct EventStream {
    carried: Carried,
    reach: Reach,
    metrics: Arc<Metrics>,
    /// What was taken and has yet to be handed over.
    rest: Bytes,
    opened: bool,
    said_bye: bool,
    ended: Option<CloseCode>,
}

impl MessageBody for EventStream {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        let stream = self.get_mut();
        if !stream.rest.is_empty() {
            return Poll::Ready(stream.hand_over());
        }
        if stream.ended.is_some() {
            return Poll::Ready(None);
        }
        stream.carried.connection.set_waker(context.waker());
        let mut out = BytesMut::new();
        if !std::mem::replace(&mut stream.opened, true) {
            out.put_slice(OPENING);
        }
        let mut taken = false;
        while out.len() < CHUNK
            && let Some(outgoing) = stream.carried.take()
        {
            taken = true;
            stream.write(&mut out, &outgoing);
        }
        if taken {
            stream.carried.wrote();
        }
        stream.rest = out.freeze();
        if stream.rest.is_empty() { Poll::Pending } else { Poll::Ready(stream.hand_over()) }
    }
}

impl EventStream {
    fn hand_over(&mut self) -> Option<Result<Bytes, Infallible>> {
        Some(Ok(self.rest.split_to(self.rest.len().min(CHUNK))))
    }

    fn write(&mut self, out: &mut BytesMut, outgoing: &Outgoing) {
        self.reach.note(outgoing);
        match outgoing {
            Outgoing::Ping => out.put_slice(b": ping\n\n"),
            Outgoing::Pong(_) => {}
            Outgoing::Close(code, _) => {
                if !self.said_bye {
                    let bye = ServerFrame::bye(*code, 0).to_json();
                    self.message(out, bye.as_bytes());
                }
                self.ended = Some(*code);
            }
            frame => {
                self.said_bye |= matches!(frame, Outgoing::Bye(_));
                self.message(out, frame.json().expect("everything else has a text"));
            }
        }
    }

    fn message(&self, out: &mut BytesMut, json: &[u8]) {
        out.put_slice(b"id: ");
        out.put_slice(self.reach.encoded().as_bytes());
        // JSON of PostgreSQL may have line breaks between its tokens, and a line of a message must not.
        for line in json.split(|byte| matches!(byte, b'\n' | b'\r')) {
            out.put_slice(b"\ndata: ");
            out.put_slice(line);
        }
        out.put_slice(b"\n\n");
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        self.metrics.closed(Transport::EventStream, self.ended);
    }
}
