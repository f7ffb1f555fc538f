//! JSON pages of a real edge before a real Redis: polling and long-polling lose nothing and repeat nothing.

mod support;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rowcast_sandbox::{Link, Proxy, wait_for, wait_until};
use serde_json::{Value, json};
use support::{Edge, LIMIT, Stage, sign, token, token_until};

/// The cursor to send back.
fn cursor(page: &Value) -> &str {
    page["cursor"].as_str().expect("a cursor")
}

fn data(page: &Value) -> Vec<Value> {
    page["events"].as_array().expect("events").iter().map(|event| event["data"].clone()).collect()
}

#[tokio::test]
async fn a_page_has_the_documented_fields_and_the_next_one_goes_on_where_it_ends() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let edge = stage.edge(&[]).await?;
    let token = token(json!(["m1", "m 2"]));
    let first = edge.page(&token, &[]).await?;
    for room in ["m1", "m 2"] {
        assert_eq!(first["rooms"][room]["resumed"], false);
        assert!(
            first["rooms"][room]["cursor"].as_str().is_some_and(|cursor| cursor.ends_with(":0")),
            "{first}"
        );
    }
    assert_eq!((&first["events"], &first["resync"]), (&json!([]), &json!([])));
    assert_eq!((&first["more"], &first["transport"]), (&json!(false), &json!("websocket")));
    assert!(
        first["now"].is_string() && first["expires_at"].is_string() && first["live"].is_boolean(),
        "{first}"
    );
    assert!(cursor(&first).starts_with("m%202=") && cursor(&first).contains("&m1="), "{first}");

    leader.append_all("m1", "t", vec![json!(1), json!(2)]).await?;
    leader.append("m 2", "t", json!(3)).await?;
    let mut seen = Vec::new();
    let mut after = cursor(&first).to_owned();
    while seen.len() < 3 {
        let page = edge.page(&token, &[("after", &after), ("wait", "10")]).await?;
        ensure!(page["rooms"]["m1"]["resumed"] == true && page["resync"] == json!([]), "{page}");
        after = cursor(&page).to_owned();
        seen.extend(data(&page));
    }
    seen.sort_by_key(Value::to_string);
    assert_eq!(seen, [json!(1), json!(2), json!(3)]);
    let one = edge.page(&token, &[("room", "m1")]).await?;
    assert_eq!(cursor(&one), one["rooms"]["m1"]["cursor"], "with a room it is that room's cursor");
    assert_eq!(one["rooms"].as_object().map(serde_json::Map::len), Some(1));
    leader.append("m1", "t", json!(4)).await?;
    let next = edge.page(&token, &[("room", "m1"), ("after", cursor(&one)), ("wait", "10")]).await?;
    assert_eq!(data(&next), [json!(4)]);
    Ok(())
}

/// Reads pages until so many events have come; each page's cursor is the next one's `after`.
struct Reader<'a> {
    edge: &'a Edge,
    token: String,
    after: String,
}

impl<'a> Reader<'a> {
    async fn start(edge: &'a Edge, claim: Value) -> Result<Self> {
        let token = token(claim);
        let page = edge.page(&token, &[]).await?;
        Ok(Self { edge, token, after: cursor(&page).to_owned() })
    }

    async fn page(&mut self, fields: &[(&str, &str)]) -> Result<Value> {
        let fields = [&[("after", self.after.as_str())], fields].concat();
        let page = self.edge.page(&self.token, &fields).await?;
        cursor(&page).clone_into(&mut self.after);
        Ok(page)
    }

    async fn events(&mut self, count: usize) -> Result<Vec<Value>> {
        let mut events = Vec::new();
        while events.len() < count {
            let page = self.page(&[("wait", "10")]).await?;
            ensure!(page["resync"] == json!([]), "{page}");
            events.extend(data(&page));
        }
        Ok(events)
    }
}

/// Numbers of events by room, each the one after the last.
#[derive(Default)]
struct Ledger(HashMap<String, u64>);

