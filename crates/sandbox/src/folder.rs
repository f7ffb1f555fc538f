//! Folders that go away with their owner: at once when all is well, after a day when a test failed, and at the next run
//! when their process was killed.

use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use std::{env, io, thread};

use anyhow::{Context, Result, bail};

/// How long the folder of a failed test stays.
const KEEP: Duration = Duration::from_secs(24 * 3600);
const LOCK: &str = ".in-use";
const KEPT: &str = ".kept";
/// In front of the names of folders that are being removed.
const BURIED: &str = ".buried-";

/// A temporary folder of its own. Dropped by a panicking thread it stays, and its name is printed.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Held for as long as the folder is used: what nobody holds is swept up by a later run.
    _lock: File,
}

impl Folder {
    /// A new folder; `name` only helps whoever looks at it.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn new(name: &str) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        static SWEPT: Once = Once::new();
        let root = root()?;
        SWEPT.call_once(|| sweep(&root));
        // While this is held, nobody sweeps: a folder without its lock is only being made.
        let gate = gate(&root)?;
        gate.lock_shared().context("locking the folder of sandboxes")?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = root.join(format!("{name}-{}-{number}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("making {}", path.display()))?;
        let lock = File::create(path.join(LOCK)).context("making a lock file")?;
        lock.try_lock().context("locking a new folder")?;
        Ok(Self { path, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if thread::panicking() {
            let marked = File::create(self.path.join(KEPT));
            eprintln!(
                "kept for a day: {}{}",
                self.path.display(),
                if marked.is_ok() { "" } else { " (not marked)" }
            );
        } else if let Err(error) = fs::remove_dir_all(&self.path) {
            // A server that is still writing its last words. A later run sweeps it up.
            tracing::debug!(folder = %self.path.display(), %error, "folder not removed yet");
        }
    }
}

/// The folder of all sandboxes of this user, below the system's temporary one.
pub(crate) fn root() -> Result<PathBuf> {
    let uid = rustix::process::geteuid().as_raw();
    let root = env::temp_dir().join(format!("rowcast-sandbox-{uid}"));
    match fs::DirBuilder::new().mode(0o755).create(&root) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| format!("making {}", root.display()));
        }
        _ => {}
    }
    // The name can be guessed and the place is everybody's: what another has made there is not used.
    let found = fs::symlink_metadata(&root).with_context(|| format!("looking at {}", root.display()))?;
    if !found.is_dir() || found.uid() != uid || found.mode() & 0o022 != 0 {
        bail!("{} is not a folder that only this user may write to; remove it", root.display());
    }
    Ok(root)
}

fn gate(root: &Path) -> Result<File> {
    File::create(root.join(".gate")).context("opening the lock of the folder of sandboxes")
}

/// Removes what processes that were killed have left, and what was kept long enough. Failing costs disk space only. It may be
/// gigabytes, and nobody waits for it: what is not gone when this process ends, the next one goes on with.
fn sweep(root: &Path) {
    let buried = bury(root);
    if !buried.is_empty() {
        // It has nothing to say to anybody, and nothing depends on its end.
        thread::spawn(move || buried.iter().for_each(|path| remove(path)));
    }
}

/// Puts aside what is to be removed, under the lock, which is then free again.
fn bury(root: &Path) -> Vec<PathBuf> {
    let Ok(gate) = gate(root) else { return Vec::new() };
    if gate.try_lock().is_err() {
        return Vec::new();
    }
    let folders = fs::read_dir(root).into_iter().flatten().flatten();
    let mut buried = Vec::new();
    for path in folders.map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with(BURIED) {
            buried.push(path);
            continue;
        }
        let Ok(lock) = File::open(path.join(LOCK)) else {
            continue;
        };
        if lock.try_lock().is_err() || is_kept(&path) {
            continue;
        }
        let aside = root.join(format!("{BURIED}{}-{name}", std::process::id()));
        match fs::rename(&path, &aside) {
            Ok(()) => buried.push(aside),
            Err(error) => tracing::debug!(folder = %path.display(), %error, "left-over folder not put aside"),
        }
    }
    buried
}

fn remove(path: &Path) {
    match fs::remove_dir_all(path) {
        // Another process may be at it too.
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::debug!(folder = %path.display(), %error, "left-over folder not removed");
        }
        _ => {}
    }
}

fn is_kept(folder: &Path) -> bool {
    let marked = fs::metadata(folder.join(KEPT)).and_then(|marker| marker.modified());
    marked.is_ok_and(|at| at.elapsed().is_ok_and(|age| age < KEEP))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A root of its own, with a folder of each kind.
    fn root_of(own: &Folder, names: [&str; 3]) -> [PathBuf; 3] {
        names.map(|name| {
            let path = own.path().join(name);
            fs::create_dir(&path).expect("made");
            File::create(path.join(LOCK)).expect("made");
            path
        })
    }

    #[test]
    fn folders_of_the_dead_are_put_aside_under_the_lock_and_removed_outside_of_it() {
        let own = Folder::new("sweep").expect("a folder");
        let [dead, living, kept] = root_of(&own, ["dead-1-0", "living-2-0", "kept-3-0"]);
        fs::write(dead.join("data"), "data").expect("written");
        File::create(kept.join(KEPT)).expect("made");
        let held = File::open(living.join(LOCK)).expect("opened");
        held.try_lock().expect("free");

        let buried = bury(own.path());
        assert!(gate(own.path()).expect("opened").try_lock().is_ok(), "nobody waits for what is to come");
        assert!(!dead.exists() && living.exists() && kept.exists());
        let [aside] = &*buried else { panic!("one is put aside: {buried:?}") };
        assert!(aside.join("data").exists(), "it is not removed under the lock");

        // What one process did not come to, the next one does.
        assert_eq!(bury(own.path()), buried);
        remove(aside);
        assert!(!aside.exists());
        remove(aside);
        assert_eq!(bury(own.path()), [] as [PathBuf; 0]);
    }
}
