//! One leader at a time.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use anyhow::Result;
use rowcast_store::{Cleaner, Election, Ring, Session, SessionOptions, StoreError};

use crate::database::Database;

#[tokio::test]
async fn a_second_one_can_not_lead_until_the_first_has_left_and_hears_of_it() -> Result<()> {
    let db = Database::migrated("second").await?;
    let first = db.lead().await?;
    let Election::Standby(standby) = db.standby().await?.try_lead().await? else {
        panic!("two leaders");
    };
    let departure = standby.session().departure().clone();
    let first_epoch = first.epoch();
    first.unlock_and_announce().await?;
    tokio::time::timeout(Duration::from_secs(2), departure.notified()).await?;
    let Election::Elected(second) = standby.try_lead().await? else {
        panic!("the announcement came before the lock was free");
    };
    assert!(second.epoch() > first_epoch);
    Ok(())
}

#[tokio::test]
async fn the_lock_of_a_leader_that_stopped_is_free_within_four_seconds() -> Result<()> {
    let db = Database::migrated("stopped").await?;
    // Connected and silent, as a stopped process is: its kernel still answers.
    let mut stopped = db.lead().await?;
    let since = Instant::now();
    stopped.read(NonZeroUsize::new(10).unwrap(), true, Ring::Leave).await?;
    let mut standby = db.standby().await?;
    let epoch = loop {
        match standby.try_lead().await? {
            Election::Elected(lead) => break lead.epoch(),
            Election::Standby(again) => standby = again,
        }
        assert!(since.elapsed() < Duration::from_secs(4), "the lock is still held");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert!(since.elapsed() > Duration::from_secs(2), "a healthy leader must not lose it sooner");
    assert!(epoch > stopped.epoch());
    // Once it goes on, it finds out by the next read, and by the end of its connection.
    assert!(stopped.read(NonZeroUsize::new(10).unwrap(), true, Ring::Leave).await.is_err());
    assert!(matches!(stopped.session().ended().await, StoreError::Ended(_)));
    Ok(())
}

#[tokio::test]
async fn a_killed_session_is_noticed_without_asking() -> Result<()> {
    let db = Database::migrated("killed").await?;
    let lead = db.lead().await?;
    let ended = lead.session().ended();
    db.run(
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND database =
            (SELECT oid FROM pg_database WHERE datname = current_database()) AND objid = 1",
    )
    .await?;
    let reason = tokio::time::timeout(Duration::from_secs(5), ended).await?;
    assert!(matches!(reason, StoreError::Ended(_)), "{reason}");
    assert!(lead.session().has_ended());
    Ok(())
}

#[tokio::test]
async fn commits_ring_the_leader_and_many_rings_are_one() -> Result<()> {
    let db = Database::migrated("ringing").await?;
    let lead = db.lead().await?;
    lead.prove(Ring::For(3_000)).await?;
    for _ in 0..20 {
        db.run("SELECT rowcast.publish('a', 'a.b', '1')").await?;
    }
    let rung = async {
        let mut rings = 0;
        while rings < 20 {
            rings += lead.session().take_rings();
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), rung).await?;
    tokio::time::timeout(Duration::from_secs(5), lead.session().doorbell().notified()).await?;
    let again = tokio::time::timeout(Duration::from_millis(50), lead.session().doorbell().notified());
    assert!(again.await.is_err(), "one signal is left of them");
    Ok(())
}

#[tokio::test]
async fn an_address_without_a_server_is_an_error_in_time() {
    let url = "postgres://postgres@127.0.0.1:1/postgres";
    let since = Instant::now();
    let error = Cleaner::connect(url, &SessionOptions::new("test")).await.err().unwrap();
    assert_eq!(error.kind(), "connect");
    assert!(since.elapsed() < Duration::from_secs(4));
}

#[tokio::test]
async fn a_statement_that_its_session_does_not_know_any_more_is_laid_to_a_pooler() -> Result<()> {
    let db = Database::migrated("forgetful").await?;
    let session = Session::open(&db.url, &SessionOptions::new("test")).await?;
    let statement = session.client().prepare("SELECT 1").await?;
    session.client().batch_execute("DEALLOCATE ALL").await?;
    let error = StoreError::from(session.client().query_one(&statement, &[]).await.unwrap_err());
    assert_eq!(error.kind(), "pooler", "{error}");
    let other = StoreError::from(session.client().batch_execute("nonsense").await.unwrap_err());
    assert_eq!(other.kind(), "refused", "{other}");
    Ok(())
}

#[tokio::test]
async fn a_direct_address_is_never_taken_for_a_pooler() -> Result<()> {
    let db = Database::migrated("direct").await?;
    let candidates = (0..20).map(|_| db.standby());
    for standby in futures_util::future::join_all(candidates).await {
        standby?.close().await;
    }
    Ok(())
}