impl Ledger {
    fn note(&mut self, event: &Value) -> Result<()> {
        let next = self.0.entry(event["room"].as_str().context("a room")?.to_owned()).or_default();
        ensure!(event["data"].as_u64() == Some(*next), "{event} is not number {next}");
        *next += 1;
        Ok(())
    }

    fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

#[tokio::test]
async fn pages_and_sockets_with_the_same_cursors_see_each_event_once_while_events_come() -> Result<()> {
    const EVENTS: u64 = 400;
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let settings = [("EDGE__QUEUE_FRAMES", "16"), ("EDGE__RECENT_EVENTS", "32")];
    let edges = [stage.edge(&settings).await?, stage.edge(&settings).await?];
    let token = token(json!(["a", "b"]));
    let mut after = cursor(&edges[0].page(&token, &[]).await?).to_owned();
    let writer = tokio::spawn(async move {
        for n in 0..EVENTS / 20 {
            let numbers = n * 20..(n + 1) * 20;
            let all = numbers.flat_map(|n| [("a", json!(n)), ("b", json!(n))]).collect();
            leader.append_each("t", all).await?;
        }
        anyhow::Ok(leader)
    });
    let (mut ledger, mut full, mut turn) = (Ledger::default(), 0, 0);
    while ledger.total() < 2 * EVENTS {
        let edge = &edges[turn % 2];
        turn += 1;
        if turn % 3 == 0 {
            // A socket takes over, and ends somewhere.
            let mut cursors = rowcast_protocol::cursors::parse(&after)?;
            let (mut client, welcome) = edge.join(json!(["a", "b"]), json!(cursors)).await?;
            ensure!(welcome["rooms"]["a"]["resumed"] == true && welcome["rooms"]["b"]["resumed"] == true);
            for _ in 0..(2 * EVENTS - ledger.total()).min(5) {
                let event = client.next_of("event").await?;
                ledger.note(&event)?;
                let text = |field: &str| event[field].as_str().map(str::to_owned).context("a text");
                cursors.insert(text("room")?, text("cursor")?);
            }
            after = rowcast_protocol::cursors::encode(cursors.iter().map(|(room, at)| (room.as_str(), at)));
        } else {
            let page = edge.page(&token, &[("after", &after), ("wait", "10")]).await?;
            let events = page["events"].as_array().context("events")?;
            ensure!(page["resync"] == json!([]) && events.len() <= 16, "{page}");
            events.iter().try_for_each(|event| ledger.note(event))?;
            full += u64::from(page["more"] == true);
            cursor(&page).clone_into(&mut after);
        }
    }
    writer.await??;
    ensure!(full > 0, "a page that is full says that there is more");
    let rest = edges[0].page(&token, &[("after", &after)]).await?;
    ensure!(rest["events"] == json!([]) && rest["more"] == false, "{rest}");
    Ok(())
}

#[tokio::test]
async fn a_page_is_bounded_in_bytes_and_the_rest_is_in_the_next_ones() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let edge = stage.edge(&[("EDGE__QUEUE_SIZE", "64KiB")]).await?;
    let mut reader = Reader::start(&edge, json!("m1")).await?;
    leader.append_all("m1", "t", vec![json!("x".repeat(10_000)); 50]).await?;
    let mut seen = 0;
    while seen < 50 {
        let page = reader.page(&[("wait", "10")]).await?;
        ensure!(page.to_string().len() < 64 * 1024 + 11_000, "a page of {} bytes", page.to_string().len());
        let events = data(&page).len();
        seen += events;
        ensure!(
            page["more"] == (seen < 50) || events < 7,
            "{events} events, {seen} seen, more: {}",
            page["more"]
        );
    }
    Ok(())
}

/// Waits until so many requests for pages are being answered.
async fn waiting(edge: &Edge, count: f64) -> Result<()> {
    wait_until("requests that wait", LIMIT, || async {
        edge.metric("rowcast_edge_connections", "page").await.is_ok_and(|waiting| waiting == count)
    })
    .await
}

