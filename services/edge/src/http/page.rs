//! The driver of one JSON page: what the session has queued, up to a bound; where that is nothing and the client waits,
//! until there is something. A page ends with the cursors of just what is in it, and the next one begins there.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use actix_web::HttpResponse;
use rowcast_protocol::frame::as_text;
use rowcast_protocol::{CloseCode, Micros, RecordKind, RoomName};
use serde::Serialize;

use super::Entered;
use super::error::Refusal;
use crate::auth::TokenFault;
use crate::event::Event;
use crate::session::{Outgoing, SessionLimits};
use crate::worker::now;

/// How long a page waits for the answer to its joins, at least. Without Redis none comes, and the client is told that
/// it is not live.
const PATIENCE: Duration = Duration::from_secs(2);

/// Who begins to wait while the light is off is told so after this at the latest.
const WAIT_IN_THE_DARK: Duration = Duration::from_secs(2);

/// What goes into one page.
#[derive(Default)]
struct Page {
    events: Vec<Arc<Event>>,
    bytes: usize,
    /// The last one of each room.
    resyncs: BTreeMap<RoomName, Outgoing>,
    /// The light changed while the client waited.
    light_changed: bool,
    closed: Option<CloseCode>,
}

/// The page without its frames.
#[derive(Serialize)]
struct Rest<'a> {
    rooms: BTreeMap<&'a str, Place>,
    cursor: String,
    live: bool,
    reason: &'a str,
    more: bool,
    transport: &'a str,
    #[serde(serialize_with = "as_text")]
    expires_at: Micros,
    #[serde(serialize_with = "as_text")]
    now: Micros,
}

#[derive(Serialize)]
struct Place {
    cursor: String,
    resumed: bool,
}

/// Answers with a page.
pub async fn response(mut entered: Entered) -> HttpResponse {
    let page = collect(&mut entered).await;
    if entered.carried.connection.session.borrow().is_revoked() {
        return Refusal::Token(TokenFault::Revoked).response();
    }
    if page.closed == Some(CloseCode::Token) && page.is_empty() {
        return Refusal::Token(TokenFault::Expired).response();
    }
    let mut response = HttpResponse::Ok();
    if page.closed == Some(CloseCode::Restart) {
        response.force_close();
    }
    response
        .insert_header(("content-type", "application/json"))
        .insert_header(("cache-control", "no-store"))
        .body(write(&page, &mut entered))
}

/// Takes from the session until the page is full, or everything is in it, or nothing comes in time.
async fn collect(entered: &mut Entered) -> Page {
    let Entered { ask, carried, reach, .. } = entered;
    let (light, limits) = {
        let session = carried.connection.session.borrow();
        (session.light(), session.limits())
    };
    let wait = if light.live { ask.wait } else { ask.wait.min(WAIT_IN_THE_DARK) };
    let begun = Instant::now();
    let (waited, at_last) = (begun + wait, begun + wait.max(PATIENCE));
    let mut alarm = pin!(tokio::time::sleep_until(waited.into()));
    let mut page = Page::default();
    std::future::poll_fn(|context| {
        carried.connection.set_waker(context.waker());
        loop {
            while !page.is_full(limits)
                && let Some(outgoing) = carried.take()
            {
                reach.note(&outgoing);
                page.take(outgoing);
            }
            carried.wrote();
            let now = Instant::now();
            let complete = carried.connection.session.borrow().is_caught_up();
            let worth_it = !page.is_empty() || page.light_changed || now >= waited;
            if page.closed.is_some() || page.is_full(limits) || (complete && worth_it) || now >= at_last {
                return Poll::Ready(());
            }
            if alarm.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            alarm.as_mut().reset(at_last.into());
        }
    })
    .await;
    page
}

impl Page {
    fn is_empty(&self) -> bool {
        self.events.is_empty() && self.resyncs.is_empty()
    }

    fn is_full(&self, limits: SessionLimits) -> bool {
        self.events.len() >= limits.queue_frames || self.bytes >= limits.queue_bytes
    }

    fn take(&mut self, outgoing: Outgoing) {
        match &outgoing {
            Outgoing::Event(event) if event.kind == RecordKind::Event => {
                self.bytes += event.json().len();
                self.events.push(Arc::clone(event));
            }
            Outgoing::Event(event) => self.resync(event.room.clone(), outgoing),
            Outgoing::Resync(placed) => self.resync(placed.room.clone(), outgoing),
            Outgoing::Status(_) => self.light_changed = true,
            Outgoing::Close(code, _) => self.closed = Some(*code),
            _ => {}
        }
    }

    /// The client fetches a snapshot, in which whatever came before is.
    fn resync(&mut self, room: RoomName, resync: Outgoing) {
        self.events.retain(|event| event.room != room);
        self.resyncs.insert(room, resync);
    }
}

/// The page as JSON. Events and resyncs are the frames that sockets get, byte for byte.
fn write(page: &Page, entered: &mut Entered) -> Vec<u8> {
    let Entered { carried, reach, .. } = entered;
    let session = carried.connection.session.borrow();
    let caught_up = session.is_caught_up();
    reach.settle(&session);
    // What is left is asked for at once where that helps; without an answer of Redis it does not.
    let more = !caught_up && page.closed.is_none() && !page.events.is_empty();
    let light = session.light();
    let live = light.live && (caught_up || more || page.closed.is_some());
    let rest = Rest {
        rooms: reach
            .rooms()
            .map(|(room, cursor, resumed)| (room, Place { cursor: cursor.to_string(), resumed }))
            .collect(),
        cursor: match (&entered.ask.room, reach.rooms().next()) {
            (Some(_), Some((_, cursor, _))) => cursor.to_string(),
            _ => reach.encoded(),
        },
        live,
        reason: if light.live && !live { "slow" } else { light.reason },
        more,
        transport: carried.worker.borrow().transport(),
        expires_at: session.expires_at(),
        now: now().wall,
    };
    let mut out = Vec::with_capacity(page.bytes + page.events.len() + 512);
    out.extend_from_slice(b"{\"events\":[");
    join(&mut out, page.events.iter().map(|event| event.json()));
    out.extend_from_slice(b"],\"resync\":[");
    join(&mut out, page.resyncs.values().filter_map(Outgoing::json));
    out.extend_from_slice(b"],");
    let rest = serde_json::to_vec(&rest).expect("strings, bools and maps with string keys");
    out.extend_from_slice(&rest[1..]);
    out
}

fn join<'a>(out: &mut Vec<u8>, frames: impl Iterator<Item = &'a [u8]>) {
    for (index, frame) in frames.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(frame);
    }
}

#[cfg(test)]
mod tests;
