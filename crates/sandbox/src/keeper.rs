//! The thread that starts all children. A child's parent-death signal fires when the *thread* that started it ends, and
//! a test's or a runtime's thread ends early; this one lives as long as the process.

use std::io;
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

type Job = (Command, SyncSender<io::Result<Child>>);

/// At the bound a caller waits: starting a process takes a millisecond or two.
const WAITING_JOBS: usize = 16;

static KEEPER: OnceLock<SyncSender<Job>> = OnceLock::new();

/// Starts a command from the keeper's thread.
pub(crate) fn spawn(command: Command) -> io::Result<Child> {
    let keeper = KEEPER.get_or_init(start);
    let (reply, answer) = sync_channel(1);
    let gone = || io::Error::other("the thread that starts processes has ended");
    keeper.send((command, reply)).map_err(|_| gone())?;
    answer.recv().map_err(|_| gone())?
}

fn start() -> SyncSender<Job> {
    let (sender, jobs) = sync_channel::<Job>(WAITING_JOBS);
    thread::Builder::new()
        .name("sandbox-keeper".to_owned())
        .spawn(move || {
            for (mut command, reply) in jobs {
                // Nobody waits for the reply any more only if the caller's thread was torn down with it.
                if let Err(unwanted) = reply.send(command.spawn())
                    && let Ok(mut child) = unwanted.0
                {
                    let _ = child.kill();
                    let _ = child.wait();
                }
            }
        })
        .expect("a thread can be started");
    sender
}
