//! A client of the native WebSocket that reconnects and resumes: the one behind `tail`, and for programs that hold
//! a connection in Rust. What it prints is not its own; browsers have their own client.
//!
//! It is pulled: [`Client::next`] does all the work, so there is no task and no queue behind it, and a reader that
//! stops reading is a slow client to the server, as it should be. `next` may be dropped at any await and called again.
//!
//! A `resync` is taken as done once it has been returned: there is no snapshot to wait for here.

mod backoff;
mod connection;
mod frames;
mod positions;
mod types;

use std::{collections::BTreeMap, time::Duration};

use rowcast_protocol::close::{CloseCode, Reconnect};
use tokio::time::Instant;

pub use backoff::Backoff;
pub use connection::{InvalidUrl, socket_url};
pub use frames::{Delivery, Resync, RoomState, Status, Welcome};
pub use positions::Step;
pub use types::{ClientError, Counters, Event, Options, TokenSource};

use connection::{Connection, Incoming, OpenError};
use frames::Frame;
use positions::Positions;

/// Sign-ins refused in a row before a client with renewable tokens gives up: more would not help.
const MAX_TOKEN_REFUSALS: u32 = 3;

/// A connection that lasted this long was a good one: the next outage begins with short delays again.
const STEADY: Duration = Duration::from_secs(10);

/// See the module's documentation.
#[derive(Debug)]
pub struct Client {
    options: Options,
    positions: Positions,
    counters: Counters,
    state: State,
    /// An event that is ready while something still has to be sent.
    ready: Option<Event>,
    refusals: u32,
    /// The delay that the server asked for in `bye`.
    asked_delay: Option<Duration>,
    welcomed_before: bool,
}

#[derive(Debug)]
enum State {
    Waiting { until: Instant },
    Open { connection: Box<Connection>, welcomed_at: Option<Instant> },
    GivenUp(ClientError),
}

impl Client {
    /// A client that connects on the first [`Client::next`].
    pub fn new(options: Options) -> Self {
        let positions = Positions::new(options.resume.clone(), options.types.is_some());
        Self {
            options,
            positions,
            counters: Counters::default(),
            state: State::Waiting { until: Instant::now() },
            ready: None,
            refusals: 0,
            asked_delay: None,
            welcomed_before: false,
        }
    }

    /// What was counted so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The cursors to resume from, by room.
    pub fn cursors(&self) -> &BTreeMap<String, String> {
        self.positions.cursors()
    }

    /// The next event. Reconnects as long as it takes.
    ///
    /// # Errors
    /// When trying again would not help; every later call gives the same error.
    pub async fn next(&mut self) -> Result<Event, ClientError> {
        loop {
            if let Some(event) = self.ready.take() {
                return Ok(event);
            }
            let event = match &mut self.state {
                State::GivenUp(error) => return Err(error.clone()),
                State::Waiting { until } => {
                    tokio::time::sleep_until(*until).await;
                    self.connect().await
                }
                State::Open { connection, .. } => match connection.next().await {
                    Incoming::Frame(frame) => self.take(frame).await,
                    Incoming::Lost { reason, code } => self.lost(reason, code),
                },
            };
            match event {
                Ok(Some(event)) => return Ok(event),
                Ok(None) => {}
                Err(error) => self.state = State::GivenUp(error),
            }
        }
    }

    /// Says goodbye to the server, if it is there.
    pub async fn close(self) {
        if let State::Open { connection, .. } = self.state {
            connection.close().await;
        }
    }

    async fn connect(&mut self) -> Result<Option<Event>, ClientError> {
        let token = self.options.token.token()?;
        let hello = serde_json::json!({
            "op": "auth",
            "token": token,
            "resume": self.positions.cursors(),
            "types": self.options.types,
            "report": self.counters,
        });
        match Connection::open(&self.options.url, hello.to_string()).await {
            Ok(connection) => {
                self.state = State::Open { connection: Box::new(connection), welcomed_at: None };
                Ok(None)
            }
            Err(OpenError::Url(error)) => Err(error.into()),
            Err(OpenError::Refused { code, reason }) => Err(ClientError::Refused { code, reason }),
            Err(OpenError::Failed { reason, retry_after }) => {
                self.asked_delay = retry_after;
                Ok(Some(self.wait(reason, None)))
            }
        }
    }

