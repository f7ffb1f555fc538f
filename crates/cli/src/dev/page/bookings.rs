//! The shop's own API, as any application has one: a snapshot of the bookings, and what changes them. Rowcast has no part in
//! it but to tell everyone of what was committed.

use actix_web::web::{Data, Json, Path, Query};
use actix_web::{HttpRequest, HttpResponse};
use rowcast_protocol::RoomName;
use serde::Deserialize;
use serde_json::json;

use super::answer::{self, Refusal};
use super::tokens::Tokens;
use crate::dev::demo::{BookingError, Bookings, Wish};

/// The longest name of a customer or service, in characters.
const MAX_NAME: usize = 100;

#[derive(Debug, Deserialize)]
pub struct Whose {
    merchant: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Booking {
    merchant: String,
    customer_name: Option<String>,
    service: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    status: Status,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Status {
    Pending,
    Confirmed,
    Cancelled,
}

impl Status {
    fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Confirmed => "CONFIRMED",
            Self::Cancelled => "CANCELLED",
        }
    }
}

impl From<BookingError> for Refusal {
    fn from(error: BookingError) -> Self {
        match error {
            BookingError::NoSuchBooking => Self::not_found(error),
            BookingError::Database(_) => Self::unavailable("database", error),
        }
    }
}

/// `GET /demo/bookings?merchant=`
pub async fn list(
    request: HttpRequest,
    tokens: Data<Tokens>,
    bookings: Data<Bookings>,
    whose: Query<Whose>,
) -> Result<HttpResponse, Refusal> {
    let merchant = merchant(&whose.merchant)?;
    tokens.entitle(request.headers(), merchant)?;
    Ok(answer::raw_json(bookings.of(merchant).await?))
}

/// `POST /demo/bookings`
pub async fn book(bookings: Data<Bookings>, booking: Json<Booking>) -> Result<HttpResponse, Refusal> {
    let Booking { merchant: whose, customer_name, service } = booking.into_inner();
    for (field, value) in [("customerName", &customer_name), ("service", &service)] {
        let fits = |name: &String| (1..=MAX_NAME).contains(&name.chars().count()) && !name.contains('\0');
        if !value.as_ref().is_none_or(fits) {
            return Err(Refusal::malformed(format!("{field} has 1 to {MAX_NAME} characters")));
        }
    }
    let wish = Wish { customer: customer_name, service };
    Ok(answer::raw_json(bookings.book(merchant(&whose)?, wish).await?))
}

/// `PATCH /demo/bookings/<id>`
pub async fn change(
    bookings: Data<Bookings>,
    id: Path<String>,
    change: Json<Change>,
) -> Result<HttpResponse, Refusal> {
    Ok(answer::raw_json(bookings.set_status(number(&id)?, change.status.as_str()).await?))
}

/// `DELETE /demo/bookings/<id>`
pub async fn remove(bookings: Data<Bookings>, id: Path<String>) -> Result<HttpResponse, Refusal> {
    let id = number(&id)?;
    bookings.remove(id).await?;
    Ok(answer::json(json!({ "removed": id })))
}

fn merchant(name: &str) -> Result<&str, Refusal> {
    RoomName::parse(name).map_err(|error| Refusal::malformed(format!("merchant: {error}")))?;
    match name.contains('\0') {
        true => Err(Refusal::malformed("merchant: PostgreSQL has no text with a zero byte")),
        false => Ok(name),
    }
}

fn number(id: &str) -> Result<i64, Refusal> {
    id.parse().map_err(|_| Refusal::malformed(format!("a booking's id is a number, not {id:?}")))
}