/// A page whose joins were answered: on a loaded machine that can take longer than a page waits for it.
async fn judged(edge: &Edge, token: &str, fields: &[(&str, &str)]) -> Result<Value> {
    wait_for("a page that is live", LIMIT, || async {
        let page = edge.page(token, fields).await?;
        ensure!(page["live"] == true, "{page}");
        Ok(page)
    })
    .await
}

/// A page of one room, from its end, when the light is on.
async fn live(edge: &Edge, token: &str) -> Result<String> {
    wait_for("a live page", LIMIT, || async {
        let page = edge.page(token, &[]).await?;
        ensure!(page["live"] == true && page["reason"] == "", "{page}");
        Ok(cursor(&page).to_owned())
    })
    .await
}

#[tokio::test]
async fn a_long_poll_is_answered_at_an_event_and_else_at_its_wait() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let edge = stage.edge(&[("EDGE__MAX_WAIT", "20s")]).await?;
    let token = token(json!("m1"));
    let after = live(&edge, &token).await?;
    let begun = Instant::now();
    let poll = edge.ask(&token, &[("after", &after), ("wait", "1000")], &[]).await?;
    waiting(&edge, 1.0).await?;
    leader.append("m1", "t", json!(1)).await?;
    let page = poll.answer().await?.json()?;
    assert_eq!(data(&page), [json!(1)]);
    assert!(begun.elapsed() < Duration::from_secs(20), "before its wait is over");
    let begun = Instant::now();
    let page = edge.page(&token, &[("after", cursor(&page)), ("wait", "1.5")]).await?;
    assert_eq!((data(&page), &page["more"], &page["live"]), (vec![], &json!(false), &json!(true)));
    assert!(begun.elapsed() >= Duration::from_millis(1_500), "not before its wait is over");
    Ok(())
}

#[tokio::test]
async fn a_drain_answers_who_waits_at_once_and_sends_others_elsewhere() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let edge = stage.edge(&[("EDGE__DRAIN_WINDOW", "60s")]).await?;
    let token = token(json!("m1"));
    leader.append("m1", "t", json!(0)).await?;
    let after = live(&edge, &token).await?;
    let mut poll = edge.ask(&token, &[("after", &after), ("wait", "30")], &[]).await?;
    // Somebody who keeps the edge from ending.
    let (client, _) = edge.join(json!("m1"), json!({})).await?;
    waiting(&edge, 1.0).await?;
    let begun = Instant::now();
    edge.process.signal(rowcast_sandbox::Signal::TERM)?;
    let head = poll.head().await?;
    assert_eq!((head.status, head.header("connection")), (200, "close"));
    assert!(begun.elapsed() < Duration::from_secs(10), "its wait would have been longer");
    let refused = edge.ask(&token, &[], &[]).await?.answer().await?;
    assert_eq!(refused.refusal()?, (503, "draining".to_owned()));
    assert_eq!(refused.header("retry-after"), "1");
    drop(client);
    assert!(edge.process.wait_exit(LIMIT).await?.success());
    Ok(())
}

#[tokio::test]
async fn history_that_is_gone_is_a_resync_before_the_events() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let edge = stage.edge(&[]).await?;
    leader.append_all("m1", "t", (0..1_500).map(Value::from).collect()).await?;
    let token = token(json!(["m1", "m2"]));
    let start = judged(&edge, &token, &[]).await?;
    let head = start["rooms"]["m1"]["cursor"].as_str().context("a cursor")?;
    let stream = &head[..head.len() - "1500".len()];
    let other_generation = format!("7{}", &head[1..]);
    let cases = [
        (format!("{stream}1"), "history"),
        (format!("{stream}9999"), "history"),
        (other_generation, "generation"),
        ("nonsense".to_owned(), "cursor"),
    ];
    for (gone, reason) in &cases {
        let page = judged(&edge, &token, &[("room", "m1"), ("after", gone)]).await?;
        let resync = json!([{ "op": "resync", "room": "m1", "cursor": head, "reason": reason }]);
        assert_eq!((&page["resync"], &page["events"]), (&resync, &json!([])), "{gone}");
        assert_eq!(page["rooms"]["m1"], json!({ "cursor": head, "resumed": false }));
        assert_eq!(cursor(&page), head);
    }
    // One room's history is gone, the other's is not.
    let m2 = start["rooms"]["m2"]["cursor"].as_str().context("a cursor")?;
    leader.append("m2", "t", json!("m2")).await?;
    let after = rowcast_protocol::cursors::encode([("m1", cases[0].0.as_str()), ("m2", m2)]);
    let page = judged(&edge, &token, &[("after", &after), ("wait", "10")]).await?;
    assert_eq!(page["resync"][0]["room"], "m1");
    let page = judged(&edge, &token, &[("after", "no cursors at all")]).await?;
    assert_eq!(page["resync"].as_array().map(Vec::len), Some(2), "{page}");
    leader.append("m1", "t", json!("later")).await?;
    let page = edge.page(&token, &[("after", cursor(&page)), ("wait", "10")]).await?;
    assert_eq!(data(&page), [json!("later")], "what follows the resync is not lost");
    Ok(())
}

