//! Much at once: a large statement beside other rooms, and what was committed while nobody listened.

mod common;

use std::collections::HashMap;
use std::time::Instant;

use anyhow::{Context, Result};
use common::{PATIENCE, System};
use futures_util::StreamExt;
use rowcast_protocol::Record;
use rowcast_sandbox::wait_until;
use tokio::time::timeout;

/// Everything that is published in some rooms, in the order in which Redis publishes it.
struct Ear(redis::aio::PubSubStream);

impl Ear {
    async fn open(system: &System, rooms: &[&str]) -> Result<Self> {
        // A test that is slower than the listener must not be cut off.
        let mut redis = system.redis.connection().await?;
        let unlimited = ["SET", "client-output-buffer-limit", "pubsub 0 0 0"];
        let () = redis::cmd("CONFIG").arg(&unlimited).query_async(&mut redis).await?;
        let client = redis::Client::open(system.redis.url())?;
        let (mut sink, stream) = client.get_async_pubsub().await?.split();
        for room in rooms {
            sink.subscribe(format!("rowcast:default:{{{room}}}:events")).await?;
        }
        Ok(Self(stream))
    }

    /// The next event's room and number.
    async fn next(&mut self) -> Result<(String, u64)> {
        let message = timeout(PATIENCE, self.0.next()).await?.context("the subscription has ended")?;
        let room =
            message.get_channel_name().split(['{', '}']).nth(1).context("a room's channel")?.to_owned();
        let record = Record::decode(&message.get_payload_bytes().to_vec().into())?;
        Ok((room, common::number_of(&record.fragment)?))
    }
}

/// One statement.
fn fill(room: &str, rows: u64) -> String {
    format!(
        "INSERT INTO rowcast.outbox (room, type, data)
         SELECT '{room}', 'x', json_build_object('n', n) FROM generate_series(0, {rows} - 1) AS n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_large_statement_drains_other_rooms_wait_for_a_part_of_it_only() -> Result<()> {
    const LARGE: u64 = 100_000;
    const OTHERS: u64 = 20;
    let system = System::start().await?;
    let listener = system.listener("only").await?;
    listener.expect_leading().await?;
    system.publish("other", 0..1).await?;
    system.expect("other", 1).await?;
    let mut ear = Ear::open(&system, &["large", "other"]).await?;
    system.database.batch_execute(&fill("large", LARGE)).await?;
    // One by one, so that each is committed when its forerunner has come through.
    system.publish("other", 1..2).await?;
    let (mut large, mut other, mut waited) = (0, 1, 0);
    while large < LARGE || other <= OTHERS {
        let (room, number) = ear.next().await?;
        if room == "large" {
            assert_eq!(number, large, "each event of the large statement once and in order");
            large += 1;
            continue;
        }
        assert_eq!(number, other, "each event of the other room once and in order");
        assert!(
            large - waited <= LARGE / 4,
            "{} rows of the large statement went before one",
            large - waited
        );
        waited = large;
        other += 1;
        if other <= OTHERS {
            system.publish("other", other..other + 1).await?;
        }
    }
    assert!(waited < LARGE, "the last of the others came before the last of the large statement");
    system.expect_query("SELECT count(*) FROM rowcast.outbox", 0).await?;
    let apart = || async { matches!(listener.metric("rowcast_listener_rooms_apart").await, Ok(0.0)) };
    wait_until("all rooms are read together again", PATIENCE, apart).await?;
    system.publish("large", LARGE..LARGE + 1).await?;
    assert_eq!(ear.next().await?, ("large".to_owned(), LARGE));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "half a million rows: make test-long"]
async fn what_was_committed_while_nobody_listened_is_drained_once_and_in_order() -> Result<()> {
    const ROOMS: u64 = 100;
    const ROWS: u64 = 500_000;
    let system = System::start().await?;
    let names: Vec<String> = (0..ROOMS).map(|room| format!("room-{room}")).collect();
    let mut ear = Ear::open(&system, &names.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    // A thousand transactions, each of all rooms.
    let commit = "DO $$ BEGIN FOR i IN 0..999 LOOP
            INSERT INTO rowcast.outbox (room, type, data)
            SELECT 'room-' || n % 100, 'booking.updated', json_build_object('n', (i * 500 + n) / 100, 'note', repeat('x', 100))
              FROM generate_series(0, 499) AS n;
            COMMIT;
        END LOOP; END $$";
    system.database.batch_execute(commit).await?;
    let began = Instant::now();
    let listener = system.listener("only").await?;
    let mut next: HashMap<String, u64> = HashMap::new();
    for _ in 0..ROWS {
        let (room, number) = ear.next().await?;
        let next = next.entry(room).or_default();
        assert_eq!(number, *next, "each event once and in order");
        *next += 1;
    }
    let rate = ROWS as f64 / began.elapsed().as_secs_f64();
    eprintln!("{rate:.0} rows a second, the start of the listener included");
    assert!(next.len() as u64 == ROOMS && next.values().all(|count| *count == ROWS / ROOMS));
    system.expect_query("SELECT count(*) FROM rowcast.outbox", 0).await?;
    assert_eq!(listener.metric("rowcast_listener_events_published_total").await?, ROWS as f64);
    assert_eq!(listener.metric("rowcast_listener_take_overs_total").await?, 1.0, "the lead was kept");
    Ok(())
}
