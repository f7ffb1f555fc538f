//! Revoking the whole way: the command, real PostgreSQL, listeners, Redis and two edges, on every way in, and through restarts
//! of everything. What an edge does in each single case is in its own tests.

mod support;

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::{SinkExt as _, StreamExt as _};
use rowcast_cli::devfile::DevFile;
use rowcast_cli::token::Claims;
use rowcast_sandbox::{Connection, Folder, metric, wait_for};
use serde_json::{Value, json};
use support::dev::{Dev, SOON, host};
use support::http::ask;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

/// Longer than any test may take; waiting pages and streams are cut by the revocation.
const HOUR: Duration = Duration::from_secs(3_600);

async fn start(place: &Folder) -> Result<(Dev, DevFile)> {
    let args = ["--no-demo", "--listeners", "2", "--edges", "2", "--restart-after", "0.2"];
    let running = Dev::spawn(&place.path().join("dir"), &place.path().join("log"), &args)?;
    let dev = running.ready().await?;
    Ok((running, dev))
}

fn token(dev: &DevFile, subject: &str) -> Result<String> {
    let claims = Claims {
        merchants: vec!["m1".to_owned()],
        subject: subject.to_owned(),
        expires_in: HOUR,
        ..Claims::default()
    };
    claims.sign(&dev.jwt_secret, SystemTime::now())
}

/// Standard output of the command, which must succeed.
async fn rowcast(dev: &Dev, args: &[&str]) -> Result<String> {
    let output = support::rowcast(args).args(["--dev".as_ref(), dev.dir.as_os_str()]).output().await?;
    ensure!(output.status.success(), "{args:?}: {}", support::text(&output.stderr));
    Ok(support::text(&output.stdout))
}

/// A page of events, with its status.
async fn page(edge: &str, token: &str, query: &str) -> Result<(u16, Value)> {
    let bearer = format!("Bearer {token}");
    let answer = ask(edge, &format!("GET /v1/events{query}"), &[("Authorization", &bearer)], None).await?;
    Ok((answer.status, answer.json()?))
}

fn is_refused((status, body): &(u16, Value)) -> bool {
    *status == 401 && body["message"] == "the token was revoked"
}

/// Waits until an edge lets a token in, and everything behind it works.
async fn lets_in(edge: &str, token: &str) -> Result<()> {
    wait_for(format!("{edge} to let in"), SOON, || async {
        let (status, body) = page(edge, token, "").await?;
        ensure!(status == 200 && body["live"] == true, "{status} {body}");
        anyhow::Ok(())
    })
    .await
}

/// Holds a socket until it is closed; when that was.
async fn socket(edge: String, token: String, ready: tokio::sync::mpsc::Sender<()>) -> Result<Instant> {
    let (mut socket, _) = tokio_tungstenite::connect_async(format!("ws://{}/ws", host(&edge))).await?;
    socket.send(Message::text(json!({ "op": "auth", "token": token }).to_string())).await?;
    while let Some(message) = socket.next().await {
        match message? {
            Message::Text(text) if text.contains("\"welcome\"") => ready.send(()).await?,
            Message::Close(Some(close)) => {
                ensure!(u16::from(close.code) == 4401, "{close:?}");
                return Ok(Instant::now());
            }
            _ => {}
        }
    }
    bail!("it ended without a close")
}

/// Holds a stream until it ends; when that was.
async fn stream(edge: String, token: String) -> Result<Instant> {
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", bearer.as_str()), ("Accept", "text/event-stream")];
    let answer = ask(&edge, "GET /v1/events", &headers, None).await?;
    ensure!(answer.status == 200 && answer.body.contains("\"code\":4401"), "{answer:?}");
    Ok(Instant::now())
}

/// Waits with a page until it is answered; when that was.
async fn waiting(edge: String, token: String, after: String) -> Result<Instant> {
    let answer = page(&edge, &token, &format!("?room=m1&after={after}&wait=25")).await?;
    ensure!(is_refused(&answer), "{answer:?}");
    Ok(Instant::now())
}

/// One client on each way in of each edge; when they were gone.
async fn everywhere(dev: &DevFile, token: &str) -> Result<JoinSet<Result<(&'static str, Instant)>>> {
    let mut all = JoinSet::new();
    let (ready, mut are_ready) = tokio::sync::mpsc::channel(16);
    for edge in &dev.edges {
        let after =
            page(&edge.url, token, "?room=m1").await?.1["cursor"].as_str().context("a cursor")?.to_owned();
        let (url, token) = (edge.url.clone(), token.to_owned());
        let ready = ready.clone();
        let (other_url, other_token) = (url.clone(), token.clone());
        all.spawn(async move { Ok(("socket", socket(other_url, other_token, ready).await?)) });
        let (other_url, other_token) = (url.clone(), token.clone());
        all.spawn(async move { Ok(("stream", stream(other_url, other_token).await?)) });
        all.spawn(async move { Ok(("page", waiting(url, token, after).await?)) });
    }
    for edge in &dev.edges {
        are_ready.recv().await.context("a welcome")?;
        for transport in ["websocket", "sse", "page"] {
            wait_for(format!("a {transport} at {}", edge.url), SOON, || async {
                let open = metric(host(&edge.admin), "rowcast_edge_connections", transport).await?;
                ensure!(open == 1.0, "{open}");
                anyhow::Ok(())
            })
            .await?;
        }
    }
    Ok(all)
}

