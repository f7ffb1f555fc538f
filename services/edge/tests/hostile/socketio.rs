//! Clients of Socket.IO that are none.

use anyhow::{Context, Result, ensure};

use crate::siege::{A_WHILE, Siege, answered};
use crate::support::LIMIT;

#[tokio::test]
async fn packets_that_are_none_close_their_socket() -> Result<()> {
    answered(&["socketio-packets"], &["close 4400"]).await
}

#[tokio::test]
async fn binary_closes_its_socket() -> Result<()> {
    answered(&["socketio-binary"], &["close 4400"]).await
}

#[tokio::test]
async fn who_asks_to_be_let_in_again_and_again_is_closed() -> Result<()> {
    answered(&["socketio-refusals"], &["close 4429"]).await?;
    // Whatever else of a socket is not limited.
    let settings = [("EDGE__MESSAGE_RATE", "0"), ("EDGE__INBOUND_RATE", "0B")];
    let siege = Siege::begin(&settings).await?;
    let churn = rowcast_attacks::named("socketio-churn").context("the attack is there")?;
    let outcome = churn.once(&siege.target, 0, LIMIT).await;
    ensure!(outcome == "close 4429", "{outcome}");
    let counts = siege.bear("socketio-churn", A_WHILE).await?;
    ensure!(counts.all(&["close 4429", "open"]), "{counts:?}");
    siege.end().await
}

#[tokio::test]
async fn offsets_that_nobody_gave_out_lead_to_a_resync_and_no_further() -> Result<()> {
    answered(&["socketio-offsets"], &["42"]).await
}

#[tokio::test]
async fn floods_of_what_is_to_be_acknowledged_end_their_socket() -> Result<()> {
    answered(&["socketio-emit-flood"], &["close 4429"]).await?;
    // Where nothing is limited, as much is read as is answered.
    let siege = Siege::begin(&[("EDGE__MESSAGE_RATE", "0"), ("EDGE__INBOUND_RATE", "0B")]).await?;
    siege.bear("socketio-deaf-flood", A_WHILE).await?;
    siege.end().await
}
