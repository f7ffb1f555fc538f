//! A real edge process before a real Redis; a leader that the test plays; a client that says what it gets.
#![allow(dead_code, reason = "each test file uses its part")]

pub mod crowd;
pub mod http;
pub mod issuer;
pub mod mint;
pub mod socketio;

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::{SinkExt, StreamExt};
use rowcast_bus::{BusConfig, Claim, Command, Keys, PublishLink, Reply, Retention};
use rowcast_protocol::record::event_fragment;
use rowcast_protocol::{
    Epoch, EventId, Heartbeat, Micros, Mirror, Offset, Record, RecordKind, RoomName, Sheet, StreamId,
};
use rowcast_sandbox::{Folder, Launch, Process, Redis, RedisOptions, http_get, metric, wait_for};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Message, http::Response};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

pub const SECRET: &str = "a secret of at least thirty-two bytes";

/// Longer than anything here may take on a loaded machine.
pub const LIMIT: Duration = Duration::from_secs(15);

/// Redis, and edges before it.
pub struct Stage {
    pub redis: Redis,
    pub folder: Folder,
    edges: usize,
}

impl Stage {
    pub async fn new() -> Result<Self> {
        Ok(Self {
            redis: Redis::start(RedisOptions::default()).await?,
            folder: Folder::new("edge")?,
            edges: 0,
        })
    }

    /// Starts an edge; `settings` are environment variables without their prefix.
    pub async fn edge(&mut self, settings: &[(&str, &str)]) -> Result<Edge> {
        self.edges += 1;
        let ports: PathBuf = self.folder.path().join(format!("edge-{}.json", self.edges));
        let log = self.folder.path().join(format!("edge-{}.log", self.edges));
        let mut launch = Launch::new("edge", env!("CARGO_BIN_EXE_rowcast-edge"), log)
            .args(["--ports-file".as_ref(), ports.as_os_str()])
            .env("ROWCAST_REDIS__URL", self.redis.url())
            .env("ROWCAST_AUTH__HS256_SECRET", SECRET)
            .env("ROWCAST_EDGE__LISTEN", "127.0.0.1:0")
            .env("ROWCAST_ADMIN__LISTEN", "127.0.0.1:0")
            .env("ROWCAST_EDGE__WORKERS", "2")
            .env("ROWCAST_EDGE__DRAIN_DELAY", "0s")
            .env("ROWCAST_LOG__LEVEL", "debug");
        for (name, value) in settings {
            launch = launch.env(format!("ROWCAST_{name}"), value);
        }
        let process = launch.spawn()?;
        let bound: Value = process
            .wait_ready(LIMIT, || async { anyhow::Ok(serde_json::from_slice(&std::fs::read(&ports)?)?) })
            .await?;
        let address = |name: &str| bound[name].as_str().map(str::to_owned).context("an address is missing");
        Ok(Edge { process, listen: address("listen")?, admin: address("admin")? })
    }

    pub async fn leader(&self) -> Result<Leader> {
        Leader::start(&self.redis.url(), 1, 1).await
    }
}

/// A running edge.
pub struct Edge {
    pub process: Process,
    pub listen: String,
    pub admin: String,
}

impl Edge {
    /// Signs in by the first frame.
    pub async fn sign_in(&self, auth: Value) -> Result<Client> {
        let mut client = self.open(&[]).await?;
        client.send(auth).await?;
        Ok(client)
    }

    /// Signs in to rooms and waits for the welcome.
    pub async fn join(&self, claim: Value, resume: Value) -> Result<(Client, Value)> {
        Client::join(&self.listen, claim, resume).await
    }

