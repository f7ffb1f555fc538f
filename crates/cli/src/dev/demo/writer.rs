//! The application's writes: bookings that are made, confirmed, moved, cancelled and forgotten.

use std::convert::Infallible;
use std::time::Duration;

use rand::seq::IndexedRandom as _;
use rowcast_sandbox::Connection;

use super::MERCHANTS;
use crate::dev::say::Say;

/// Between two writes, about: few enough to read along.
const PAUSE: Duration = Duration::from_millis(150);
/// Before the next attempt, while PostgreSQL is away.
const AWAY: Duration = Duration::from_millis(500);

/// One statement, so that the service is there when the payload function looks for it.
pub const BOOK: &str = r#"
    WITH booked AS (
        INSERT INTO "Booking" ("merchantId", "customerName", "startTime")
        VALUES ($1, $2, date_trunc('hour', now()) + make_interval(hours => 1 + (random() * 70)::int))
        RETURNING id)
    INSERT INTO "BookingService" ("bookingId", name, "durationMinutes", "priceCents")
    SELECT id, $3, $4, $5 FROM booked RETURNING "bookingId"::text"#;

/// What happens to a booking, with how often it does, of a hundred.
const CHANGES: [(u32, &str); 4] = [
    (
        30,
        r#"UPDATE "Booking" SET status = 'CONFIRMED' WHERE id = (
            SELECT id FROM "Booking" WHERE "merchantId" = $1 AND status = 'PENDING' ORDER BY random() LIMIT 1)"#,
    ),
    (
        15,
        r#"UPDATE "Booking" SET "startTime" = "startTime" + interval '30 minutes' WHERE id = (
            SELECT id FROM "Booking" WHERE "merchantId" = $1 AND status <> 'CANCELLED' ORDER BY random() LIMIT 1)"#,
    ),
    (
        12,
        r#"UPDATE "Booking" SET status = 'CANCELLED' WHERE id = (
            SELECT id FROM "Booking" WHERE "merchantId" = $1 AND status <> 'CANCELLED' ORDER BY random() LIMIT 1)"#,
    ),
    // The oldest ones, so that a demo can run for days.
    (
        8,
        r#"DELETE FROM "Booking" WHERE id IN (
            SELECT id FROM "Booking" WHERE "merchantId" = $1 ORDER BY id DESC OFFSET 50 LIMIT 10)"#,
    ),
];

/// Who books.
pub const CUSTOMERS: [&str; 6] = ["Ida", "Jonas", "Mara", "Noor", "Pavel", "Yuki"];

/// What is booked: name, minutes, cents.
pub const SERVICES: [(&str, i32, i32); 4] =
    [("Haircut", 30, 2_900), ("Colour", 90, 7_500), ("Beard trim", 20, 1_500), ("Wash and style", 45, 3_900)];

/// Writes until it is dropped. Where PostgreSQL goes away, it comes back to it.
pub async fn write(url: &str, say: Say) -> anyhow::Error {
    let mut away = false;
    loop {
        let Err(error) = session(url, &mut away, say).await;
        if !std::mem::replace(&mut away, true) {
            say.line(&format!("the shop cannot write: {error:#}"));
        }
        tokio::time::sleep(AWAY).await;
    }
}

/// As long as a connection lasts.
async fn session(url: &str, away: &mut bool, say: Say) -> anyhow::Result<Infallible> {
    let connection = Connection::open(url).await?;
    if std::mem::take(away) {
        say.line("the shop writes again");
    }
    loop {
        for merchant in MERCHANTS {
            step(&connection, merchant).await?;
            tokio::time::sleep(PAUSE.mul_f64(rand::random_range(0.5..1.5))).await;
        }
    }
}

async fn step(connection: &Connection, merchant: &str) -> anyhow::Result<()> {
    let mut rest = rand::random_range(0..100);
    for (share, change) in CHANGES {
        if rest < share {
            // With nothing to change yet, a booking is made instead.
            if connection.execute(change, &[&merchant]).await? > 0 {
                return Ok(());
            }
            break;
        }
        rest -= share;
    }
    let mut random = rand::rng();
    let customer = CUSTOMERS.choose(&mut random).expect("there are customers");
    let (name, minutes, cents) = SERVICES.choose(&mut random).expect("there are services");
    connection.execute(BOOK, &[&merchant, customer, name, minutes, cents]).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn more_than_a_quarter_of_the_steps_are_new_bookings() {
        let changes: u32 = super::CHANGES.iter().map(|(share, _)| share).sum();
        assert!(changes < 75, "{changes}");
    }
}
