//! Keys from a JSON Web Key Set (RFC 7517) that an issuer serves. Pure: fetching it is [`super::fetch`]'s.
//!
//! What the set holds besides public keys for signatures is passed over and counted: one key that is not understood takes
//! nothing from the others. A secret (`oct`) has no business in what everybody can read, and is never a key.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value};

use super::keys::{Family, Key, KeySet};
use super::{pem, strict};

/// Keys that a set may hold.
pub const MAX_KEYS: usize = 64;

/// Why a document is no key set that one can go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JwksFault {
    /// It is not strict JSON.
    #[error("it is not JSON")]
    NotJson,
    /// It has no list of keys.
    #[error("it is not a key set: it has no list `keys`")]
    NoSet,
    /// It has too many keys.
    #[error("it has more than {MAX_KEYS} keys")]
    TooMany,
    /// It has no key that could verify a token.
    #[error("it has no key that tokens could be verified with")]
    NoKey,
}

/// Reads a set: its keys, and how many entries were passed over.
pub fn read(document: &[u8]) -> Result<(KeySet, usize), JwksFault> {
    let document = strict::value(document).map_err(|_| JwksFault::NotJson)?;
    let entries = document.get("keys").and_then(Value::as_array).ok_or(JwksFault::NoSet)?;
    if entries.len() > MAX_KEYS {
        return Err(JwksFault::TooMany);
    }
    let keys: Vec<Key> = entries.iter().filter_map(Value::as_object).filter_map(key).collect();
    // Which of two of one name is meant, nobody can say.
    let is_alone = |key: &Key| keys.iter().filter(|k| k.id == key.id && k.family == key.family).count() == 1;
    let alone: Vec<Key> = keys.iter().filter(|key| key.id.is_none() || is_alone(key)).cloned().collect();
    if alone.is_empty() {
        return Err(JwksFault::NoKey);
    }
    let passed_over = entries.len() - alone.len();
    Ok((KeySet::of_issuer(alone), passed_over))
}

fn key(entry: &Map<String, Value>) -> Option<Key> {
    let text = |name: &str| entry.get(name).and_then(Value::as_str);
    if text("use").is_some_and(|purpose| purpose != "sig") {
        return None;
    }
    let verifies =
        |operations: &Value| operations.as_array().is_some_and(|all| all.iter().any(|one| one == "verify"));
    if !entry.get("key_ops").is_none_or(verifies) {
        return None;
    }
    let bytes = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok();
    let id = text("kid").unwrap_or_default();
    let mut key = match (text("kty")?, text("crv")) {
        ("RSA", _) => pem::rsa_of(id, &bytes("n")?, &bytes("e")?).ok()?,
        ("EC", Some("P-256")) => curve(id, Family::P256, &bytes("x")?, &bytes("y")?, 32)?,
        ("EC", Some("P-384")) => curve(id, Family::P384, &bytes("x")?, &bytes("y")?, 48)?,
        ("OKP", Some("Ed25519")) => {
            let point = bytes("x").filter(|point| point.len() == 32)?;
            Key::public(Some(id), Family::Ed25519, DecodingKey::from_ed_der(&point))
        }
        _ => return None,
    };
    if text("kid").is_none() {
        key.id = None;
    }
    if let Some(algorithm) = text("alg") {
        let algorithm: Algorithm = algorithm.parse().ok()?;
        key.only = Some(algorithm).filter(|algorithm| Family::of(*algorithm) == Some(key.family));
        key.only?;
    }
    Some(key)
}

/// A point, uncompressed (SEC 1, 2.3.3).
fn curve(id: &str, family: Family, x: &[u8], y: &[u8], length: usize) -> Option<Key> {
    if x.len() != length || y.len() != length {
        return None;
    }
    let point = [&[4], x, y].concat();
    Some(Key::public(Some(id), family, DecodingKey::from_ec_der(&point)))
}
