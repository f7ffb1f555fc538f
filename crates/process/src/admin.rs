//! The admin port: `/live`, `/ready`, `/metrics`. It is not for clients and not for the internet.

use std::{future::Future, io, net::TcpListener};

use actix_web::{App, HttpResponse, HttpServer, http::header, web};

use crate::{
    metrics::{Metrics, TEXT_FORMAT},
    readiness::Readiness,
};

/// Serves the admin port on a bound socket until `shutdown` resolves. Pass a `shutdown` that resolves after the
/// process has drained, so that a balancer sees "not ready" and metrics are read to the end.
///
/// It runs on any tokio runtime, with one worker thread of its own; spawn it as an owned task.
///
/// # Errors
/// When the socket cannot be served.
pub async fn serve(
    listener: TcpListener,
    metrics: Metrics,
    readiness: Readiness,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let server = HttpServer::new(move || {
        App::new()
            .app_data(web::Data::new(metrics.clone()))
            .app_data(web::Data::new(readiness.clone()))
            .route("/live", web::get().to(live))
            .route("/ready", web::get().to(ready))
            .route("/metrics", web::get().to(text_metrics))
    })
    .workers(1)
    .disable_signals()
    .shutdown_timeout(1)
    .listen(listener)?
    .run();
    let handle = server.handle();
    tokio::pin!(server);
    tokio::select! {
        result = &mut server => return result,
        () = shutdown => {}
    }
    // The handle's future is answered by the server, so both have to be driven.
    let ((), result) = tokio::join!(handle.stop(true), server);
    result
}

async fn live() -> HttpResponse {
    HttpResponse::Ok().json(serde_json::json!({ "live": true }))
}

async fn ready(readiness: web::Data<Readiness>) -> HttpResponse {
    let waiting: serde_json::Map<String, serde_json::Value> =
        readiness.waiting_for().into_iter().map(|(name, reason)| (name.to_owned(), reason.into())).collect();
    match waiting.is_empty() {
        true => HttpResponse::Ok().json(serde_json::json!({ "ready": true })),
        false => HttpResponse::ServiceUnavailable()
            .json(serde_json::json!({ "ready": false, "waiting_for": waiting })),
    }
}

async fn text_metrics(metrics: web::Data<Metrics>) -> HttpResponse {
    match metrics.encode() {
        Ok(text) => HttpResponse::Ok().insert_header((header::CONTENT_TYPE, TEXT_FORMAT)).body(text),
        Err(error) => {
            tracing::error!(%error, "metrics could not be written");
            HttpResponse::InternalServerError().body(error.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::{ports, shutdown::Signal, supervise::Tasks};

    async fn get(address: SocketAddr, path: &str) -> (u16, String) {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn live_ready_and_metrics_are_answered_as_an_owned_task_until_shutdown() {
        let listener = ports::bind("admin.listen", "127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (readiness, shutdown) = (Readiness::new(), Signal::manual());
        let latch = readiness.latch("redis");
        let metrics = Metrics::new("edge", "1").unwrap();
        let mut tasks = Tasks::new();
        tasks.essential("admin", {
            let (readiness, shutdown) = (readiness.clone(), shutdown.clone());
            async move {
                serve(listener, metrics, readiness, async move { shutdown.requested().await }).await?;
                Ok(())
            }
        });

        assert_eq!(get(address, "/live").await.0, 200);
        let (status, body) = get(address, "/ready").await;
        assert_eq!(status, 503);
        assert_eq!(body, r#"{"ready":false,"waiting_for":{"redis":"starting"}}"#);
        latch.set_ready();
        assert_eq!(get(address, "/ready").await, (200, r#"{"ready":true}"#.to_owned()));
        let (status, body) = get(address, "/metrics").await;
        assert!(status == 200 && body.contains("process_open_fds"), "{body}");

        shutdown.trigger();
        tasks.run(&shutdown).await.unwrap();
        tasks.finish(std::time::Duration::from_secs(5)).await.unwrap();
        assert!(tokio::net::TcpStream::connect(address).await.is_err());
    }
}
