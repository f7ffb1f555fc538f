//! Tokens that are revoked, with real edges before a real Redis and a leader that the test plays: who goes, on each way in,
//! who does not get in, and what an edge knows after what befalls it and Redis. From PostgreSQL on, the command line's tests
//! go the whole way.

mod support;

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use rowcast_protocol::{Micros, Sheet};
use rowcast_sandbox::{Link, Proxy, wait_for};
use serde_json::{Value, json};
use support::http::Exchange;
use support::{Client, Edge, LIMIT, Leader, SECRET, Stage, heartbeat, sign};

/// A token of a subject, for room m1, that was issued long ago.
fn token_of(subject: &str) -> String {
    token(json!({ "sub": subject }))
}

fn token(more: Value) -> String {
    let now = Micros::from_system_time(SystemTime::now()).0 / 1_000_000;
    let mut claims = json!({ "sub": "user", "merchantId": "m1", "iat": now - 100, "exp": now + 3_600 });
    for (name, value) in more.as_object().expect("claims") {
        claims[name] = value.clone();
    }
    // What is null here is left out.
    claims.as_object_mut().expect("claims").retain(|_, value| !value.is_null());
    sign(&claims, SECRET)
}

/// A sheet that revokes all tokens of these subjects.
fn subjects(names: &[&str]) -> Value {
    let each = names.iter().map(|name| ((*name).to_owned(), Value::Null));
    json!({ "subject": each.collect::<serde_json::Map<_, _>>() })
}

impl Edge {
    /// Waits until revocations of a version are in force here.
    async fn expect_revocations(&self, version: u64) -> Result<()> {
        wait_for(format!("version {version} in force"), LIMIT, || async {
            let held = self.metric("rowcast_edge_revocations_version", "").await?;
            ensure!(held == version as f64, "it is {held}");
            anyhow::Ok(())
        })
        .await
    }

    async fn expect_generation(&self, generation: u64) -> Result<()> {
        wait_for(format!("generation {generation}"), LIMIT, || async {
            let heard = self.metric("rowcast_edge_generation", "").await?;
            ensure!(heard == generation as f64, "it is {heard}");
            anyhow::Ok(())
        })
        .await
    }

    async fn socket(&self, token: &str) -> Result<Client> {
        let mut client = self.sign_in(json!({ "op": "auth", "token": token })).await?;
        let welcome = client.next().await?;
        ensure!(welcome["op"] == "welcome", "{welcome}");
        client.live_from(&welcome).await?;
        Ok(client)
    }

    /// Checks each way in.
    async fn lets_in(&self, token: &str) -> Result<()> {
        self.socket(token).await.context("a socket")?;
        let mut stream = self.stream(token, &[], "").await.context("a stream")?;
        ensure!(stream.next().await?.context("a welcome")?.frame["op"] == "welcome");
        self.page(token, &[]).await.context("a page")?;
        Ok(())
    }

    /// Checks each way in.
    async fn refuses(&self, token: &str) -> Result<()> {
        let mut client = self.sign_in(json!({ "op": "auth", "token": token })).await?;
        is_revoked(&mut client).await.context("a socket")?;
        // Another of the edge's workers may hear of it a moment later.
        for accept in ["text/event-stream", "application/json"] {
            wait_for(format!("{accept} to be refused"), LIMIT, || async {
                let answer = self.ask(token, &[], &[("accept", accept)]).await?.answer().await?;
                ensure!(answer.status == 401, "{answer:?}");
                ensure!(answer.refusal()? == (401, "token".to_owned()), "{answer:?}");
                ensure!(answer.json()?["message"] == "the token was revoked", "{answer:?}");
                anyhow::Ok(())
            })
            .await?;
        }
        Ok(())
    }
}

/// Checks that the next thing is the close.
async fn is_revoked(client: &mut Client) -> Result<()> {
    let (code, reason) = client.closed().await?;
    ensure!((code, reason.as_str()) == (4401, "the token was revoked"), "{code} {reason}");
    Ok(())
}

