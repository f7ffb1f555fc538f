//! The ways in by HTTP: `GET {base}/v1/events` as server-sent events ([`sse`]) and as JSON pages ([`page`]), drivers of
//! the same sessions that sockets have, on the same worker's thread. Here is what they share: who may come in, and that
//! whoever goes leaves its rooms.

pub mod ask;
pub mod error;
pub mod origins;
pub mod page;
pub mod sse;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use actix_http::header::{self, HeaderMap};
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::middleware::Next;
use actix_web::{HttpRequest, HttpResponse, web};

use crate::auth::Identity;
use crate::limits::Open;
use crate::metrics::Metrics;
use crate::reach::Reach;
use crate::server::Local;
use crate::session::Outgoing;
use crate::socketio::handshake::{self, EngineFault};
use crate::worker::{Connection, Transport, Worker, now};
use ask::Ask;
use error::Refusal;
use origins::{Judgement, Origins};

/// What is served, and what is said everywhere else.
pub fn routes(config: &mut web::ServiceConfig, local: &Local) {
    let base = local.shared.config.base_path.clone();
    let events = {
        let local = local.clone();
        move |request: HttpRequest| events(local.clone(), request)
    };
    let not_allowed = || async { Refusal::Method.response() };
    config
        .service(
            web::resource(format!("{base}/v1/events"))
                .route(web::get().to(events))
                .default_service(web::to(not_allowed)),
        )
        .service(
            web::resource(format!("{base}/ws"))
                .default_service(web::to(|| async { Refusal::NoUpgrade.response() })),
        )
        .configure(|routes| engine_io(routes, local))
        .default_service(web::to(move || {
            let refusal = Refusal::NotFound(base.clone());
            async move { refusal.response() }
        }));
}

/// What asks for no WebSocket where clients of Socket.IO do.
fn engine_io(config: &mut web::ServiceConfig, local: &Local) {
    if !local.shared.config.socketio.enabled {
        return;
    }
    for end in ["", "/"] {
        let path = format!("{}{}{end}", local.shared.config.base_path, handshake::PATH);
        config.service(web::resource(path).default_service(web::to(|request: HttpRequest| async move {
            let judged = handshake::judge(request.method(), request.query_string());
            Refusal::Engine(judged.err().unwrap_or(EngineFault::Request)).response()
        })));
    }
}

/// Judges the origin before anything else, and lets pages of allowed ones read every answer.
pub async fn guard<B: MessageBody + 'static>(
    origins: Origins,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let judgement = origins.judge(request.headers());
    let asks_first = request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = match &judgement {
        Judgement::Refused => request.into_response(Refusal::Origin.response()),
        Judgement::Allowed(_) if asks_first => {
            let mut answer = HttpResponse::NoContent();
            Origins::preflight().into_iter().for_each(|header| {
                answer.append_header(header);
            });
            request.into_response(answer.finish())
        }
        _ => next.call(request).await?.map_into_boxed_body(),
    };
    for (name, value) in origins.headers(&judgement) {
        response.headers_mut().append(name, value);
    }
    Ok(response)
}

async fn events(local: Local, request: HttpRequest) -> HttpResponse {
    let streams = accepts_event_stream(request.headers());
    let transport = if streams { Transport::EventStream } else { Transport::Page };
    let response = match enter(&local, &request, transport).await {
        Ok(entered) if streams => sse::response(entered),
        Ok(entered) => page::response(entered).await,
        Err(refusal) => refusal.response(),
    };
    local.shared.metrics.http_request(transport, response.status().as_u16());
    response
}

/// A request that was let in.
pub struct Entered {
    ask: Ask,
    carried: Carried,
    reach: Reach,
    metrics: Arc<Metrics>,
}

async fn enter(local: &Local, request: &HttpRequest, transport: Transport) -> Result<Entered, Refusal> {
    let config = &local.shared.config;
    let limits = &local.shared.limits;
    let caller = local.shared.caller(request.peer_addr(), request.headers(), request.conn_data());
    limits.knock(caller.address, Instant::now()).map_err(Refusal::Limit)?;
    let id = request.headers().get("last-event-id").filter(|_| transport == Transport::EventStream);
    // No edge gave out what is not text; it leads to a resync like any other nonsense.
    let id = id.map(|id| String::from_utf8_lossy(id.as_bytes()));
    let ask = Ask::parse(request.query_string(), id.as_deref(), config.max_wait)?;
    let identity = identity(local, request.headers(), &ask).await?;
    if local.worker.borrow().is_draining() {
        return Err(Refusal::Draining);
    }
    let open = limits.enter(caller.address).map_err(Refusal::Limit)?;
    let resume = ask.resume(&identity.rooms);
    let reach = Reach::new(&identity.rooms, &resume);
    let entered = local.worker.borrow_mut().enter(transport, caller, identity, &resume, ask.types.as_deref());
    let connection = entered.map_err(Refusal::Limit)?;
    let worker = Rc::clone(&local.worker);
    let carried = Carried { connection, worker, _open: open };
    Ok(Entered { ask, carried, reach, metrics: Arc::clone(&local.shared.metrics) })
}

/// Who asks, with the rooms that it asks for.
async fn identity(local: &Local, headers: &HeaderMap, ask: &Ask) -> Result<Identity, Refusal> {
    let in_url = ask.access_token.as_deref().filter(|_| local.shared.config.token_in_url);
    let token = bearer(headers).or(in_url).ok_or(Refusal::NoToken)?;
    let verdict = local.worker.borrow().judge(token);
    let judged = verdict.judged().await;
    let mut identity = local.worker.borrow().admit_new(judged).map_err(Refusal::Token)?;
    if let Some(room) = &ask.room
        && !identity.ask_for(room)
    {
        return Err(Refusal::NotAllowed);
    }
    Ok(identity)
}

/// The token of an `Authorization: Bearer`. Of two, who is in front may have judged the other one: they count as none.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(header::AUTHORIZATION);
    let only = all.next().filter(|_| all.next().is_none())?;
    of_bearer(only.to_str().ok()?)
}

/// The token behind the scheme `Bearer`.
pub fn of_bearer(credentials: &str) -> Option<&str> {
    let (scheme, token) = credentials.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn accepts_event_stream(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).filter_map(|value| value.to_str().ok());
    let mut kinds =
        accepted.flat_map(|value| value.split(',')).map(|kind| kind.split(';').next().unwrap_or_default());
    kinds.any(|kind| kind.trim().eq_ignore_ascii_case("text/event-stream"))
}

/// A session that a request carries. However the request ends, by a panic too, the session leaves its rooms.
struct Carried {
    connection: Rc<Connection>,
    worker: Rc<RefCell<Worker>>,
    _open: Open,
}

impl Carried {
    /// The next thing to send.
    fn take(&self) -> Option<Outgoing> {
        self.connection.session.borrow_mut().next_outgoing()
    }

    /// What was taken is on its way: where that was all, the session asks for what comes next.
    fn wrote(&self) {
        let effects = self.connection.session.borrow_mut().wrote(now());
        if !effects.is_empty() {
            self.worker.borrow_mut().carry_out(&self.connection, effects);
        }
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        if let Ok(mut worker) = self.worker.try_borrow_mut() {
            worker.disconnect(&self.connection);
        }
    }
}
