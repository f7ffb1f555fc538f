//! Where the machine's servers and the workspace's own binaries are. Nothing is downloaded or built here.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::RedisKind;

/// A server that this machine does not have.
#[derive(Debug)]
pub struct Missing(pub String);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not installed on this machine; `make setup` installs what is missing", self.0)
    }
}

impl std::error::Error for Missing {}

/// Folders of packages that do not put their servers on PATH, besides PATH itself.
const MORE_FOLDERS: [&str; 5] =
    ["/usr/sbin", "/usr/local/sbin", "/usr/local/bin", "/opt/homebrew/bin", "/opt/homebrew/sbin"];

/// The folder with `postgres` and `initdb`: of the major version asked for, or of the newest that the system has. What
/// `make setup` put beside the build (`target/tools/postgresql-18`) is only taken by who asks for its version.
///
/// # Errors
/// [`Missing`].
pub fn find_postgres(version: Option<u32>) -> Result<PathBuf, Missing> {
    let mut found: Vec<(u32, PathBuf)> = versioned_folders("/usr/lib/postgresql", "", "bin")
        .chain(versioned_folders("/usr", "pgsql-", "bin"))
        .chain(versioned_folders("/opt/homebrew/opt", "postgresql@", "bin"))
        .chain(versioned_folders("/usr/local/opt", "postgresql@", "bin"))
        .chain(
            search_folders().filter_map(|folder| Some((postgres_version(&folder.join("postgres"))?, folder))),
        )
        .chain(version.and_then(|major| Some((major, tool(&format!("postgresql-{major}"))?.join("bin")))))
        .filter(|(_, folder)| folder.join("postgres").is_file() && folder.join("initdb").is_file())
        .filter(|(major, _)| version.is_none_or(|wanted| wanted == *major))
        .collect();
    // Stable, so that of equal versions the packaged folder comes before a link on PATH.
    found.sort_by_key(|(major, _)| std::cmp::Reverse(*major));
    let name = version.map_or("PostgreSQL".to_owned(), |wanted| format!("PostgreSQL {wanted}"));
    found.into_iter().next().map(|(_, folder)| folder).ok_or(Missing(name))
}

/// `redis-server`, or Valkey's.
///
/// # Errors
/// [`Missing`].
pub fn find_redis() -> Result<PathBuf, Missing> {
    find("redis-server").or_else(|| find("valkey-server")).ok_or(Missing("Redis".to_owned()))
}

/// A server of this kind: the system's, or what `make setup` put beside the build.
///
/// # Errors
/// [`Missing`].
pub fn find_redis_kind(kind: RedisKind) -> Result<PathBuf, Missing> {
    match kind.tool() {
        None => find_redis(),
        Some(name) => tool(&format!("{name}/server")).ok_or_else(|| Missing(kind.to_string())),
    }
}

/// Why `make setup` could not bring this kind, where it tried and said so.
pub fn redis_kind_unavailable(kind: RedisKind) -> Option<String> {
    let reason = std::fs::read_to_string(tool(&format!("{}.missing", kind.tool()?))?).ok()?;
    Some(reason.trim().to_owned())
}

/// `haproxy`.
///
/// # Errors
/// [`Missing`].
pub fn find_haproxy() -> Result<PathBuf, Missing> {
    find("haproxy").ok_or(Missing("HAProxy".to_owned()))
}

/// `pgbouncer`.
///
/// # Errors
/// [`Missing`].
pub fn find_pgbouncer() -> Result<PathBuf, Missing> {
    find("pgbouncer").ok_or(Missing("PgBouncer".to_owned()))
}

/// A binary of this workspace, next to the running one (a test's own stands in `deps/` below it).
///
/// # Errors
/// When it was not built, saying how to.
pub fn bin(name: &str) -> Result<PathBuf> {
    let own = env::current_exe().context("the running program's own path")?;
    let folder = own.parent().context("a program stands in a folder")?;
    let candidates = [Some(folder), folder.parent().filter(|_| folder.ends_with("deps"))];
    for candidate in candidates.into_iter().flatten() {
        let path = candidate.join(name);
        if path.is_file() {
            return Ok(path);
        }
    }
    let release =
        if folder.components().any(|part| part.as_os_str() == "release") { " --release" } else { "" };
    bail!("{name} is not in {}; build it with `cargo build{release} -p {name}`", folder.display())
}

/// Why `make setup` could not bring a PostgreSQL of this major version, where it tried and said so.
pub fn postgres_unavailable(version: u32) -> Option<String> {
    let reason = std::fs::read_to_string(tool(&format!("postgresql-{version}.missing"))?).ok()?;
    Some(reason.trim().to_owned())
}

/// TypeScript's compiler, a script for Node, where `make setup` has put it.
pub fn find_typescript() -> Option<PathBuf> {
    tool("typescript/bin/tsc")
}

/// Why `make setup` could not bring it, where it tried and said so.
pub fn typescript_unavailable() -> Option<String> {
    let reason = std::fs::read_to_string(tool("typescript.missing")?).ok()?;
    Some(reason.trim().to_owned())
}

/// Why `make setup` could not install PgBouncer, where it tried and said so.
pub fn pgbouncer_unavailable() -> Option<String> {
    let reason = std::fs::read_to_string(tool("pgbouncer.missing")?).ok()?;
    Some(reason.trim().to_owned())
}

/// A file or folder of `target/tools`. The running program stands somewhere below `target`.
fn tool(name: &str) -> Option<PathBuf> {
    let own = env::current_exe().ok()?;
    own.ancestors().skip(1).map(|folder| folder.join("tools").join(name)).find(|path| path.exists())
}

fn find(program: &str) -> Option<PathBuf> {
    search_folders().map(|folder| folder.join(program)).find(|path| path.is_file())
}

fn search_folders() -> impl Iterator<Item = PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = env::split_paths(&path).chain(MORE_FOLDERS.map(PathBuf::from)).collect();
    folders.into_iter()
}

/// `<parent>/<prefix><major>/<below>` for every major version there.
fn versioned_folders(
    parent: &str,
    prefix: &'static str,
    below: &'static str,
) -> impl Iterator<Item = (u32, PathBuf)> {
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    entries.filter_map(move |entry| {
        let major = entry.file_name().to_str()?.strip_prefix(prefix)?.parse().ok()?;
        Some((major, entry.path().join(below)))
    })
}

fn postgres_version(postgres: &Path) -> Option<u32> {
    if !postgres.is_file() {
        return None;
    }
    // "postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)"
    let output = Command::new(postgres).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.split_whitespace().nth(2)?;
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}
