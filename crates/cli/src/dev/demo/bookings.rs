//! What the page reads and writes of the shop, with the shop's own rights, on one connection that is made anew when it is
//! lost. What a booking looks like is the payload function's affair: a snapshot holds what events bring.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rand::seq::IndexedRandom as _;
use rowcast_sandbox::Connection;
use tokio::sync::Mutex;
use tokio_postgres::types::ToSql;

use super::writer::{BOOK, CUSTOMERS, SERVICES};

/// For a connection and a statement. PostgreSQL may be away, or not answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// In minutes and cents: what a service takes and costs that is not on the list.
const OWN_SERVICE: (i32, i32) = (30, 2_900);

const OF_MERCHANT: &str = r#"
    SELECT coalesce(json_agg(payload ORDER BY id DESC), '[]')::text
    FROM (SELECT id, "bookingPayload"(booking) AS payload
          FROM "Booking" AS booking WHERE "merchantId" = $1 ORDER BY id DESC LIMIT 500) AS newest"#;
const ONE: &str = r#"SELECT "bookingPayload"(booking)::text FROM "Booking" AS booking WHERE id = $1"#;
const SET_STATUS: &str = r#"
    UPDATE "Booking" AS booking SET status = $2 WHERE id = $1 RETURNING "bookingPayload"(booking)::text"#;
const REMOVE: &str = r#"DELETE FROM "Booking" WHERE id = $1 RETURNING id::text"#;

/// What a new booking shall say; what is left open is drawn.
#[derive(Debug, Default)]
pub struct Wish {
    /// Who comes.
    pub customer: Option<String>,
    /// For what.
    pub service: Option<String>,
}

/// Why there is no booking.
#[derive(Debug, thiserror::Error)]
pub enum BookingError {
    /// It was removed, or never made.
    #[error("there is no such booking")]
    NoSuchBooking,
    /// PostgreSQL is away. Of a change it is then not known whether it was committed.
    #[error("PostgreSQL does not answer, try again: {0:#}")]
    Database(#[from] anyhow::Error),
}

/// The shop's bookings.
pub struct Bookings {
    url: String,
    connection: Mutex<Option<Arc<Connection>>>,
}

impl Bookings {
    /// With the shop's address.
    pub fn new(url: String) -> Self {
        Self { url, connection: Mutex::new(None) }
    }

    /// The newest 500 bookings of a merchant, newest first, as a JSON array.
    ///
    /// # Errors
    /// When PostgreSQL is away, as for all below.
    pub async fn of(&self, merchant: &str) -> Result<String, BookingError> {
        self.text(OF_MERCHANT, &[&merchant]).await
    }

    /// Makes a booking, and returns it as JSON.
    ///
    /// # Errors
    /// Also when it is gone before it was read.
    pub async fn book(&self, merchant: &str, wish: Wish) -> Result<String, BookingError> {
        let (customer, (service, minutes, cents)) = drawn(wish);
        let id = self.text(BOOK, &[&merchant, &customer, &service, &minutes, &cents]).await?;
        let id: i64 = id.parse().context("a booking's id")?;
        self.text(ONE, &[&id]).await
    }

    /// Changes a booking's status, and returns it as JSON.
    ///
    /// # Errors
    /// Also when there is none.
    pub async fn set_status(&self, id: i64, status: &str) -> Result<String, BookingError> {
        self.text(SET_STATUS, &[&id, &status]).await
    }

    /// Removes a booking.
    ///
    /// # Errors
    /// Also when there is none.
    pub async fn remove(&self, id: i64) -> Result<(), BookingError> {
        self.text(REMOVE, &[&id]).await.map(drop)
    }

    /// The text that a statement returns.
    async fn text(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<String, BookingError> {
        let asked = async {
            let connection = self.connection().await?;
            anyhow::Ok(connection.query_opt(sql, values).await?)
        };
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(row) => Ok(row?.ok_or(BookingError::NoSuchBooking)?.get(0)),
            Err(_) => {
                // What does not answer now may have an answer for the next one, which would wait behind this.
                *self.connection.lock().await = None;
                Err(anyhow::anyhow!("no answer within {PATIENCE:?}").into())
            }
        }
    }

    async fn connection(&self) -> anyhow::Result<Arc<Connection>> {
        let mut kept = self.connection.lock().await;
        match kept.as_ref().filter(|kept| !kept.is_closed()) {
            Some(open) => Ok(open.clone()),
            None => Ok(kept.insert(Arc::new(Connection::open(&self.url).await?)).clone()),
        }
    }
}

fn drawn(wish: Wish) -> (String, (String, i32, i32)) {
    let mut random = rand::rng();
    let any = || SERVICES.choose(&mut rand::rng()).expect("there are services");
    let customer = wish
        .customer
        .unwrap_or_else(|| (*CUSTOMERS.choose(&mut random).expect("there are customers")).to_owned());
    let (name, minutes, cents) = match &wish.service {
        Some(wanted) => match SERVICES.iter().find(|(name, ..)| name == wanted) {
            Some(known) => *known,
            None => (wanted.as_str(), OWN_SERVICE.0, OWN_SERVICE.1),
        },
        None => *any(),
    };
    (customer, (name.to_owned(), minutes, cents))
}
