//! The client as one of Socket.IO: it is in when it has an offset to come back with, and what it hears are events.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::{SinkExt as _, StreamExt as _};
use rowcast_protocol::Cursor;
use serde::Deserialize;
use tokio_tungstenite::tungstenite::Message;

use super::{Client, End, after_close};
use crate::endpoint::Stream;
use crate::event::Row;
use crate::socketio::{Emitted, Heard, PONG};

impl Client {
    /// Waits until it is in; how long the server may be silent. The inner error is a close in its place.
    pub(super) async fn connected(&mut self, socket: &mut Stream) -> Result<Result<Duration, End>> {
        let mut answered = false;
        loop {
            let message = socket.next().await.context("the socket ended before an answer")??;
            let text = match message {
                Message::Text(text) => text,
                Message::Close(close) => return Ok(Err(after_close(close.as_ref(), Duration::ZERO))),
                _ => continue,
            };
            let stock = self.stock.as_mut().expect("it speaks Socket.IO");
            match stock.hear(&text)? {
                Heard::Connected { .. } => answered = true,
                Heard::Refused(why) => return Ok(Err(End::Refused(format!("not let in: {why}")))),
                Heard::Ping => socket.send(Message::text(PONG)).await?,
                _ => {}
            }
            // Who comes back has one; to others the first resync brings it.
            if answered && stock.has_offset() {
                let silence = stock.patience().context("the server has not said how often it pings")?;
                let cursor = stock.cursor(&self.room);
                self.is_in(cursor.with_context(|| format!("no place in {}: {text}", self.room))?);
                return Ok(Ok(silence));
            }
        }
    }

    /// Takes a packet in; the connection's end, where it is one.
    pub(super) async fn packet(
        &mut self,
        socket: &mut Stream,
        text: &str,
        bye: &mut Duration,
    ) -> Result<Option<End>> {
        let stock = self.stock.as_mut().expect("it speaks Socket.IO");
        match stock.hear(text)? {
            Heard::Ping => socket.send(Message::text(PONG)).await?,
            Heard::Ended => return Ok(Some(End::Refused("put out".to_owned()))),
            Heard::Emitted(emitted) => self.emitted(&emitted, bye)?,
            Heard::Connected { .. } | Heard::Refused(_) | Heard::Other => {}
        }
        Ok(None)
    }

    fn emitted(&mut self, emitted: &Emitted<'_>, bye: &mut Duration) -> Result<()> {
        #[derive(Deserialize)]
        struct Resync {
            room: String,
            cursor: String,
        }
        #[derive(Deserialize)]
        struct Bye {
            #[serde(default)]
            reconnect_in_ms: u64,
        }
        match &*emitted.name {
            "rowcast.bye" => {
                let said: Bye = serde_json::from_str(emitted.payload.get())?;
                *bye = Duration::from_millis(said.reconnect_in_ms);
            }
            "resync" => {
                let resync: Resync = serde_json::from_str(emitted.payload.get())?;
                ensure!(resync.room == self.room, "a resync of {} in {}", resync.room, self.room);
                self.ledger.resync(resync.cursor.parse()?);
            }
            "connected" => {}
            name if name.starts_with("rowcast.") => {}
            _ => self.emitted_row(emitted)?,
        }
        Ok(())
    }

    fn emitted_row(&mut self, emitted: &Emitted<'_>) -> Result<()> {
        let row: Option<Row<'_>> = serde_json::from_str(emitted.payload.get()).ok();
        let stock = self.stock.as_ref().expect("it speaks Socket.IO");
        match row.filter(|row| row.room == self.room) {
            Some(row) => {
                let cursor = stock.cursor(&self.room).context("an event without a place")?;
                let cursor: Cursor = cursor.parse()?;
                self.row(&row, cursor, "");
            }
            None => self.not_its_own(emitted),
        }
        Ok(())
    }
}