    pub async fn open(&self, headers: &[(&'static str, &str)]) -> Result<Client> {
        Ok(self.handshake("/ws", headers).await?.0)
    }

    pub async fn handshake(
        &self,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<(Client, Response<Option<Vec<u8>>>)> {
        Client::handshake(&self.listen, path, headers).await
    }

    /// A metric's value, summed over its labels that contain `label`.
    pub async fn metric(&self, name: &str, label: &str) -> Result<f64> {
        metric(&self.admin, name, label).await
    }

    /// Status and body of a page of the admin port.
    pub async fn admin_page(&self, path: &str) -> Result<(u16, String)> {
        http_get(&self.admin, path).await
    }
}

pub fn token(claim: Value) -> String {
    token_until(claim, 3_600)
}

pub fn token_until(claim: Value, seconds: i64) -> String {
    let now = Micros::from_system_time(std::time::SystemTime::now()).0 / 1_000_000;
    sign(&json!({ "sub": "user", "merchantId": claim, "exp": now + seconds }), SECRET)
}

pub fn sign(claims: &Value, secret: &str) -> String {
    let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), claims, &key).expect("signs")
}

/// A client's end of a socket.
pub struct Client {
    pub socket: WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>,
}

impl Client {
    /// Signs in to rooms at an address and waits for the welcome.
    pub async fn join(address: &str, claim: Value, resume: Value) -> Result<(Self, Value)> {
        let (mut client, _) = Self::handshake(address, "/ws", &[]).await?;
        client.send(json!({ "op": "auth", "token": token(claim), "resume": resume })).await?;
        let welcome = client.next().await?;
        anyhow::ensure!(welcome["op"] == "welcome", "{welcome}");
        Ok((client, welcome))
    }

    pub async fn handshake(
        address: &str,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<(Self, Response<Option<Vec<u8>>>)> {
        let mut request = format!("ws://{address}{path}").into_client_request()?;
        for (name, value) in headers {
            request.headers_mut().append(*name, HeaderValue::from_str(value)?);
        }
        let (socket, response) = tokio_tungstenite::connect_async(request).await?;
        Ok((Self { socket }, response))
    }

    pub async fn send(&mut self, message: Value) -> Result<()> {
        self.send_raw(Message::text(message.to_string())).await
    }

    pub async fn send_raw(&mut self, message: Message) -> Result<()> {
        Ok(self.socket.send(message).await?)
    }

    /// The next frame.
    pub async fn next(&mut self) -> Result<Value> {
        loop {
            let message = tokio::time::timeout(LIMIT, self.socket.next()).await.context("no frame came")?;
            match message.context("the socket ended")?? {
                Message::Text(text) => return Ok(serde_json::from_str(&text)?),
                Message::Close(frame) => bail!("closed: {frame:?}"),
                _ => {}
            }
        }
    }

    /// The next frame of a kind; others are passed over.
    pub async fn next_of(&mut self, op: &str) -> Result<Value> {
        loop {
            let frame = self.next().await?;
            if frame["op"] == op {
                return Ok(frame);
            }
        }
    }

    /// How the light was turned next. Everything before it is passed over.
    pub async fn light(&mut self) -> Result<(bool, String)> {
        let status = self.next_of("status").await?;
        let reason = status["reason"].as_str().context("a reason")?.to_owned();
        Ok((status["live"].as_bool().context("live is said")?, reason))
    }

    /// Waits until it is live, which it may be from the welcome on.
    pub async fn live_from(&mut self, welcome: &Value) -> Result<()> {
        if welcome["live"] != true {
            anyhow::ensure!(self.light().await?.0, "not live after the start");
        }
        Ok(())
    }

    /// Everything that has come until the answer to a ping.
    pub async fn so_far(&mut self) -> Result<Vec<Value>> {
        self.send(json!({ "op": "ping" })).await?;
        let mut frames = Vec::new();
        loop {
            match self.next().await? {
                frame if frame["op"] == "pong" => return Ok(frames),
                frame => frames.push(frame),
            }
        }
    }

    /// Code and reason of a close that comes in place of the first frame.
    pub async fn first(&mut self) -> Result<Option<(u16, String)>> {
        let message = tokio::time::timeout(LIMIT, self.socket.next()).await.context("nothing came")?;
        Ok(match message.context("the socket ended")?? {
            Message::Close(Some(frame)) => Some((CloseCode::into(frame.code), frame.reason.to_string())),
            Message::Close(None) => bail!("a close without a code"),
            _ => None,
        })
    }

    /// The close that follows, and its reason.
    pub async fn closed(&mut self) -> Result<(u16, String)> {
        loop {
            let message = tokio::time::timeout(LIMIT, self.socket.next()).await.context("no close came")?;
            match message.context("the socket ended without a close")?? {
                Message::Close(Some(frame)) => {
                    return Ok((CloseCode::into(frame.code), frame.reason.to_string()));
                }
                Message::Close(None) => bail!("a close without a code"),
                _ => {}
            }
        }
    }
}

/// Plays the leader: appends as the listener does, and sends heartbeats.
pub struct Leader {
    link: PublishLink,
    rooms: HashMap<String, (StreamId, Offset)>,
    next: i64,
    epoch: u64,
    heartbeats: JoinHandle<()>,
    says: watch::Sender<Heartbeat>,
    /// The version of each sheet that it last wrote, or tried to.
    sheets: [u64; Sheet::ALL.len()],
}

impl Drop for Leader {
    fn drop(&mut self) {
        self.heartbeats.abort();
    }
}

pub fn bus(url: &str) -> BusConfig {
    BusConfig::new(url, Keys::new("rowcast", "default"))
}

fn retention(log_entries: u64) -> Retention {
    let (log_lifetime, head_lifetime) = (Duration::from_secs(3_600), Duration::from_secs(86_400));
    Retention { log_entries, log_lifetime, head_lifetime }
}

/// A connection that gives Redis all the time that a loaded machine needs.
pub async fn patient(server: &Redis) -> Result<redis::aio::MultiplexedConnection> {
    let config = redis::AsyncConnectionConfig::new().set_response_timeout(Some(LIMIT));
    Ok(redis::Client::open(server.url())?.get_multiplexed_async_connection_with_config(&config).await?)
}

/// What a leader says to which nothing is wrong.
pub fn heartbeat(epoch: u64, generation: u64) -> Heartbeat {
    Heartbeat { epoch, generation, lag_ms: 0, at: 0, impaired: None, switches: 0, revocations: 0 }
}

impl Leader {
    pub async fn start(url: &str, epoch: u64, generation: u64) -> Result<Self> {
        Self::keeping(url, epoch, generation, 1_000).await
    }

