//! How fast the bus alone publishes: pipelines of appends, one under way to each master, all from one thread, as the listener
//! sends them. No PostgreSQL, nobody who reads rows.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use rowcast_bus::{BusConfig, Command, Finder, Keys, PublishLink, Reply, Retention, Server};
use rowcast_protocol::record::event_fragment;
use rowcast_protocol::{Epoch, EventId, Offset, Record, RecordKind, RoomName, StreamId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::account::Account;
use super::stores::Stores;
use super::table::Run;

/// As many commands as the listener has in a pipeline, and as many of one room behind each other.
const BATCH: usize = 512;
const TURN: usize = 8;

/// As the listener keeps them.
const RETENTION: Retention = Retention {
    log_entries: 1_000,
    log_lifetime: Duration::from_secs(3_600),
    head_lifetime: Duration::from_secs(7 * 86_400),
};

/// What a row of the other measurement comes to.
const DATA: &str = r#"{"id":123456,"merchantId":"drain-1234","status":"new","note":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}"#;

/// Publishes for so long to so many rooms, which so many edges listen to, or what reads like them.
pub(crate) async fn run(stores: &Stores<'_>, rooms: usize, edges: usize, time: Duration) -> Result<Run> {
    stores.empty().await?;
    let config = BusConfig::new(stores.url(), Keys::new("rowcast", "bench"));
    let topology = Finder::new(&config)?.find().await?;
    let mut lanes = Vec::new();
    let mut readers = JoinSet::new();
    for server in topology.servers() {
        let names = (0..rooms).map(|room| RoomName::parse(&format!("bus-{room}")));
        let mut names = names.collect::<Result<Vec<_>, _>>()?;
        names.retain(|name| topology.holder(name) == Some(server));
        for _ in 0..edges {
            let port = server.address.as_ref().map_or(stores.nodes()[0].port(), |address| address.port);
            let channels = names.iter().map(|room| config.keys.events(room));
            readers.spawn(read(subscribe(port, server.tag.is_some(), channels.collect()).await?));
        }
        lanes.push((server.clone(), names));
    }
    let pids = stores.pids();
    // A thread as the listener has one; the readers are on others.
    let publishing = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(publish(&config, lanes, &pids, time))
    });
    let published = publishing.await.context("the publisher panicked")??;
    stores.as_begun().await?;
    Ok(published)
}

async fn publish(
    config: &BusConfig,
    lanes: Vec<(Server, Vec<RoomName>)>,
    pids: &[u32],
    time: Duration,
) -> Result<Run> {
    let connecting = lanes.into_iter().map(|(server, rooms)| Lane::connect(config, server, rooms));
    let mut lanes = try_join_all(connecting).await?;
    // Rooms begin before it counts.
    let first = lanes.iter_mut().map(|lane| lane.publish(Instant::now() + time / 10));
    try_join_all(first).await?;
    let (account, before) = (Account::of(pids)?, own_us()?);
    let end = Instant::now() + time;
    let events = try_join_all(lanes.iter_mut().map(|lane| lane.publish(end))).await?;
    let (publisher_us, spent) = (own_us()? - before, account.since(pids)?);
    Ok(Run {
        events: events.into_iter().sum::<u64>() as f64,
        publisher_us,
        postgres_us: None,
        redis_us: spent.us.clone(),
        spent,
    })
}

/// The way to one master, with its rooms and where each stands.
struct Lane {
    link: PublishLink,
    rooms: Vec<(RoomName, Offset)>,
    next: usize,
    row: i64,
}

impl Lane {
    async fn connect(config: &BusConfig, server: Server, rooms: Vec<RoomName>) -> Result<Self> {
        let link = PublishLink::connect_to(config, &server, RETENTION).await?;
        let mut lane = Self { link, rooms: Vec::new(), next: 0, row: 0 };
        for room in rooms {
            let command = lane.command(&room, Offset::ZERO);
            lane.send(&[command]).await?;
            lane.rooms.push((room, Offset(1)));
        }
        Ok(lane)
    }

    /// One pipeline after the other. How many events that was.
    async fn publish(&mut self, end: Instant) -> Result<u64> {
        let mut events = 0;
        while Instant::now() < end {
            let commands = self.batch();
            self.send(&commands).await?;
            events += commands.len() as u64;
        }
        Ok(events)
    }

    fn batch(&mut self) -> Vec<Command> {
        let mut commands = Vec::with_capacity(BATCH);
        while commands.len() < BATCH {
            self.next = (self.next + 1) % self.rooms.len();
            for _ in 0..TURN {
                let (room, offset) = self.rooms[self.next].clone();
                commands.push(self.command(&room, offset));
                self.rooms[self.next].1 = offset.next();
            }
        }
        commands
    }

    fn command(&mut self, room: &RoomName, expected: Offset) -> Command {
        self.row += 1;
        let (epoch, stream) = (Epoch(1), StreamId(1));
        let id = EventId { row: self.row, occurred_at: 1_700_000_000_000_000 };
        let event_type = "watched.created".to_owned();
        let fragment = event_fragment(id, &event_type, DATA, None, false).into();
        let kind = RecordKind::Event;
        let record = Record { kind, stream, offset: expected.next(), id, event_type, fragment }.encode();
        let room = room.clone();
        match expected {
            Offset::ZERO => Command::Create { room, epoch, stream, replaces: None, id, record },
            _ => Command::Append { room, epoch, stream, expected, id, record },
        }
    }

    async fn send(&mut self, commands: &[Command]) -> Result<()> {
        let replies = self.link.run(commands).await?;
        let other = replies.iter().find(|reply| **reply != Reply::Done);
        ensure!(other.is_none(), "Redis answered {other:?}");
        Ok(())
    }
}

/// What this thread has used.
fn own_us() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").context("reading /proc")?;
    let nanoseconds: f64 = text.split(' ').next().unwrap_or_default().parse()?;
    Ok(nanoseconds / 1_000.0)
}

/// Subscribes as an edge does, and waits until the last channel is confirmed.
async fn subscribe(port: u16, sharded: bool, channels: Vec<String>) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let command = if sharded { "SSUBSCRIBE" } else { "SUBSCRIBE" };
    let asked: String = channels.iter().map(|channel| format!("{command} {channel}\r\n")).collect();
    let last = channels.last().context("each server has rooms")?.clone();
    let (mut reader, mut writer) = stream.split();
    let hears = async {
        let (mut heard, mut buffer) = (String::new(), vec![0; 64 * 1024]);
        while !heard.contains(&last) {
            let count = reader.read(&mut buffer).await?;
            ensure!(count > 0, "Redis has closed a subscription");
            heard.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        Ok(())
    };
    let asks = async { anyhow::Ok(writer.write_all(asked.as_bytes()).await?) };
    tokio::try_join!(asks, hears)?;
    Ok(stream)
}

/// Takes whatever comes, and looks at none of it: what is measured is what it costs Redis.
async fn read(mut stream: TcpStream) {
    let mut buffer = vec![0; 64 * 1024];
    while stream.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
}
