//! The user a server runs as. PostgreSQL refuses to run as root, so root gives it another.

use std::ffi::OsStr;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

/// A user to become, and what it needs to come to its folder.
#[derive(Debug, Clone, Copy)]
pub(crate) struct User {
    uid: u32,
    gid: u32,
    /// A capability that lets the user pass folders above its own that are closed to it (`/root`, a `mkdtemp`).
    reach: Option<&'static str>,
}

impl User {
    /// The user for PostgreSQL's server that uses these folders: none when this process is not root.
    ///
    /// # Errors
    /// When there is no such user, or no way for it to come to the folders.
    pub(crate) fn for_postgres(folders: &[&Path]) -> Result<Option<Self>> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let (uid, gid) = ["postgres", "nobody"]
            .into_iter()
            .find_map(|name| Some((id("-u", name)?, id("-g", name)?)))
            .context(
                "PostgreSQL refuses to run as root, and there is no user postgres or nobody to run it as",
            )?;
        // The full capability first looks, the second is all that a container's root has.
        for reach in [None, Some("dac_read_search"), Some("dac_override")] {
            let user = Self { uid, gid, reach };
            if (reach.is_none() || can_set_parent_death_signal())
                && folders.iter().all(|folder| user.can_enter(folder))
            {
                return Ok(Some(user));
            }
        }
        bail!(
            "the user that PostgreSQL runs as (uid {uid}) may not enter all of {folders:?}: choose another folder"
        )
    }

    /// Its number, to tell its files from another's.
    pub(crate) fn uid(&self) -> u32 {
        self.uid
    }

    /// Gives it a file or folder (not what is below).
    pub(crate) fn own(&self, path: &Path) -> Result<()> {
        chown(path, Some(self.uid), Some(self.gid))
            .with_context(|| format!("giving {} to uid {}", path.display(), self.uid))
    }

    fn can_enter(&self, folder: &Path) -> bool {
        // A look at "." inside needs the right to enter. (access(2), and so `test`, does not know capabilities.)
        let mut command = command("ls".as_ref(), Some(self), None);
        command
            .arg("-d")
            .arg(folder.join("."))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }
}

/// A command for a program that becomes the user and, where the system can do that, gets a signal when its parent ends.
/// Nothing stays between: the process started *is* the program, in the end. The signal is asked for on the way there: a
/// parent that is killed in the milliseconds before that leaves the program running.
pub(crate) fn command(program: &OsStr, user: Option<&User>, death: Option<Signal>) -> Command {
    let setpriv = can_set_parent_death_signal();
    let death = death.filter(|_| setpriv).map(signal_name);
    let mut command = match (&death, user) {
        (None, None) => return Command::new(program),
        (None, Some(user)) if user.reach.is_none() => {
            let mut command = Command::new(program);
            // As root this also clears the supplementary groups.
            command.uid(user.uid).gid(user.gid);
            return command;
        }
        _ => Command::new("setpriv"),
    };
    if let Some(signal) = death {
        command.arg("--pdeathsig").arg(signal);
    }
    if let Some(User { uid, gid, reach }) = user {
        command.args([format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".to_owned()]);
        if let Some(capability) = reach {
            command.args([
                format!("--inh-caps=-all,+{capability}"),
                format!("--ambient-caps=-all,+{capability}"),
            ]);
        }
    }
    command.arg("--").arg(program);
    command
}

/// Whether `setpriv` of util-linux 2.33 or newer is here.
pub(crate) fn can_set_parent_death_signal() -> bool {
    static CAN: OnceLock<bool> = OnceLock::new();
    *CAN.get_or_init(|| {
        let help = Command::new("setpriv").arg("--help").stdin(Stdio::null()).stderr(Stdio::null()).output();
        help.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("--pdeathsig"))
    })
}

/// As setpriv wants it. What is not named here is sent as SIGKILL.
fn signal_name(signal: Signal) -> &'static str {
    match signal {
        Signal::HUP => "HUP",
        Signal::INT => "INT",
        Signal::QUIT => "QUIT",
        Signal::TERM => "TERM",
        _ => "KILL",
    }
}

fn id(what: &str, name: &str) -> Option<u32> {
    let output = Command::new("id").args([what, name]).stderr(Stdio::null()).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}
