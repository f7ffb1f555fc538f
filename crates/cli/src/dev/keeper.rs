//! Keeps one server running: what ends by itself is started again, on the same port and data. In between it takes orders:
//! whoever wants to see Rowcast heal has to break something first.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{anyhow, bail};
use rowcast_process::shutdown;
use rowcast_sandbox::{Haproxy, Postgres, Process, Redis, Signal};
use tokio::sync::{mpsc, oneshot};

use super::RestartAfter;
use super::board::{Board, Condition, Place};
use super::rowcast::Rowcast;
use super::say::Say;

/// Between attempts to start what did not come up.
const NEXT_ATTEMPT: Duration = Duration::from_millis(500);
/// What a listener or an edge has to hand over and say goodbye; a second signal then ends it at once. Nobody is left to
/// send elsewhere: all edges go.
const GOODBYE: Duration = Duration::from_secs(1);
const AT_ONCE: Duration = Duration::from_secs(1);
/// What PostgreSQL and Redis have to write everything. What is killed then loses nothing either, but starts slower.
const WRITING: Duration = Duration::from_secs(4);
/// Orders that wait for one server; whoever sends one more waits too.
const WAITING_ORDERS: usize = 8;
/// How long an order may take, a restart of the server included.
const ORDER: Duration = Duration::from_secs(30);

/// One of the servers, however it is started.
pub enum Server {
    /// The database server.
    Postgres(Postgres),
    /// Redis.
    Redis(Redis),
    /// HAProxy.
    Balancer(Haproxy),
    /// A listener or an edge.
    Rowcast(Rowcast),
}

impl Server {
    /// Its process.
    pub fn process(&self) -> &Process {
        match self {
            Self::Postgres(server) => server.process(),
            Self::Redis(server) => server.process(),
            Self::Balancer(server) => server.process(),
            Self::Rowcast(server) => server.process(),
        }
    }

    async fn restart(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Postgres(server) => server.restart().await,
            Self::Redis(server) => server.restart().await,
            Self::Balancer(server) => server.restart().await,
            Self::Rowcast(server) => server.restart(),
        }
    }

    /// Stops it in order, if it goes quickly; what is left ends with the value.
    pub async fn stop(self) {
        let stopped = match &self {
            Self::Postgres(server) => tokio::time::timeout(WRITING, server.stop()).await,
            Self::Redis(server) => tokio::time::timeout(WRITING, server.stop()).await,
            Self::Balancer(server) => Ok(server.stop().await),
            Self::Rowcast(server) => {
                let process = server.process();
                // An error says that it has ended already.
                let _ = process.signal(Signal::TERM).and_then(|()| process.signal(Signal::CONT));
                match process.wait_exit(GOODBYE).await {
                    Ok(_) => Ok(Ok(())),
                    Err(_) => Ok(process.stop(Signal::TERM, AT_ONCE).await.map(drop)),
                }
            }
        };
        match stopped {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!("{error:#}"),
            Err(_) => tracing::debug!("{} did not stop in time", self.process().name()),
        }
        // Dropping kills, and waits for the end, which blocks.
        let _ = tokio::task::spawn_blocking(move || drop(self)).await;
    }
}

/// What a server is to do, or to suffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// End at once, as in an accident; the keeper then does what it does about any end.
    Die,
    /// Stand still: SIGSTOP.
    Pause,
    /// Go on.
    Resume,
    /// End in order, and start again at once.
    Restart,
    /// Let WebSockets through, or not. Only the balancer can.
    Websockets(bool),
}

struct Request {
    order: Order,
    done: oneshot::Sender<anyhow::Result<()>>,
}

/// The way of orders to a server's keeper.
#[derive(Clone)]
pub struct Orders(mpsc::Sender<Request>);

impl Orders {
    /// Has an order carried out.
    ///
    /// # Errors
    /// When it can not be, or not in time because the server is only being started.
    pub async fn give(&self, order: Order) -> anyhow::Result<()> {
        let (done, answer) = oneshot::channel();
        let given = async {
            let left = || anyhow!("it has ended, and is left so");
            self.0.send(Request { order, done }).await.map_err(|_| left())?;
            answer.await.map_err(|_| left())?
        };
        match tokio::time::timeout(ORDER, given).await {
            Ok(outcome) => outcome,
            Err(_) => bail!("it did not do so within {ORDER:?}"),
        }
    }
}