    /// A leader whose logs keep so many events of a room.
    pub async fn keeping(url: &str, epoch: u64, generation: u64, log_entries: u64) -> Result<Self> {
        let config = bus(url);
        let retention = || retention(log_entries);
        let link = wait_for("a link to Redis", LIMIT, || PublishLink::connect(&config, retention())).await?;
        let mut beating =
            wait_for("a link to Redis", LIMIT, || PublishLink::connect(&config, retention())).await?;
        let (says, mut said) = watch::channel(heartbeat(epoch, generation));
        let heartbeats = tokio::spawn(async move {
            // It stops when Redis does, as a leader's would.
            loop {
                let heartbeat = said.borrow_and_update().clone();
                if beating.run(&[Command::Heartbeat(heartbeat)]).await.is_err() {
                    return;
                }
                let _next = tokio::time::timeout(Duration::from_millis(200), said.changed()).await;
            }
        });
        Ok(Self {
            link,
            rooms: HashMap::new(),
            next: 0,
            epoch,
            heartbeats,
            says,
            sheets: [0; Sheet::ALL.len()],
        })
    }

    /// What it says from now on.
    pub fn say(&self, heartbeat: Heartbeat) {
        self.says.send_replace(heartbeat);
    }

    /// The next version of a sheet that it writes.
    pub fn know(&mut self, sheet: Sheet, next: u64) {
        self.sheets[sheet as usize] = next - 1;
    }

    /// Turns the sockets off or on, as the listener does.
    pub async fn switch(&mut self, websocket: bool) -> Result<()> {
        self.mirror(Sheet::Switches, json!({ "websocket": websocket })).await?;
        Ok(())
    }

    /// What is revoked from now on, and nothing else; its version.
    pub async fn revoke(&mut self, all: Value) -> Result<u64> {
        self.mirror(Sheet::Revocations, all).await
    }

    /// What the listener does with a sheet: it claims Redis, writes, and then tells of it.
    async fn mirror(&mut self, sheet: Sheet, content: Value) -> Result<u64> {
        let found = self.link.identity().await?.claimed;
        if found != Some(Epoch(self.epoch)) {
            let claim = Claim { epoch: Epoch(self.epoch), found, origin: "1/2", replaces: "", timeline: 1 };
            let claimed = self.link.claim(claim).await?;
            anyhow::ensure!(claimed == Reply::Done, "{claimed:?}");
        }
        self.sheets[sheet as usize] += 1;
        let version = self.sheets[sheet as usize];
        let mirror = Mirror { sheet, version, content: content.to_string() };
        let replies = self.link.run(&[Command::Mirror(Epoch(self.epoch), mirror)]).await?;
        anyhow::ensure!(replies == [Reply::Done], "{replies:?}");
        self.says.send_modify(|heartbeat| match sheet {
            Sheet::Switches => heartbeat.switches = version,
            Sheet::Revocations => heartbeat.revocations = version,
        });
        Ok(version)
    }