#[tokio::test]
async fn on_every_way_in_of_every_edge_it_is_over_within_a_second_and_lifted_it_begins_again() -> Result<()> {
    const ROUNDS: usize = 5;
    let place = Folder::new("revoked")?;
    let (running, dev) = start(&place).await?;
    let (ana, ben) = (token(&dev, "ana")?, token(&dev, "ben")?);
    for edge in &dev.edges {
        lets_in(&edge.url, &ana).await?;
        lets_in(&edge.url, &ben).await?;
    }
    let database = Connection::open(&dev.database_url).await?;
    let mut took = Vec::new();
    for round in 0..ROUNDS {
        let mut held = everywhere(&dev, &ana).await?;
        let begin = Instant::now();
        if round == 0 {
            let said = rowcast(&running, &["revoke", "--subject", "ana", "--reason", "a test"]).await?;
            ensure!(said.contains("The edges were told after"), "{said}");
        } else {
            database.execute("SELECT rowcast.revoke('subject', 'ana')", &[]).await?;
        }
        while let Some(gone) = held.join_next().await {
            let (what, at) = gone??;
            // The command's own start is not the revocation's.
            if round > 0 {
                took.push((at - begin, what));
            }
        }
        for edge in &dev.edges {
            let answer = page(&edge.url, &ana, "").await?;
            ensure!(is_refused(&answer), "{answer:?}");
            lets_in(&edge.url, &ben).await?;
        }
        let said = rowcast(&running, &["revoke", "lift", "--subject", "ana"]).await?;
        ensure!(said.contains("let in again"), "{said}");
        for edge in &dev.edges {
            lets_in(&edge.url, &ana).await?;
        }
    }
    took.sort();
    println!(
        "from the call to the end seen by the client: median {:?}, most {:?}",
        took[took.len() / 2],
        took[took.len() - 1]
    );
    // A second is what is promised where the machine has time; here others may have it.
    ensure!(took[took.len() - 1].0 < Duration::from_secs(10), "{took:?}");
    running.interrupt().await
}

#[tokio::test]
async fn restarts_of_everything_and_a_flush_let_no_revoked_token_in() -> Result<()> {
    let place = Folder::new("revoked")?;
    let (running, dev) = start(&place).await?;
    let (ana, ben) = (token(&dev, "ana")?, token(&dev, "ben")?);
    for edge in &dev.edges {
        lets_in(&edge.url, &ana).await?;
    }
    rowcast(&running, &["revoke", "--subject", "ana"]).await?;
    for edge in &dev.edges {
        lets_in(&edge.url, &ben).await?;
    }
    for what in ["flush", "listeners", "redis", "postgres", "edges", "redis and edges", "all"] {
        let now = DevFile::read(&running.dir)?;
        let pids = |name: &str| -> Vec<u32> {
            let all = support::dev::pids(&now);
            all.into_iter().filter(|(known, _)| known == name).map(|(_, pid)| pid).collect()
        };
        match what {
            "flush" => {
                let flushed = tokio::process::Command::new("redis-cli")
                    .args(["-u", &now.redis_url, "FLUSHALL"])
                    .output()
                    .await?;
                ensure!(flushed.status.success(), "{flushed:?}");
            }
            "listeners" => kill(&pids("rowcast-listener"))?,
            "redis" => kill(&pids("redis-server"))?,
            "postgres" => kill_with("QUIT", &pids("postgres"))?,
            "edges" => kill(&pids("rowcast-edge"))?,
            "redis and edges" => kill(&[pids("redis-server"), pids("rowcast-edge")].concat())?,
            _ => {
                kill_with("QUIT", &pids("postgres"))?;
                kill(&[pids("rowcast-listener"), pids("redis-server"), pids("rowcast-edge")].concat())?;
            }
        }
        for edge in &dev.edges {
            never_lets_in_until(&edge.url, &ana, &ben).await.with_context(|| format!("after {what}"))?;
        }
    }
    rowcast(&running, &["revoke", "lift", "--subject", "ana"]).await?;
    for edge in &dev.edges {
        lets_in(&edge.url, &ana).await?;
    }
    running.interrupt().await
}

fn kill(pids: &[u32]) -> Result<()> {
    kill_with("KILL", pids)
}

fn kill_with(signal: &str, pids: &[u32]) -> Result<()> {
    ensure!(!pids.is_empty());
    let mut command = std::process::Command::new("kill");
    command.arg(format!("-{signal}")).args(pids.iter().map(u32::to_string));
    ensure!(command.status()?.success());
    Ok(())
}

/// Asks with a revoked token all the time, until a good one is let in again and all works; at the end it is refused.
async fn never_lets_in_until(edge: &str, revoked: &str, good: &str) -> Result<()> {
    let asking = async {
        loop {
            // An edge that does not know yet begins no room; one that is away answers nothing.
            if let Ok((200, body)) = page(edge, revoked, "").await {
                ensure!(body["rooms"] == json!({}), "let in: {body}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        #[allow(unreachable_code, reason = "it gives the loop its type")]
        anyhow::Ok(())
    };
    tokio::select! {
        let_in = asking => let_in?,
        healed = lets_in(edge, good) => healed?,
    }
    let answer = page(edge, revoked, "").await?;
    ensure!(is_refused(&answer), "{answer:?}");
    Ok(())
}
