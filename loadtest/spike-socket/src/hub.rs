//! The sockets of this thread and what waits for each: the part of an edge that all three carriers share here.
//!
//! Not here: how a frame reaches the wire, which is what the carriers differ in.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

/// Frames that may wait for one socket. At the bound the socket is ended, as an edge would end a slow client.
const BOUND: usize = 256;

/// Bytes of JSON in the frame that is broadcast.
pub const PAYLOAD: usize = 330;

/// Bytes of the frame on the wire: two bytes of header, two of length, the payload.
pub const FRAME: usize = PAYLOAD + 4;

thread_local! {
    static INBOXES: RefCell<Vec<Rc<Inbox>>> = const { RefCell::new(Vec::new()) };
}

/// What waits for one socket.
#[derive(Default)]
pub struct Inbox {
    queue: RefCell<VecDeque<Bytes>>,
    waker: Cell<Option<Waker>>,
    ended: Cell<bool>,
}

/// A socket's place among the receivers; dropping it is leaving.
pub struct Membership(Rc<Inbox>);

impl Membership {
    /// Adds a socket to the receivers of this thread.
    pub fn join() -> Self {
        let inbox = Rc::new(Inbox::default());
        INBOXES.with_borrow_mut(|all| all.push(inbox.clone()));
        Self(inbox)
    }

    /// The next frame that waits.
    pub fn pop(&self) -> Option<Bytes> {
        let mut queue = self.0.queue.borrow_mut();
        let frame = queue.pop_front();
        // What a burst needed is given back: thousands of sockets keep it otherwise.
        if queue.is_empty() && queue.capacity() > 8 {
            *queue = VecDeque::new();
        }
        frame
    }

    /// Lends the waiting frames; for a carrier that writes several at once.
    pub fn with_queue<T>(&self, use_queue: impl FnOnce(&mut VecDeque<Bytes>) -> T) -> T {
        let mut queue = self.0.queue.borrow_mut();
        let result = use_queue(&mut queue);
        if queue.is_empty() && queue.capacity() > 8 {
            *queue = VecDeque::new();
        }
        result
    }

    /// Puts a frame behind the others.
    pub fn push(&self, frame: Bytes) {
        self.0.push(frame);
    }

    /// Whether this socket is to be ended.
    pub fn ended(&self) -> bool {
        self.0.ended.get()
    }

    /// Asks to be woken by the next frame.
    pub fn register(&self, context: &Context<'_>) {
        self.0.waker.set(Some(context.waker().clone()));
    }

    /// Ready when a frame waits or the socket is to be ended.
    pub fn poll_any(&self, context: &Context<'_>) -> Poll<()> {
        if self.ended() || !self.0.queue.borrow().is_empty() {
            return Poll::Ready(());
        }
        self.register(context);
        Poll::Pending
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        INBOXES.with_borrow_mut(|all| {
            if let Some(at) = all.iter().position(|inbox| Rc::ptr_eq(inbox, &self.0)) {
                all.swap_remove(at);
            }
        });
    }
}

impl Inbox {
    fn push(&self, frame: Bytes) {
        let mut queue = self.queue.borrow_mut();
        if queue.len() == BOUND {
            self.ended.set(true);
        } else {
            queue.push_back(frame);
        }
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// Gives every socket of this thread the same frames, waking each once. Returns the number of deliveries.
pub fn broadcast(frame: &Bytes, times: usize) -> u64 {
    INBOXES.with_borrow(|all| {
        for inbox in all {
            for _ in 0..times {
                inbox.push(frame.clone());
            }
            inbox.wake();
        }
        (all.len() * times) as u64
    })
}

/// Sockets that are open on this thread.
pub fn open_sockets() -> usize {
    INBOXES.with_borrow(Vec::len)
}

/// The text that is broadcast.
pub fn payload() -> Vec<u8> {
    let mut text =
        br#"{"op":"event","room":"merchant-1","cursor":"1.00000000000000ab:12345","data":""#.to_vec();
    text.resize(PAYLOAD - 2, b'x');
    text.extend_from_slice(br#""}"#);
    text
}

/// The same as a complete frame of a server.
pub fn frame() -> Vec<u8> {
    let mut frame = vec![0x81, 126];
    frame.extend_from_slice(&(PAYLOAD as u16).to_be_bytes());
    frame.extend_from_slice(&payload());
    frame
}
