//! PostgreSQL's data folder: made by initdb, once a user and version, and copied from then on; or the copy of a running
//! server's. What a copy becomes is not here.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result, bail};

use super::{Place, SUPERUSER};
use crate::user::User;
use crate::wait::PAUSE;
use crate::{Launch, Process, folder};

/// Makes the data folder if it is not there.
pub(super) fn prepare(place: &Place) -> Result<()> {
    let data = place.data();
    if data.join("PG_VERSION").is_file() {
        return Ok(());
    }
    if place.options.password.is_some() {
        return whole(&data, |unfinished| initialise(place, unfinished));
    }
    copy_folder(&template(place)?, &data)
}

/// Copies a data folder that no server uses.
pub(super) fn copy_folder(from: &Path, data: &Path) -> Result<()> {
    whole(data, |unfinished| {
        let copied = Command::new("cp").arg("-a").arg(from).arg(unfinished).output().context("running cp")?;
        if !copied.status.success() {
            bail!("copying {}: {}", from.display(), String::from_utf8_lossy(&copied.stderr));
        }
        Ok(())
    })
}

/// A running server, for who copies it.
pub(super) struct Source {
    pub binaries: PathBuf,
    pub port: u16,
    pub password: Option<String>,
}

/// Makes the data folder as a copy of a running server's, if it is not there.
pub(super) fn copy_from(place: &Place, from: &Source) -> Result<()> {
    let data = place.data();
    if data.join("PG_VERSION").is_file() { Ok(()) } else { base_backup(from, &data, place.user) }
}

/// Copies a running server with the WAL that its copy needs to come up.
pub(super) fn base_backup(from: &Source, data: &Path, user: Option<User>) -> Result<()> {
    let log = data.with_extension("log");
    whole(data, |unfinished| {
        own_folder(unfinished, user)?;
        let mut copy = Launch::new("pg_basebackup", from.binaries.join("pg_basebackup"), &log)
            .args(["-h", "127.0.0.1", "-p", &from.port.to_string(), "-U", SUPERUSER])
            .args(["--checkpoint=fast", "--wal-method=stream", "--no-sync", "-D"])
            .arg(unfinished)
            .folder("/")
            .user(user);
        if let Some(password) = &from.password {
            copy = copy.env("PGPASSWORD", password);
        }
        wait(&copy.spawn()?, &AtomicBool::new(false))
    })
}

/// A folder that only the server may look into.
fn own_folder(data: &Path, user: Option<User>) -> Result<()> {
    fs::create_dir_all(data).with_context(|| format!("making {}", data.display()))?;
    fs::set_permissions(data, fs::Permissions::from_mode(0o700)).context("closing the data folder")?;
    user.map_or(Ok(()), |user| user.own(data))
}

/// Makes a folder under another name and renames it when it is whole: who is interrupted leaves no half of it.
fn whole(path: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let unfinished = path.with_extension("unfinished");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).with_context(|| format!("removing {}", unfinished.display()))?;
    }
    make(&unfinished)?;
    fs::rename(&unfinished, path).with_context(|| format!("naming {}", path.display()))
}