/// Looks after one server.
pub struct Keeper {
    /// Which one.
    pub place: Place,
    /// What is done about its end.
    pub policy: RestartAfter,
    /// Where its condition is noted.
    pub board: Arc<Board>,
    /// Until when.
    pub stop: shutdown::Signal,
    /// Says what happens.
    pub say: Say,
    orders: mpsc::Receiver<Request>,
}

impl Keeper {
    /// One, and the way of orders to it.
    pub fn new(
        place: Place,
        policy: RestartAfter,
        board: Arc<Board>,
        stop: shutdown::Signal,
        say: Say,
    ) -> (Self, Orders) {
        let (sender, orders) = mpsc::channel(WAITING_ORDERS);
        (Self { place, policy, board, stop, say, orders }, Orders(sender))
    }

    /// Until everything is to stop; then it gives the server back.
    pub async fn keep(mut self, mut server: Server) -> Server {
        loop {
            let status = tokio::select! {
                biased;
                () = self.stop.requested() => return server,
                status = server.process().ended() => status,
                Some(request) = self.orders.recv() => {
                    let stop = self.stop.clone();
                    tokio::select! {
                        () = stop.requested() => return server,
                        () = self.carry_out(&mut server, request) => continue,
                    }
                }
            };
            self.board.set_condition(self.place, Condition::Down);
            let name = server.process().name().to_owned();
            let RestartAfter::Pause(pause) = self.policy else {
                self.say.line(&format!("{name} has ended ({status}) and is left so"));
                // Whoever gives an order is told.
                self.orders.close();
                while self.orders.recv().await.is_some() {}
                self.stop.requested().await;
                return server;
            };
            self.say.line(&format!("{name} has ended ({status}), starting it again in {pause:?}"));
            let again = tokio::select! {
                () = self.stop.requested() => false,
                () = self.start_again(&mut server, pause) => true,
            };
            if !again {
                return server;
            }
        }
    }

    async fn start_again(&self, server: &mut Server, pause: Duration) {
        tokio::time::sleep(pause).await;
        while let Err(error) = server.restart().await {
            self.say.line(&format!("{error:#}"));
            tokio::time::sleep(NEXT_ATTEMPT.max(pause)).await;
        }
        self.runs_again(server);
    }

    fn runs_again(&self, server: &Server) {
        let process = server.process();
        self.say.line(&format!("{} runs again, pid {}", process.name(), process.pid()));
        if let Err(error) = self.board.set_pid(self.place, process.pid()) {
            self.say.line(&format!("{error:#}"));
        }
    }

    async fn carry_out(&self, server: &mut Server, Request { order, done }: Request) {
        // Who gave up waiting does not want it any more.
        if done.is_closed() {
            return;
        }
        let outcome = self.obey(server, order).await;
        // The asker may have given up meanwhile.
        let _ = done.send(outcome);
    }

    async fn obey(&self, server: &mut Server, order: Order) -> anyhow::Result<()> {
        let name = server.process().name().to_owned();
        match (order, server) {
            (Order::Die, server) => {
                self.say.line(&format!("{name} is killed, as ordered"));
                server.process().signal(Signal::KILL)?;
                self.board.set_condition(self.place, Condition::Down);
                server.process().ended().await;
                Ok(())
            }
            (Order::Pause, server) => {
                server.process().signal(Signal::STOP)?;
                self.board.set_condition(self.place, Condition::Paused);
                self.say.line(&format!("{name} is paused, as ordered"));
                Ok(())
            }
            (Order::Resume, server) => {
                server.process().signal(Signal::CONT)?;
                self.board.set_condition(self.place, Condition::Up);
                self.say.line(&format!("{name} goes on"));
                Ok(())
            }
            (Order::Restart, server) => {
                self.say.line(&format!("{name} is started anew, as ordered"));
                self.board.set_condition(self.place, Condition::Down);
                server.restart().await?;
                self.runs_again(server);
                Ok(())
            }
            (Order::Websockets(allowed), Server::Balancer(balancer)) => {
                let outcome = balancer.set_websockets(allowed).await;
                self.board.set_websockets(balancer.websockets());
                let now =
                    if balancer.websockets() { "lets WebSockets through" } else { "refuses WebSockets" };
                self.say.line(&format!("{name} {now}"));
                outcome
            }
            (Order::Websockets(_), _) => bail!("{name} is no balancer"),
        }
    }
}
