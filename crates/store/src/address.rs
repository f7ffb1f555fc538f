//! Where PostgreSQL is and how it is proven to be the one that is meant: an address as libpq takes it, with its `sslmode`,
//! `sslrootcert`, `sslcert` and `sslkey`, and with its `target_session_attrs`. The library behind it knows three of the modes
//! and none of the files. Which of several hosts is taken is in `hosts`.

use std::path::PathBuf;
use std::str::FromStr;

use rowcast_tls::{ClientFiles, Trust};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use crate::StoreError;

/// What is asked of a connection, the weakest first: libpq's `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Mode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl FromStr for Mode {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        if text == "allow" {
            return Err(StoreError::Parameter("sslmode=allow is not supported; use prefer".into()));
        }
        Self::ALL.into_iter().find(|mode| mode.name() == text).ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            StoreError::Parameter(format!("sslmode={text} is not one of {known}"))
        })
    }
}

/// Which of several servers will do: libpq's `target_session_attrs`, as far as Rowcast can do anything with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    Any,
    Primary,
    ReadWrite,
}

impl FromStr for Wanted {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        match text {
            "any" => Ok(Self::Any),
            "primary" => Ok(Self::Primary),
            "read-write" => Ok(Self::ReadWrite),
            "read-only" | "standby" | "prefer-standby" => Err(StoreError::Parameter(format!(
                "target_session_attrs={text} leads to standbys, and Rowcast needs the primary: use primary or read-write"
            ))),
            _ => Err(StoreError::Parameter(format!(
                "target_session_attrs={text} is not one of any, primary, read-write"
            ))),
        }
    }
}

/// An address, taken apart.
#[derive(Debug)]
pub(crate) struct Address {
    /// What the library understands of it.
    pub config: Config,
    /// How a certificate is judged; nothing where no TLS is spoken.
    pub trust: Option<Trust>,
    /// Certificates and keys.
    pub files: ClientFiles,
    /// Which of its servers will do.
    pub wanted: Wanted,
}

impl Address {
    /// Reads an address. Where a mode is given more than once the strongest counts, and of files the first: settings are
    /// written behind what an address says itself.
    ///
    /// # Errors
    /// What is wrong with it. No value of a secret is in the text.
    pub fn parse(address: &str) -> Result<Self, StoreError> {
        let (rest, ours) = split(address)?;
        let mut mode: Option<Mode> = None;
        let mut files = ClientFiles::default();
        let mut wanted = Wanted::Any;
        for (key, value) in ours {
            let file = match key {
                "target_session_attrs" => {
                    wanted = value.parse()?;
                    continue;
                }
                "sslmode" => {
                    mode = mode.max(Some(value.parse()?));
                    continue;
                }
                "sslrootcert" => &mut files.ca,
                "sslcert" => &mut files.cert,
                _ => &mut files.key,
            };
            if !value.is_empty() {
                file.get_or_insert(PathBuf::from(value));
            }
        }
        let mut config: Config = rest.parse().map_err(StoreError::Address)?;
        let tcp = config.get_hosts().iter().any(|host| matches!(host, Host::Tcp(_)))
            || !config.get_hostaddrs().is_empty();
        // libpq speaks no TLS over Unix sockets either.
        let mode = if tcp { effective(mode, &mut files)? } else { Mode::Disable };
        config.ssl_mode(match mode {
            Mode::Disable => SslMode::Disable,
            Mode::Prefer => SslMode::Prefer,
            Mode::Require | Mode::VerifyCa | Mode::VerifyFull => SslMode::Require,
        });
        let trust = match mode {
            Mode::Disable => None,
            Mode::Prefer => Some(Trust::Anyone),
            // As libpq: whoever names an authority wants it to count.
            Mode::Require if files.ca.is_some() => Some(Trust::Chain),
            Mode::Require => Some(Trust::Anyone),
            Mode::VerifyCa => Some(Trust::Chain),
            Mode::VerifyFull => Some(Trust::Full),
        };
        Ok(Self { config, trust, files, wanted })
    }

