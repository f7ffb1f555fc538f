//! Tokens for the page: anybody at this machine may have any merchant's. A real application signs its own, for who has
//! logged in.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actix_web::HttpResponse;
use actix_web::http::header::{self, HeaderMap};
use actix_web::web::{Data, Json};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use rowcast_protocol::{Micros, RoomName};
use serde::Deserialize;
use serde_json::json;

use super::answer::{self, Refusal};
use crate::token::Claims;

/// Seconds that a token is good for, unless asked otherwise, and at most.
const TTL: u32 = 3_600;
const MAX_TTL: u32 = 30 * 24 * 3_600;
/// All of the page's tokens have it: a client may replace one by another.
const SUBJECT: &str = "demo-page";

/// Signs and verifies.
pub struct Tokens {
    secret: String,
}

/// One, or several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Merchants {
    One(String),
    Several(Vec<String>),
}

/// What is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    merchant: Merchants,
    ttl: Option<u32>,
}

/// What a token that was signed here says.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Said {
    merchant_id: Merchants,
}

impl Tokens {
    /// With the edges' secret.
    pub fn new(secret: String) -> Self {
        Self { secret }
    }

    /// Checks that a request's token names the merchant.
    pub fn entitle(&self, headers: &HeaderMap, merchant: &str) -> Result<(), Refusal> {
        let value =
            headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let token = value.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let (_, token) = token.ok_or_else(|| Refusal::token("send `Authorization: Bearer <token>`"))?;
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = 0;
        let key = DecodingKey::from_secret(self.secret.as_bytes());
        let said = jsonwebtoken::decode::<Said>(token.trim(), &key, &validation)
            .map_err(|error| Refusal::token(format!("the token is not good: {error}; fetch another")))?;
        if !said.claims.merchant_id.names().contains(merchant) {
            return Err(Refusal::forbidden("not_allowed", format!("the token does not name {merchant:?}")));
        }
        Ok(())
    }
}

impl Merchants {
    fn names(self) -> BTreeSet<String> {
        match self {
            Self::One(name) => BTreeSet::from([name]),
            Self::Several(names) => names.into_iter().collect(),
        }
    }
}

/// `POST /demo/token`
pub async fn token(tokens: Data<Tokens>, wanted: Json<Wanted>) -> Result<HttpResponse, Refusal> {
    let Wanted { merchant, ttl } = wanted.into_inner();
    let merchants: Vec<String> = merchant.names().into_iter().collect();
    for name in &merchants {
        RoomName::parse(name).map_err(|error| Refusal::malformed(format!("merchant: {error}")))?;
    }
    let ttl = ttl.unwrap_or(TTL);
    if !(1..=MAX_TTL).contains(&ttl) {
        return Err(Refusal::malformed(format!("ttl is a number of seconds from 1 to {MAX_TTL}")));
    }
    let now = SystemTime::now();
    let expires_in = Duration::from_secs(ttl.into());
    let claims = Claims { merchants, subject: SUBJECT.to_owned(), expires_in, ..Claims::default() };
    let token = claims.sign(&tokens.secret, now).map_err(|error| Refusal::malformed(format!("{error:#}")))?;
    // As the token says it: whole seconds.
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let end = UNIX_EPOCH + Duration::from_secs(since + u64::from(ttl));
    Ok(answer::json(json!({ "token": token, "expires_at": Micros::from_system_time(end).to_string() })))
}
