//! The server under measurement: one worker, one carrier, and routes of an ordinary `App` for everything else.

use std::net::TcpListener;
use std::time::Duration;

use actix_http::HttpService;
use actix_service::{fn_service, map_config};
use actix_web::dev::AppConfig;
use actix_web::{App, HttpResponse, HttpServer, web};
use anyhow::Result;
use bytes::Bytes;

use crate::{Carrier, carrier_body, carrier_raw, carrier_ws, hub};

/// Settings of the server that the probes change.
#[derive(Clone, Copy, clap::Args)]
pub struct Settings {
    /// Which way sockets are carried.
    #[arg(long)]
    pub carrier: Carrier,
    /// Connections that the worker takes.
    #[arg(long, default_value_t = 19_000)]
    pub max_connections: usize,
    /// Seconds that a graceful stop waits for connections.
    #[arg(long, default_value_t = 3)]
    pub shutdown_timeout: u64,
    /// Actix's default: a client's FIN does not end the connection.
    #[arg(long)]
    pub half_closed: bool,
}

/// Binds a free port, prints it, serves until a signal.
pub fn serve(settings: Settings) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    actix_rt::System::new().block_on(async move {
        match settings.carrier {
            Carrier::Raw | Carrier::RawCopy => raw(settings, listener).await,
            Carrier::Ws | Carrier::Body => with_app(settings, listener).await,
        }
    })
}

async fn with_app(settings: Settings, listener: TcpListener) -> Result<()> {
    let server = HttpServer::new(move || {
        let socket = match settings.carrier {
            Carrier::Ws => web::get().to(carrier_ws::socket),
            _ => web::get().to(carrier_body::socket),
        };
        App::new().app_data(web::Data::new(settings.carrier)).configure(routes).route("/ws", socket)
    });
    server
        .workers(1)
        .tcp_nodelay(true)
        .h1_allow_half_closed(settings.half_closed)
        .max_connections(settings.max_connections)
        .shutdown_timeout(settings.shutdown_timeout)
        .listen(listener)?
        .run()
        .await?;
    Ok(())
}

async fn raw(settings: Settings, listener: TcpListener) -> Result<()> {
    let address = listener.local_addr()?;
    let copying = settings.carrier == Carrier::RawCopy;
    actix_server::Server::build()
        .workers(1)
        .max_concurrent_connections(settings.max_connections)
        .shutdown_timeout(settings.shutdown_timeout)
        .listen("spike", listener, move || {
            let app = App::new().app_data(web::Data::new(settings.carrier)).configure(routes);
            HttpService::build()
                .tcp_nodelay(true)
                .h1_allow_half_closed(settings.half_closed)
                .local_addr(address)
                .upgrade(fn_service(move |upgrade| carrier_raw::socket(upgrade, copying)))
                .finish(map_config(app, |()| AppConfig::default()))
                .tcp()
        })?
        .run()
        .await?;
    Ok(())
}

fn routes(config: &mut web::ServiceConfig) {
    config.route("/tick", web::get().to(tick)).route("/open", web::get().to(open));
}

/// How often, how far apart and how many frames at once.
#[derive(serde::Deserialize)]
struct Ticks {
    count: u32,
    interval_ms: u64,
    frames: usize,
}

/// Broadcasts, then answers with the number of deliveries.
async fn tick(ticks: web::Query<Ticks>, carrier: web::Data<Carrier>) -> HttpResponse {
    let frame = Bytes::from(match carrier.as_ref() {
        Carrier::Ws => hub::payload(),
        Carrier::Body | Carrier::Raw | Carrier::RawCopy => hub::frame(),
    });
    let mut timer = tokio::time::interval(Duration::from_millis(ticks.interval_ms));
    let mut deliveries = 0;
    for _ in 0..ticks.count {
        timer.tick().await;
        deliveries += hub::broadcast(&frame, ticks.frames);
    }
    HttpResponse::Ok().body(deliveries.to_string())
}

async fn open() -> HttpResponse {
    HttpResponse::Ok().body(hub::open_sockets().to_string())
}
