//! What a leader does about tables that are not any more what was watched.
#![allow(clippy::unwrap_used)]

mod common;

use anyhow::Result;
use common::System;

#[tokio::test]
async fn new_partitions_get_their_triggers_and_a_disabled_trigger_turns_the_light() -> Result<()> {
    let system = System::start().await?;
    system
        .database
        .batch_execute(
            "CREATE TABLE part (id int, m text, d int, PRIMARY KEY (id, d)) PARTITION BY RANGE (d);
             CREATE TABLE t (id int PRIMARY KEY, m text);
             SELECT rowcast.watch('part', 'm'); SELECT rowcast.watch('t', 'm');
             CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (10);
             ALTER TABLE t DISABLE TRIGGER rowcast_update",
        )
        .await?;
    let _listener = system.listener("one").await?;
    let beat = system.expect_heartbeat("an impaired heartbeat", |beat| beat.impaired.is_some()).await?;
    assert_eq!(beat.impaired.as_deref(), Some("public.t: the trigger for update is disabled"));
    let row = system.database.query_one("SELECT count(*) FROM rowcast.drift()", &[]).await?;
    assert_eq!(row.get::<_, i64>(0), 1, "the partition was mended");
    let generation = system.database.query_one("SELECT generation FROM rowcast.state", &[]).await?;
    assert_eq!(generation.get::<_, i64>(0), 1, "and cost no resync");
    Ok(())
}
