//! How much a socket does before others on its thread have their turn.

use std::rc::Rc;
use std::time::Duration;

use rowcast_process::metrics::Metrics as Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::native::Native;
use super::*;
use crate::accept::Caller;
use crate::auth::Verifier;
use crate::limits::LimitsConfig;
use crate::metrics::Metrics;
use crate::session::{Pings, SessionLimits};
use crate::worker::Worker;

/// A socket whose client has sent a thousand pings, and a worker.
fn flooded(io: DuplexStream) -> Socket<DuplexStream, Native> {
    having_received(io, &[0x89, 0x80, 0, 0, 0, 0].repeat(1_000))
}

/// A socket whose client has sent this, and a worker.
fn having_received(io: DuplexStream, received: &[u8]) -> Socket<DuplexStream, Native> {
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
    Socket::new(io, received, 64 * 1024, Native::new(connection, worker), numbers)
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

#[tokio::test]
async fn a_close_that_was_answered_ends_the_connection_at_once() {
    const CLOSE: [u8; 8] = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8];
    // Something that was on its way comes before the answer.
    let late = [0x81, 0x82, 0, 0, 0, 0, b'{', b'}'];
    let ping = [0x89, 0x80, 0, 0, 0, 0];
    for answer in [CLOSE.to_vec(), [&late[..], &ping, &CLOSE].concat()] {
        for cut in [1, 5, 100] {
            let (mut client, server) = tokio::io::duplex(1024);
            let mut socket = having_received(server, &[]);
            socket.speech.close(CloseCode::Restart, "going", now());
            let poll =
                |socket: &mut Socket<_, _>, context: &mut Context<'_>| Poll::Ready(socket.poll(context));
            let polled = std::future::poll_fn(|context| poll(&mut socket, context)).await;
            assert!(polled.is_pending(), "the client has its time to answer");
            let mut said = [0; 9];
            client.read_exact(&mut said).await.expect("a close");
            assert_eq!(said[..4], [0x88, 7, 0x03, 0xf4]);
            let mut over = false;
            for part in answer.chunks(cut) {
                assert!(!over, "before the answer is whole");
                client.write_all(part).await.expect("it fits");
                tokio::task::yield_now().await;
                over = std::future::poll_fn(|context| poll(&mut socket, context)).await.is_ready();
            }
            assert!(over, "what is there still to wait for?");
        }
    }
}
