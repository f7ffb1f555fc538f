//! One child process: how it is started, watched, signalled and ended. What it serves is not known here.

use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tokio::sync::watch;

use crate::keeper;
use crate::user::{User, can_set_parent_death_signal, command};
use crate::wait::PAUSE;

/// How many lines of a log an error quotes, and how much of the file is read for them.
const TAIL_LINES: usize = 20;
const TAIL_BYTES: u64 = 64 * 1024;
/// How long a dropped process has for its own farewell, and then for the kernel to end it.
const FAREWELL: Duration = Duration::from_secs(3);

/// What to start. Both of its outputs go to the end of a log file.
#[derive(Debug, Clone)]
pub struct Launch {
    name: String,
    program: OsString,
    args: Vec<OsString>,
    envs: Vec<(OsString, Option<OsString>)>,
    log: PathBuf,
    folder: Option<PathBuf>,
    user: Option<User>,
    farewell: Signal,
}

impl Launch {
    /// A program under a name for messages, with the file for its output.
    pub fn new(name: impl Into<String>, program: impl AsRef<OsStr>, log: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            envs: Vec::new(),
            log: log.into(),
            folder: None,
            user: None,
            farewell: Signal::KILL,
        }
    }

    /// Another program, with all that was said otherwise.
    pub fn program(mut self, program: impl AsRef<OsStr>) -> Self {
        self.program = program.as_ref().to_owned();
        self
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable of its environment; the rest is inherited.
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.envs.push((key.as_ref().to_owned(), Some(value.as_ref().to_owned())));
        self
    }

    /// Leaves out a variable that would be inherited.
    pub fn env_remove(mut self, key: impl AsRef<OsStr>) -> Self {
        self.envs.push((key.as_ref().to_owned(), None));
        self
    }

    /// Its working folder.
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// The signal that it gets when it is dropped, or when this process dies; SIGKILL unless said otherwise. For
    /// programs that leave something behind when they are killed: SIGKILL follows after 3 s, on a drop.
    pub fn farewell(mut self, signal: Signal) -> Self {
        self.farewell = signal;
        self
    }

    pub(crate) fn user(mut self, user: Option<User>) -> Self {
        self.user = user;
        self
    }

    /// Starts it. It is in a process group of its own: what a terminal sends on Ctrl-C reaches only the parent.
    ///
    /// # Errors
    /// When the program can not be started or the log not be written. What goes wrong later is seen by the other calls.
    pub fn spawn(&self) -> Result<Process> {
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.with_context(|| format!("opening {}", self.log.display()))?;
        let log_start = log.metadata().map_or(0, |found| found.len());
        let errors = log.try_clone().context("a second handle of the log")?;
        let mut command = command(&self.program, self.user.as_ref(), Some(self.farewell));
        command.args(&self.args).stdin(Stdio::null()).stdout(log).stderr(errors).process_group(0);
        for (key, value) in &self.envs {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        let child = keeper::spawn(command);
        let child = child
            .with_context(|| format!("starting {} ({})", self.name, Path::new(&self.program).display()))?;
        Process::adopt(self, child, log_start)
    }
}

/// A running child, or what is left of it. Dropping it ends it.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: u32,
    log: PathBuf,
    log_start: u64,
    farewell: Signal,
    exit: watch::Receiver<Option<ExitStatus>>,
    /// Locked while it is signalled and while it is reaped: a signal can not reach another process that was given the
    /// same number.
    reaping: Arc<Mutex<()>>,
}

