//! Redis's servers, as far as the leader goes: which there are, and a sender for each of them. What is sent is `sender`'s.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use rowcast_bus::{Finder, Server, Topology};

use crate::backoff::Backoff;
use crate::publisher::LaneId;
use crate::sender;
use crate::term::{Lost, Term};

/// Between two questions for the servers at the least, however often a sender finds something wrong.
const CALM: Duration = Duration::from_millis(50);

type Sending<'t> = Pin<Box<dyn Future<Output = Result<(), Lost>> + Send + 't>>;

/// A sender, and what it was started for.
struct Sender<'t> {
    lane: LaneId,
    server: Server,
    sending: Sending<'t>,
}

/// Sends to all servers until the process is to stop (`Ok`) or the lead is lost.
pub(crate) async fn run<'t>(term: &'t Term<'_>) -> Result<(), Lost> {
    let mut senders: BTreeMap<Arc<str>, Sender<'t>> = BTreeMap::new();
    let mut backoff = Backoff::new(CALM, Duration::from_secs(2));
    let mut finder = Finder::new(&term.setting.bus).expect("the address was checked when the process began");
    // Nothing where the address names the server: there is nobody to ask again.
    let mut wait = Some(Duration::ZERO);
    loop {
        let searching = async {
            let Some(wait) = wait else { return std::future::pending().await };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = term.find_again.notified() => tokio::time::sleep(CALM.min(wait)).await,
            }
            finder.find().await
        };
        let found = tokio::select! {
            ended = all(&mut senders) => return ended,
            () = term.setting.shutdown.requested(), if senders.is_empty() => return Ok(()),
            found = searching => found,
        };
        match found {
            Ok(topology) => {
                adopt(term, &mut senders, topology);
                backoff.reset();
                wait = finder.interval();
            }
            Err(error) => {
                if senders.is_empty() {
                    term.setting.redis_ready.set_not_ready(error.to_string());
                }
                term.setting.metrics.on_servers_unknown(&error);
                wait = Some(backoff.wait());
            }
        }
        if !term.core().leadership.may_publish(Instant::now()) {
            return Err(Lost::ProofTooOld);
        }
    }
}

/// Drives the senders. They end together: because the process stops, or because the lead is lost.
async fn all(senders: &mut BTreeMap<Arc<str>, Sender<'_>>) -> Result<(), Lost> {
    if senders.is_empty() {
        std::future::pending::<()>().await;
    }
    std::future::poll_fn(|context| {
        let mut lost = None;
        senders.retain(|_, sender| match sender.sending.as_mut().poll(context) {
            Poll::Pending => true,
            Poll::Ready(ended) => {
                lost = lost.take().or(ended.err());
                false
            }
        });
        match lost {
            Some(lost) => Poll::Ready(Err(lost)),
            None if senders.is_empty() => Poll::Ready(Ok(())),
            None => Poll::Pending,
        }
    })
    .await
}

/// Goes on with these servers: a sender ends where its server is not what it was, and one begins for each that has none. It waits
/// for nothing: meanwhile no sender goes on.
fn adopt<'t>(term: &'t Term<'_>, senders: &mut BTreeMap<Arc<str>, Sender<'t>>, topology: Topology) {
    let known = term.core().publisher.topology().clone();
    if known == topology && !senders.is_empty() {
        return;
    }
    let doubted = term.known().meet(&topology);
    senders.retain(|name, sender| {
        let stays = topology.server(name) == Some(&sender.server) && !doubted.contains(name);
        if !stays {
            tracing::info!(server = %sender.server, "no longer one of Redis's servers as it was");
            // Dropped first: whatever it had under way may still be carried out.
            sender.sending = Box::pin(std::future::ready(Ok(())));
            let mut core = term.core();
            core.publisher.on_link_lost(sender.lane, Instant::now());
            core.publisher.lane(sender.lane).takes = false;
        }
        stays
    });
    term.core().set_topology(topology.clone());
    let names: Vec<String> = topology.servers().iter().map(Server::to_string).collect();
    term.setting.metrics.redis.keep(&names);
    for server in topology.servers() {
        if senders.contains_key(&server.name) {
            continue;
        }
        let lane = term.core().publisher.lane_named(&server.name).expect("each server has a lane");
        let own = server.clone();
        tracing::info!(%server, name = %server.name, "one of Redis's servers");
        let sending: Sending<'t> = Box::pin(async move { sender::run(term, lane, &own).await });
        senders.insert(server.name.clone(), Sender { lane, server: server.clone(), sending });
    }
    term.to_send.notify_waiters();
}
