//! Somebody else writes into the Redis that an edge listens to. What forged records and heartbeats can do to those who
//! believe them is SECURITY.md's; here: nonsense stops nothing, and a record that does not fit the log reaches nobody.

mod support;

use anyhow::Result;
use redis::AsyncCommands;
use rowcast_bus::Keys;
use rowcast_protocol::record::event_fragment;
use rowcast_protocol::{EventId, Offset, Record, RecordKind, RoomName, StreamId};
use rowcast_sandbox::wait_for;
use serde_json::json;
use support::{Client, Edge, LIMIT, Leader, Stage, patient};

/// A client that has had one event of its room.
struct Scene {
    stage: Stage,
    edge: Edge,
    leader: Leader,
    client: Client,
}

impl Scene {
    async fn new() -> Result<Self> {
        let mut stage = Stage::new().await?;
        let edge = stage.edge(&[]).await?;
        let mut leader = stage.leader().await?;
        let (mut client, welcome) = edge.join(json!("shop"), json!({})).await?;
        client.live_from(&welcome).await?;
        goes_on(&mut leader, &mut client, 1).await?;
        Ok(Self { stage, edge, leader, client })
    }
}

/// The next event that is appended arrives, and nothing before it.
async fn goes_on(leader: &mut Leader, client: &mut Client, number: u64) -> Result<()> {
    leader.append("shop", "booking.created", json!({ "id": number })).await?;
    let event = client.next_of("event").await?;
    assert_eq!(event["data"], json!({ "id": number }), "{event}");
    Ok(())
}

fn forged(stream: StreamId, offset: Offset) -> Vec<u8> {
    let id = EventId { row: 1, occurred_at: 0 };
    let fragment = event_fragment(id, "booking.created", r#"{"forged":true}"#, None, false).into();
    let (kind, event_type) = (RecordKind::Event, "booking.created".to_owned());
    Record { kind, stream, offset, id, event_type, fragment }.encode()
}

#[tokio::test]
async fn nonsense_in_every_channel_stops_nothing() -> Result<()> {
    let Scene { stage, edge, mut leader, mut client } = Scene::new().await?;
    let keys = Keys::new("rowcast", "default");
    let mut stranger = patient(&stage.redis).await?;
    let valid = forged(StreamId::first(7), Offset(1));
    let nonsense: Vec<Vec<u8>> = vec![
        Vec::new(),
        vec![0],
        vec![0xff; 3],
        b"{}".to_vec(),
        b"[[[[[[[[[[".to_vec(),
        "[".repeat(100_000).into_bytes(),
        vec![1; 1024 * 1024],
        valid[..valid.len() / 2].to_vec(),
        br#"{"epoch":-1,"generation":"x","lag_ms":1e400}"#.to_vec(),
    ];
    for channel in [
        keys.events(&RoomName::parse("shop")?),
        keys.heartbeat(&rowcast_bus::BusConfig::new("redis://h", keys.clone()).only()),
    ] {
        for payload in &nonsense {
            let heard: u64 = stranger.publish(&channel, payload).await?;
            assert_eq!(heard, 1, "{channel}");
        }
    }
    wait_for("what cannot be read is counted", LIMIT, || async {
        let counted = edge.metric("rowcast_edge_unreadable_records_total", "").await?;
        anyhow::ensure!(counted >= 7.0, "{counted}");
        Ok(())
    })
    .await?;
    goes_on(&mut leader, &mut client, 2).await?;
    assert_eq!(edge.admin_page("/ready").await?.0, 200);
    Ok(())
}

#[tokio::test]
async fn a_record_that_does_not_stand_in_the_log_reaches_nobody() -> Result<()> {
    let Scene { stage, edge: _edge, mut leader, mut client } = Scene::new().await?;
    let room = RoomName::parse("shop")?;
    let keys = Keys::new("rowcast", "default");
    let mut stranger = patient(&stage.redis).await?;
    let stream: String = stranger.hget(keys.head(&room), "s").await?;
    let stream: StreamId = stream.parse()?;
    let other = StreamId::first(99);
    for number in 2..6 {
        // Each of them is once the first that the room hears while it is live.
        let mut forgeries = [(other, Offset(number)), (stream, Offset(number + 50)), (stream, Offset(0))];
        forgeries.rotate_left(number as usize % 3);
        for (stream, offset) in forgeries {
            let heard: u64 = stranger.publish(keys.events(&room), forged(stream, offset)).await?;
            assert_eq!(heard, 1);
        }
        goes_on(&mut leader, &mut client, number).await?;
    }
    Ok(())
}
