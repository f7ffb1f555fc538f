//! Signs tokens. Verifying them is the edge's.

use std::{
    io::Write,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, bail};
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Map, Value};

use crate::{
    args::{ClaimArgs, TokenArgs},
    config::Config,
    devfile::DevFile,
};

/// The claim that names the rooms, by default.
pub const ROOM_CLAIM: &str = "merchantId";

/// A key for HS256 is at least as long as its hash; edges insist on it.
pub const MIN_SECRET_BYTES: usize = 32;

/// Claims that have options of their own.
const RESERVED: [(&str, &str); 4] =
    [(ROOM_CLAIM, "--merchant"), ("sub", "--subject"), ("exp", "--expires-in"), ("iat", "the clock")];

/// What a token says.
#[derive(Debug, Clone, Default)]
pub struct Claims {
    /// The rooms. One is written as text, several as a list.
    pub merchants: Vec<String>,
    /// The subject.
    pub subject: String,
    /// How long it is good.
    pub expires_in: Duration,
    /// Further claims.
    pub others: Map<String, Value>,
}

impl Claims {
    /// Signs with HS256, good from `now`.
    ///
    /// # Errors
    /// When the secret is too short, no merchant is named, or the signature fails.
    pub fn sign(&self, secret: &str, now: SystemTime) -> anyhow::Result<String> {
        if secret.len() < MIN_SECRET_BYTES {
            bail!(
                "the secret has {} bytes, and edges take none with fewer than {MIN_SECRET_BYTES} (RFC 7518, 3.2)",
                secret.len()
            );
        }
        let merchants = match self.merchants.as_slice() {
            [] => bail!("a token needs at least one merchant: give --merchant ID"),
            [one] => Value::from(one.as_str()),
            several => Value::from(several),
        };
        let now = now.duration_since(SystemTime::UNIX_EPOCH).context("the clock stands before 1970")?;
        let expires = now.checked_add(self.expires_in).context("the token's end is too far away")?;
        let mut claims = self.others.clone();
        claims.insert(ROOM_CLAIM.to_owned(), merchants);
        claims.insert("sub".to_owned(), self.subject.as_str().into());
        claims.insert("iat".to_owned(), now.as_secs().into());
        claims.insert("exp".to_owned(), expires.as_secs().into());
        let key = EncodingKey::from_secret(secret.as_bytes());
        jsonwebtoken::encode(&Header::default(), &claims, &key).context("the token cannot be signed")
    }
}

impl TryFrom<&ClaimArgs> for Claims {
    type Error = anyhow::Error;

    fn try_from(args: &ClaimArgs) -> anyhow::Result<Self> {
        let mut others = Map::new();
        for claim in &args.claim {
            let (name, value) = claim
                .split_once('=')
                .filter(|(name, _)| !name.is_empty())
                .with_context(|| format!("--claim {claim:?} is not of the form NAME=VALUE"))?;
            if let Some((_, option)) = RESERVED.iter().find(|(reserved, _)| *reserved == name) {
                bail!("--claim {name}: this claim is set by {option}");
            }
            let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
            others.insert(name.to_owned(), value);
        }
        Ok(Self {
            merchants: args.merchant.clone(),
            subject: args.subject.clone(),
            expires_in: args.expires_in,
            others,
        })
    }
}

/// The secret given on the command line, that of a running `rowcast dev`, or the configuration's.
pub(crate) fn secret(args: &ClaimArgs, dev: Option<&DevFile>) -> anyhow::Result<String> {
    if let Some(secret) = args.secret.as_ref().or(dev.map(|dev| &dev.jwt_secret)) {
        return Ok(secret.clone());
    }
    let secret = Config::load(args.config.as_deref())?.auth.hs256_secret;
    if !secret.is_set() {
        bail!("no secret to sign with: give --secret, set ROWCAST_AUTH__HS256_SECRET, or name a --dev folder")
    }
    Ok(secret.expose().to_owned())
}

/// The command `token`.
pub(crate) fn print(args: &TokenArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let dev = args.dev.as_deref().map(DevFile::read).transpose()?;
    let secret = secret(&args.claims, dev.as_ref())?;
    let token = Claims::try_from(&args.claims)?.sign(&secret, SystemTime::now())?;
    writeln!(out, "{token}")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{Algorithm, DecodingKey, Validation};

    use super::*;

    const SECRET: &str = "a secret of at least 32 bytes, hush";

    fn args(claim: &[&str], merchant: &[&str]) -> ClaimArgs {
        ClaimArgs {
            secret: None,
            config: None,
            merchant: merchant.iter().map(|id| (*id).to_owned()).collect(),
            subject: "ana".to_owned(),
            expires_in: Duration::from_secs(900),
            claim: claim.iter().map(|claim| (*claim).to_owned()).collect(),
        }
    }

    fn decoded(token: &str, secret: &str) -> jsonwebtoken::errors::Result<Value> {
        let key = DecodingKey::from_secret(secret.as_bytes());
        jsonwebtoken::decode(token, &key, &Validation::new(Algorithm::HS256)).map(|data| data.claims)
    }

    #[test]
    fn a_token_says_what_was_asked_and_only_its_secret_verifies_it() {
        let args = args(&["types=[\"booking.*\"]", "name=Ana = best", "level=3"], &["m1"]);
        let token = Claims::try_from(&args).unwrap().sign(SECRET, SystemTime::now()).unwrap();
        let claims = decoded(&token, SECRET).unwrap();
        assert_eq!(claims["merchantId"], "m1");
        assert_eq!(claims["sub"], "ana");
        assert_eq!(claims["types"][0], "booking.*");
        assert_eq!(claims["name"], "Ana = best");
        assert_eq!(claims["level"], 3);
        assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 900);
        assert!(decoded(&token, "other").is_err());
    }

    #[test]
    fn several_merchants_become_a_list() {
        let token =
            Claims::try_from(&args(&[], &["m1", "m2"])).unwrap().sign(SECRET, SystemTime::now()).unwrap();
        assert_eq!(decoded(&token, SECRET).unwrap()["merchantId"], serde_json::json!(["m1", "m2"]));
    }

    #[test]
    fn what_cannot_be_signed_says_what_to_do() {
        let fault = |claim: &[&str], merchant: &[&str], secret: &str| {
            let signed = Claims::try_from(&args(claim, merchant))
                .and_then(|claims| claims.sign(secret, SystemTime::now()));
            signed.unwrap_err().to_string()
        };
        assert!(fault(&[], &[], SECRET).contains("--merchant"));
        assert!(fault(&[], &["m1"], "short").contains("5 bytes"));
        assert!(fault(&["exp=1"], &["m1"], SECRET).contains("--expires-in"));
        assert!(fault(&["alone"], &["m1"], SECRET).contains("NAME=VALUE"));
    }
}
