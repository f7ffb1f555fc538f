//! Edges that are asked to end while events flow: everybody moves, spread over the window, and nothing is lost or
//! doubled. Not here: what a balancer makes of it.

mod support;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rowcast_sandbox::Signal;
use support::crowd::{Crowd, Journey, Writer};
use support::{Edge, LIMIT, Stage};

const WINDOW: Duration = Duration::from_secs(2);
const SETTINGS: [(&str, &str); 1] = [("EDGE__DRAIN_WINDOW", "2s")];

fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("r{n}")).collect()
}

/// Asks an edge to end; the crowd is told where to go on, as by a balancer that has noticed.
async fn drain(edge: &Edge, crowd: &Crowd, others: &[&str]) -> Result<()> {
    crowd.serve_at(others);
    edge.process.signal(Signal::TERM)?;
    ensure!(edge.process.wait_exit(LIMIT).await?.success(), "it ends in order");
    crowd.sees_more(20).await
}

/// A client's breaker opens after five attempts.
fn breaker_stays_closed(journeys: &[Journey]) -> Result<()> {
    let failures = journeys.iter().map(|journey| journey.failures).max().context("some clients")?;
    ensure!(failures < 5, "{failures} attempts in a row failed");
    Ok(())
}

/// Two edges with so many clients in each of four rooms, and events under way.
async fn under_load(clients: usize) -> Result<(Stage, [Edge; 2], Crowd, Writer)> {
    let mut stage = Stage::new().await?;
    let leader = stage.leader().await?;
    let edges = [stage.edge(&SETTINGS).await?, stage.edge(&SETTINGS).await?];
    let rooms = names(4);
    let listen = edges.iter().map(|edge| edge.listen.clone()).collect();
    let crowd = Crowd::gather(listen, &rooms, clients).await?;
    let writer = Writer::start(leader, &rooms);
    crowd.sees_more(20).await?;
    Ok((stage, edges, crowd, writer))
}

#[tokio::test]
async fn a_drain_under_load_moves_everybody_within_its_window_and_loses_nothing() -> Result<()> {
    let (_stage, [ending, other], crowd, writer) = under_load(20).await?;
    let begin = Instant::now();
    drain(&ending, &crowd, &[&other.listen]).await?;
    let (_leader, written) = writer.stop().await?;
    let journeys = crowd.finish(written).await?;
    breaker_stays_closed(&journeys)?;

    let mut byes: Vec<_> = journeys.iter().flat_map(|journey| &journey.byes).collect();
    byes.sort();
    ensure!(byes.len() == 40, "{} byes for the 40 clients of one edge", byes.len());
    ensure!(journeys.iter().all(|journey| journey.moves == journey.byes.len()), "{journeys:?}");
    // Spread: half of forty are far from the begin and from each other, whatever the dice say.
    let middle_half = byes[30].duration_since(*byes[10]);
    ensure!(middle_half > WINDOW / 8, "the middle half was sent within {middle_half:?}");
    let last = byes[39].duration_since(begin);
    ensure!(last < WINDOW + Duration::from_secs(4), "the last was sent after {last:?}");
    ensure!(other.metric("rowcast_edge_resyncs_total", "").await? == 0.0);
    Ok(())
}

#[tokio::test]
async fn all_edges_are_replaced_one_after_the_other_and_nothing_is_lost() -> Result<()> {
    let (mut stage, [first, second], crowd, writer) = under_load(10).await?;
    let third = stage.edge(&SETTINGS).await?;
    drain(&first, &crowd, &[&second.listen, &third.listen]).await?;
    let fourth = stage.edge(&SETTINGS).await?;
    drain(&second, &crowd, &[&third.listen, &fourth.listen]).await?;
    let (_leader, written) = writer.stop().await?;
    let journeys = crowd.finish(written).await?;
    breaker_stays_closed(&journeys)?;
    ensure!(journeys.iter().all(|journey| journey.moves > 0), "everybody has moved: {journeys:?}");
    Ok(())
}
