//! One client: signs in, keeps its account, comes back with its cursor. What it does differently where it speaks Socket.IO
//! is [`stock`]'s.

mod stock;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use futures_util::{SinkExt, StreamExt};
use rowcast_protocol::close::Reconnect;
use rowcast_protocol::{CloseCode, Cursor};
use serde_json::json;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use crate::endpoint::{Endpoint, Stream};
use crate::event::{Frame, Row};
use crate::ledger::{Arrival, Ledger};
use crate::shared::Shared;
use crate::socketio::Stock;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long a handshake and sign-in may take before another attempt.
const SIGN_IN: Duration = Duration::from_secs(10);

/// One client and its account.
pub(crate) struct Client {
    /// Its number in the run.
    pub(crate) index: usize,
    pub(crate) endpoint: Endpoint,
    pub(crate) room: String,
    pub(crate) token: String,
    pub(crate) ledger: Ledger,
    pub(crate) shared: Arc<Shared>,
    /// What it keeps where it speaks Socket.IO.
    stock: Option<Stock>,
    cursor: Option<String>,
    complete: bool,
}

/// How a connection ended.
enum End {
    /// Come back after so long, at least.
    Back(Duration),
    /// Coming back is of no use.
    Refused(String),
}

impl Client {
    pub(crate) fn new(
        index: usize,
        endpoint: Endpoint,
        room: String,
        token: String,
        expected: u64,
        shared: Arc<Shared>,
        stock: Option<Stock>,
    ) -> Self {
        Self {
            index,
            endpoint,
            room,
            token,
            ledger: Ledger::new(expected),
            shared,
            stock,
            cursor: None,
            complete: false,
        }
    }

    /// Runs until the run is over, and gives the account back.
    pub(crate) async fn run(mut self) -> Ledger {
        let over = self.shared.over();
        tokio::select! {
            () = over => {}
            refused = self.stay() => {
                self.shared.note_trouble(format!("socket {}: {refused}", self.index));
            }
        }
        self.ledger
    }

