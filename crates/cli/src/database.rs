//! Which database a command works on, and what to say where it refuses. What the commands do there is theirs.

use anyhow::{anyhow, bail};
use rowcast_store::{StoreError, Watches};
use tokio_postgres::{config::Host, error::SqlState};

use crate::{args::DatabaseArgs, config::Config, devfile::DevFile};

/// The address: from the command line, or else from the configuration.
pub(crate) fn url(args: &DatabaseArgs) -> anyhow::Result<String> {
    if let Some(folder) = &args.dev {
        return Ok(DevFile::read(folder)?.database_url);
    }
    // What the configuration says of TLS counts for an address of the command line too.
    let mut database = Config::load(args.config.as_deref())?.database;
    if let Some(url) = &args.database_url {
        database.url = url.as_str().into();
    }
    let url = database.address().expose().to_owned();
    if url.is_empty() {
        bail!(
            "which database? Give --database-url postgres://user:password@host/name, set ROWCAST_DATABASE__URL, or name the \
             --dev folder of a running `rowcast dev`"
        )
    }
    Ok(url)
}

/// A connection for an operator's commands.
pub(crate) async fn connect(url: &str) -> anyhow::Result<Watches> {
    Watches::connect(url).await.map_err(|error| explained(error, url))
}

/// Says where, and what to do about it. The password of the address is not shown.
pub(crate) fn explained(error: StoreError, url: &str) -> anyhow::Error {
    let place = place(url);
    let advice = match &error {
        StoreError::Address(_) => {
            return anyhow!("{error}; it looks like postgres://user:password@host:5432/database");
        }
        StoreError::ConnectTimeout(_) => {
            "is the address right, and is nothing between here and there in the way?"
        }
        StoreError::Connect(_) => match error.code() {
            None => "is PostgreSQL running there, and is the address right?",
            Some(code) if *code == SqlState::INVALID_PASSWORD => "check user and password of the address",
            Some(code) if *code == SqlState::INVALID_CATALOG_NAME => {
                "create the database, or correct its name"
            }
            Some(_) => "",
        },
        StoreError::NotMigrated
        | StoreError::Parameter(_)
        | StoreError::Tls(_)
        | StoreError::Handshake(_) => "",
        _ => match error.code() {
            Some(code) if *code == SqlState::INVALID_SCHEMA_NAME || *code == SqlState::UNDEFINED_FUNCTION => {
                "is the schema there, and up to date? `rowcast migrate` sees to it"
            }
            Some(code) if *code == SqlState::INSUFFICIENT_PRIVILEGE => {
                "connect as the table's owner (watch, unwatch), as a member of rowcast_publisher (publish) or rowcast_operator \
                 (switch, revoke), or as one who may create schemas and roles (migrate)"
            }
            _ => "",
        },
    };
    match advice {
        "" => anyhow!("{place}: {error}"),
        advice => anyhow!("{place}: {error}; {advice}"),
    }
}

/// The same, for a command whose table was given as text.
pub(crate) fn about_table(error: StoreError, url: &str, table: &str) -> anyhow::Error {
    let folded = !table.contains('"') && table.chars().any(char::is_uppercase);
    match error.code() {
        Some(code) if *code == SqlState::UNDEFINED_TABLE && folded => {
            let quoted: Vec<String> = table.split('.').map(|part| format!("\"{part}\"")).collect();
            anyhow!(
                "{}: {error}; PostgreSQL reads names without double quotes as lower case: did you mean '{}'?",
                place(url),
                quoted.join(".")
            )
        }
        _ => explained(error, url),
    }
}

/// Host, port and database of an address.
fn place(url: &str) -> String {
    let Some(config) = rowcast_store::library_config(url) else { return "PostgreSQL".to_owned() };
    let ports = config.get_ports();
    let hosts: Vec<String> = config
        .get_hosts()
        .iter()
        .enumerate()
        .map(|(index, host)| {
            let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
            match host {
                Host::Tcp(name) => format!("{name}:{port}"),
                Host::Unix(path) => format!("{}/.s.PGSQL.{port}", path.display()),
            }
        })
        .collect();
    let database = config.get_dbname().or(config.get_user()).unwrap_or("postgres");
    format!(
        "database {database:?} at {}",
        if hosts.is_empty() { "localhost".to_owned() } else { hosts.join(",") }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_shows_host_and_database_and_no_password() {
        let place = place("postgres://app:hush@db.example:5433/shop");
        assert_eq!(place, "database \"shop\" at db.example:5433");
    }
}