    /// Whether somebody between here and a server elsewhere could read along, or be taken for the server.
    pub fn is_exposed(&self) -> bool {
        let elsewhere = self.config.get_hosts().iter().any(|host| match host {
            Host::Tcp(name) => {
                name != "localhost" && !name.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
            }
            Host::Unix(_) => false,
        });
        elsewhere && !matches!(self.trust, Some(Trust::Full | Trust::Chain))
    }
}

fn effective(mode: Option<Mode>, files: &mut ClientFiles) -> Result<Mode, StoreError> {
    let system = files.ca.as_deref().is_some_and(|ca| ca.as_os_str() == "system");
    let mode = match (mode, &files.ca) {
        (None, None) => Mode::Prefer,
        (None, Some(_)) => Mode::VerifyFull,
        (Some(mode @ (Mode::Disable | Mode::Prefer)), Some(_)) => {
            let reason =
                format!("sslrootcert names an authority that sslmode={} would not look at", mode.name());
            return Err(StoreError::Parameter(format!("{reason}; use sslmode=verify-full")));
        }
        // As libpq: any certificate of a public authority would do.
        (Some(mode), Some(_)) if system && mode < Mode::VerifyFull => {
            let reason = format!("sslrootcert=system needs sslmode=verify-full, and not {}", mode.name());
            return Err(StoreError::Parameter(reason));
        }
        (Some(mode), _) => mode,
    };
    if system {
        files.ca = None;
    }
    Ok(mode)
}

impl Mode {
    const ALL: [Self; 5] = [Self::Disable, Self::Prefer, Self::Require, Self::VerifyCa, Self::VerifyFull];

    fn name(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

type Ours = Vec<(&'static str, String)>;

const OURS: [&str; 5] = ["sslmode", "sslrootcert", "sslcert", "sslkey", "target_session_attrs"];

/// The address without the parameters that are ours, and those.
fn split(address: &str) -> Result<(String, Ours), StoreError> {
    let scheme = ["postgres://", "postgresql://"].into_iter().find(|scheme| address.starts_with(scheme));
    match scheme {
        Some(scheme) => split_url(address, scheme.len()),
        None => split_pairs(address),
    }
}

fn ours(key: &str) -> Option<&'static str> {
    OURS.into_iter().find(|known| *known == key)
}

fn split_url(url: &str, begin: usize) -> Result<(String, Ours), StoreError> {
    // A password may hold a question mark.
    let authority = url[begin..].find('@').map_or(begin, |at| begin + at);
    let Some(query) = url[authority..].find('?').map(|at| authority + at) else {
        return Ok((url.to_owned(), Vec::new()));
    };
    let (mut rest, mut found) = (Vec::new(), Vec::new());
    for pair in url[query + 1..].split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        match ours(key) {
            Some(key) => {
                let value = percent_encoding::percent_decode_str(value).decode_utf8();
                let value = value.map_err(|_| StoreError::Parameter(format!("{key} is not UTF-8")))?;
                found.push((key, value.into_owned()));
            }
            None => rest.push(pair),
        }
    }
    let mark = if rest.is_empty() { "" } else { "?" };
    Ok((format!("{}{mark}{}", &url[..query], rest.join("&")), found))
}

/// `host=db user='my app' …`
fn split_pairs(text: &str) -> Result<(String, Ours), StoreError> {
    let (mut rest, mut found) = (Vec::new(), Vec::new());
    let mut left = text.trim_start();
    while !left.is_empty() {
        let Some((key, behind)) = left.split_once('=') else {
            // Whatever this is, the library says what is wrong with it.
            rest.push(left.to_owned());
            break;
        };
        let (key, behind) = (key.trim(), behind.trim_start());
        let (value, length) = value(behind);
        match ours(key) {
            Some(key) => found.push((key, value)),
            None => rest.push(format!("{key}={}", &behind[..length])),
        }
        left = behind[length..].trim_start();
    }
    Ok((rest.join(" "), found))
}

/// A value as it is meant, and how much of the text it takes up.
fn value(text: &str) -> (String, usize) {
    let quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut characters = text.char_indices().skip(usize::from(quoted));
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            '\'' if quoted => return (value, at + 1),
            space if !quoted && space.is_whitespace() => return (value, at),
            other => value.push(other),
        }
    }
    (value, text.len())
}

#[cfg(test)]
mod tests;
