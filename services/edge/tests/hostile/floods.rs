//! What is allowed, as often as it can be sent.

use anyhow::{Result, ensure};

use crate::siege::{A_WHILE, Siege};

/// Attacks beside which the others get every event; limits may end them, and nothing else.
async fn borne(attacks: &[&str]) -> Result<()> {
    let siege = Siege::begin(&[]).await?;
    for attack in attacks {
        let counts = siege.bear(attack, A_WHILE).await?;
        ensure!(counts.all(&["open", "left", "ended", "close 4429"]), "{attack}: {counts:?}");
    }
    siege.end().await
}

#[tokio::test]
async fn floods_of_pings_and_pongs_disturb_nobody() -> Result<()> {
    borne(&["ping-flood", "pong-flood"]).await
}

#[tokio::test]
async fn pongs_that_nobody_reads_are_bounded() -> Result<()> {
    borne(&["deaf-ping-flood"]).await
}

#[tokio::test]
async fn floods_of_messages_disturb_nobody() -> Result<()> {
    borne(&["message-flood", "large-message-flood"]).await
}

#[tokio::test]
async fn floods_of_refreshes_disturb_nobody() -> Result<()> {
    borne(&["refresh-flood"]).await
}

#[tokio::test]
async fn storms_of_connections_handshakes_and_sign_ins_disturb_nobody() -> Result<()> {
    borne(&["connection-storm", "handshake-storm", "sign-in-storm"]).await
}
