//! The server of the demo's page and its API, behind the balancer, on the same origin as the edges. It binds to loopback
//! alone. What the page looks like is in `clients/demo`.

mod answer;
mod bookings;
mod breaking;
mod files;
mod guard;
mod state;
mod switch;
mod tokens;

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::middleware::from_fn;
use actix_web::web::{self, Data};
use actix_web::{App, HttpServer};
use anyhow::{Context as _, anyhow};
use tokio::task::JoinHandle;

use super::demo::Bookings;
use super::fleet::Controls;
use files::Files;
use guard::Guard;
use switch::Switch;
use tokens::Tokens;

/// A request is small: a booking, a name.
const MAX_BODY: usize = 16 * 1024;
/// For answers under way, at the end.
const GOODBYE: Duration = Duration::from_secs(1);

/// How long a connection may wait for its next request: longer than the balancer keeps one, so that none is closed under
/// a request.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// What the page's server works with.
pub struct Site {
    /// The servers that the page shows, and breaks.
    pub controls: Controls,
    /// The shop.
    pub bookings: Bookings,
    /// The address of the schema's owner, who may turn switches.
    pub database_url: String,
    /// Where the built page is.
    pub page: PathBuf,
    /// The balancer's port: the origin that the page has.
    pub port: u16,
    /// Signs the page's tokens.
    pub jwt_secret: String,
}

/// The running server.
pub struct PageServer {
    handle: ServerHandle,
    server: JoinHandle<std::io::Result<()>>,
}

impl PageServer {
    /// Serves the bound socket.
    ///
    /// # Errors
    /// When the socket can not be served.
    pub fn start(listener: TcpListener, site: Site) -> anyhow::Result<Self> {
        let tokens = Data::new(Tokens::new(site.jwt_secret));
        let files = Data::new(Files::new(site.page));
        let guard = Arc::new(Guard::new(site.port));
        let (controls, bookings) = (Data::new(site.controls), Data::new(site.bookings));
        let switch = Data::new(Switch::new(site.database_url));
        let app = move || {
            let guard = guard.clone();
            App::new()
                .app_data(controls.clone())
                .app_data(bookings.clone())
                .app_data(switch.clone())
                .app_data(tokens.clone())
                .app_data(files.clone())
                .app_data(answer::json_config(MAX_BODY))
                .app_data(answer::query_config())
                .wrap(from_fn(move |request, next| guard::check(guard.clone(), request, next)))
                .service(web::scope("/demo").configure(api))
                .default_service(web::to(files::serve))
        };
        let server = HttpServer::new(app)
            .workers(1)
            .keep_alive(KEEP_ALIVE)
            .disable_signals()
            .shutdown_timeout(GOODBYE.as_secs())
            .listen(listener)
            .context("serving the page")?
            .run();
        Ok(Self { handle: server.handle(), server: tokio::spawn(server) })
    }

    /// Resolves when it ends, which it does not do by itself.
    pub async fn failed(&mut self) -> anyhow::Error {
        match (&mut self.server).await {
            Ok(Ok(())) => anyhow!("the page's server has ended"),
            Ok(Err(error)) => anyhow::Error::new(error).context("the page's server"),
            Err(error) => anyhow::Error::new(error).context("the page's server"),
        }
    }

    /// Ends it, and connections with it: browsers keep theirs open for long.
    pub async fn stop(self) {
        if self.server.is_finished() {
            return;
        }
        self.handle.stop(false).await;
        match self.server.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the page's server"),
            Err(error) => tracing::error!(%error, "the page's server"),
        }
    }
}

fn api(config: &mut web::ServiceConfig) {
    let only = |methods: &'static str| web::to(move || answer::wrong_method(methods));
    config
        .service(web::resource("/state").get(state::state).default_service(only("GET")))
        .service(web::resource("/token").post(tokens::token).default_service(only("POST")))
        .service(
            web::resource("/bookings")
                .get(bookings::list)
                .post(bookings::book)
                .default_service(only("GET, POST")),
        )
        .service(
            web::resource("/bookings/{id}")
                .patch(bookings::change)
                .delete(bookings::remove)
                .default_service(only("PATCH, DELETE")),
        )
        .service(web::resource("/break/{what}").post(breaking::carry_out).default_service(only("POST")))
        .default_service(web::to(answer::not_found));
}
