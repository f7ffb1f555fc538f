//! A stock client of Socket.IO: what it keeps to be recovered is the generator's; what it gets is written down as others'.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use futures_util::{SinkExt as _, StreamExt as _};
use rowcast_generator::endpoint::Stream;
use rowcast_generator::socketio::{Emitted, Heard, PONG};
use rowcast_protocol::Cursor;
use serde::Deserialize;
use tokio_tungstenite::tungstenite::Message;

use super::{Client, Entry, key};

/// Why somebody fetches a room who brought nothing for it.
const START: &str = "start";

impl Client {
    /// Asks to be let in, and waits until it is, with an offset to come back with.
    pub(super) async fn connect(&mut self, socket: &mut Stream) -> Result<()> {
        let stock = self.stock.as_ref().expect("it speaks Socket.IO");
        let (came_back, connect) = (stock.has_offset(), stock.connect(&self.token));
        socket.send(Message::text(connect)).await?;
        let mut answered = None;
        loop {
            let text = match socket.next().await.context("the socket ended before an answer")?? {
                Message::Text(text) => text,
                Message::Close(close) => {
                    self.closed(close.as_ref().map(|close| u16::from(close.code)));
                    bail!("closed in place of an answer: {close:?}");
                }
                _ => continue,
            };
            let recovered = self.packet(socket, &text).await?;
            answered = answered.or(recovered);
            if let Some(refused) = &self.account.refused {
                bail!("{refused}");
            }
            let stock = self.stock.as_ref().expect("it speaks Socket.IO");
            if let Some(recovered) = answered.filter(|_| stock.has_offset()) {
                let recoveries = self.account.socketio.as_mut().expect("it speaks Socket.IO");
                recoveries.recovered += u64::from(came_back && recovered);
                recoveries.not_recovered += u64::from(came_back && !recovered);
                return Ok(());
            }
        }
    }

    /// Takes a packet in. Whether it is recovered, where that is said.
    pub(super) async fn packet(&mut self, socket: &mut Stream, text: &str) -> Result<Option<bool>> {
        let stock = self.stock.as_mut().expect("it speaks Socket.IO");
        let heard = stock.hear(text)?;
        if matches!(heard, Heard::Ping) {
            socket.send(Message::text(PONG)).await?;
        }
        self.heard(heard, text)
    }

    fn heard(&mut self, heard: Heard<'_>, text: &str) -> Result<Option<bool>> {
        match heard {
            Heard::Connected { recovered } => {
                self.recovered = recovered;
                return Ok(Some(recovered));
            }
            // Its token is good for longer than the run.
            Heard::Refused(why) => self.account.refused = Some(format!("not let in: {why}")),
            Heard::Ended => self.account.refused = Some("put out for good".to_owned()),
            Heard::Emitted(emitted) => self.emitted(&emitted, text)?,
            Heard::Ping | Heard::Other => {}
        }
        Ok(None)
    }

    fn emitted(&mut self, emitted: &Emitted<'_>, text: &str) -> Result<()> {
        let payload = emitted.payload.get();
        match &*emitted.name {
            "connected" => {
                #[derive(Deserialize)]
                struct Connected {
                    rooms: BTreeMap<String, Room>,
                }
                #[derive(Deserialize)]
                struct Room {
                    resumed: bool,
                }
                let connected: Connected = serde_json::from_str(payload)?;
                self.check_rooms(connected.rooms.keys(), text);
                // Who takes itself for recovered fetches nothing.
                if self.recovered != connected.rooms.values().all(|room| room.resumed) {
                    let text = format!("recovered: {}, but {text}", self.recovered);
                    self.account.entries.push(Entry::Misled { at: self.clock.now(), text });
                }
                Ok(())
            }
            "resync" => self.resync(payload, text),
            "pong" => Ok(()),
            name if name.starts_with("rowcast.") => Ok(()),
            name => self.row(name, payload, text),
        }
    }

    fn resync(&mut self, payload: &str, text: &str) -> Result<()> {
        #[derive(Deserialize)]
        struct Resync {
            room: String,
            cursor: String,
            reason: String,
        }
        let Resync { room: name, cursor, reason } = serde_json::from_str(payload)?;
        let at = self.clock.now();
        let Some((_, room)) = self.rooms.get(&name).copied() else {
            self.account.entries.push(Entry::Foreign { at, text: text.to_owned() });
            return Ok(());
        };
        let begins = self.cursors.insert(name, cursor.clone()).is_none();
        if !(begins && reason == START) {
            let cursor = cursor.parse().context("a cursor")?;
            self.account.entries.push(Entry::Resync { at, room, cursor, reason });
        }
        Ok(())
    }

    fn row(&mut self, name: &str, payload: &str, text: &str) -> Result<()> {
        #[derive(Deserialize)]
        struct OfRoom {
            #[serde(rename = "merchantId")]
            room: String,
        }
        let at = self.clock.now();
        let OfRoom { room } = serde_json::from_str(payload).context("a row names its room")?;
        let place = self.rooms.get(&room).copied();
        let (Some(place), Some(key)) = (place, key(name, payload, &room)) else {
            self.account.entries.push(Entry::Foreign { at, text: text.to_owned() });
            return Ok(());
        };
        let stock = self.stock.as_ref().expect("it speaks Socket.IO");
        let cursor = stock.cursor(&room).with_context(|| format!("no place in {room}: {text}"))?;
        self.event(at, place, key, cursor.parse::<Cursor>().context("a cursor")?);
        self.cursors.insert(room, cursor);
        Ok(())
    }
}

#[cfg(test)]
#[path = "stock_tests.rs"]
mod tests;