#[tokio::test]
async fn every_way_in_is_closed_at_once_and_stays_so_until_it_is_lifted() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    leader.revoke(json!({})).await?;
    let edge = stage.edge(&[]).await?;
    let (ana, ben) = (token_of("ana"), token_of("ben"));
    let mut others = edge.socket(&ben).await?;
    let cursor = edge.page(&ana, &[]).await?["cursor"].as_str().context("a cursor")?.to_owned();
    for turn in 1..=3 {
        let mut socket = edge.socket(&ana).await?;
        let mut stream = edge.stream(&ana, &[], "").await?;
        ensure!(stream.next().await?.context("a welcome")?.frame["op"] == "welcome");
        let waiting: Exchange = edge.ask(&ana, &[("after", &cursor), ("wait", "20")], &[]).await?;
        wait_for("the page to wait", LIMIT, || async {
            let pages = edge.metric("rowcast_edge_connections", "page").await?;
            ensure!(pages == 1.0, "{pages}");
            anyhow::Ok(())
        })
        .await?;

        let begin = Instant::now();
        let version = leader.revoke(subjects(&["ana"])).await?;
        is_revoked(&mut socket).await?;
        let socket_gone = begin.elapsed();
        let bye = stream.next_of("bye").await?.frame;
        ensure!(bye["code"] == 4401, "{bye}");
        ensure!(stream.next().await?.is_none(), "the stream has ended");
        let stream_gone = begin.elapsed();
        let answer = waiting.answer().await?;
        println!("gone: socket {socket_gone:?}, stream {stream_gone:?}, page {:?}", begin.elapsed());
        ensure!(answer.refusal()? == (401, "token".to_owned()), "{answer:?}");
        // The page would have waited for 20 s, and a heartbeat comes every 200 ms here.
        ensure!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());

        edge.expect_revocations(version).await?;
        edge.refuses(&ana).await?;
        for transport in ["websocket", "sse", "page"] {
            let counted = edge.metric("rowcast_edge_revoked_total", transport).await?;
            ensure!(counted == f64::from(turn), "{transport}: {counted}");
        }
        ensure!(edge.metric("rowcast_edge_revocations", "").await? == 1.0);
        ensure!(edge.metric("rowcast_edge_sign_ins_total", "revoked").await? >= 3.0 * f64::from(turn));
        let version = leader.revoke(json!({})).await?;
        edge.expect_revocations(version).await?;
        edge.lets_in(&ana).await?;
    }
    ensure!(others.so_far().await?.is_empty(), "whose token counts notices nothing");
    Ok(())
}

#[tokio::test]
async fn by_token_id_and_by_room_too_and_only_tokens_that_were_issued_before() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    leader.revoke(json!({})).await?;
    let edge = stage.edge(&[]).await?;
    // In the middle of a second that has passed.
    let seconds = Micros::from_system_time(SystemTime::now()).0 / 1_000_000 - 50;
    let now = seconds * 1_000_000 + 500_000;
    for (sheet, hit, spared) in [
        (json!({ "token_id": { "t1": null } }), json!({ "jti": "t1" }), json!({ "jti": "t2" })),
        (
            json!({ "room": { "m2": now } }),
            json!({ "merchantId": ["m1", "m2"] }),
            json!({ "iat": seconds + 1, "merchantId": "m2" }),
        ),
        (json!({ "subject": { "user": now } }), json!({ "iat": seconds }), json!({ "iat": seconds + 1 })),
        (json!({ "subject": { "user": now } }), json!({ "iat": null }), json!({ "sub": null })),
    ] {
        let (hit, spared) = (token(hit), token(spared));
        let mut gone = edge.socket(&hit).await?;
        let mut stays = edge.socket(&spared).await?;
        let version = leader.revoke(sheet.clone()).await?;
        is_revoked(&mut gone).await.with_context(|| format!("{sheet}"))?;
        edge.refuses(&hit).await?;
        edge.lets_in(&spared).await?;
        ensure!(stays.so_far().await?.is_empty(), "{sheet}");
        edge.expect_revocations(version).await?;
        let version = leader.revoke(json!({})).await?;
        edge.expect_revocations(version).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_new_edge_and_a_restarted_one_let_nobody_in_before_they_know_the_revocations() -> Result<()> {
    let mut stage = Stage::new().await?;
    // A leader that has been heard, and has not mirrored what it tells of.
    let mut leader = stage.leader().await?;
    leader.say(rowcast_protocol::Heartbeat { revocations: 1, ..heartbeat(1, 1) });
    let edge = stage.edge(&[]).await?;
    let (ana, ben) = (token_of("ana"), token_of("ben"));
    let mut waiting = edge.sign_in(json!({ "op": "auth", "token": ana })).await?;
    let mut other = edge.sign_in(json!({ "op": "auth", "token": ben })).await?;
    edge.expect_generation(1).await?;
    let (status, why) = edge.admin_page("/ready").await?;
    ensure!(status == 503 && why.contains("revocations"), "{status} {why}");
    wait_for("a look for the revocations", LIMIT, || async {
        ensure!(edge.metric("rowcast_edge_redis_reads_total", "revocations").await? >= 2.0, "not yet");
        anyhow::Ok(())
    })
    .await?;
    let early = tokio::time::timeout(Duration::from_millis(300), other.next()).await;
    ensure!(early.is_err(), "before the revocations are known came {early:?}");
    leader.revoke(subjects(&["ana"])).await?;
    is_revoked(&mut waiting).await?;
    ensure!(other.next().await?["op"] == "welcome");
    ensure!(edge.admin_page("/ready").await?.0 == 200);

    drop(edge);
    stage.edge(&[]).await?.refuses(&ana).await.context("restarted")?;
    // The last leader has gone: what it left in Redis counts.
    drop(leader);
    stage.edge(&[]).await?.refuses(&ana).await.context("started while nobody leads")
}

#[tokio::test]
async fn a_flushed_redis_or_an_old_leader_lets_nobody_in_again() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let edge = stage.edge(&[]).await?;
    let ana = token_of("ana");
    let version = leader.revoke(subjects(&["ana"])).await?;
    edge.expect_revocations(version).await?;
    // A take-over: the old leader goes on for a while, and does not know.
    let mut next = Leader::start(&stage.redis.url(), 2, 1).await?;
    next.know(Sheet::Revocations, 2);
    let version = next.revoke(subjects(&["ana", "ben"])).await?;
    edge.expect_revocations(version).await?;
    ensure!(leader.revoke(json!({})).await.is_err(), "the old leader is refused");
    edge.refuses(&ana).await?;

    stage.redis.flush().await?;
    edge.refuses(&ana).await.context("flushed, and nothing heard yet")?;
    let mut last = Leader::start(&stage.redis.url(), 3, 2).await?;
    last.know(Sheet::Revocations, version);
    last.revoke(subjects(&["ana", "ben"])).await?;
    edge.expect_generation(2).await?;
    edge.refuses(&ana).await?;
    stage.edge(&[]).await?.refuses(&ana).await.context("a new edge knows too")?;
    let version = last.revoke(json!({})).await?;
    edge.expect_revocations(version).await?;
    edge.lets_in(&ana).await
}

