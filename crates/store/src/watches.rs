//! Watching tables and publishing by hand, for the command line. What the triggers do is in the migrations.

use tokio_postgres::Client;

use crate::StoreError;
use crate::drift::Drift;
use crate::session::{Session, SessionOptions};

/// What a trigger does with its own failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnError {
    /// The application's statement succeeds, with a WARNING, and the failure is recorded.
    #[default]
    Warn,
    /// The application's statement fails.
    Fail,
}

impl OnError {
    /// As PostgreSQL and the command line write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// The arguments of `rowcast.watch`; what is not given takes the database's default.
#[derive(Debug, Clone, Default)]
pub struct WatchOptions {
    /// As PostgreSQL reads a table's name: `booking`, `public."Booking"`.
    pub table: String,
    /// The column whose text is the room, as it is (`merchantId`, without quotes).
    pub merchant_column: String,
    /// Events are `<type>.created`, `.updated`, `.deleted`. The table's name by default.
    pub type_: Option<String>,
    /// All by default. Key and merchant are always among them.
    pub columns: Option<Vec<String>>,
    /// Of `insert`, `update`, `delete`; all by default.
    pub operations: Option<Vec<String>>,
    /// A function of the row that returns json.
    pub payload: Option<String>,
    /// What a failing trigger does.
    pub on_error: OnError,
}

/// A watched table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// Quoted and qualified where PostgreSQL needs it.
    pub table: String,
    /// The column whose text is the room.
    pub merchant_column: String,
    /// The first part of its events' types.
    pub type_: String,
    /// The primary key.
    pub key_columns: Vec<String>,
    /// What is sent and compared.
    pub columns: Vec<String>,
    /// Of `insert`, `update`, `delete`.
    pub operations: Vec<String>,
    /// The payload function.
    pub payload: Option<String>,
    /// `warn` or `fail`.
    pub on_error: String,
}

/// A connection for an operator's commands, with the rights of whoever runs them.
pub struct Watches {
    session: Session,
}

impl Watches {
    /// Connects.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        let session = Session::open(url, &SessionOptions::new("rowcast").as_addressed()).await?;
        Ok(Self { session })
    }

    pub(crate) fn client(&self) -> &Client {
        self.session.client()
    }

    /// Installs or renews the triggers of a table. Errors are the database's own words: they list the columns there
    /// are.
    pub async fn watch(&self, options: &WatchOptions) -> Result<(), StoreError> {
        self.client()
            .execute(
                "SELECT rowcast.watch($1::text::regclass, $2::text, type => $3::text, columns => $4::text[],
                    operations => coalesce($5::text[], '{insert,update,delete}'), payload => $6::text::regproc, on_error => $7::text)",
                &[
                    &options.table,
                    &options.merchant_column,
                    &options.type_,
                    &options.columns,
                    &options.operations,
                    &options.payload,
                    &options.on_error.as_str(),
                ],
            )
            .await?;
        Ok(())
    }

    /// Removes the triggers. Says whether the table was watched.
    pub async fn unwatch(&self, table: &str) -> Result<bool, StoreError> {
        let row = self.client().query_one("SELECT rowcast.unwatch($1::text::regclass)", &[&table]).await?;
        Ok(row.try_get(0)?)
    }

    /// All watched tables, by name.
    pub async fn list(&self) -> Result<Vec<Watched>, StoreError> {
        let rows = self
            .client()
            .query(
                "SELECT relation::text, merchant_column, type, key_columns, columns, operations, payload::text, on_error
                   FROM rowcast.watches
                  WHERE EXISTS (SELECT FROM pg_class WHERE oid = relation) ORDER BY relation::text",
                &[],
            )
            .await
            .map_err(StoreError::from_statement)?;
        rows.iter()
            .map(|row| {
                Ok(Watched {
                    table: row.try_get(0)?,
                    merchant_column: row.try_get(1)?,
                    type_: row.try_get(2)?,
                    key_columns: row.try_get(3)?,
                    columns: row.try_get(4)?,
                    operations: row.try_get(5)?,
                    payload: row.try_get(6)?,
                    on_error: row.try_get(7)?,
                })
            })
            .collect()
    }

    /// What is not as [`Watches::watch`] left it, with the watched table that it belongs to.
    pub async fn drift(&self) -> Result<Vec<(Option<String>, Drift)>, StoreError> {
        let rows = self
            .client()
            .query(
                "SELECT d.relation, d.kind, d.detail,
                        (SELECT w.relation::text FROM rowcast.watches AS w JOIN pg_class AS c ON c.oid = w.relation
                          WHERE d.kind NOT IN ('detached', 'dropped')
                            AND to_regclass(d.relation) IN (SELECT rowcast.family(w.relation)) LIMIT 1)
                   FROM rowcast.drift() AS d ORDER BY 1, 2, 3",
                &[],
            )
            .await
            .map_err(StoreError::from_statement)?;
        rows.iter()
            .map(|row| {
                let drift =
                    Drift { relation: row.try_get(0)?, kind: row.try_get(1)?, detail: row.try_get(2)? };
                Ok((row.try_get(3)?, drift))
            })
            .collect()
    }

    /// Publishes an event of the application's own, in a transaction of its own. `data` is JSON text.
    pub async fn publish(&self, room: &str, type_: &str, data: &str) -> Result<(), StoreError> {
        self.client()
            .execute("SELECT rowcast.publish($1, $2, $3::text::json)", &[&room, &type_, &data])
            .await?;
        Ok(())
    }

    /// Closes the connection.
    pub async fn close(self) {
        self.session.close().await;
    }
}
