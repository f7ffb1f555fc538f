//! What signals do to a process, in a process of its own: this test's program, started again for one test.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, ExitStatus, Stdio},
};

use rowcast_process::shutdown::Signal;
use rustix::process::{Pid, Signal as Number, kill_process};

/// Set in the child alone: what it does once it was asked to end.
const CHILD: &str = "SHUTDOWN_TEST_CHILD";

/// Not a test of its own: the process that the tests below send signals to.
#[tokio::test]
#[ignore = "started by the other tests"]
async fn child() {
    let Ok(habit) = std::env::var(CHILD) else { return };
    let signal = Signal::on_signals().expect("handlers are installed");
    println!("ready");
    signal.requested().await;
    println!("requested");
    if habit == "stubborn" {
        std::future::pending::<()>().await;
    }
}

/// Starts the child, sends the signals, each once the child has answered the one before, and gives its end.
fn end_of_child(habit: &str, signals: &[Number]) -> ExitStatus {
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--ignored", "--exact", "child", "--nocapture"])
        .env(CHILD, habit)
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts again");
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a pid");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut wait_for = |word: &str| {
        let found = lines.by_ref().any(|line| line.expect("a line").ends_with(word));
        assert!(found, "the child never said {word:?}");
    };
    wait_for("ready");
    for (index, signal) in signals.iter().enumerate() {
        kill_process(pid, *signal).expect("it runs");
        if index == 0 {
            wait_for("requested");
        }
    }
    child.wait().expect("it ends")
}

#[test]
fn a_signal_asks_the_process_to_end_and_lets_it_finish() {
    for signal in [Number::TERM, Number::INT] {
        assert!(end_of_child("obedient", &[signal]).success());
    }
}

#[test]
fn a_second_signal_ends_a_process_that_does_not_finish() {
    let status = end_of_child("stubborn", &[Number::TERM, Number::INT]);
    assert_eq!(status.code(), Some(rowcast_process::shutdown::IMPATIENT_EXIT));
}