    /// Connects again and again; returns why that is of no use any more.
    async fn stay(&mut self) -> String {
        let mut pause = FIRST_PAUSE;
        loop {
            let end = self.live(&mut pause).await;
            let wait = match end {
                Ok(End::Refused(reason)) => return reason,
                Ok(End::Back(wait)) => wait,
                Err(error) => {
                    self.shared.note_trouble(format!("socket {}: {error:#}", self.index));
                    Duration::ZERO
                }
            };
            tokio::time::sleep(wait + pause.mul_f64(rand::random())).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// One connection's life.
    async fn live(&mut self, pause: &mut Duration) -> Result<End> {
        let shared = self.shared.clone();
        let turn = shared.sign_ins.acquire().await.context("the semaphore is never closed")?;
        let mut socket = self.connect().await?;
        let welcome = match self.stock {
            Some(_) => timeout(SIGN_IN, self.connected(&mut socket)).await.context("no answer")??,
            None => self.welcome(&mut socket).await?,
        };
        let silence = match welcome {
            Ok(silence) => silence,
            Err(end) => return Ok(end),
        };
        drop(turn);
        *pause = FIRST_PAUSE;
        self.receive(socket, silence).await
    }

    /// A socket whose `auth` is sent.
    async fn connect(&mut self) -> Result<Stream> {
        let open = async {
            let mut socket = self.endpoint.open().await?;
            let hello = self.stock.as_ref().map_or_else(|| self.auth(), |stock| stock.connect(&self.token));
            socket.send(Message::text(hello)).await.context("sending the token")?;
            Ok(socket)
        };
        timeout(SIGN_IN, open).await.map_err(|_| anyhow!("no handshake within {SIGN_IN:?}"))?
    }

    fn auth(&self) -> String {
        let mut auth = json!({ "op": "auth", "token": self.token });
        if let Some(cursor) = &self.cursor {
            auth["resume"] = json!({ &self.room: cursor });
        }
        auth.to_string()
    }

    async fn receive(&mut self, mut socket: Stream, silence: Duration) -> Result<End> {
        let mut bye = Duration::ZERO;
        loop {
            let message = timeout(silence, socket.next()).await.context("the edge fell silent")?;
            match message.transpose()?.context("the socket ended without a close")? {
                Message::Text(text) if self.stock.is_some() => {
                    if let Some(end) = self.packet(&mut socket, &text, &mut bye).await? {
                        return Ok(end);
                    }
                }
                Message::Text(text) => {
                    let frame = Frame::parse(&text).context("the edge sent what is no frame")?;
                    if frame.op == "bye" {
                        bye = Duration::from_millis(frame.reconnect_in_ms);
                    }
                    self.frame(&frame)?;
                }
                Message::Close(close) => return Ok(after_close(close.as_ref(), bye)),
                _ => {}
            }
        }
    }

    /// Waits for the first frame. The inner error is a close in its place.
    async fn welcome(&mut self, socket: &mut Stream) -> Result<Result<Duration, End>> {
        let message = timeout(SIGN_IN, socket.next()).await.context("no welcome")?;
        let text = match message.transpose()?.context("the socket ended before a welcome")? {
            Message::Text(text) => text,
            Message::Close(close) => return Ok(Err(after_close(close.as_ref(), Duration::ZERO))),
            other => bail!("instead of a welcome came {other:?}"),
        };
        let frame = Frame::parse(&text)?;
        if frame.op == "bye" {
            return Ok(Err(End::Back(Duration::from_millis(frame.reconnect_in_ms))));
        }
        let room = frame.rooms.get(&self.room).filter(|_| frame.op == "welcome");
        let room = room.with_context(|| format!("no welcome to {}: {text}", self.room))?;
        let cursor = room.cursor.clone();
        self.is_in(cursor);
        // A server that is alive says something in each heartbeat; three without a word are a dead one.
        Ok(Ok(Duration::from_secs(frame.heartbeat.max(1)) * 3 + Duration::from_secs(5)))
    }

    /// It is in, and begins at this cursor if it was not before.
    fn is_in(&mut self, cursor: String) {
        if self.cursor.is_none() {
            self.cursor = Some(cursor);
            self.shared.socket_signed_in();
            self.check_complete();
        } else {
            self.ledger.reconnected();
        }
    }

    fn frame(&mut self, frame: &Frame<'_>) -> Result<()> {
        match &*frame.op {
            "event" => self.event(frame)?,
            "resync" if frame.room == self.room => {
                self.ledger.resync(frame.cursor.parse()?);
                self.cursor = Some(frame.cursor.clone().into_owned());
            }
            "cursor" if frame.room == self.room => self.cursor = Some(frame.cursor.clone().into_owned()),
            "resync" | "cursor" => self.ledger.foreign(),
            _ => {}
        }
        Ok(())
    }

    fn event(&mut self, frame: &Frame<'_>) -> Result<()> {
        let row = frame.row().filter(|row| frame.room == self.room && row.room == self.room);
        let Some(row) = row else {
            self.not_its_own(&frame);
            return Ok(());
        };
        self.row(&row, frame.cursor.parse()?, &frame.at);
        if let Some(own) = &mut self.cursor {
            own.clear();
            own.push_str(&frame.cursor);
        }
        Ok(())
    }

    fn not_its_own(&mut self, what: &dyn Debug) {
        self.ledger.foreign();
        self.shared.note_trouble(format!("{} got what is not its own: {what:?}", self.room));
    }

    /// A row of its room came, at this place there.
    fn row(&mut self, row: &Row<'_>, cursor: Cursor, at: &str) {
        if self.ledger.event(row.n, cursor) == Arrival::Delivered
            && !self.shared.arrived(self.index, row.i, at)
        {
            self.shared.note_trouble(format!("{}: event {} arrived before it was sent", self.room, row.i));
            self.ledger.foreign();
        }
        self.check_complete();
    }

    fn check_complete(&mut self) {
        if !self.complete && self.ledger.is_complete() {
            self.complete = true;
            self.shared.socket_complete();
        }
    }
}

fn after_close(close: Option<&CloseFrame>, bye: Duration) -> End {
    let Some(close) = close else { return End::Back(bye) };
    let number = u16::from(close.code);
    let known = CloseCode::ALL.into_iter().find(|code| code.code() == number);
    match known.map(CloseCode::reconnect) {
        // Its tokens outlive every run: one that is not taken now will not be taken later.
        Some(Reconnect::Never | Reconnect::NewToken) => {
            End::Refused(format!("closed: {number} {}", close.reason))
        }
        Some(Reconnect::Backoff) | None => End::Back(bye),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(code: u16) -> End {
        after_close(Some(&CloseFrame { code: code.into(), reason: "".into() }), Duration::from_millis(7))
    }

    #[test]
    fn close_codes_say_whether_to_come_back() {
        for code in [1012, 4008, 4408, 4429, 1006, 1011] {
            assert!(matches!(close(code), End::Back(wait) if wait.as_millis() == 7), "{code}");
        }
        for code in [4400, 4401, 4403, 4410] {
            assert!(matches!(close(code), End::Refused(_)), "{code}");
        }
    }
}
