//! The demo's page, its API and its break-buttons, through the balancer of a real `rowcast dev`.

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use rowcast_cli::client::{Client, Event};
use rowcast_cli::devfile::DevFile;
use rowcast_sandbox::{Folder, http_get, wait_for, wait_until};
use serde_json::{Value, json};
use support::dev::{Dev, SOON, host, live_client};
use support::http::{Answer, ask};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A demo whose page is in `page` below its place.
async fn demo(place: &Folder, args: &[&str]) -> Result<(Dev, DevFile)> {
    let page = place.path().join("page");
    let page = page.to_str().context("a path in UTF-8")?;
    let args =
        [&["--page", page, "--listeners", "2", "--edges", "2", "--restart-after", "0.2"], args].concat();
    let running = Dev::spawn(&place.path().join("dir"), &place.path().join("log"), &args)?;
    let dev = running.ready().await?;
    Ok((running, dev))
}

async fn get(dev: &DevFile, path: &str) -> Result<Answer> {
    ask(&dev.url, &format!("GET {path}"), &[], None).await
}

async fn press(dev: &DevFile, button: &str) -> Result<()> {
    let answer = ask(&dev.url, &format!("POST /demo/break/{button}"), &[], None).await?;
    ensure!(answer.status == 200 && answer.json()?["done"].is_string(), "{button}: {answer:?}");
    Ok(())
}

async fn state(dev: &DevFile) -> Result<Value> {
    get(dev, "/demo/state").await?.json()
}

/// Waits until the page is told so.
async fn shows(dev: &DevFile, what: &str, holds: impl Fn(&Value) -> bool) -> Result<()> {
    wait_for(what, SOON, || async {
        let state = state(dev).await?;
        ensure!(holds(&state), "{state}");
        Ok(())
    })
    .await
}

fn build(page: &Path) -> Result<()> {
    fs::create_dir_all(page.join("assets"))?;
    fs::write(page.join("index.html"), "<title>the page</title>")?;
    fs::write(page.join("assets/index-B1.js"), "let a;")?;
    fs::write(page.join("icon.svg"), "<svg/>")?;
    Ok(fs::write(page.join("../secret.json"), "secret")?)
}

