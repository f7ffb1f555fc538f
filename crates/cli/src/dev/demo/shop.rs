//! The shop's side: its role, its tables, and that they are watched. All of it may be done again.

use anyhow::Context as _;
use rowcast_sandbox::Connection;
use rowcast_store::{WatchOptions, Watches};
use tokio_postgres::Config;

use crate::dev::database::OWNER;

/// The application's role: the owner of its tables, with no more rights than any application needs.
const ROLE: &str = "shop";

/// Makes what is not there yet, and returns the address that the application uses.
///
/// # Errors
/// When PostgreSQL refuses something.
pub async fn open(database_url: &str) -> anyhow::Result<String> {
    let owner: Config = database_url.parse().context("the database's own address")?;
    let password = String::from_utf8_lossy(owner.get_password().unwrap_or_default()).into_owned();
    let connection = Connection::open(database_url).await?;
    // The password holds hexadecimal digits only.
    let role = format!(
        "DO $$ BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{ROLE}') THEN CREATE ROLE {ROLE}; END IF;
        END $$;
        ALTER ROLE {ROLE} LOGIN PASSWORD '{password}';
        GRANT rowcast_watcher TO {ROLE};
        GRANT USAGE, CREATE ON SCHEMA public TO {ROLE}"
    );
    connection.batch_execute(&role).await.context("making the shop's role")?;

    let url = database_url.replacen(&format!("//{OWNER}:"), &format!("//{ROLE}:"), 1);
    let connection = Connection::open(&url).await?;
    let quiet = "SET client_min_messages = warning;";
    connection
        .batch_execute(&format!("{quiet}{}", include_str!("shop.sql")))
        .await
        .context("making its tables")?;
    watch(&url).await.context("watching its tables")?;
    Ok(url)
}

async fn watch(url: &str) -> anyhow::Result<()> {
    let watches = Watches::connect(url).await?;
    let options = WatchOptions {
        table: r#"public."Booking""#.to_owned(),
        merchant_column: "merchantId".to_owned(),
        type_: Some("booking".to_owned()),
        payload: Some(r#"public."bookingPayload""#.to_owned()),
        ..WatchOptions::default()
    };
    watches.watch(&options).await?;
    watches.close().await;
    Ok(())
}