impl Process {
    fn adopt(launch: &Launch, mut child: Child, log_start: u64) -> Result<Self> {
        let pid = child.id();
        let reaping = Arc::new(Mutex::new(()));
        let (exited, exit) = watch::channel(None);
        let leash = leash(pid, launch.farewell);
        let lock = reaping.clone();
        let waiter = move || {
            let _leash = leash;
            let left = waitid(WaitId::Pid(as_pid(child.id())), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
            let _held = lock.lock().unwrap_or_else(PoisonError::into_inner);
            match left.map_err(Into::into).and_then(|_| child.wait()) {
                Ok(status) => exited.send_replace(Some(status)),
                Err(error) => unreachable!("waiting for a child of one's own: {error}"),
            };
        };
        thread::Builder::new()
            .name(format!("wait-{pid}"))
            .spawn(waiter)
            .with_context(|| format!("a thread to wait for {}", launch.name))?;
        Ok(Self {
            name: launch.name.clone(),
            pid,
            log: launch.log.clone(),
            log_start,
            farewell: launch.farewell,
            exit,
            reaping,
        })
    }

    /// Its name in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id: the program's own, nothing stands between.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The file with all it ever said, earlier runs included.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// How it ended, if it has.
    pub fn exited(&self) -> Option<ExitStatus> {
        *self.exit.borrow()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let _held = self.reaping.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(status) = self.exited() {
            bail!("{} has ended already ({status})", self.name);
        }
        kill_process(as_pid(self.pid), signal).with_context(|| format!("sending {signal:?} to {}", self.name))
    }

    /// Resolves when it has ended, however long that takes.
    pub fn ended(&self) -> impl Future<Output = ExitStatus> + Send + use<> {
        let mut exit = self.exit.clone();
        async move {
            let status =
                exit.wait_for(Option::is_some).await.expect("the waiting thread tells before it ends");
            status.expect("just waited for")
        }
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// After `timeout`; it then still runs.
    pub async fn wait_exit(&self, timeout: Duration) -> Result<ExitStatus> {
        let ended = tokio::time::timeout(timeout, self.ended()).await;
        ended.map_err(|_| self.failure(format!("{} still runs after {timeout:?}", self.name)))
    }

    /// Sends a signal and waits for the end; a process that has ended is fine too. When the time is over it is killed.
    ///
    /// # Errors
    /// When it had to be killed.
    pub async fn stop(&self, signal: Signal, timeout: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.exited() {
            return Ok(status);
        }
        // Having ended in between is as good. A stopped process takes no other signal before it continues.
        let _ = self.signal(signal).and_then(|()| self.signal(Signal::CONT));
        let result = self.wait_exit(timeout).await;
        if result.is_err() {
            let _ = self.signal(Signal::KILL);
            self.wait_exit(FAREWELL).await?;
        }
        result
    }

    /// Repeats a probe until it succeeds, and gives its value.
    ///
    /// # Errors
    /// At once when the process ends, and after `timeout`; both quote the last lines of its log.
    pub async fn wait_ready<T, E, F>(&self, timeout: Duration, mut probe: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<T, E>>,
        E: Display,
    {
        let end = tokio::time::Instant::now() + timeout;
        let mut last = "no answer".to_owned();
        loop {
            match tokio::time::timeout(Duration::from_secs(1), probe()).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(error)) => last = error.to_string(),
                Err(_) => "no answer within a second".clone_into(&mut last),
            }
            if let Some(status) = self.exited() {
                return Err(self.failure(format!("{} has ended ({status})", self.name)));
            }
            if tokio::time::Instant::now() >= end {
                return Err(self.failure(format!("{} is not ready after {timeout:?}: {last}", self.name)));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// An error that quotes the last lines of its log.
    pub fn failure(&self, what: impl Display) -> anyhow::Error {
        let tail = self.log_tail(TAIL_LINES);
        match tail.is_empty() {
            true => anyhow!("{what}; it wrote nothing to {}", self.log.display()),
            false => anyhow!("{what}; the last lines of {}:\n{tail}", self.log.display()),
        }
    }

    /// The last lines that this run wrote to its log.
    pub fn log_tail(&self, lines: usize) -> String {
        let text =
            read_from(&self.log, self.log_start).unwrap_or_else(|error| format!("(unreadable: {error})"));
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        for signal in [self.farewell, Signal::KILL] {
            // An error says that it has ended, which is what is wanted.
            let _ = self.signal(signal);
            let _ = self.signal(Signal::CONT);
            let end = Instant::now() + FAREWELL;
            while self.exited().is_none() && Instant::now() < end {
                thread::sleep(Duration::from_millis(2));
            }
        }
    }
}

/// Whether an error is that of a server which found its port taken.
pub fn says_address_in_use(error: &anyhow::Error) -> bool {
    format!("{error:#}").to_lowercase().contains("address already in use")
}

/// Where no parent-death signal can be had: a shell that waits for the end of a pipe which this process holds open, and
/// then sends the signal.
fn leash(pid: u32, signal: Signal) -> Option<Leash> {
    if can_set_parent_death_signal() {
        return None;
    }
    let mut command = std::process::Command::new("/bin/sh");
    let script = format!("read -r _; kill -{} {pid}", signal.as_raw());
    command
        .args(["-c", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0);
    let mut shell =
        keeper::spawn(command).inspect_err(|error| tracing::warn!(%error, pid, "no leash")).ok()?;
    let held = shell.stdin.take();
    Some(Leash { shell, _held: held })
}

struct Leash {
    shell: Child,
    _held: Option<ChildStdin>,
}

impl Drop for Leash {
    fn drop(&mut self) {
        // Before the pipe closes: its process has ended, and the number may soon be another's.
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

fn as_pid(pid: u32) -> Pid {
    i32::try_from(pid).ok().and_then(Pid::from_raw).expect("the system gives positive numbers")
}

fn read_from(path: &Path, start: u64) -> std::io::Result<String> {
    let mut file = fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(start.max(length.saturating_sub(TAIL_BYTES))))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