    async fn take(&mut self, frame: Frame) -> Result<Option<Event>, ClientError> {
        let event = match frame {
            Frame::Welcome(welcome) => {
                self.refusals = 0;
                if std::mem::replace(&mut self.welcomed_before, true) {
                    self.counters.reconnects += 1;
                }
                if let State::Open { connection, welcomed_at } = &mut self.state {
                    *welcomed_at = Some(Instant::now());
                    connection.expect_heartbeat(welcome.heartbeat);
                }
                self.positions.welcome(&welcome.rooms);
                Event::Welcome(welcome)
            }
            Frame::Event(delivery) => {
                let step = self.positions.step(&delivery.room, &delivery.cursor);
                match step {
                    Step::Repeat => {
                        self.counters.repeats += 1;
                        return Ok(None);
                    }
                    Step::Gap => self.counters.gaps += 1,
                    Step::Next => {}
                }
                self.counters.events += 1;
                Event::Delivery(delivery, step)
            }
            Frame::Resync(resync) => {
                self.counters.resyncs += 1;
                self.positions.set(&resync.room, &resync.cursor);
                Event::Resync(resync)
            }
            Frame::Cursor { room, cursor } => {
                self.positions.set(&room, &cursor);
                return Ok(None);
            }
            Frame::Status(status) => Event::Status(status),
            Frame::TokenExpiring { seconds } => {
                self.ready = Some(Event::TokenExpiring(seconds));
                return self.refresh().await;
            }
            Frame::Refreshed { expires_at, rooms } => {
                self.positions.welcome(&rooms);
                Event::Refreshed { expires_at }
            }
            Frame::Bye { code, reconnect_in_ms } => {
                self.asked_delay = Some(Duration::from_millis(reconnect_in_ms));
                Event::Bye { code }
            }
            Frame::Other => return Ok(None),
        };
        Ok(Some(event))
    }

    async fn refresh(&mut self) -> Result<Option<Event>, ClientError> {
        if let TokenSource::Renewable(_) = self.options.token {
            let token = self.options.token.token()?;
            let refresh = serde_json::json!({ "op": "refresh", "token": token }).to_string();
            if let State::Open { connection, .. } = &mut self.state {
                // A failure shows at the next read, which is where lost connections are handled.
                connection.send(refresh).await;
            }
        }
        Ok(None)
    }

    /// The connection has ended: decides whether to come back, as the close code says.
    fn lost(&mut self, reason: String, code: Option<u16>) -> Result<Option<Event>, ClientError> {
        if let State::Open { welcomed_at: Some(at), .. } = self.state
            && at.elapsed() >= STEADY
        {
            self.options.backoff.reset();
        }
        let known = CloseCode::ALL.into_iter().find(|known| Some(known.code()) == code);
        if known == Some(CloseCode::SwitchedToPolling) {
            // It has no other way in, and asks now and then whether sockets are switched on again.
            self.asked_delay = None;
            return Ok(Some(self.wait(reason, code)));
        }
        match (known.map(CloseCode::reconnect), code) {
            (Some(Reconnect::Never), Some(code)) => return Err(ClientError::Refused { code, reason }),
            (Some(Reconnect::NewToken), Some(code)) => {
                self.refusals += 1;
                let renewable = matches!(self.options.token, TokenSource::Renewable(_));
                if !renewable || self.refusals >= MAX_TOKEN_REFUSALS {
                    return Err(ClientError::Refused { code, reason });
                }
            }
            _ => {}
        }
        Ok(Some(self.wait(reason, code)))
    }

    fn wait(&mut self, reason: String, code: Option<u16>) -> Event {
        let own = self.options.backoff.next(rand::random());
        let retry_in = self.asked_delay.take().unwrap_or(own);
        self.state = State::Waiting { until: Instant::now() + retry_in };
        Event::Disconnected { reason, code, retry_in }
    }
}

#[cfg(test)]
mod tests;
