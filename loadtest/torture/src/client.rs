//! Clients: each signs in with its token, writes down what it gets, goes away at random and comes back with its cursors.
//! Half of them are stock clients of Socket.IO ([`stock`]).

mod stock;

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::{SinkExt as _, StreamExt as _};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rowcast_generator::endpoint::{Endpoint, Stream};
use rowcast_generator::event::Frame;
use rowcast_generator::socketio::{self, Stock};
use rowcast_protocol::Cursor;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use crate::clock::Clock;
use crate::journal::{Key, Kind};
use crate::plan::Plan;
use crate::writer::RANGE;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// For a handshake, and for a welcome.
const SIGN_IN: Duration = Duration::from_secs(5);
/// A socket that says nothing for so long is asked, and given up if it does not answer.
const SILENCE: Duration = Duration::from_secs(2);

/// What a client got, in its order.
#[derive(Debug, Clone)]
pub(crate) enum Entry {
    Event {
        at: Duration,
        room: u16,
        key: Key,
        cursor: Cursor,
    },
    Resync {
        at: Duration,
        room: u16,
        cursor: Cursor,
        reason: String,
    },
    /// It was told that it is recovered and yet does not go on in every room, or the reverse.
    Misled {
        at: Duration,
        text: String,
    },
    /// What is not for it, or not a row of this run.
    Foreign {
        at: Duration,
        text: String,
    },
}

/// One client's account.
#[derive(Debug, Default)]
pub(crate) struct Account {
    pub(crate) number: u16,
    pub(crate) rooms: Vec<u16>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) connections: u64,
    pub(crate) drops: u64,
    /// What it has of Socket.IO, where it speaks that.
    pub(crate) socketio: Option<Recoveries>,
    /// The longest row of attempts without a welcome.
    pub(crate) failed_in_a_row: u32,
    /// Why it was sent away for good, if it was.
    pub(crate) refused: Option<String>,
}

/// How often a client of Socket.IO came back.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Recoveries {
    pub(crate) recovered: u64,
    pub(crate) not_recovered: u64,
}

/// What the others see of a client while it runs.
pub(crate) struct Progress {
    /// For each of its rooms the last mark that it got, or that a resync spoke for.
    pub(crate) marks: Vec<AtomicI64>,
    pub(crate) signed_in: watch::Sender<bool>,
    /// What it struggles with.
    pub(crate) trouble: Mutex<String>,
}

pub(crate) struct Client {
    rooms: HashMap<String, (usize, u16)>,
    cursors: HashMap<String, String>,
    stock: Option<Stock>,
    /// Whether the answer to its last CONNECT said that it is recovered.
    recovered: bool,
    token: String,
    edges: Arc<[Endpoint]>,
    clock: Clock,
    random: StdRng,
    account: Account,
    progress: Arc<Progress>,
}

impl Client {
    pub(crate) fn new(
        plan: &Plan,
        number: u16,
        token: String,
        edges: Arc<[Endpoint]>,
        clock: Clock,
    ) -> (Self, Arc<Progress>) {
        let rooms = plan.rooms_of(number);
        let progress = Arc::new(Progress {
            marks: rooms.iter().map(|_| AtomicI64::new(0)).collect(),
            signed_in: watch::Sender::new(false),
            trouble: Mutex::new(String::new()),
        });
        let speaks_socketio = plan.speaks_socketio(number);
        let names = rooms.iter().enumerate().map(|(slot, room)| (plan.room(*room), (slot, *room)));
        let client = Self {
            rooms: names.collect(),
            cursors: HashMap::new(),
            stock: speaks_socketio.then(Stock::default),
            recovered: false,
            token,
            edges,
            clock,
            random: StdRng::seed_from_u64(plan.seed ^ (0xC11E_0000_0000 + u64::from(number))),
            account: Account {
                number,
                rooms,
                socketio: speaks_socketio.then(Recoveries::default),
                ..Account::default()
            },
            progress: progress.clone(),
        };
        (client, progress)
    }

