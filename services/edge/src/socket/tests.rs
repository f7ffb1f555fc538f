//! How much a socket does before others on its thread have their turn.

use std::rc::Rc;
use std::time::Duration;

use rowcast_process::metrics::Metrics as Registry;
use tokio::io::AsyncWriteExt;

use super::native::Native;
use super::*;
use crate::accept::Caller;
use crate::auth::Verifier;
use crate::limits::LimitsConfig;
use crate::metrics::Metrics;
use crate::session::{Pings, SessionLimits};
use crate::worker::Worker;

/// A socket whose client has sent a thousand pings, and a worker.
fn flooded(io: tokio::io::DuplexStream) -> Socket<tokio::io::DuplexStream, Native> {
    let registry = Registry::new("edge", "test").expect("a registry");
    let metrics = Arc::new(Metrics::new(&registry).expect("metrics"));
    // Without bounds on what is sent.
    let numbers = Limits::new(LimitsConfig::default(), Arc::clone(&metrics));
    let long = Duration::from_secs(60);
    let session = SessionLimits {
        sign_in: long,
        heartbeat: long,
        silence: None,
        pings: Pings::WhenSilent,
        queue_frames: 100_000,
        queue_bytes: 100_000_000,
        stalled: long,
        refreshes: 0,
        closing: long,
    };
    let verifier = Arc::new(Verifier::hs256(b"a secret of at least thirty-two bytes", "merchantId", 0));
    let (to_hub, _inbox) = tokio::sync::mpsc::channel(64);
    let worker = Worker::new(0, verifier, session, metrics, Arc::clone(&numbers), to_hub);
    let worker = Rc::new(RefCell::new(worker));
    let connection = worker.borrow_mut().connect(None, Caller::default());
    let pings = [0x89, 0x80, 0, 0, 0, 0].repeat(1_000);
    Socket::new(io, &pings, 64 * 1024, Native::new(connection, worker), numbers)
}

#[tokio::test]
async fn a_socket_that_sends_much_leaves_others_their_turn() {
    let (mut client, server) = tokio::io::duplex(1024 * 1024);
    client.write_all(&[0x8a, 0x80, 0, 0, 0, 0].repeat(100_000)).await.expect("it fits");
    let mut socket = flooded(server);
    let mut turns = 0;
    let mut heard = 0;
    while heard < 1_000 {
        // Else tokio thinks that this task has done enough.
        tokio::task::yield_now().await;
        let polled = std::future::poll_fn(|context| Poll::Ready(socket.poll(context))).await;
        assert!(polled.is_pending(), "nobody has ended it");
        let mut pongs = [0; 4_096];
        let mut buffer = ReadBuf::new(&mut pongs);
        let _more = std::future::poll_fn(|context| {
            Poll::Ready(Pin::new(&mut client).poll_read(context, &mut buffer))
        })
        .await;
        let now = buffer.filled().len() / 2;
        // Those of the turn before, and of this one where it ended early.
        assert!(now <= 2 * MESSAGES_A_TURN, "{now} pings were answered in one turn");
        (heard, turns) = (heard + now, turns + 1);
    }
    assert!(turns >= 1_000 / MESSAGES_A_TURN, "{turns} turns");
}
