//! The buttons that break things. Each acts on the servers of this `dev` alone, through their keepers.

use actix_web::HttpResponse;
use actix_web::web::{Data, Path};
use futures_util::future::join_all;
use serde_json::json;

use super::answer::{self, Refusal};
use super::state;
use super::switch::Switch;
use crate::dev::board::Place;
use crate::dev::fleet::Controls;
use crate::dev::keeper::Order;

const KNOWN: &str = "kill-edge, pause-listeners, resume-listeners, restart-redis, block-websockets, allow-websockets, \
                     switch-off, switch-on";

/// `POST /demo/break/<what>`
pub async fn carry_out(
    controls: Data<Controls>,
    switch: Data<Switch>,
    what: Path<String>,
) -> Result<HttpResponse, Refusal> {
    let done = match what.as_str() {
        "kill-edge" => kill_edge(&controls).await?,
        "pause-listeners" => all_listeners(&controls, Order::Pause, "all listeners stand still").await?,
        "resume-listeners" => all_listeners(&controls, Order::Resume, "all listeners go on").await?,
        "restart-redis" => one(&controls, Place::Redis, Order::Restart, "Redis was started anew").await?,
        "block-websockets" => {
            let done = "the balancer refuses WebSockets, and has cut those that were open";
            one(&controls, Place::Balancer, Order::Websockets(false), done).await?
        }
        "allow-websockets" => {
            one(&controls, Place::Balancer, Order::Websockets(true), "the balancer lets WebSockets through")
                .await?
        }
        "switch-off" => turn(&switch, false, "all clients are being sent to polling").await?,
        "switch-on" => turn(&switch, true, "clients may have sockets again").await?,
        other => return Err(Refusal::not_found(format!("{other:?} can not be broken; known are {KNOWN}"))),
    };
    Ok(answer::json(json!({ "done": done })))
}

/// The one with the most sockets: whoever presses the button wants to see something.
async fn kill_edge(controls: &Controls) -> Result<String, Refusal> {
    let edges = state::edges(controls).await;
    // Of several that have as many, the first.
    let most =
        edges.iter().enumerate().rev().filter(|(_, edge)| edge.up).max_by_key(|(_, edge)| edge.connections);
    let (number, edge) = most.ok_or_else(|| Refusal::unavailable("down", "no edge is up"))?;
    let done = format!("edge-{} was killed; open sockets: {}", number + 1, edge.connections);
    one(controls, Place::Edge(number), Order::Die, &done).await
}

async fn turn(switch: &Switch, is_on: bool, done: &str) -> Result<String, Refusal> {
    switch.turn(is_on).await.map_err(|error| Refusal::unavailable("database", format!("{error:#}")))?;
    Ok(done.to_owned())
}

async fn one(controls: &Controls, place: Place, order: Order, done: &str) -> Result<String, Refusal> {
    controls
        .order(place, order)
        .await
        .map_err(|error| Refusal::unavailable("failed", format!("{error:#}")))?;
    Ok(done.to_owned())
}

async fn all_listeners(controls: &Controls, order: Order, done: &str) -> Result<String, Refusal> {
    let count = controls.board().dev().listeners.len();
    let given = (0..count).map(|number| one(controls, Place::Listener(number), order, done));
    join_all(given).await.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(done.to_owned())
}