#[tokio::test]
async fn the_page_and_its_api_stand_on_the_edges_origin_and_end_with_browsers_connected() -> Result<()> {
    let place = Folder::new("page")?;
    let (running, dev) = demo(&place, &[]).await?;

    let unbuilt = get(&dev, "/").await?;
    assert!(unbuilt.status == 503 && unbuilt.body.contains("npm ci"), "{unbuilt:?}");
    build(&place.path().join("page"))?;
    the_page_has_its_files(&dev).await?;
    strangers_are_refused(&dev).await?;
    bookings_come_and_change(&dev).await?;
    postgres_away_is_said_and_healed(&running, &dev).await?;

    // A browser holds one connection that waits for its next request, and a socket.
    let mut kept = TcpStream::connect(host(&dev.url)).await?;
    kept.write_all(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", host(&dev.url)).as_bytes()).await?;
    kept.read_exact(&mut [0; 16]).await?;
    let _socket = live_client(&dev, &dev.url, "salon-anna").await?;
    running.interrupt().await
}

async fn the_page_has_its_files(dev: &DevFile) -> Result<()> {
    let start = get(dev, "/").await?;
    assert_eq!((start.status, start.body.as_str()), (200, "<title>the page</title>"));
    assert_eq!(start.header("content-type"), "text/html; charset=utf-8");
    assert_eq!(start.header("cache-control"), "no-cache");
    assert_eq!(start.header("content-security-policy"), "frame-ancestors 'none'");
    assert_eq!(get(dev, "/merchants/two").await?.body, start.body, "the page's own paths are its start");
    let script = get(dev, "/assets/index-B1.js").await?;
    assert_eq!(script.header("content-type"), "text/javascript; charset=utf-8");
    assert_eq!(script.header("cache-control"), "public, max-age=31536000, immutable");
    assert_eq!(get(dev, "/icon.svg").await?.header("content-type"), "image/svg+xml");
    for path in
        ["/missing.js", "/../secret.json", "/assets/../../secret.json", "/%2e%2e/secret.json", "/.env"]
    {
        let answer = get(dev, path).await?;
        assert!(answer.status == 404 && !answer.body.contains("the page<"), "{path}: {answer:?}");
    }
    let head = ask(&dev.url, "HEAD /", &[], None).await?;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(ask(&dev.url, "POST /", &[], None).await?.status, 405);
    Ok(())
}

async fn strangers_are_refused(dev: &DevFile) -> Result<()> {
    let button = "POST /demo/break/kill-edge";
    let own = format!("http://{}", host(&dev.url));
    for (header, value, code) in [
        ("Origin", "https://elsewhere.example", "origin"),
        ("Origin", "null", "origin"),
        ("Host", "elsewhere.example", "host"),
    ] {
        for request in [button, "POST /demo/token", "GET /demo/state", "GET /"] {
            let answer = ask(&dev.url, request, &[(header, value)], None).await?;
            assert_eq!(
                (answer.status, answer.json()?["error"].as_str()),
                (403, Some(code)),
                "{request} {value}"
            );
        }
    }
    let state = ask(&dev.url, "GET /demo/state", &[("Origin", &own)], None).await?;
    assert_eq!(state.status, 200);
    // Nothing was broken.
    let up = state.json()?["edges"].as_array().context("edges")?.iter().all(|edge| edge["up"] == true);
    assert!(up, "{state:?}");
    Ok(())
}

async fn token(dev: &DevFile, merchant: Value, ttl: u32) -> Result<String> {
    let wanted = json!({ "merchant": merchant, "ttl": ttl });
    let answer = ask(&dev.url, "POST /demo/token", &[], Some(wanted)).await?.json()?;
    ensure!(answer["expires_at"].as_str().is_some_and(|end| end.ends_with("Z")), "{answer}");
    Ok(answer["token"].as_str().context("a token")?.to_owned())
}

/// The bookings of the test's own merchant, newest first.
async fn list(dev: &DevFile, token: &str) -> Result<Answer> {
    let bearer = format!("Bearer {token}");
    ask(&dev.url, "GET /demo/bookings?merchant=m1", &[("Authorization", &bearer)], None).await
}

async fn bookings_come_and_change(dev: &DevFile) -> Result<()> {
    let good = token(dev, json!(["m1", "m2"]), 600).await?;
    assert_eq!(list(dev, &good).await?.json()?, json!([]));
    let booking = json!({ "merchant": "m1", "customerName": "Zoë", "service": "Colour" });
    let booked = ask(&dev.url, "POST /demo/bookings", &[], Some(booking)).await?.json()?;
    assert_eq!((&booked["customerName"], &booked["service"]["durationMinutes"]), (&json!("Zoë"), &json!(90)));
    let any = ask(&dev.url, "POST /demo/bookings", &[], Some(json!({ "merchant": "m1" }))).await?.json()?;
    assert_eq!(list(dev, &good).await?.json()?, json!([any, booked]));

    let path = format!("/demo/bookings/{}", booked["id"]);
    let change = Some(json!({ "status": "CONFIRMED" }));
    let changed = ask(&dev.url, &format!("PATCH {path}"), &[], change.clone()).await?.json()?;
    assert_eq!(changed["status"], "CONFIRMED");
    assert_eq!(list(dev, &good).await?.json()?[1], changed);
    assert_eq!(ask(&dev.url, &format!("DELETE {path}"), &[], None).await?.status, 200);
    assert_eq!(list(dev, &good).await?.json()?, json!([any]));

    let other = token(dev, json!("m2"), 600).await?;
    let refused = [
        (list(dev, "nonsense").await?, 401, "token"),
        (list(dev, &other).await?, 403, "not_allowed"),
        (ask(&dev.url, "GET /demo/bookings?merchant=m1", &[], None).await?, 401, "token"),
        (ask(&dev.url, "GET /demo/bookings", &[], None).await?, 400, "malformed"),
        (ask(&dev.url, &format!("PATCH {path}"), &[], change).await?, 404, "not_found"),
        (ask(&dev.url, &format!("DELETE {path}"), &[], None).await?, 404, "not_found"),
        (
            ask(&dev.url, &format!("PATCH {path}"), &[], Some(json!({ "status": "ODD" }))).await?,
            400,
            "malformed",
        ),
        (ask(&dev.url, "POST /demo/bookings", &[], Some(json!({ "merchant": "" }))).await?, 400, "malformed"),
        (ask(&dev.url, "POST /demo/token", &[], Some(json!({ "merchant": [] }))).await?, 400, "malformed"),
        (
            ask(&dev.url, "POST /demo/token", &[], Some(json!({ "merchant": "m", "ttl": 0 }))).await?,
            400,
            "malformed",
        ),
        (ask(&dev.url, "PUT /demo/token", &[], None).await?, 405, "method"),
        (get(dev, "/demo/nothing").await?, 404, "not_found"),
        (ask(&dev.url, "POST /demo/break/everything", &[], None).await?, 404, "not_found"),
    ];
    for (answer, status, code) in refused {
        assert_eq!((answer.status, answer.json()?["error"].as_str()), (status, Some(code)), "{answer:?}");
    }
    // A token that ends is good until then, here as at the edges.
    let short = token(dev, json!("m1"), 1).await?;
    wait_until("its end", SOON, || async { list(dev, &short).await.is_ok_and(|answer| answer.status == 401) })
        .await
}

async fn postgres_away_is_said_and_healed(running: &Dev, dev: &DevFile) -> Result<()> {
    let token = token(dev, json!("m1"), 600).await?;
    let killed = Command::new("kill").args(["-QUIT", &dev.postgres.pid.to_string()]).status()?;
    assert!(killed.success());
    wait_for("an answer that says so", SOON, || async {
        let answer = list(dev, &token).await?;
        ensure!(answer.status == 503 && answer.json()?["error"] == "database", "{answer:?}");
        Ok(())
    })
    .await?;
    let pid = || DevFile::read(&running.dir).map(|dev| dev.postgres.pid);
    wait_until("a new postmaster", SOON, || async { pid().is_ok_and(|pid| pid != dev.postgres.pid) }).await?;
    let answered = || async { list(dev, &token).await.is_ok_and(|answer| answer.status == 200) };
    wait_until("bookings again", SOON, answered).await
}

/// Waits until a client's light is as wanted; it reconnects by itself.
async fn light(client: &mut Client, wanted: bool) -> Result<()> {
    let seen = async {
        loop {
            match client.next().await? {
                Event::Status(status) if status.live == wanted => return Ok(()),
                Event::Welcome(welcome) if welcome.live == wanted => return Ok(()),
                _ => {}
            }
        }
    };
    tokio::time::timeout(SOON, seen).await.context("the light does not change")?
}

async fn disconnected(client: &mut Client) -> Result<()> {
    let seen = async {
        while !matches!(client.next().await?, Event::Disconnected { .. }) {}
        Ok(())
    };
    tokio::time::timeout(SOON, seen).await.context("it stays connected")?
}

#[tokio::test]
async fn the_buttons_break_what_they_name_and_it_heals() -> Result<()> {
    let place = Folder::new("page")?;
    let (running, dev) = demo(&place, &[]).await?;
    let mut client = live_client(&dev, &dev.url, "m1").await?;
    shows(&dev, "all of it", |state| {
        state["edges"][1]["up"] == true
            && state["listeners"].as_array().is_some_and(|all| all.iter().any(|one| one["leader"] == true))
            && state["redis"]["up"] == true
            && state["switch"] == "on"
            && state["websockets"] == "open"
    })
    .await?;

    an_edge_is_killed_and_comes_back(&running, &dev).await?;
    listeners_pause_and_go_on(&dev, &mut client).await?;
    redis_starts_anew(&running, &dev, &mut client).await?;
    websockets_are_refused_while_http_goes_on(&dev, &mut client).await?;
    drop(client);
    the_switch_is_turned(&dev).await?;
    running.interrupt().await
}

async fn an_edge_is_killed_and_comes_back(running: &Dev, dev: &DevFile) -> Result<()> {
    press(dev, "kill-edge").await?;
    let back = || async {
        let Ok(now) = DevFile::read(&running.dir) else { return false };
        now.edges.iter().zip(&dev.edges).filter(|(now, before)| now.pid != before.pid).count() == 1
    };
    wait_until("one edge in a new process", SOON, back).await?;
    shows(dev, "both edges up", |state| state["edges"][0]["up"] == true && state["edges"][1]["up"] == true)
        .await
}

async fn listeners_pause_and_go_on(dev: &DevFile, client: &mut Client) -> Result<()> {
    press(dev, "pause-listeners").await?;
    light(client, false).await?;
    let paused = state(dev).await?;
    assert!(paused["listeners"][0]["paused"] == true && paused["listeners"][1]["paused"] == true, "{paused}");
    press(dev, "resume-listeners").await?;
    light(client, true).await?;
    let going = state(dev).await?;
    assert!(going["listeners"][0]["paused"] == false && going["listeners"][1]["paused"] == false, "{going}");
    Ok(())
}

async fn redis_starts_anew(running: &Dev, dev: &DevFile, client: &mut Client) -> Result<()> {
    press(dev, "restart-redis").await?;
    assert_ne!(DevFile::read(&running.dir)?.redis.pid, dev.redis.pid);
    light(client, true).await
}

async fn websockets_are_refused_while_http_goes_on(dev: &DevFile, client: &mut Client) -> Result<()> {
    press(dev, "block-websockets").await?;
    disconnected(client).await?;
    let handshake = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    assert_eq!(ask(&dev.url, "GET /ws", &handshake, None).await?.status, 503);
    // It is the edge that answers.
    let page = get(dev, "/v1/events").await?;
    assert_eq!((page.status, page.json()?["error"].as_str()), (401, Some("token")), "{page:?}");
    assert_eq!(state(dev).await?["websockets"], "blocked");
    press(dev, "allow-websockets").await?;
    assert_eq!(state(dev).await?["websockets"], "open");
    light(client, true).await
}

/// Shown at once, and acted on by the edges.
async fn the_switch_is_turned(dev: &DevFile) -> Result<()> {
    let bearer = format!("Bearer {}", token(dev, json!("m1"), 600).await?);
    let turns = [
        ("switch-off", "off", "polling"),
        ("switch-off", "off", "polling"),
        ("switch-on", "on", "websocket"),
    ];
    for (button, shown, transport) in turns {
        press(dev, button).await?;
        assert_eq!(state(dev).await?["switch"], shown, "{button}");
        wait_for(format!("{transport} by the edges"), SOON, || async {
            let page = ask(&dev.url, "GET /v1/events", &[("Authorization", &bearer)], None).await?;
            ensure!(page.status == 200 && page.json()?["transport"] == transport, "{page:?}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn without_the_demo_there_is_no_page_and_no_button() -> Result<()> {
    let place = Folder::new("page")?;
    let args = ["--no-demo", "--listeners", "1", "--edges", "1"];
    let running = Dev::spawn(&place.path().join("dir"), &place.path().join("log"), &args)?;
    let dev = running.ready().await?;
    for path in ["/", "/demo/state"] {
        // The edge's own answer.
        let (status, body) = http_get(host(&dev.url), path).await?;
        assert!(status == 404 && body.contains("/ws"), "{path}: {status} {body}");
    }
    running.interrupt().await
}