    /// Comes and goes until it is told to stop; gives its account.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) -> Account {
        tokio::select! {
            // That the sender is gone means the same.
            _ = stop.wait_for(|stop| *stop) => {}
            () = self.stay() => {}
        }
        self.account
    }

    async fn stay(&mut self) {
        let (mut pause, mut failed) = (FIRST_PAUSE, 0);
        loop {
            let connections = self.account.connections;
            if let Err(error) = self.live().await {
                *self.progress.trouble.lock().unwrap_or_else(PoisonError::into_inner) = format!("{error:#}");
            }
            if self.account.refused.is_some() {
                return;
            }
            if self.account.connections > connections {
                (pause, failed) = (FIRST_PAUSE, 0);
            } else {
                failed += 1;
                self.account.failed_in_a_row = failed.max(self.account.failed_in_a_row);
            }
            tokio::time::sleep(pause.mul_f64(self.random.random())).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// One connection's life.
    async fn live(&mut self) -> Result<()> {
        let edge = self.edges[self.random.random_range(0..self.edges.len())].clone();
        let mut socket = timeout(SIGN_IN, self.sign_in(&edge)).await.context("no welcome in time")??;
        self.account.connections += 1;
        self.progress.signed_in.send_replace(true);
        let life = self.random.random_range(0..30_000).max(200);
        let received = async {
            let mut asked = false;
            loop {
                match timeout(SILENCE, socket.next()).await {
                    Ok(message) => {
                        asked = false;
                        let message = message.context("the socket ended")??;
                        if let Message::Close(close) = &message {
                            self.closed(close.as_ref().map(|close| u16::from(close.code)));
                            return Ok(());
                        }
                        match message {
                            Message::Text(text) if self.stock.is_some() => {
                                self.packet(&mut socket, &text).await?;
                            }
                            Message::Text(text) => self.frame(&text)?,
                            _ => {}
                        }
                        if self.account.refused.is_some() {
                            return Ok(());
                        }
                    }
                    Err(_) if asked => bail!("the edge fell silent"),
                    Err(_) => {
                        asked = true;
                        socket.send(Message::text(self.question())).await?;
                    }
                }
            }
        };
        if let Ok(ended) = timeout(Duration::from_millis(life), received).await {
            return ended;
        }
        // Without a word, as a train goes into a tunnel.
        self.account.drops += 1;
        Ok(())
    }

    /// What is asked of an edge that says nothing.
    fn question(&self) -> String {
        match self.stock {
            // As an application does that does not want to wait for a ping that is late.
            Some(_) => format!("42{},[\"ping\"]", socketio::NAMESPACE),
            None => r#"{"op":"ping"}"#.to_owned(),
        }
    }

    async fn sign_in(&mut self, edge: &Endpoint) -> Result<Stream> {
        let mut socket = edge.open().await?;
        if self.stock.is_some() {
            self.connect(&mut socket).await?;
            return Ok(socket);
        }
        let resume: serde_json::Map<String, Value> =
            self.cursors.iter().map(|(room, cursor)| (room.clone(), cursor.as_str().into())).collect();
        let auth = json!({ "op": "auth", "token": self.token, "resume": resume });
        socket.send(Message::text(auth.to_string())).await?;
        let text = match socket.next().await.context("the socket ended before a welcome")?? {
            Message::Text(text) => text,
            Message::Close(close) => {
                self.closed(close.as_ref().map(|close| u16::from(close.code)));
                bail!("closed in place of a welcome: {close:?}");
            }
            other => bail!("instead of a welcome came {other:?}"),
        };
        let frame = Frame::parse(&text)?;
        ensure!(frame.op == "welcome", "instead of a welcome came {text}");
        self.check_rooms(frame.rooms.keys(), &text);
        for (name, room) in &frame.rooms {
            // A room that was not asked for starts here; one that was goes on, or a resync follows.
            self.cursors.entry(name.clone()).or_insert_with(|| room.cursor.clone());
        }
        Ok(socket)
    }

    /// A welcome names the token's rooms, and no others.
    fn check_rooms<'a>(&mut self, named: impl Iterator<Item = &'a String>, text: &str) {
        let mut named: Vec<&str> = named.map(String::as_str).collect();
        let mut own: Vec<&str> = self.rooms.keys().map(String::as_str).collect();
        named.sort_unstable();
        own.sort_unstable();
        if named != own {
            self.account.entries.push(Entry::Foreign { at: self.clock.now(), text: text.to_owned() });
        }
    }

    fn closed(&mut self, code: Option<u16>) {
        let known = rowcast_protocol::CloseCode::ALL.into_iter().find(|known| Some(known.code()) == code);
        if let Some(known) = known
            && known.reconnect() != rowcast_protocol::close::Reconnect::Backoff
        {
            // Its token is good for longer than the run.
            self.account.refused = Some(format!("closed with {} ({})", known.code(), known.label()));
        }
    }

    fn frame(&mut self, text: &str) -> Result<()> {
        let at = self.clock.now();
        let frame = Frame::parse(text)?;
        let about_a_room = matches!(&*frame.op, "event" | "resync" | "cursor");
        if !about_a_room {
            return Ok(());
        }
        let Some((slot, room)) = self.rooms.get(&*frame.room).copied() else {
            self.account.entries.push(Entry::Foreign { at, text: text.to_owned() });
            return Ok(());
        };
        let cursor: Cursor = frame.cursor.parse().context("a cursor")?;
        match &*frame.op {
            "event" => match frame.data.and_then(|data| key(&frame.kind, data.get(), &frame.room)) {
                Some(key) => self.event(at, (slot, room), key, cursor),
                None => self.account.entries.push(Entry::Foreign { at, text: text.to_owned() }),
            },
            "resync" => {
                let reason = frame.reason.as_deref().unwrap_or_default().to_owned();
                self.account.entries.push(Entry::Resync { at, room, cursor, reason });
            }
            _ => {}
        }
        self.cursors.insert(frame.room.into_owned(), frame.cursor.into_owned());
        Ok(())
    }

    fn event(&mut self, at: Duration, (slot, room): (usize, u16), key: Key, cursor: Cursor) {
        self.progress.marks[slot].fetch_max(mark(key), Ordering::Relaxed);
        self.account.entries.push(Entry::Event { at, room, key, cursor });
    }
}

/// Marks are the rows of the writer number 0, which are below those of all others.
fn mark(key: Key) -> i64 {
    if key.row < RANGE { key.row } else { 0 }
}

fn key(event_type: &str, data: &str, of_room: &str) -> Option<Key> {
    #[derive(serde::Deserialize)]
    struct Data<'a> {
        id: i64,
        #[serde(borrow)]
        room: std::borrow::Cow<'a, str>,
        version: i64,
    }
    let kind = match event_type {
        "row.created" => Kind::Created,
        "row.updated" => Kind::Updated,
        "row.deleted" => Kind::Deleted,
        _ => return None,
    };
    let data: Data<'_> = serde_json::from_str(data).ok()?;
    (data.room == of_room).then_some(Key { row: data.id, version: data.version, kind })
}