#[tokio::test]
async fn a_filter_leaves_out_what_is_not_wanted_and_the_cursor_goes_on_past_it() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let edge = stage.edge(&[]).await?;
    let mut reader = Reader::start(&edge, json!("m1")).await?;
    let types = [("types", "booking.*,payment.settled"), ("wait", "10")];
    leader.append("m1", "booking.created", json!(1)).await?;
    leader.append_all("m1", "payment.created", vec![json!(2); 30]).await?;
    let page = reader.page(&types).await?;
    assert_eq!(data(&page), [json!(1)]);
    leader.append("m1", "payment.settled", json!(3)).await?;
    leader.append("m1", "payment.created", json!(4)).await?;
    assert_eq!(data(&reader.page(&types).await?), [json!(3)]);
    wait_until("the cursor to pass what is filtered", LIMIT, || async {
        let page = edge.page(&reader.token, &[("after", &reader.after), ("types", "booking.*")]).await;
        page.is_ok_and(|page| cursor(&page).ends_with(":33") && data(&page).is_empty())
    })
    .await
}

#[tokio::test]
async fn every_refusal_says_what_to_do() -> Result<()> {
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    let edge = stage.edge(&[("EDGE__MAX_CONNECTIONS", "1")]).await?;
    let far = 4_000_000_000_i64;
    let good = token(json!("m1"));
    let stranger = sign(&json!({ "merchantId": "m1", "exp": far }), "another secret, long enough as well");
    let expired = sign(&json!({ "merchantId": "m1", "exp": 1 }), support::SECRET);
    let roomless = sign(&json!({ "merchantId": "", "exp": far }), support::SECRET);
    let cases = [
        (stranger.as_str(), vec![], 401, "token"),
        (&expired, vec![], 401, "token"),
        ("nonsense", vec![], 401, "token"),
        (&roomless, vec![], 403, "not_allowed"),
        (&good, vec![("room", "m2")], 403, "not_allowed"),
        (&good, vec![("wait", "soon")], 400, "malformed"),
    ];
    for (token, fields, status, code) in &cases {
        let answer = edge.ask(token, fields, &[]).await?.answer().await?;
        assert_eq!(answer.refusal()?, (*status, (*code).to_owned()), "{answer:?}");
        assert!(answer.json()?["message"].as_str().is_some_and(|text| !text.is_empty()));
        assert_eq!(answer.header("www-authenticate") == "Bearer", *status == 401);
    }
    let none = edge.request("GET", "/v1/events", &[]).await?;
    assert_eq!((none.refusal()?, none.header("www-authenticate")), ((401, "token".to_owned()), "Bearer"));
    let in_url = edge.request("GET", &format!("/v1/events?access_token={good}"), &[]).await?;
    assert_eq!(in_url.status, 401, "tokens in URLs are off");
    let _first = edge.join(json!("m1"), json!({})).await?;
    let full = edge.ask(&good, &[], &[]).await?.answer().await?;
    assert_eq!(full.refusal()?, (503, "limit".to_owned()));
    assert!((1..=5).contains(&full.header("retry-after").parse::<u64>()?), "{full:?}");
    Ok(())
}