#[tokio::test]
async fn a_database_that_was_restored_says_what_is_revoked_from_then_on() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    leader.revoke(json!({})).await?;
    leader.revoke(json!({})).await?;
    let version = leader.revoke(subjects(&["ana"])).await?;
    let edge = stage.edge(&[]).await?;
    edge.expect_revocations(version).await?;
    edge.refuses(&token_of("ana")).await?;
    // Restored to before the revocation: a lower version of a higher generation.
    drop(leader);
    let mut restored = Leader::start(&stage.redis.url(), 2, 2).await?;
    restored.know(Sheet::Revocations, 2);
    restored.revoke(subjects(&["ben"])).await?;
    edge.expect_revocations(2).await?;
    edge.refuses(&token_of("ben")).await?;
    edge.lets_in(&token_of("ana")).await
}

#[tokio::test]
async fn an_edge_that_was_cut_off_from_redis_delivers_nothing_to_whoever_was_revoked_meanwhile() -> Result<()>
{
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    leader.revoke(json!({})).await?;
    let link = Proxy::start(format!("127.0.0.1:{}", stage.redis.port()))?;
    let url = format!("redis://{}", link.address());
    let edge = stage.edge(&[("REDIS__URL", &url)]).await?;
    let (ana, ben) = (token_of("ana"), token_of("ben"));
    let mut revoked = edge.socket(&ana).await?;
    let mut other = edge.socket(&ben).await?;
    link.set(Link::Refused);
    for client in [&mut revoked, &mut other] {
        ensure!(!client.light().await?.0, "cut off");
    }
    let mut late = edge.sign_in(json!({ "op": "auth", "token": ana })).await?;
    leader.revoke(subjects(&["ana"])).await?;
    leader.append("m1", "t", json!("secret")).await?;
    ensure!(revoked.so_far().await?.is_empty(), "what is not known changes nothing");
    let early = tokio::time::timeout(Duration::from_millis(300), late.next()).await;
    ensure!(early.is_err(), "nobody is let in meanwhile: {early:?}");
    link.set(Link::Through);
    ensure!(other.next_of("event").await?["data"] == "secret");
    for (mut client, who) in [(revoked, "open"), (late, "waiting")] {
        let came = client.next().await;
        let error = format!("{:#}", came.err().with_context(|| format!("{who}: it was given something"))?);
        ensure!(error.contains("the token was revoked"), "{who}: {error}");
    }
    Ok(())
}

