//! Child processes.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use rowcast_sandbox::{Folder, Launch, Signal, wait_for, wait_until};

const SOON: Duration = Duration::from_secs(10);

fn shell(folder: &Folder, script: &str) -> Launch {
    Launch::new("a script", "/bin/sh", folder.path().join("log")).args(["-c", script])
}

#[tokio::test]
async fn an_end_is_told_with_its_status() -> Result<()> {
    let folder = Folder::new("process")?;
    let ended = shell(&folder, "exit 3").spawn()?.wait_exit(SOON).await?;
    assert_eq!(ended.code(), Some(3));
    Ok(())
}

#[tokio::test]
async fn an_ended_one_takes_no_signal() -> Result<()> {
    let folder = Folder::new("process")?;
    let process = shell(&folder, "exit 0").spawn()?;
    process.wait_exit(SOON).await?;
    assert!(process.signal(Signal::TERM).is_err());
    process.stop(Signal::TERM, SOON).await?;
    Ok(())
}

#[tokio::test]
async fn one_that_ignores_the_signal_is_killed_and_that_is_an_error() -> Result<()> {
    let folder = Folder::new("process")?;
    let process = shell(&folder, "trap '' TERM; echo up; while :; do sleep 0.05; done").spawn()?;
    process
        .wait_ready(SOON, || async { process.log_tail(1).contains("up").then_some(()).context("not up") })
        .await?;
    assert!(process.stop(Signal::TERM, Duration::from_millis(100)).await.is_err());
    assert!(process.exited().is_some());
    Ok(())
}

#[tokio::test]
async fn one_that_ends_before_it_is_ready_says_why_at_once() -> Result<()> {
    let folder = Folder::new("process")?;
    let process = shell(&folder, "for i in $(seq 30); do echo line $i >&2; done; exit 1").spawn()?;
    let error = process.wait_ready(SOON, || async { Err::<(), _>("no") }).await.expect_err("it ended");
    let text = error.to_string();
    assert!(
        text.contains("exit status: 1") && text.contains("line 11\n") && text.ends_with("line 30"),
        "{text}"
    );
    assert!(!text.contains("line 10\n"), "{text}");
    Ok(())
}

#[tokio::test]
async fn the_log_of_an_earlier_run_is_not_quoted() -> Result<()> {
    let folder = Folder::new("process")?;
    for word in ["earlier", "later"] {
        let process = shell(&folder, &format!("echo {word}")).spawn()?;
        process.wait_exit(SOON).await?;
        assert_eq!(process.log_tail(20), word);
    }
    assert_eq!(std::fs::read_to_string(folder.path().join("log"))?, "earlier\nlater\n");
    Ok(())
}

/// Not a test of its own: what the next one starts, kills, and looks behind.
#[tokio::test]
async fn helper_that_starts_a_child_and_waits() -> Result<()> {
    let Some(file) = std::env::var_os("SANDBOX_TEST_PID_FILE") else {
        return Ok(());
    };
    let folder = Folder::new("process")?;
    // Started in a task of a runtime thread that ends at once, as those of tests do.
    let launch = shell(&folder, "echo up; exec sleep 600");
    let process = std::thread::spawn(move || launch.spawn()).join().expect("no panic")?;
    // A spawned child is still on its way: before it has asked for the signal, the end of its parent tells it nothing.
    process
        .wait_ready(SOON, || async { process.log_tail(1).contains("up").then_some(()).context("not up") })
        .await?;
    let unfinished = std::path::Path::new(&file).with_extension("unfinished");
    std::fs::write(&unfinished, process.pid().to_string())?;
    std::fs::rename(unfinished, file)?;
    process.ended().await;
    anyhow::bail!("the child ended while its parent lived")
}

#[tokio::test]
async fn a_child_dies_with_a_killed_parent_and_not_with_a_thread() -> Result<()> {
    let folder = Folder::new("process")?;
    let file = folder.path().join("pid");
    let mut parent = Command::new(std::env::current_exe()?)
        .args(["--exact", "helper_that_starts_a_child_and_waits"])
        .env("SANDBOX_TEST_PID_FILE", &file)
        // Its lines would read as a suite's result.
        .stdout(std::process::Stdio::null())
        .spawn()?;
    let text = wait_for("the child's start", SOON, || async { std::fs::read_to_string(&file) }).await?;
    let pid = rustix::process::Pid::from_raw(text.parse()?).context("a process id")?;
    let alive = || rustix::process::test_kill_process(pid).is_ok();
    assert!(alive());
    assert!(parent.try_wait()?.is_none(), "the helper has ended by itself");
    parent.kill()?;
    parent.wait()?;
    wait_until("the child's end", SOON, || async { !alive() }).await
}
