//! Connections that are held: slow, half-open, and readers who do not read.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;

use crate::siege::{A_WHILE, Siege};
use crate::support::{Leader, token};

/// Longer than a head may take.
const LONGER_THAN_A_HEAD: Duration = Duration::from_secs(7);

#[tokio::test]
async fn a_thousand_connections_that_say_nothing_or_half_cost_little_and_end() -> Result<()> {
    let siege = Siege::begin(&[]).await?;
    let (silent, half) = tokio::join!(
        siege.bear("half-open", LONGER_THAN_A_HEAD),
        siege.bear("half-a-head", LONGER_THAN_A_HEAD)
    );
    for counts in [silent?, half?] {
        ensure!(counts.rounds >= 1_000 && counts.all(&["408", "open"]), "{counts:?}");
        ensure!(counts.outcomes.contains_key("408"), "none has ended: {counts:?}");
    }
    // A connection has two buffers of 8 KiB, and 2,000 of them are here.
    siege.end_within(48 * 1024).await
}

#[tokio::test]
async fn heads_that_come_a_byte_a_second_end() -> Result<()> {
    let siege = Siege::begin(&[]).await?;
    let counts = siege.bear("slow-head", LONGER_THAN_A_HEAD).await?;
    ensure!(counts.all(&["408", "open"]) && counts.outcomes.contains_key("408"), "{counts:?}");
    siege.end().await
}

#[tokio::test]
async fn large_heads_without_an_end_are_not_kept() -> Result<()> {
    let siege = Siege::begin(&[]).await?;
    let counts = siege.bear("large-half-heads", 6 * A_WHILE).await?;
    ensure!(counts.all(&["431", "open"]) && counts.outcomes.contains_key("431"), "{counts:?}");
    // 200 connections at a time, each of which sends 120 KB.
    siege.end_within(12 * 1024).await
}

#[tokio::test]
async fn whoever_does_not_sign_in_is_closed_however_lively() -> Result<()> {
    let siege = Siege::begin(&[("EDGE__SIGN_IN_TIMEOUT", "1s")]).await?;
    let counts = siege.bear("no-sign-in", 3 * A_WHILE).await?;
    ensure!(counts.all(&["close 4408", "open"]) && counts.outcomes.contains_key("close 4408"), "{counts:?}");
    siege.end().await
}

#[tokio::test]
async fn whoever_is_told_of_its_close_and_goes_on_sending_is_cut() -> Result<()> {
    let siege = Siege::begin(&[]).await?;
    let counts = siege.bear("no-goodbye", LONGER_THAN_A_HEAD).await?;
    ensure!(counts.all(&["ended", "open"]) && counts.outcomes.contains_key("ended"), "{counts:?}");
    siege.end().await
}

/// Fifty readers that read nothing of 12 MiB.
async fn read_nothing(attack: &str) -> Result<()> {
    let settings = [("EDGE__STALLED_TIMEOUT", "10m"), ("EDGE__QUEUE_SIZE", "128KiB")];
    let mut siege = Siege::begin(&settings).await?;
    let mut leader = Leader::start(&siege.redis_url(), 1, 1).await?;
    siege.target.token = token(json!("flooded"));
    let filling = "x".repeat(60_000);
    let (counts, written) = tokio::join!(siege.bear(attack, 3 * A_WHILE), async {
        for n in 0..200 {
            leader.append("flooded", "t", json!({ "n": n, "filling": filling })).await?;
        }
        anyhow::Ok(())
    });
    written?;
    ensure!(counts?.all(&["open"]), "they are still there");
    // For each its queue, and what the way out of it holds.
    siege.end_within(32 * 1024).await
}

#[tokio::test]
async fn readers_who_do_not_read_share_what_waits_for_them() -> Result<()> {
    read_nothing("slow-reader").await
}

#[tokio::test]
async fn streams_that_nobody_reads_have_a_bounded_buffer_each() -> Result<()> {
    read_nothing("slow-stream").await
}
