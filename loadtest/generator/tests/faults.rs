//! The ledger can say no: between a server and the clients stands one who loses, repeats, swaps or misdirects, and the
//! report names each fault. The server is the floor, so that nothing of Rowcast can mend it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::{SinkExt, StreamExt};
use rowcast_generator::floor::Floor;
use rowcast_generator::{Plan, Report, Via};
use rowcast_sandbox::Postgres;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::{accept_hdr_async, connect_async};

const PROGRAM: &str = env!("CARGO_BIN_EXE_rowcast-generator");

/// What is done to the tenth event of each connection.
#[derive(Clone, Copy)]
enum Fault {
    None,
    Lose,
    Repeat,
    Swap,
    Misdirect,
}

#[tokio::test]
async fn without_a_fault_the_floor_is_clean() -> Result<()> {
    let report = run("none", Fault::None).await?;
    assert!(report.counts.is_clean(false) && report.counts.delivered == 4 * 50, "{report}");
    assert_eq!(report.latency.sent_to_client.count, 200);
    assert!(
        report.latency.sent_to_client.p50_ms > 0.0 && report.latency.at_to_client.p50_ms > 0.0,
        "{report}"
    );
    Ok(())
}

#[tokio::test]
async fn a_lost_event_is_seen() -> Result<()> {
    let report = run("lose", Fault::Lose).await?;
    assert_eq!((report.counts.lost, report.counts.is_clean(true)), (4, false), "{report}");
    Ok(())
}

#[tokio::test]
async fn a_repeated_event_is_seen() -> Result<()> {
    let report = run("repeat", Fault::Repeat).await?;
    assert_eq!((report.counts.repeated, report.counts.is_clean(true)), (4, false), "{report}");
    Ok(())
}

#[tokio::test]
async fn swapped_events_are_seen() -> Result<()> {
    let report = run("swap", Fault::Swap).await?;
    assert_eq!((report.counts.out_of_order, report.counts.is_clean(true)), (4, false), "{report}");
    Ok(())
}

#[tokio::test]
async fn an_event_of_another_room_is_seen() -> Result<()> {
    let report = run("misdirect", Fault::Misdirect).await?;
    assert_eq!((report.counts.foreign, report.counts.is_clean(true)), (4, false), "{report}");
    Ok(())
}

/// 4 sockets in 2 rooms, 100 events, through one who does harm.
async fn run(database: &str, fault: Fault) -> Result<Report> {
    let database_url = Postgres::shared().await?.create_database(database).await?;
    let mut plan = Plan::new(Vec::new(), database_url, "unused".to_owned());
    (plan.sockets, plan.rooms, plan.events, plan.rate) = (4, 2, 100, 0.0);
    (plan.via, plan.settle) = (Via::Notify, Duration::from_secs(2));
    let floor = Floor::start(Path::new(PROGRAM), &plan).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    plan.edges = vec![format!("http://{}", listener.local_addr()?)];
    let mut between = JoinSet::new();
    between.spawn(stand_between(listener, floor.url.replace("http", "ws"), fault));
    tokio::select! {
        report = rowcast_generator::run(&plan) => report,
        Some(ended) = between.join_next() => { ended??; anyhow::bail!("it never ends by itself") }
    }
}

async fn stand_between(listener: TcpListener, server: String, fault: Fault) -> Result<()> {
    let mut connections = JoinSet::new();
    loop {
        let (client, _) = listener.accept().await?;
        connections.spawn(pass_on(client, server.clone(), fault));
    }
}

async fn pass_on(client: TcpStream, server: String, fault: Fault) -> Result<()> {
    let mut path = String::new();
    #[expect(clippy::result_large_err, reason = "the type is tungstenite's")]
    let answer = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
        request.uri().path().clone_into(&mut path);
        response.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("rowcast.v1"));
        Ok(response)
    };
    let mut client = accept_hdr_async(client, answer).await?;
    let mut request = format!("{server}{path}").into_client_request()?;
    request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("rowcast.v1"));
    let (mut server, _) = connect_async(request).await?;
    let (mut events, mut held) = (0, None);
    while let Some(message) = server.next().await {
        let Message::Text(text) = message? else { continue };
        events += u32::from(text.contains(r#""op":"event""#));
        let message = Message::Text(text.clone());
        match fault {
            _ if events != 10 => client.send(message).await?,
            Fault::None => client.send(message).await?,
            Fault::Lose => {}
            Fault::Repeat => {
                client.send(message.clone()).await?;
                client.send(message).await?;
            }
            Fault::Swap => {
                held = Some(message);
                continue;
            }
            Fault::Misdirect => {
                client.send(message).await?;
                let room = path.trim_start_matches('/');
                client.send(Message::text(text.replace(room, "another"))).await?;
            }
        }
        if let Some(held) = held.take() {
            client.send(held).await?;
        }
    }
    client.close(None).await.context("closing")
}
