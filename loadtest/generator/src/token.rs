//! Tokens of this program's own.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Map, Value};

/// Longer than any run.
const LIFE: Duration = Duration::from_secs(7 * 24 * 3600);

/// Signs a token for one room.
pub(crate) fn sign(secret: &str, claim: &str, room: &str) -> Result<String> {
    let now =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).context("the clock stands before 1970")?;
    let mut claims = Map::new();
    claims.insert(claim.to_owned(), Value::from(room));
    claims.insert("sub".to_owned(), Value::from("rowcast-generator"));
    claims.insert("exp".to_owned(), Value::from((now + LIFE).as_secs()));
    let key = EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&Header::default(), &claims, &key).context("signing a token")
}
