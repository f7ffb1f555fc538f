//! Clients that change between socket and pages as the switch is turned, under load and between two edges, and a ledger:
//! each event once per client, in order, whatever way it came. Not here: who is sent away and when (`switches.rs`).

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use rowcast_sandbox::wait_until;
use serde_json::{Value, json};
use support::crowd::Writer;
use support::http::{Exchange, form};
use support::{Client, LIMIT, Stage, token};
use tokio::sync::watch;
use tokio::task::JoinSet;

const CLIENTS: usize = 50;
const ROOMS: usize = 5;

/// What all clients share.
struct Common {
    edges: Vec<String>,
    /// How many events there are; unknown while they are written.
    end: watch::Receiver<u64>,
    by_socket: AtomicUsize,
    by_page: AtomicUsize,
    seen: AtomicU64,
}

struct Traveller {
    common: Arc<Common>,
    room: String,
    turn: usize,
    next: u64,
    cursor: Option<Value>,
    /// Events that came by sockets and by pages, and how often the way changed.
    socket_events: u64,
    page_events: u64,
    changes: usize,
}

impl Traveller {
    async fn travel(mut self) -> Result<Self> {
        let mut by_socket = true;
        while self.next < *self.common.end.borrow() {
            self.turn += 1;
            let edge = self.common.edges[self.turn % self.common.edges.len()].clone();
            let stays = if by_socket { self.socket(&edge).await? } else { self.pages(&edge).await? };
            self.changes += usize::from(!stays);
            by_socket = stays == by_socket;
        }
        Ok(self)
    }

    fn take(&mut self, event: &Value, by_socket: bool) -> Result<()> {
        ensure!(event["data"] == self.next, "{}: {} in place of {}", self.room, event["data"], self.next);
        self.next += 1;
        *(if by_socket { &mut self.socket_events } else { &mut self.page_events }) += 1;
        self.cursor = Some(event["cursor"].clone());
        self.common.seen.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Stays on a socket until all is seen or it is sent to polling; whether the way stays the same.
    async fn socket(&mut self, edge: &str) -> Result<bool> {
        let mut client = Client::handshake(edge, "/ws", &[]).await?.0;
        let resume = self.cursor.as_ref().map_or(json!({}), |cursor| json!({ &self.room: cursor }));
        client.send(json!({ "op": "auth", "token": token(json!(self.room)), "resume": resume })).await?;
        let first = client.next().await?;
        if first["op"] == "mode" {
            ensure!(client.closed().await?.0 == 4410);
            return Ok(false);
        }
        let welcome = &first["rooms"][&self.room];
        ensure!(first["op"] == "welcome" && welcome["resumed"] == self.cursor.is_some(), "{first}");
        self.cursor.get_or_insert_with(|| welcome["cursor"].clone());
        self.common.by_socket.fetch_add(1, Ordering::Relaxed);
        let mut end = self.common.end.clone();
        while self.next < *end.borrow_and_update() {
            let frame = tokio::select! {
                frame = client.next() => frame?,
                changed = end.changed() => { changed?; continue }
            };
            match frame["op"].as_str() {
                Some("event") => self.take(&frame, true)?,
                Some("status" | "cursor") => {}
                Some("mode") => {
                    ensure!(client.closed().await?.0 == 4410);
                    self.common.by_socket.fetch_sub(1, Ordering::Relaxed);
                    return Ok(false);
                }
                _ => anyhow::bail!("{}: {frame}", self.room),
            }
        }
        Ok(true)
    }

    /// Asks for pages, of one edge, until all is seen or one says that sockets are welcome; whether the way stays the same.
    async fn pages(&mut self, edge: &str) -> Result<bool> {
        self.common.by_page.fetch_add(1, Ordering::Relaxed);
        while self.next < *self.common.end.borrow() {
            let after = self.cursor.as_ref().and_then(Value::as_str).context("a cursor")?;
            let query = form(&[("room", &self.room), ("after", after), ("wait", "1")]);
            let bearer = format!("Bearer {}", token(json!(self.room)));
            let path = format!("/v1/events?{query}");
            let headers = [("authorization", bearer.as_str())];
            let answer = Exchange::begin(edge, "GET", &path, &headers).await?.answer().await?;
            ensure!(answer.status == 200, "{answer:?}");
            let page = answer.json()?;
            ensure!(page["rooms"][&self.room]["resumed"] == true && page["resync"] == json!([]), "{page}");
            for event in page["events"].as_array().context("events")? {
                self.take(event, false)?;
            }
            ensure!(
                page["rooms"][&self.room]["cursor"] == *self.cursor.as_ref().context("a cursor")?,
                "{page}"
            );
            if page["transport"] == "websocket" {
                break;
            }
        }
        self.common.by_page.fetch_sub(1, Ordering::Relaxed);
        Ok(self.next >= *self.common.end.borrow())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_socket_to_pages_and_back_under_load_each_client_has_each_event_once() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    leader.switch(true).await?;
    let mut switching = leader.second(&stage.redis.url()).await?;
    let window = [("EDGE__SWITCH_WINDOW", "1s")];
    let edges = [stage.edge(&window).await?, stage.edge(&window).await?];
    let (end, ends) = watch::channel(u64::MAX);
    let common = Arc::new(Common {
        edges: edges.iter().map(|edge| edge.listen.clone()).collect(),
        end: ends,
        by_socket: AtomicUsize::new(0),
        by_page: AtomicUsize::new(0),
        seen: AtomicU64::new(0),
    });
    let mut travellers = JoinSet::new();
    for turn in 0..CLIENTS {
        let traveller = Traveller {
            common: Arc::clone(&common),
            room: format!("r{}", turn % ROOMS),
            turn,
            next: 0,
            cursor: None,
            socket_events: 0,
            page_events: 0,
            changes: 0,
        };
        travellers.spawn(traveller.travel());
    }
    let at = |count: &AtomicUsize| count.load(Ordering::Relaxed);
    wait_until("all by socket", 2 * LIMIT, || async { at(&common.by_socket) == CLIENTS }).await?;
    let writer = Writer::start(leader, &(0..ROOMS).map(|n| format!("r{n}")).collect::<Vec<_>>());
    let sees_more = |events: u64| {
        let goal = common.seen.load(Ordering::Relaxed) + events * CLIENTS as u64;
        let common = Arc::clone(&common);
        async move {
            wait_until("more events", 2 * LIMIT, || async { common.seen.load(Ordering::Relaxed) >= goal })
                .await
        }
    };
    sees_more(50).await?;
    for _ in 0..2 {
        switching.switch(false).await?;
        wait_until("all by page", 2 * LIMIT, || async { at(&common.by_page) == CLIENTS }).await?;
        sees_more(50).await?;
        switching.switch(true).await?;
        wait_until("all by socket", 2 * LIMIT, || async { at(&common.by_socket) == CLIENTS }).await?;
        sees_more(50).await?;
    }
    let (_leader, written) = writer.stop().await?;
    end.send_replace(written);
    ensure!(written > 250, "{written} events a room");
    while let Some(travelled) = travellers.join_next().await {
        let Traveller { room, next, socket_events, page_events, changes, .. } = travelled??;
        ensure!(next == written && socket_events + page_events == written, "{room}: {next} of {written}");
        ensure!(socket_events >= 50 && page_events >= 50, "{room}: {socket_events} and {page_events}");
        ensure!(changes >= 4, "{room} changed its way {changes} times");
    }
    for edge in &edges {
        ensure!(edge.metric("rowcast_edge_resyncs_total", "").await? == 0.0);
    }
    Ok(())
}
