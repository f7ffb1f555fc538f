//! From where browsers may come, by HTTP and by sockets, and what wrong paths say: each answer to a page that may come
//! can be read by it, refusals too.

mod support;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use support::http::Answer;
use support::{Edge, Stage, token};
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::http::Response;

const APP: &str = "https://app.example.com";
const LIST: &str = "https://app.example.com,https://*.shop.test";

/// Status, headers and body of a refused handshake.
async fn refused(edge: &Edge, path: &str, origin: &str) -> Result<Response<Option<Vec<u8>>>> {
    let Err(error) = edge.handshake(path, &[("Origin", origin)]).await else {
        anyhow::bail!("{path} is served")
    };
    match error.downcast::<Error>()? {
        Error::Http(response) => Ok(*response),
        other => Err(other.into()),
    }
}

/// Requests of every kind that is answered, with the status that they get from whoever may come.
async fn every_kind(edge: &Edge, origin: Option<&str>) -> Result<Vec<(u16, Answer)>> {
    let bearer = format!("Bearer {}", token(json!("m1")));
    let with = ("authorization", bearer.as_str());
    let kinds = [
        (200, "GET", "/v1/events", vec![with]),
        (200, "GET", "/v1/events", vec![with, ("accept", "text/event-stream")]),
        (401, "GET", "/v1/events", vec![]),
        (400, "GET", "/v1/events?wait=x", vec![with]),
        (405, "POST", "/v1/events", vec![with]),
        (404, "GET", "/events", vec![]),
        (426, "GET", "/ws", vec![]),
    ];
    let mut answers = Vec::new();
    for (status, method, path, mut headers) in kinds {
        headers.extend(origin.map(|origin| ("origin", origin)));
        let mut exchange = support::http::Exchange::begin(&edge.listen, method, path, &headers).await?;
        answers.push((status, exchange.head().await?));
    }
    Ok(answers)
}

