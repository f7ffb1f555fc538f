//! The database of a `dev`: the server, its roles, the schema.

use anyhow::Context as _;
use rowcast_sandbox::{Postgres, PostgresOptions};
use rowcast_store::{Report, StoreError};

use super::folder::DevFolder;
use super::say::Say;

/// The database that the application and Rowcast share.
const DATABASE: &str = "app";
/// The role of `database_url`. A superuser: this is a developer's own server, where one may want extensions, roles and
/// a look at everything.
pub const OWNER: &str = "rowcast";
/// The role of the listeners, with the rights of `rowcast_listener` and no more.
const LISTENER: &str = "rowcast_dev_listener";

/// A server with Rowcast's schema.
pub struct Database {
    /// The server.
    pub postgres: Postgres,
    /// For the application.
    pub url: String,
    /// For the listeners.
    pub listener_url: String,
}

/// Starts the server, makes what is not there yet, and migrates. Without a password, everybody on this machine is trusted.
///
/// # Errors
/// When one of these fails.
pub async fn start(folder: &DevFolder, password: Option<&str>, say: Say) -> anyhow::Result<Database> {
    start_with(folder, password, say, async |url| {
        let report = migrate(&url).await?;
        let (version, applied) = (report.version, report.applied.len());
        say.line(&format!("the schema is at version {version} ({applied} migrations applied)"));
        Ok(())
    })
    .await
}

/// The same, with something else that migrates the database whose address it is given.
///
/// # Errors
/// When one of these fails.
pub async fn start_with(
    folder: &DevFolder,
    password: Option<&str>,
    say: Say,
    migrate: impl AsyncFnOnce(String) -> anyhow::Result<()>,
) -> anyhow::Result<Database> {
    let place = folder.path().join("postgres");
    if !place.join("data").exists() {
        say.line("making PostgreSQL's data folder");
    }
    let options = PostgresOptions {
        folder: Some(place),
        durable: true,
        password: password.map(str::to_owned),
        ..PostgresOptions::default()
    };
    let postgres = Postgres::start(options).await?;
    say.line(&format!("PostgreSQL answers on 127.0.0.1:{}", postgres.port()));
    make_roles(&postgres, password).await.context("making roles and database")?;
    let url = postgres.url_with(OWNER, password, DATABASE);
    migrate(url.clone()).await.context("migrating")?;
    let grant = format!("GRANT rowcast_listener TO {LISTENER}");
    postgres
        .connect(DATABASE)
        .await?
        .batch_execute(&grant)
        .await
        .context("granting the listener's rights")?;
    let listener_url = postgres.url_with(LISTENER, password, DATABASE);
    Ok(Database { postgres, url, listener_url })
}

/// The server is there; on a machine that has much else to do, it may take its time for a session.
async fn migrate(url: &str) -> Result<Report, StoreError> {
    let mut attempts = 10;
    loop {
        match rowcast_store::migrate(url).await {
            Err(StoreError::ConnectTimeout(_) | StoreError::NoSecondSession(_)) if attempts > 0 => {
                attempts -= 1
            }
            migrated => return migrated,
        }
    }
}

async fn make_roles(postgres: &Postgres, password: Option<&str>) -> anyhow::Result<()> {
    let connection = postgres.connect("postgres").await?;
    let password = password.map(|password| format!("PASSWORD '{password}'")).unwrap_or_default();
    for (role, rights) in [(OWNER, "SUPERUSER"), (LISTENER, "NOSUPERUSER")] {
        // The password holds hexadecimal digits only.
        let text = format!(
            "DO $$ BEGIN
                IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN CREATE ROLE {role}; END IF;
            END $$;
            ALTER ROLE {role} LOGIN {rights} {password}"
        );
        connection.batch_execute(&text).await?;
    }
    let known = connection.query_opt("SELECT FROM pg_database WHERE datname = $1", &[&DATABASE]).await?;
    if known.is_none() {
        connection.batch_execute(&format!("CREATE DATABASE {DATABASE} OWNER {OWNER}")).await?;
    }
    Ok(())
}
