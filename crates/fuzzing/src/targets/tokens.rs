//! JSON Web Tokens: whom they let in; and the key sets that issuers serve.

use std::sync::LazyLock;

use jsonwebtoken::{Algorithm, EncodingKey};
use rowcast_edge::auth::{Identity, Verifier, jwks};
use rowcast_protocol::Micros;
use serde_json::{Map, Value};

const SECRET: &[u8] = b"a-secret-of-32-bytes-or-more-of-a-test";
const NOW: Micros = Micros(1_700_000_000_000_000);

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| Verifier::hs256(SECRET, "merchantId", 0));

/// Two lines are a header and claims, which get a good signature; anything else is a token as it stands. Whoever is let in has
/// a header of the one algorithm and claims that any reader of JSON takes for what the edge takes them for.
pub fn token(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    // Nobody but this target has the secret.
    assert!(VERIFIER.verify(&text, NOW).is_err(), "a token that nobody signed");
    let Some((header, claims)) = text.split_once('\n') else { return };
    let message = format!("{}.{}", base64(header.as_bytes()), base64(claims.as_bytes()));
    let key = EncodingKey::from_secret(SECRET);
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).expect("it signs");
    let token = format!("{message}.{signature}");
    let Ok(identity) = VERIFIER.verify(&token, NOW) else { return };
    let header = object(header);
    assert_eq!(header.get("alg"), Some(&Value::from("HS256")));
    assert!(!header.contains_key("crit"), "an extension that nobody knows");
    judge(&identity, &object(claims));
    // Whoever changes a byte of it has to sign it anew.
    let (front, back) = token.split_at(message.len() / 2);
    let changed = if back.starts_with('A') { "B" } else { "A" };
    assert!(VERIFIER.verify(&format!("{front}{changed}{}", &back[1..]), NOW).is_err());
}

/// An issuer's key set: its keys and what was passed over are all of it, and a secret is never among the keys.
pub fn key_set(data: &[u8]) {
    let Ok((keys, passed_over)) = jwks::read(data) else { return };
    let document: Value = serde_json::from_slice(data).expect("what was taken is JSON");
    let entries = document["keys"].as_array().expect("a list");
    assert!((1..=jwks::MAX_KEYS).contains(&keys.len()));
    assert_eq!(keys.len() + passed_over, entries.len());
    let public = entries.iter().filter(|entry| entry["kty"] != "oct" && entry.is_object()).count();
    assert!(keys.len() <= public, "a secret is taken for a key");
}

fn judge(identity: &Identity, claims: &Map<String, Value>) {
    let seconds = |name: &str| claims.get(name).and_then(Value::as_f64);
    assert!(identity.expires_at > NOW && seconds("exp").is_some_and(|exp| exp > 1_699_999_999.0));
    assert!(!claims.contains_key("nbf") || seconds("nbf").is_some_and(|nbf| nbf <= 1_700_000_001.0));
    let named: Vec<String> = match &claims["merchantId"] {
        Value::Array(list) => list.iter().map(spelled).collect(),
        one => vec![spelled(one)],
    };
    let rooms: Vec<&str> = identity.rooms.iter().map(|room| room.as_str()).collect();
    assert!((1..=256).contains(&rooms.len()) && rooms.is_sorted_by(|a, b| a < b), "{rooms:?}");
    assert!(
        named.iter().all(|name| rooms.contains(&name.as_str())) && rooms.len() <= named.len(),
        "{rooms:?}"
    );
    for (name, value) in [("sub", &identity.subject), ("jti", &identity.token_id)] {
        assert!(value.as_ref().is_none_or(|value| spelled(&claims[name]) == *value), "{name}: {value:?}");
    }
    if !identity.types.is_all() {
        assert!(claims.contains_key("types"));
    }
    assert!(claims.get("types").is_none_or(|_| !identity.types.is_all()), "a claim that restricts nothing");
}

fn spelled(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn object(text: &str) -> Map<String, Value> {
    serde_json::from_str(text).expect("what was taken is an object")
}

/// Without padding, in the alphabet of URLs.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let number = three.iter().fold(0usize, |number, byte| number << 8 | usize::from(*byte))
            << (8 * (3 - three.len()));
        let digits = (0..=three.len()).map(|digit| ALPHABET[number >> (18 - 6 * digit) & 63] as char);
        text.extend(digits);
    }
    text
}
