//! Stock clients come back with `pid` and offset: to the same edge and to another, from memory and from the log, and where
//! history is gone.

use anyhow::{Result, ensure};
use rowcast_sandbox::wait_until;
use serde_json::{Value, json};

use crate::support::socketio::Io;
use crate::support::{LIMIT, Leader, Stage, token};

/// The numbers of the events that come until so many have.
async fn numbers(io: &mut Io, count: usize) -> Result<Vec<u64>> {
    let mut all = Vec::new();
    while all.len() < count {
        let event = io.event().await?;
        ensure!(event.name == "t", "{event:?}");
        all.push(event.payload["n"].as_u64().unwrap_or_default());
    }
    Ok(all)
}

async fn append(leader: &mut Leader, room: &str, numbers: std::ops::Range<u64>) -> Result<()> {
    let all = numbers.map(|n| json!({ "n": n })).collect();
    leader.append_all(room, "t", all).await.map(drop)
}

#[tokio::test]
async fn a_client_is_recovered_from_memory_from_the_log_and_by_another_edge() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let edge = stage.edge(&[("EDGE__RECENT_EVENTS", "8")]).await?;
    let other = stage.edge(&[]).await?;
    let token = token(json!("m1"));
    let mut io = Io::join(&edge, json!("m1")).await?;
    append(&mut leader, "m1", 0..1).await?;
    assert_eq!(numbers(&mut io, 1).await?, [0]);
    append(&mut leader, "m1", 1..5).await?;
    let expected: Vec<u64> = (1..5).collect();
    let (mut back, recovered) = io.back(&edge, &token).await?;
    assert_eq!((recovered, numbers(&mut back, 4).await?), (true, expected));
    assert_eq!(edge.metric("rowcast_edge_joins_total", "memory").await?, 1.0);
    append(&mut leader, "m1", 5..700).await?;
    for edge in [&edge, &other] {
        let (mut back, recovered) = io.back(edge, &token).await?;
        assert_eq!((recovered, numbers(&mut back, 699).await?), (true, (1..700).collect()));
    }
    assert!(edge.metric("rowcast_edge_joins_total", "log").await? >= 1.0);
    // Nothing was missed by who has it all.
    let (mut back, _) = io.back(&edge, &token).await?;
    numbers(&mut back, 699).await?;
    let (mut again, recovered) = back.back(&other, &token).await?;
    assert_eq!((recovered, again.so_far().await?), (true, vec![]));
    Ok(())
}

#[tokio::test]
async fn a_client_whose_history_is_gone_is_not_recovered_and_fetches_anew() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = Leader::keeping(&stage.redis.url(), 1, 1, 16).await?;
    let edge = stage.edge(&[("EDGE__RECENT_EVENTS", "4")]).await?;
    let token = token(json!("m1"));
    let mut io = Io::join(&edge, json!("m1")).await?;
    append(&mut leader, "m1", 0..1).await?;
    numbers(&mut io, 1).await?;
    // The log is cut roughly: far more than it holds.
    append(&mut leader, "m1", 1..1_000).await?;
    let last = wait_until("the edge has them all", LIMIT, || async {
        let joined = Io::join(&edge, json!("m1")).await;
        joined.is_ok_and(|io| io.offset.is_some_and(|offset| offset.ends_with(":1000")))
    });
    last.await?;
    let (mut back, recovered) = io.back(&edge, &token).await?;
    assert!(!recovered);
    let resync = back.event().await?;
    assert_eq!((&*resync.name, &resync.payload["room"]), ("resync", &json!("m1")));
    assert!(resync.payload["reason"] != "start", "it had been there: {resync:?}");
    assert!(resync.offset.is_some_and(|offset| offset.ends_with(":1000")));
    append(&mut leader, "m1", 1_000..1_001).await?;
    assert_eq!(numbers(&mut back, 1).await?, [1_000]);
    Ok(())
}