/// Writes the settings, before each start: the port is among them. In the file, and not on the command line, so that
/// `ALTER SYSTEM` wins over them.
pub(super) fn configure(place: &Place, port: u16) -> Result<()> {
    let durable = if place.options.durable { "on" } else { "off" };
    let mut text = format!(
        "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = ''\nmax_connections = 200\n\
         fsync = {durable}\nfull_page_writes = {durable}\nsynchronous_commit = on\n\
         timezone = 'UTC'\nlog_timezone = 'UTC'\nlog_line_prefix = '%m [%p] %a '\n\
         logging_collector = off\nautovacuum_naptime = 10s\nwal_retrieve_retry_interval = 100ms\n"
    );
    if let Some(tls) = &place.options.tls {
        text.push_str("ssl = on\n");
        copy(place, &tls.identity.cert, "server.crt")?;
        copy(place, &tls.identity.key, "server.key")?;
        if let Some(ca) = &tls.client_ca {
            copy(place, ca, "root.crt")?;
            text.push_str("ssl_ca_file = 'root.crt'\n");
        }
    }
    for (name, value) in &place.options.settings {
        text.push_str(&format!("{name} = '{}'\n", value.replace('\'', "''")));
    }
    let method = if place.options.password.is_some() { "scram-sha-256" } else { "trust" };
    let mut access: String = place.options.access.iter().map(|line| format!("{line}\n")).collect();
    access.push_str(&format!(
        "host all all 127.0.0.1/32 {method}\nhost replication all 127.0.0.1/32 {method}\n"
    ));
    write(place, "postgresql.conf", &text)?;
    write(place, "pg_hba.conf", &access)
}

/// The server reads only keys that are its own user's and nobody else's.
fn copy(place: &Place, from: &Path, name: &str) -> Result<()> {
    let text = fs::read_to_string(from).with_context(|| format!("reading {}", from.display()))?;
    write(place, name, &text)
}

pub(super) fn write(place: &Place, name: &str, text: &str) -> Result<()> {
    let path = place.data().join(name);
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).context("closing a file of settings")?;
    place.user.map_or(Ok(()), |user| user.own(&path))
}

/// The folder to copy, made by whoever comes first; others wait for it.
fn template(place: &Place) -> Result<PathBuf> {
    let root = folder::root()?;
    // "postgresPostgreSQL15.14Debian…": a minor version does not change the format, but it may change what initdb does.
    let version = Command::new(place.binaries.join("postgres"))
        .arg("--version")
        .output()
        .context("running postgres")?;
    let version: String = String::from_utf8_lossy(&version.stdout)
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '.')
        .collect();
    let owner = place.user.map_or_else(|| "own".to_owned(), |user| user.uid().to_string());
    let path = root.join(format!("template-{version}-for-{owner}"));
    let lock = File::create(root.join(".template")).context("opening the lock of the template")?;
    lock.lock().context("locking the template")?;
    if !path.is_dir() {
        whole(&path, |unfinished| initialise(place, unfinished))?;
    }
    Ok(path)
}

fn initialise(place: &Place, data: &Path) -> Result<()> {
    own_folder(data, place.user)?;
    // The same on every machine: text sorts by bytes. Whoever needs more names a collation.
    let mut initdb = Launch::new("initdb", place.binaries.join("initdb"), place.folder.join("initdb.log"))
        .args(["-U", SUPERUSER, "-E", "UTF8", "--no-locale", "--auth=trust", "-D"])
        .arg(data)
        .folder("/")
        .user(place.user);
    if !place.options.durable {
        initdb = initdb.arg("--no-sync");
    }
    let password =
        place.options.password.as_ref().map(|password| password_file(place, password)).transpose()?;
    if let Some(file) = &password {
        initdb = initdb.arg("--pwfile").arg(file);
    }
    let done = wait(&initdb.spawn()?, &place.given_up);
    if let Some(file) = &password {
        fs::remove_file(file).context("removing the password file")?;
    }
    done
}

/// Waits for the end, unless nobody wants the server any more: dropping the process then ends it.
fn wait(process: &Process, given_up: &AtomicBool) -> Result<()> {
    loop {
        match process.exited() {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(process.failure(format!("{} failed ({status})", process.name()))),
            None if given_up.load(Ordering::Relaxed) => bail!("{} was given up", process.name()),
            None => thread::sleep(PAUSE),
        }
    }
}

fn password_file(place: &Place, password: &str) -> Result<PathBuf> {
    let path = place.folder.join(".password");
    fs::write(&path, "").context("making the password file")?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).context("closing the password file")?;
    fs::write(&path, format!("{password}\n")).context("writing the password file")?;
    place.user.map_or(Ok(()), |user| user.own(&path))?;
    Ok(path)
}