#[tokio::test]
async fn with_a_leader_of_an_earlier_version_nobody_waits_and_what_is_known_stays_in_force() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let edge = stage.edge(&[]).await?;
    edge.lets_in(&token_of("ana")).await.context("nothing is known of revocations")?;
    let version = leader.revoke(subjects(&["ana"])).await?;
    edge.expect_revocations(version).await?;
    leader.say(heartbeat(1, 2));
    edge.expect_generation(2).await?;
    edge.refuses(&token_of("ana")).await?;
    stage.edge(&[]).await?.refuses(&token_of("ana")).await.context("a new edge")
}

#[tokio::test]
async fn a_sheet_that_cannot_be_read_leaves_the_last_one_in_force() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let edge = stage.edge(&[]).await?;
    let version = leader.revoke(subjects(&["ana"])).await?;
    edge.expect_revocations(version).await?;
    leader.revoke(json!({ "subject": "all" })).await?;
    wait_for("the fault to be seen", LIMIT, || async {
        ensure!(edge.metric("rowcast_edge_unreadable_records_total", "").await? >= 1.0, "not yet");
        anyhow::Ok(())
    })
    .await?;
    edge.refuses(&token_of("ana")).await?;
    edge.lets_in(&token_of("ben")).await?;
    leader.revoke(subjects(&["ben"])).await?;
    edge.expect_revocations(version + 2).await?;
    edge.refuses(&token_of("ben")).await
}

#[tokio::test]
async fn clients_that_come_and_go_while_tokens_are_revoked_never_stay_with_a_revoked_one() -> Result<()> {
    const SUBJECTS: usize = 8;
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    leader.revoke(json!({})).await?;
    let edge = stage.edge(&[]).await?;
    let names: Vec<String> = (0..SUBJECTS).map(|n| format!("s{n}")).collect();
    let mut tasks = tokio::task::JoinSet::new();
    for name in names.iter().cycle().take(SUBJECTS * 4) {
        let token = token_of(name);
        let address = edge.listen.clone();
        // Signs in again and again until it is refused, as a client does that does not heed its close.
        tasks.spawn(async move {
            loop {
                let (mut client, _) = Client::handshake(&address, "/ws", &[]).await?;
                client.send(json!({ "op": "auth", "token": token })).await?;
                match client.next().await {
                    Ok(_) => {}
                    Err(error) if format!("{error:#}").contains("was revoked") => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
        });
    }
    for revoked in 1..=SUBJECTS {
        let names: Vec<&str> = names[..revoked].iter().map(String::as_str).collect();
        leader.revoke(subjects(&names)).await?;
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    edge.expect_revocations(1 + SUBJECTS as u64).await?;
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    wait_for("nobody to be left", LIMIT, || async {
        let open = edge.metric("rowcast_edge_connections", "websocket").await?;
        ensure!(open == 0.0, "{open} are open");
        anyhow::Ok(())
    })
    .await
}

/// What docs/revocation.md says of sizes:
/// `cargo test --release -p rowcast-edge --test revocations -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "measures"]
async fn how_long_large_sheets_take() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    leader.revoke(json!({})).await?;
    let edge = stage.edge(&[]).await?;
    for entries in [1_000, 10_000, 100_000, 250_000] {
        let ids = (0..entries).map(|n| (format!("{n:08x}-5b1c-4d7e-9f00-{n:012x}"), Value::Null));
        let mut sheet = json!({ "token_id": ids.collect::<serde_json::Map<_, _>>() });
        let mut bystander = edge.socket(&token_of("ben")).await?;
        let pinging = tokio::spawn(async move {
            let mut slowest = Duration::ZERO;
            for _ in 0..60 {
                let begin = Instant::now();
                bystander.so_far().await?;
                slowest = slowest.max(begin.elapsed());
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
            anyhow::Ok(slowest)
        });
        let mut took = Vec::new();
        for turn in 0..5 {
            let name = format!("ana {entries} {turn}");
            let mut socket = edge.socket(&token_of(&name)).await?;
            sheet["subject"][name.as_str()] = Value::Null;
            let begin = Instant::now();
            let version = leader.revoke(sheet.clone()).await?;
            is_revoked(&mut socket).await?;
            took.push(begin.elapsed());
            edge.expect_revocations(version).await?;
        }
        took.sort();
        let megabytes = sheet.to_string().len() as f64 / 1e6;
        println!(
            "{entries} entries, {megabytes:.1} MB: gone after {:?} (most {:?}); slowest ping of a bystander {:?}",
            took[2],
            took[4],
            pinging.await??
        );
    }
    Ok(())
}