    /// Another hand of the same leader, for what it does while it writes; its heartbeats are this one's.
    pub async fn second(&self, url: &str) -> Result<Self> {
        let link = PublishLink::connect(&bus(url), retention(1_000)).await?;
        Ok(Self {
            link,
            rooms: HashMap::new(),
            next: 0,
            epoch: self.epoch,
            heartbeats: tokio::spawn(std::future::ready(())),
            says: self.says.clone(),
            sheets: self.sheets,
        })
    }

    /// Appends one event and returns its id.
    pub async fn append(&mut self, room: &str, event_type: &str, data: Value) -> Result<String> {
        let ids = self.append_all(room, event_type, vec![data]).await?;
        ids.into_iter().next().context("one id")
    }

    /// Appends one event whose data is this text of JSON, byte for byte.
    pub async fn append_text(&mut self, room: &str, event_type: &str, data: &str) -> Result<()> {
        self.append_texts(event_type, vec![(room, data.to_owned())]).await.map(drop)
    }

    /// Appends as if Redis had lost the message on its way: the log has it, the channel never did.
    pub async fn append_unheard(&mut self, redis: &Redis, room: &str, data: Value) -> Result<()> {
        self.append_unheard_to(redis, &[room], data).await
    }

    /// The same in many rooms at once.
    pub async fn append_unheard_to(&mut self, server: &Redis, rooms: &[&str], data: Value) -> Result<()> {
        let mut all = redis::pipe();
        all.atomic();
        for &room in rooms {
            let (stream, offset) = self.rooms[room];
            let offset = offset.next();
            let id = EventId { row: -1, occurred_at: 0 };
            let fragment = event_fragment(id, "t", &data.to_string(), None, false).into();
            let event_type = "t".to_owned();
            let record =
                Record { kind: RecordKind::Event, stream, offset, id, event_type, fragment }.encode();
            let (keys, name) = (Keys::new("rowcast", "default"), RoomName::parse(room)?);
            all.cmd("HSET").arg(keys.head(&name)).arg("o").arg(offset.0);
            all.cmd("XADD").arg(keys.log(&name)).arg(format!("{offset}-0"));
            all.arg("i").arg(id.to_string()).arg("r").arg(record);
            self.rooms.insert(room.to_owned(), (stream, offset));
        }
        Ok(all.query_async::<()>(&mut patient(server).await?).await?)
    }

    /// Appends events, many in a pipeline.
    pub async fn append_all(&mut self, room: &str, event_type: &str, all: Vec<Value>) -> Result<Vec<String>> {
        self.append_each(event_type, all.into_iter().map(|data| (room, data)).collect()).await
    }

    /// Appends events of any rooms, many in a pipeline.
    pub async fn append_each(&mut self, event_type: &str, all: Vec<(&str, Value)>) -> Result<Vec<String>> {
        let texts = all.into_iter().map(|(room, data)| (room, data.to_string()));
        self.append_texts(event_type, texts.collect()).await
    }

    async fn append_texts(&mut self, event_type: &str, all: Vec<(&str, String)>) -> Result<Vec<String>> {
        let mut commands = Vec::new();
        let mut ids = Vec::new();
        for (room, data) in all {
            let name = RoomName::parse(room)?;
            self.next += 1;
            let occurred_at = Micros::from_system_time(std::time::SystemTime::now()).0;
            let id = EventId { row: self.next, occurred_at };
            let fragment = event_fragment(id, event_type, &data, None, false).into();
            let known = self.rooms.get(room).copied();
            let (stream, expected) = known.unwrap_or((StreamId::first(rand::random()), Offset::ZERO));
            self.rooms.insert(room.to_owned(), (stream, expected.next()));
            let (kind, event_type) = (RecordKind::Event, event_type.to_owned());
            let record = Record { kind, stream, offset: expected.next(), id, event_type, fragment }.encode();
            let (room, epoch) = (name, Epoch(self.epoch));
            commands.push(match known {
                Some(_) => Command::Append { room, epoch, stream, expected, id, record },
                None => Command::Create { room, epoch, stream, replaces: None, id, record },
            });
            ids.push(id.to_string());
        }
        // A link waits two seconds for a pipeline, in which a loaded machine does not do any number of appends.
        for some in commands.chunks(50) {
            let replies = self.link.run(some).await?;
            anyhow::ensure!(replies.iter().all(|reply| *reply == Reply::Done), "{replies:?}");
        }
        Ok(ids)
    }
}
