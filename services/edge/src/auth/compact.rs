//! A token's outside: three parts, and a header that says how it was signed. Nothing here is proven yet.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use super::faults::TokenFault;
use super::strict;

/// A longer key id names no key.
const MAX_KEY_ID: usize = 256;

/// A token in its parts.
pub struct Compact<'a> {
    /// How it says that it was signed.
    pub algorithm: Algorithm,
    /// The key's name.
    pub key_id: Option<String>,
    /// What was signed.
    pub message: &'a str,
    /// The signature, in base64.
    pub signature: &'a str,
    payload: &'a str,
}

impl<'a> Compact<'a> {
    /// Takes a token apart. Keys and addresses of keys that a header brings along (`jwk`, `jku`, `x5c`, `x5u`) are never looked at.
    pub fn parse(token: &'a str) -> Result<Self, TokenFault> {
        let (message, signature) = token.rsplit_once('.').ok_or(TokenFault::Invalid)?;
        let (header, payload) = message.split_once('.').ok_or(TokenFault::Invalid)?;
        if payload.contains('.') {
            return Err(TokenFault::Invalid);
        }
        let header = object(header)?;
        if header.contains_key("crit") || header.contains_key("b64") {
            return Err(TokenFault::Critical);
        }
        if !header.get("typ").is_none_or(is_token_type) {
            return Err(TokenFault::Invalid);
        }
        let name = header.get("alg").and_then(Value::as_str).ok_or(TokenFault::Invalid)?;
        let algorithm = name.parse().map_err(|_| TokenFault::Algorithm)?;
        let key_id = match header.get("kid") {
            None => None,
            Some(Value::String(name)) if name.len() <= MAX_KEY_ID => Some(name.clone()),
            Some(_) => return Err(TokenFault::Invalid),
        };
        Ok(Self { algorithm, key_id, message, signature, payload })
    }

    /// What it says, true or not.
    pub fn claims(&self) -> Result<Map<String, Value>, TokenFault> {
        object(self.payload)
    }
}

fn object(part: &str) -> Result<Map<String, Value>, TokenFault> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenFault::Invalid)?;
    strict::object(&bytes).map_err(|_| TokenFault::Invalid)
}

/// What an issuer signs for another purpose, such as a notice of logging out, is no key to anything here (RFC 8725, 3.11).
fn is_token_type(value: &Value) -> bool {
    let name = value.as_str().unwrap_or_default().to_ascii_lowercase();
    matches!(name.strip_prefix("application/").unwrap_or(&name), "jwt" | "at+jwt")
}