#[tokio::test]
async fn a_token_that_ends_while_its_client_waits_is_401() -> Result<()> {
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    let edge = stage.edge(&[]).await?;
    let after = live(&edge, &token(json!("m1"))).await?;
    let brief = token_until(json!("m1"), 3);
    let answer = edge.ask(&brief, &[("after", &after), ("wait", "30")], &[]).await?.answer().await?;
    assert_eq!(answer.refusal()?, (401, "token".to_owned()));
    Ok(())
}

#[tokio::test]
async fn without_redis_pages_say_that_they_are_not_live_and_afterwards_nothing_is_lost() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let link = Proxy::start(format!("127.0.0.1:{}", stage.redis.port()))?;
    let url = format!("redis://{}", link.address());
    let edge = stage.edge(&[("REDIS__URL", &url)]).await?;
    let token = token(json!("m1"));
    let mut reader = Reader { edge: &edge, after: live(&edge, &token).await?, token };

    let poll = edge.ask(&reader.token, &[("after", &reader.after), ("wait", "30")], &[]).await?;
    waiting(&edge, 1.0).await?;
    link.set(Link::Held);
    leader.append_all("m1", "t", vec![json!(1), json!(2)]).await?;
    let begun = Instant::now();
    let page = poll.answer().await?.json()?;
    ensure!(page["live"] == false && data(&page).is_empty() && page["more"] == false, "{page}");
    ensure!(["redis", "listener"].contains(&page["reason"].as_str().context("a reason")?), "{page}");
    ensure!(begun.elapsed() < Duration::from_secs(10), "who waits is told of it: {:?}", begun.elapsed());
    ensure!(cursor(&page) == reader.after, "it stands where it stood");

    let begun = Instant::now();
    let page = reader.page(&[("wait", "30")]).await?;
    ensure!(page["live"] == false && data(&page).is_empty(), "{page}");
    ensure!(
        begun.elapsed() < Duration::from_secs(8),
        "who begins in the dark is told soon: {:?}",
        begun.elapsed()
    );
    link.set(Link::Through);
    assert_eq!(reader.events(2).await?, [json!(1), json!(2)]);
    live(&edge, &reader.token).await.map(drop)
}

#[tokio::test]
async fn whoever_hangs_up_leaves_its_rooms() -> Result<()> {
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    let edge = stage.edge(&[("EDGE__ROOM_LINGER", "0s")]).await?;
    let token = token(json!(["m1", "m2"]));
    let after = live(&edge, &token).await?;
    let poll = edge.ask(&token, &[("after", &after), ("wait", "30")], &[]).await?;
    let stream = edge.stream(&token, &[], "").await?;
    waiting(&edge, 1.0).await?;
    drop((poll, stream));
    wait_until("nobody to be left", LIMIT, || async {
        let (clients, rooms) =
            (edge.metric("rowcast_edge_connections", "").await, edge.metric("rowcast_edge_rooms", "").await);
        clients.is_ok_and(|clients| clients == 0.0) && rooms.is_ok_and(|rooms| rooms == 0.0)
    })
    .await
}

#[tokio::test]
async fn pages_say_whether_sockets_are_switched_off_and_go_on_themselves() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let edge = stage.edge(&[]).await?;
    let token = token(json!("m1"));
    let after = live(&edge, &token).await?;
    let poll = edge.ask(&token, &[("after", &after), ("wait", "20")], &[]).await?;
    let mut stream = edge.stream(&token, &[], "").await?;
    stream.next_of("welcome").await?;
    waiting(&edge, 1.0).await?;
    for (on, transport) in [(false, "polling"), (true, "websocket")] {
        leader.switch(on).await?;
        wait_until("pages to say so", LIMIT, || async {
            edge.page(&token, &[]).await.is_ok_and(|page| page["transport"] == transport)
        })
        .await?;
    }
    leader.append("m1", "t", json!(1)).await?;
    assert_eq!(data(&poll.answer().await?.json()?), [json!(1)], "who waits by HTTP is not sent away");
    assert_eq!(stream.next_of("event").await?.frame["data"], 1);
    Ok(())
}