#[tokio::test]
async fn pages_of_allowed_origins_can_read_every_answer_and_others_get_none() -> Result<()> {
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    let edge = stage.edge(&[("EDGE__ALLOWED_ORIGINS", LIST)]).await?;
    for origin in [APP, "https://a.shop.test"] {
        for (status, answer) in every_kind(&edge, Some(origin)).await? {
            ensure!(answer.status == status, "{answer:?}, not {status}");
            ensure!(answer.header("access-control-allow-origin") == origin, "{answer:?}");
            ensure!(answer.header("vary").contains("Origin"), "{answer:?}");
            ensure!(
                answer.header("access-control-allow-credentials").is_empty(),
                "cookies say nothing: {answer:?}"
            );
        }
    }
    for origin in ["https://evil.test", "https://app.example.com.evil.test", "null"] {
        for (_, answer) in every_kind(&edge, Some(origin)).await? {
            ensure!(
                answer.status == 403 && answer.header("access-control-allow-origin").is_empty(),
                "{answer:?}"
            );
        }
        let answer = edge.request("GET", "/v1/events", &[("origin", origin)]).await?;
        assert_eq!(answer.refusal()?, (403, "origin".to_owned()));
    }
    for (status, answer) in every_kind(&edge, None).await? {
        ensure!(answer.status == status, "programs send no Origin: {answer:?}, not {status}");
        ensure!(answer.header("access-control-allow-origin").is_empty(), "{answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_preflight_is_answered_for_allowed_origins_alone() -> Result<()> {
    let mut stage = Stage::new().await?;
    let edge = stage.edge(&[("EDGE__ALLOWED_ORIGINS", LIST)]).await?;
    let ask = |origin| {
        [
            ("origin", origin),
            ("access-control-request-method", "GET"),
            ("access-control-request-headers", "authorization"),
        ]
    };
    for path in ["/v1/events", "/nowhere"] {
        let answer = edge.request("OPTIONS", path, &ask(APP)).await?;
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (204, APP));
        assert_eq!(answer.header("access-control-max-age"), "7200");
        for allowed in ["authorization", "last-event-id"] {
            ensure!(answer.header("access-control-allow-headers").contains(allowed), "{answer:?}");
        }
        ensure!(answer.header("vary").contains("Origin"), "{answer:?}");
        let refused = edge.request("OPTIONS", path, &ask("https://evil.test")).await?;
        assert_eq!(refused.refusal()?, (403, "origin".to_owned()));
    }
    let open = stage.edge(&[]).await?;
    let answer = open.request("OPTIONS", "/v1/events", &ask(APP)).await?;
    ensure!(answer.status == 405 && answer.header("allow") == "GET", "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn without_a_list_nobody_else_can_read_answers_and_sockets_come_from_anywhere() -> Result<()> {
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    let edge = stage.edge(&[]).await?;
    for (status, answer) in every_kind(&edge, Some(APP)).await? {
        ensure!(answer.status == status, "{answer:?}, not {status}");
        let cors = answer.headers.keys().find(|name| name.starts_with("access-control"));
        ensure!(cors.is_none(), "{answer:?}");
    }
    edge.open(&[("Origin", "https://any.test")]).await.map(drop)
}

#[tokio::test]
async fn everybody_is_allowed_by_a_star() -> Result<()> {
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    let edge = stage.edge(&[("EDGE__ALLOWED_ORIGINS", "*")]).await?;
    for origin in ["https://any.test", "null"] {
        for (status, answer) in every_kind(&edge, Some(origin)).await? {
            ensure!(
                answer.status == status && answer.header("access-control-allow-origin") == origin,
                "{answer:?}"
            );
        }
        edge.open(&[("Origin", origin)]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn sockets_of_other_origins_are_refused_and_may_read_why() -> Result<()> {
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    let edge = stage.edge(&[("EDGE__ALLOWED_ORIGINS", LIST)]).await?;
    for origin in [APP, "https://a.shop.test"] {
        edge.open(&[("Origin", origin)]).await?;
    }
    edge.open(&[]).await?;
    for origin in ["https://evil.test", "null", "http://app.example.com"] {
        let response = refused(&edge, "/ws", origin).await?;
        assert_eq!(response.status(), 403);
        let body: Value = serde_json::from_slice(response.body().as_deref().context("a body")?)?;
        assert_eq!(body["error"], "origin");
    }
    let lost = refused(&edge, "/socket", APP).await?;
    assert_eq!(
        (lost.status().as_u16(), &lost.headers()["access-control-allow-origin"]),
        (404, &APP.parse()?)
    );
    assert_eq!(edge.metric("rowcast_edge_handshakes_total", "403").await?, 3.0);
    Ok(())
}

#[tokio::test]
async fn cookies_let_nobody_in() -> Result<()> {
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    let settings =
        [("EDGE__ALLOWED_ORIGINS", LIST), ("EDGE__SIGN_IN_TIMEOUT", "500ms"), ("AUTH__TOKEN_IN_URL", "true")];
    let edge = stage.edge(&settings).await?;
    let token = token(json!("m1"));
    for name in ["bearer", "token", "access_token", "Authorization", "session"] {
        let cookie = format!("{name}={token}");
        let headers = [("origin", APP), ("cookie", cookie.as_str())];
        for accept in ["application/json", "text/event-stream"] {
            let answer =
                edge.request("GET", "/v1/events", &[&headers[..], &[("accept", accept)]].concat()).await?;
            assert_eq!(answer.refusal()?, (401, "token".to_owned()), "{name}");
            ensure!(answer.header("set-cookie").is_empty(), "{answer:?}");
            ensure!(answer.header("access-control-allow-credentials").is_empty(), "{answer:?}");
        }
        let mut socket = edge.open(&[("Origin", APP), ("Cookie", &cookie)]).await?;
        assert_eq!(socket.closed().await?.0, 4408, "{name}: nobody has signed in");
    }
    // The same token lets somebody in where the page sends it itself.
    let bearer = format!("Bearer {token}");
    let answer = edge.request("GET", "/v1/events", &[("origin", APP), ("authorization", &bearer)]).await?;
    ensure!(answer.status == 200, "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn wrong_paths_name_the_right_ones_for_sockets_and_for_http() -> Result<()> {
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    for base in ["", "/api", "/a/b"] {
        let edge = stage.edge(&[("EDGE__BASE_PATH", base)]).await?;
        let right = json!({ "base_path": base, "websocket": format!("{base}/ws"), "events": format!("{base}/v1/events") });
        let names_it = |body: &Value| {
            let message = body["message"].as_str().unwrap_or_default();
            body["error"] == "not_found"
                && ["base_path", "websocket", "events"].iter().all(|name| body[name] == right[name])
                && message.contains(&format!("{base}/ws"))
                && message.contains(&format!("{base}/v1/events"))
        };
        for wrong in [
            "/",
            "/wrong/ws",
            "/wrong/v1/events",
            "/v2/events",
            "/ws/",
            &format!("{base}/v1/events/"),
            "/ws/ws",
        ] {
            let answer = edge.request("GET", wrong, &[]).await?;
            ensure!(answer.status == 404 && names_it(&answer.json()?), "{wrong}: {answer:?}");
            let response = refused(&edge, wrong, APP).await?;
            let body = serde_json::from_slice(response.body().as_deref().context("a body")?)?;
            ensure!(response.status() == 404 && names_it(&body), "{wrong}: {body}");
        }
        edge.handshake(&format!("{base}/ws"), &[]).await?;
        let bearer = format!("Bearer {}", token(json!("m1")));
        let page = edge.request("GET", &format!("{base}/v1/events"), &[("authorization", &bearer)]).await?;
        ensure!(page.status == 200, "{page:?}");
    }
    Ok(())
}
