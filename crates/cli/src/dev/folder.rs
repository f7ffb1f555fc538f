//! The folder that a `dev` lives in: one at a time, its secrets, and `dev.json`.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rowcast_sandbox::Folder;
use serde::{Deserialize, Serialize};

use super::say::Say;
use crate::devfile::{DevFile, FILE_NAME};

/// Where `dev` lives unless told otherwise.
const DEFAULT: &str = "demo-data";

/// What is drawn once a folder and kept in it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Secrets {
    /// Signs and verifies tokens.
    pub jwt_secret: String,
    /// The password of all roles.
    pub password: String,
}

impl Secrets {
    fn random() -> Self {
        let hex = || rand::random::<[u8; 32]>().iter().map(|byte| format!("{byte:02x}")).collect();
        Self { jwt_secret: hex(), password: hex() }
    }
}

/// A folder that this process alone has.
#[derive(Debug)]
pub struct DevFolder {
    path: PathBuf,
    secrets: Secrets,
    _lock: File,
    _temporary: Option<Folder>,
}

impl DevFolder {
    /// Takes the folder given; else the default one, or a temporary one when another has that.
    ///
    /// # Errors
    /// When another has the folder given, or it can not be written to.
    pub fn open(given: Option<&Path>, say: Say) -> anyhow::Result<Self> {
        if let Some(given) = given {
            let opened = Self::take(given, None)?;
            return opened.with_context(|| {
                format!("another `rowcast dev` runs in {}; give this one another --dir", given.display())
            });
        }
        let opened = match Self::take(Path::new(DEFAULT), None)? {
            Some(opened) => opened,
            None => {
                let temporary = Folder::new("dev")?;
                let path = temporary.path().to_owned();
                say.line(&format!(
                    "another runs in {DEFAULT}: this one is in {} and leaves nothing",
                    path.display()
                ));
                Self::take(&path, Some(temporary))?.context("a new temporary folder is nobody else's")?
            }
        };
        Ok(opened)
    }

    fn take(path: &Path, temporary: Option<Folder>) -> anyhow::Result<Option<Self>> {
        fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
        let path = path.canonicalize().with_context(|| format!("cannot use {}", path.display()))?;
        let lock = File::create(path.join(".lock"))
            .with_context(|| format!("cannot write to {}", path.display()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Ok(None),
            Err(fs::TryLockError::Error(error)) => bail!("cannot lock {}: {error}", path.display()),
        }
        let secrets = secrets(&path.join("secrets.json"))?;
        let folder = Self { path, secrets, _lock: lock, _temporary: temporary };
        // One that was killed has left it: nobody shall take it for this one's.
        folder.forget_dev_file();
        fs::create_dir_all(folder.logs()).context("cannot make the folder of the logs")?;
        Ok(Some(folder))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the processes' logs are.
    pub fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    /// What is kept in it.
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// Where `dev.json` is, once it is.
    pub fn dev_file(&self) -> PathBuf {
        self.path.join(FILE_NAME)
    }

    /// Removes `dev.json`: what it names is not there any more.
    pub fn forget_dev_file(&self) {
        let path = self.dev_file();
        if let Err(error) = fs::remove_file(&path)
            && path.exists()
        {
            tracing::warn!(%error, path = %path.display(), "cannot be removed");
        }
    }
}

/// Writes `dev.json` by rename: a reader sees all of it or none. It holds secrets, so only this user may read it.
///
/// # Errors
/// When it can not be written.
pub fn write_dev_file(path: &Path, dev: &DevFile) -> anyhow::Result<()> {
    let mut text = serde_json::to_vec_pretty(dev).context("text and numbers")?;
    text.push(b'\n');
    write_private(path, &text)
}

fn secrets(path: &Path) -> anyhow::Result<Secrets> {
    if path.exists() {
        let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        return serde_json::from_slice(&text)
            .with_context(|| format!("{} is damaged; remove the folder to begin anew", path.display()));
    }
    let secrets = Secrets::random();
    write_private(path, &serde_json::to_vec_pretty(&secrets).context("two texts")?)?;
    Ok(secrets)
}

fn write_private(path: &Path, text: &[u8]) -> anyhow::Result<()> {
    let temporary = path.with_extension("json.new");
    let write = || {
        let mut file =
            File::options().create(true).truncate(true).write(true).mode(0o600).open(&temporary)?;
        file.write_all(text)?;
        fs::rename(&temporary, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_one_devs_at_a_time_and_keeps_its_secrets() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("new/folder");
        let first = DevFolder::open(Some(&path), Say::new()).unwrap();
        let error = DevFolder::open(Some(&path), Say::new()).unwrap_err().to_string();
        assert!(error.contains("another `rowcast dev` runs in"), "{error}");
        let secret = first.secrets().jwt_secret.clone();
        assert_eq!(secret.len(), 64);
        drop(first);
        assert_eq!(DevFolder::open(Some(&path), Say::new()).unwrap().secrets().jwt_secret, secret);
    }

    #[test]
    fn a_dev_file_that_a_killed_one_left_is_removed() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join(FILE_NAME), "{}").unwrap();
        let folder = DevFolder::open(Some(place.path()), Say::new()).unwrap();
        assert!(!folder.dev_file().exists());
    }
}
