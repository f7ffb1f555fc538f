//! What the page shows of the servers behind it.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::web::Data;
use futures_util::future::join_all;
use rowcast_sandbox::metric;
use serde::Serialize;
use tokio::net::TcpStream;

use super::answer::{self, Refusal};
use super::switch::Switch;
use crate::dev::board::{Condition, Place};
use crate::dev::demo::MERCHANTS;
use crate::dev::fleet::Controls;

/// For a server to answer. One that is paused never does.
const PATIENCE: Duration = Duration::from_secs(1);

/// All of it.
#[derive(Debug, Serialize)]
struct State {
    merchants: [&'static str; 2],
    edges: Vec<Edge>,
    listeners: Vec<Listener>,
    websockets: &'static str,
    switch: &'static str,
    redis: Redis,
}

/// An edge as the page shows it.
#[derive(Debug, Serialize)]
pub struct Edge {
    name: String,
    pub(super) up: bool,
    pub(super) connections: u64,
}

#[derive(Debug, Serialize)]
struct Listener {
    name: String,
    up: bool,
    leader: bool,
    paused: bool,
}

#[derive(Debug, Serialize)]
struct Redis {
    up: bool,
}

/// `GET /demo/state`
pub async fn state(controls: Data<Controls>, switch: Data<Switch>) -> Result<HttpResponse, Refusal> {
    let dev = controls.board().dev();
    let asked = dev.listeners.iter().enumerate().map(|(number, one)| listener(&controls, number, &one.admin));
    let redis = dev.redis_url.strip_prefix("redis://").unwrap_or_default();
    let (edges, listeners, redis, switch) =
        tokio::join!(edges(&controls), join_all(asked), answers(redis), switch.is_on());
    Ok(answer::json(State {
        merchants: MERCHANTS,
        edges,
        listeners,
        websockets: if controls.board().websockets() { "open" } else { "blocked" },
        switch: if switch { "on" } else { "off" },
        redis: Redis { up: redis && controls.board().condition(Place::Redis) == Condition::Up },
    }))
}

/// The edges, with how many sockets each has.
pub async fn edges(controls: &Controls) -> Vec<Edge> {
    let dev = controls.board().dev();
    let asked = dev.edges.iter().enumerate().map(|(number, edge)| async move {
        let connections =
            number_of(controls, Place::Edge(number), &edge.admin, "rowcast_edge_connections").await;
        Edge {
            name: format!("edge-{}", number + 1),
            up: connections.is_some(),
            connections: connections.unwrap_or_default(),
        }
    });
    join_all(asked).await
}

async fn listener(controls: &Controls, number: usize, admin: &str) -> Listener {
    let place = Place::Listener(number);
    let leads = number_of(controls, place, admin, "rowcast_listener_leader").await;
    let paused = controls.board().condition(place) == Condition::Paused;
    Listener {
        name: format!("listener-{}", number + 1),
        up: leads.is_some() || paused,
        leader: leads == Some(1),
        paused,
    }
}

/// A number from a server's metrics, over all labels; nothing where it does not answer.
async fn number_of(controls: &Controls, place: Place, admin: &str, name: &str) -> Option<u64> {
    if controls.board().condition(place) != Condition::Up {
        return None;
    }
    let address = admin.strip_prefix("http://").unwrap_or(admin);
    let asked = tokio::time::timeout(PATIENCE, metric(address, name, "")).await;
    Some(asked.ok()?.ok()? as u64)
}

async fn answers(address: &str) -> bool {
    matches!(tokio::time::timeout(PATIENCE, TcpStream::connect(address)).await, Ok(Ok(_)))
}
