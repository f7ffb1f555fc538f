//! What Rowcast promises, on real servers: every client gets each event of its room once, in order, none of another's.

mod support;

use std::time::Duration;

use anyhow::Result;
use rand::RngExt as _;
use rowcast_generator::{Speaks, Via};
use support::System;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_events_over_a_hundred_rooms_reach_a_thousand_sockets_on_two_edges_once_and_in_order()
-> Result<()> {
    let system = System::start(2, 2).await?;
    let mut plan = system.plan(&system.edge_addresses);
    (plan.sockets, plan.rooms, plan.events, plan.writers, plan.rate) = (1_000, 100, 10_000, 4, 0.0);
    let report = rowcast_generator::run(&plan).await?;
    println!("{report}");
    let counts = report.counts;
    assert_eq!((counts.expected, counts.delivered), (100_000, 100_000), "{report}");
    assert!(counts.is_clean(false), "{report}");
    assert_eq!(counts.reconnects, 0, "{report}");
    Ok(())
}

#[tokio::test]
async fn what_is_published_by_hand_arrives_as_surely_as_rows() -> Result<()> {
    let system = System::start(1, 1).await?;
    let mut plan = system.plan(&system.edge_addresses);
    (plan.sockets, plan.rooms, plan.events, plan.rate, plan.via) = (20, 5, 500, 0.0, Via::Publish);
    let report = rowcast_generator::run(&plan).await?;
    assert!(report.counts.is_clean(false) && report.counts.delivered == 2_000, "{report}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_are_cut_off_again_and_again_miss_nothing_and_see_nothing_twice() -> Result<()> {
    cut_off_again_and_again(Speaks::Native).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_socket_io_that_are_cut_off_again_and_again_are_recovered_each_time() -> Result<()> {
    cut_off_again_and_again(Speaks::SocketIo).await
}

async fn cut_off_again_and_again(speaks: Speaks) -> Result<()> {
    let system = System::start(1, 2).await?;
    let mut cutters = JoinSet::new();
    let mut addresses = Vec::new();
    for edge in &system.edge_addresses {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        addresses.push(listener.local_addr()?.to_string());
        cutters.spawn(cut_off(listener, edge.clone()));
    }
    let mut plan = system.plan(&addresses);
    (plan.sockets, plan.rooms, plan.events, plan.rate, plan.speaks) = (100, 10, 2_000, 400.0, speaks);
    let report = rowcast_generator::run(&plan).await?;
    assert!(report.counts.reconnects >= 100, "{report}");
    // The edges' memory reaches back further than a client is away: nobody needs a resync.
    assert!(report.counts.is_clean(false), "{report}");
    assert_eq!(report.counts.delivered, 20_000, "{report}");
    Ok(())
}

/// Passes connections on to an edge, each for a random time below two seconds.
async fn cut_off(listener: TcpListener, edge: String) -> Result<()> {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (mut client, edge) = (accepted?.0, edge.clone());
                connections.spawn(async move {
                    let mut server = TcpStream::connect(edge).await?;
                    let life = Duration::from_millis(rand::rng().random_range(200..2_000));
                    let pass = tokio::io::copy_bidirectional(&mut client, &mut server);
                    // That its time is over is its purpose; so is an end before.
                    let _ = tokio::time::timeout(life, pass).await;
                    anyhow::Ok(())
                });
            }
            Some(ended) = connections.join_next() => ended??,
        }
    }
}
