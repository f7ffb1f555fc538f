//! A merchant's client: through the balancer, with a token, each event in a line with the time it took.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rowcast_protocol::Micros;
use serde::Deserialize;

use super::Tally;
use crate::client::{Client, Delivery, Event, Options, TokenSource};
use crate::dev::say::{CYAN, DIM, GREEN, RED, Say, YELLOW};
use crate::devfile::DevFile;
use crate::token::Claims;

/// Tokens are renewed long before: that they end shows nothing here.
const TOKEN: Duration = Duration::from_secs(24 * 3600);

/// Shows a merchant's events until the server refuses it for good.
pub async fn watch(dev: &DevFile, merchant: &str, tally: &Tally, say: Say) -> anyhow::Error {
    let claims = Claims {
        merchants: vec![merchant.to_owned()],
        subject: format!("demo-{merchant}"),
        expires_in: TOKEN,
        ..Claims::default()
    };
    let secret = dev.jwt_secret.clone();
    let token = TokenSource::Renewable(Arc::new(move || claims.sign(&secret, SystemTime::now())));
    let mut client = Client::new(Options::new(dev.url.clone(), token));
    loop {
        let event = match client.next().await {
            Ok(event) => event,
            Err(error) => return anyhow::Error::new(error).context(format!("the client of {merchant}")),
        };
        match event {
            Event::Delivery(delivery, _) => {
                tally.count(merchant, delivery.latency_ms());
                say.raw(&line(&delivery, say));
            }
            Event::Disconnected { reason, .. } => {
                say.line(&say.paint(RED, &format!("{merchant}: disconnected: {reason}")))
            }
            Event::Welcome(welcome) => {
                let resumed = welcome.rooms.values().any(|room| room.resumed);
                say.line(&format!(
                    "{merchant}: connected{}",
                    if resumed { ", resumed where it was" } else { "" }
                ));
            }
            Event::Status(status) => {
                let light = if status.live { say.paint(GREEN, "live") } else { say.paint(RED, "delayed") };
                say.line(&format!("{merchant}: {light} {}", status.reason.unwrap_or_default()));
            }
            Event::Resync(resync) => say.line(&format!("{merchant}: resync: {}", resync.reason)),
            Event::TokenExpiring(_) | Event::Refreshed { .. } | Event::Bye { .. } => {}
        }
    }
}

/// What is shown of a booking; a removed one comes with its plain columns.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Booking {
    booking_number: String,
    customer_name: String,
    status: String,
    start_time: String,
    service: Option<Service>,
}

#[derive(Debug, Deserialize)]
struct Service {
    name: String,
}

fn line(delivery: &Delivery, say: Say) -> String {
    let colour = match delivery.type_.rsplit('.').next() {
        Some("created") => GREEN,
        Some("updated") => YELLOW,
        Some("deleted") => RED,
        _ => CYAN,
    };
    let clock = Micros::from_system_time(delivery.received_at).to_string();
    let took = delivery.latency_ms().map_or_else(String::new, |ms| format!("{ms:.1} ms"));
    let what = match serde_json::from_str::<Booking>(delivery.data.get()) {
        Ok(booking) => format!(
            "{} {:9} {} {} {}",
            booking.booking_number,
            booking.status,
            booking.start_time.get(..16).unwrap_or(&booking.start_time).replace('T', " "),
            booking.customer_name,
            booking.service.map_or_else(String::new, |service| service.name)
        ),
        Err(_) => delivery.data.get().to_owned(),
    };
    format!(
        "{} {took:>9}  {:<11} {} {what}",
        say.paint(DIM, clock.get(11..23).unwrap_or(&clock)),
        delivery.room,
        say.paint(colour, &format!("{:<15}", delivery.type_)),
    )
}