#[tokio::test]
async fn nonsense_as_pid_or_offset_begins_anew_and_an_offset_without_a_pid_counts() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let edge = stage.edge(&[]).await?;
    let mut io = Io::join(&edge, json!("m1")).await?;
    append(&mut leader, "m1", 0..2).await?;
    numbers(&mut io, 1).await?;
    let (pid, offset) = (io.pid.clone().expect("one"), io.offset.clone().expect("one"));
    let start = |auth: Value| {
        let edge = &edge;
        async move {
            let mut io = Io::open(edge).await?;
            let mut whole = auth.clone();
            whole["token"] = token(json!("m1")).into();
            io.connect(whole).await?;
            let recovered = io.pid.as_deref() == auth["pid"].as_str();
            anyhow::Ok((recovered, io.event().await?.name))
        }
    };
    let resync = |recovered| (recovered, "resync".to_owned());
    assert_eq!(start(json!({ "pid": pid, "offset": offset })).await?, (true, "t".to_owned()));
    assert_eq!(start(json!({ "offset": offset })).await?, (false, "t".to_owned()));
    assert_eq!(start(json!({ "pid": pid })).await?, resync(false));
    for offset in
        [json!("nonsense"), json!("m1=nonsense"), json!("m1=9.ffffffffffffffff:1"), json!(7), json!("")]
    {
        assert_eq!(start(json!({ "pid": pid, "offset": offset })).await?, resync(false), "{offset}");
    }
    // Another server's names, and what is none: it goes on from the offset, and is not called recovered.
    for pid in [json!("a\"b"), json!("\u{0}"), json!("x".repeat(65)), json!(7)] {
        assert_eq!(start(json!({ "pid": pid, "offset": offset })).await?, (false, "t".to_owned()), "{pid}");
    }
    Ok(())
}

#[tokio::test]
async fn a_client_of_several_rooms_is_recovered_in_all_of_them_or_told_of_which_it_is_not() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let edge = stage.edge(&[]).await?;
    let both = json!(["m1", "m 2&="]);
    let mut io = Io::join(&edge, both.clone()).await?;
    append(&mut leader, "m1", 0..1).await?;
    numbers(&mut io, 1).await?;
    append(&mut leader, "m 2&=", 0..1).await?;
    numbers(&mut io, 1).await?;
    append(&mut leader, "m1", 1..3).await?;
    append(&mut leader, "m 2&=", 1..3).await?;
    let (mut back, recovered) = io.back(&edge, &token(both)).await?;
    assert!(recovered);
    let mut missed = numbers(&mut back, 4).await?;
    missed.sort_unstable();
    assert_eq!(missed, [1, 1, 2, 2]);
    // A token that names one more: that one begins, the others go on.
    let three = token(json!(["m1", "m 2&=", "m3"]));
    let (mut back, recovered) = back.back(&edge, &three).await?;
    assert!(!recovered);
    let resync = back.event().await?;
    assert_eq!((&resync.payload["room"], &resync.payload["reason"]), (&json!("m3"), &json!("start")));
    assert_eq!(back.so_far().await?, []);
    // One that names one less: recovered in what is left.
    let (mut back, recovered) = back.back(&edge, &token(json!("m1"))).await?;
    assert!(recovered);
    append(&mut leader, "m1", 3..4).await?;
    assert_eq!(numbers(&mut back, 1).await?, [3]);
    assert!(back.offset.as_deref().is_some_and(|offset| !offset.contains("m3")), "{:?}", back.offset);
    Ok(())
}

#[tokio::test]
async fn a_break_between_connected_and_resync_hides_nothing() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let edge = stage.edge(&[]).await?;
    let token = token(json!(["m1", "m2", "m3"]));
    // Broken off after so many events, from `connected` on.
    for heard in 0..3 {
        let mut io = Io::open(&edge).await?;
        io.connect(json!({ "token": token })).await?;
        for _ in 0..heard {
            assert_eq!(io.event().await?.name, "resync");
        }
        leader.append("m3", "t", json!({ "n": heard })).await?;
        let (mut back, recovered) = io.back(&edge, &token).await?;
        assert!(!recovered);
        let mut told = Vec::new();
        for _ in heard..3 {
            let resync = back.event().await?;
            assert_eq!((&*resync.name, &resync.payload["reason"]), ("resync", &json!("start")));
            told.push(resync.payload["room"].clone());
        }
        assert_eq!(told, [json!("m1"), json!("m2"), json!("m3")][heard..]);
    }
    Ok(())
}
