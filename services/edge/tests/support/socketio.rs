//! A client of Socket.IO, packet by packet. It answers pings, and keeps what a stock client would bring back.

use anyhow::{Context, Result, bail, ensure};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::{Client, Edge, LIMIT, token};

pub const PATH: &str = "/socket.io/?EIO=4&transport=websocket";

/// An open socket.
pub struct Io {
    pub client: Client,
    /// What the server says of itself first.
    pub hello: Value,
    /// What a stock client keeps.
    pub pid: Option<String>,
    pub offset: Option<String>,
}

/// Something that was emitted.
#[derive(Debug, Clone, PartialEq)]
pub struct Emitted {
    pub name: String,
    pub payload: Value,
    pub offset: Option<String>,
}

/// One thing that the server says.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    Packet(String),
    Closed(u16, String),
}

impl Io {
    pub async fn open(edge: &Edge) -> Result<Self> {
        Self::open_at(&edge.listen, PATH, &[]).await
    }

    pub async fn open_at(address: &str, path: &str, headers: &[(&'static str, &str)]) -> Result<Self> {
        let (mut client, _) = Client::handshake(address, path, headers).await?;
        let Said::Packet(open) = said(&mut client).await? else {
            bail!("closed in place of the first packet")
        };
        let hello = serde_json::from_str(open.strip_prefix('0').context("an open packet")?)?;
        Ok(Self { client, hello, pid: None, offset: None })
    }

    /// In the default namespace, in these rooms, with the first `resync`s read.
    pub async fn join(edge: &Edge, claim: Value) -> Result<Self> {
        let mut io = Self::open(edge).await?;
        let rooms = claim.as_array().map_or(1, Vec::len);
        io.connect(json!({ "token": token(claim) })).await?;
        for _ in 0..rooms {
            ensure!(io.event().await?.name == "resync", "each room begins with a resync");
        }
        Ok(io)
    }

    /// Comes back to an edge, as a stock client does; whether it was recovered.
    pub async fn back(&self, edge: &Edge, token: &str) -> Result<(Self, bool)> {
        let mut io = Self::open(edge).await?;
        (io.pid, io.offset) = (self.pid.clone(), self.offset.clone());
        let auth = io.auth(token);
        io.connect(auth).await?;
        let recovered = io.pid == self.pid;
        Ok((io, recovered))
    }

    /// What a stock client sends with its CONNECT.
    pub fn auth(&self, token: &str) -> Value {
        let mut auth = json!({ "token": token });
        for (name, value) in [("pid", &self.pid), ("offset", &self.offset)] {
            if let Some(value) = value {
                auth[name] = value.as_str().into();
            }
        }
        auth
    }

    /// Asks to be let in, and is; the payload of `connected`.
    pub async fn connect(&mut self, auth: Value) -> Result<Value> {
        self.send(&format!("40/notifications,{auth}")).await?;
        let packet = self.packet().await?;
        let answer =
            packet.strip_prefix("40/notifications,").with_context(|| format!("not let in: {packet}"))?;
        let answer: Value = serde_json::from_str(answer)?;
        self.pid = answer["pid"].as_str().map(str::to_owned);
        let connected = self.event().await?;
        ensure!(connected.name == "connected" && connected.offset.is_none(), "{connected:?}");
        Ok(connected.payload)
    }

    /// The message and the data of a CONNECT that is refused.
    pub async fn refused(&mut self, auth: Value) -> Result<(String, Value)> {
        self.send(&format!("40/notifications,{auth}")).await?;
        let packet = self.packet().await?;
        let refusal =
            packet.strip_prefix("44/notifications,").with_context(|| format!("not refused: {packet}"))?;
        let refusal: Value = serde_json::from_str(refusal)?;
        Ok((refusal["message"].as_str().context("a message")?.to_owned(), refusal["data"].clone()))
    }

    pub async fn send(&mut self, packet: &str) -> Result<()> {
        self.client.send_raw(Message::text(packet)).await
    }

    /// The next thing, pings included.
    pub async fn said(&mut self) -> Result<Said> {
        said(&mut self.client).await
    }

    /// The next packet that is no ping; pings are answered.
    pub async fn packet(&mut self) -> Result<String> {
        loop {
            match self.said().await? {
                Said::Packet(ping) if ping == "2" => self.send("3").await?,
                Said::Packet(packet) => return Ok(packet),
                Said::Closed(code, reason) => bail!("closed: {code} {reason}"),
            }
        }
    }

    /// The next packet, which is an event of the default namespace.
    pub async fn event(&mut self) -> Result<Emitted> {
        let packet = self.packet().await?;
        let arguments = packet.strip_prefix("42/notifications,");
        let arguments = arguments.with_context(|| format!("not an event: {packet}"))?;
        let emitted = emitted(arguments)?;
        // A stock client keeps whatever text comes last, the event's name too.
        let last = arguments_of(arguments)?.pop().context("a name at least")?;
        if let Value::String(offset) = last {
            self.offset = Some(offset);
        }
        Ok(emitted)
    }

    /// The next event of a name; others are passed over.
    pub async fn event_of(&mut self, name: &str) -> Result<Emitted> {
        loop {
            let event = self.event().await?;
            if event.name == name {
                return Ok(event);
            }
        }
    }

    /// Everything that has come until the answer to a ping.
    pub async fn so_far(&mut self) -> Result<Vec<Emitted>> {
        self.send("42/notifications,[\"ping\"]").await?;
        let mut events = Vec::new();
        loop {
            match self.event().await? {
                event if event.name == "pong" => return Ok(events),
                event => events.push(event),
            }
        }
    }

    /// Code and reason of the close that follows, and the packets before it.
    pub async fn closed(&mut self) -> Result<(u16, String, Vec<String>)> {
        let mut packets = Vec::new();
        loop {
            match self.said().await? {
                Said::Packet(packet) => packets.push(packet),
                Said::Closed(code, reason) => return Ok((code, reason, packets)),
            }
        }
    }

    /// The code alone.
    pub async fn close_code(&mut self) -> Result<u16> {
        Ok(self.closed().await?.0)
    }
}

fn arguments_of(text: &str) -> Result<Vec<Value>> {
    serde_json::from_str(text).with_context(|| format!("arguments: {text}"))
}

/// Reads an event's arguments.
pub fn emitted(text: &str) -> Result<Emitted> {
    let arguments = arguments_of(text)?;
    let [Value::String(name), payload, rest @ ..] = &*arguments else {
        bail!("a name and a payload: {text}")
    };
    let offset = match rest {
        [] => None,
        [Value::String(offset)] => Some(offset.clone()),
        _ => bail!("one offset, if any: {text}"),
    };
    Ok(Emitted { name: name.clone(), payload: payload.clone(), offset })
}

async fn said(client: &mut Client) -> Result<Said> {
    loop {
        let message = tokio::time::timeout(LIMIT, client.socket.next()).await.context("nothing came")?;
        match message.context("the socket ended without a close")?? {
            Message::Text(text) => return Ok(Said::Packet(text.to_string())),
            Message::Close(Some(frame)) => {
                return Ok(Said::Closed(frame.code.into(), frame.reason.to_string()));
            }
            Message::Close(None) => bail!("a close without a code"),
            _ => {}
        }
    }
}
