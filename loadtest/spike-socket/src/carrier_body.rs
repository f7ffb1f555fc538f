//! Carrier (b): an ordinary handler whose response body yields the shared frames and reads the request's payload.

use std::pin::Pin;
use std::task::{Context, Poll};

use actix_http::body::{BodySize, BoxBody, MessageBody};
use actix_web::{Error, HttpRequest, HttpResponse, dev, web};
use bytes::Bytes;
use futures_util::Stream;

use crate::hub::Membership;
use crate::incoming::{self, FrameReader, Incoming};

/// Answers the handshake with a body that is the socket.
pub async fn socket(request: HttpRequest, payload: web::Payload) -> Result<HttpResponse, Error> {
    let mut response = actix_http::ws::handshake(request.head())?;
    let body = SocketBody {
        membership: Membership::join(),
        payload: payload.into_inner(),
        reader: FrameReader::default(),
        ended: false,
    };
    Ok(response.message_body(BoxBody::new(body))?.into())
}

struct SocketBody {
    membership: Membership,
    payload: dev::Payload,
    reader: FrameReader,
    ended: bool,
}

impl SocketBody {
    fn read(&mut self, context: &mut Context<'_>) {
        while !self.ended {
            match Pin::new(&mut self.payload).poll_next(context) {
                Poll::Ready(Some(Ok(bytes))) => self.take(&bytes),
                Poll::Ready(Some(Err(_)) | None) => self.ended = true,
                Poll::Pending => return,
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        let (membership, ended) = (&self.membership, &mut self.ended);
        let read = self.reader.feed(bytes, |frame| match frame {
            Incoming::Message => {}
            Incoming::Ping(payload) => membership.push(incoming::pong(&payload)),
            Incoming::Close => *ended = true,
        });
        if let Err(violation) = read {
            membership.push(incoming::close(violation.0));
            self.ended = true;
        }
    }
}

impl MessageBody for SocketBody {
    type Error = std::convert::Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        self.read(context);
        match self.membership.pop() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None if self.ended || self.membership.ended() => Poll::Ready(None),
            None => {
                self.membership.register(context);
                Poll::Pending
            }
        }
    }
}
