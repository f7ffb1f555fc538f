//! Who a token says its bearer is. Signatures are checked by jsonwebtoken; times and claims are judged here, so
//! that absurd numbers are an answer and not a panic.

use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use rowcast_protocol::{CloseCode, Micros, RoomName, TypeFilter};
use serde_json::Value;

/// The most rooms that one token may name.
const MAX_ROOMS: usize = 256;

/// What a verified token says.
#[derive(Debug, Clone)]
pub struct Identity {
    /// `sub`; a refresh must have the same.
    pub subject: Option<String>,
    /// `jti`.
    pub token_id: Option<String>,
    /// `iat`; a token without one counts as old as can be wherever its age is asked for.
    pub issued_at: Option<Micros>,
    /// The rooms, sorted, at least one.
    pub rooms: Vec<RoomName>,
    /// Rooms that the token names too, and that its bearer did not ask for.
    pub elsewhere: Vec<RoomName>,
    /// What the token may see, whatever the client asks for.
    pub types: TypeFilter,
    /// `exp`.
    pub expires_at: Micros,
}

impl Identity {
    /// Its bearer asks for one room only. Whether the token names that.
    pub fn ask_for(&mut self, room: &str) -> bool {
        let (asked, others) =
            std::mem::take(&mut self.rooms).into_iter().partition(|one| one.as_str() == room);
        (self.rooms, self.elsewhere) = (asked, others);
        !self.rooms.is_empty()
    }
}

/// Why a token does not let anybody in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenFault {
    /// Not a token, or not signed with a known key.
    Invalid,
    /// Its algorithm is not on the allow-list.
    Algorithm,
    /// It demands extensions (`crit`) that are not known.
    Critical,
    /// No usable `exp`.
    NoExpiry,
    /// `exp` has passed.
    Expired,
    /// `nbf` is to come, or is no time.
    NotYet,
    /// It was revoked.
    Revoked,
    /// It is good, and names no usable room.
    NoRoom,
}

impl TokenFault {
    /// The close code for it.
    pub fn close_code(self) -> CloseCode {
        match self {
            Self::NoRoom => CloseCode::NotAllowed,
            _ => CloseCode::Token,
        }
    }

    /// What the client is told; it holds nothing of the token.
    pub fn message(self) -> &'static str {
        match self {
            Self::Invalid => "the token is not valid here",
            Self::Algorithm => "the token's algorithm is not allowed here",
            Self::Critical => "the token demands an unknown extension",
            Self::NoExpiry => "the token has no usable exp",
            Self::Expired => "the token has expired",
            Self::NotYet => "the token is not valid yet",
            Self::Revoked => "the token was revoked",
            Self::NoRoom => "the token names no usable room",
        }
    }

    /// A metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Algorithm => "algorithm",
            Self::Critical => "critical",
            Self::NoExpiry => "no_expiry",
            Self::Expired => "expired",
            Self::NotYet => "not_yet",
            Self::Revoked => "revoked",
            Self::NoRoom => "no_room",
        }
    }
}

/// Verifies tokens.
pub struct Verifier {
    key: DecodingKey,
    validation: Validation,
    room_claim: String,
    leeway: i64,
}

impl Verifier {
    /// For HS256 with one secret. `leeway_seconds` is how far ahead the issuer's clock may be (`nbf`).
    pub fn hs256(secret: &[u8], room_claim: &str, leeway_seconds: u32) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        Self {
            key: DecodingKey::from_secret(secret),
            validation,
            room_claim: room_claim.to_owned(),
            leeway: i64::from(leeway_seconds),
        }
    }

    /// Checks a token at a moment.
    pub fn verify(&self, token: &str, now: Micros) -> Result<Identity, TokenFault> {
        use jsonwebtoken::errors::ErrorKind;
        let data = jsonwebtoken::decode::<serde_json::Map<String, Value>>(token, &self.key, &self.validation);
        let data = data.map_err(|error| match error.kind() {
            ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => TokenFault::Algorithm,
            _ => TokenFault::Invalid,
        })?;
        if data.header.crit.is_some() {
            return Err(TokenFault::Critical);
        }
        let claims = data.claims;
        let expires_at = claims.get("exp").and_then(numeric_date).ok_or(TokenFault::NoExpiry)?;
        let leeway = self.leeway.saturating_mul(1_000_000);
        // No leeway here: at `exp` a socket is closed, so it would be let in only to be thrown out.
        if expires_at <= now {
            return Err(TokenFault::Expired);
        }
        if let Some(not_before) = claims.get("nbf") {
            let not_before = numeric_date(not_before).ok_or(TokenFault::NotYet)?;
            if not_before.0.saturating_sub(leeway) > now.0 {
                return Err(TokenFault::NotYet);
            }
        }
        Ok(Identity {
            subject: claims.get("sub").and_then(Value::as_str).map(str::to_owned),
            token_id: claims.get("jti").and_then(Value::as_str).map(str::to_owned),
            issued_at: claims.get("iat").and_then(numeric_date),
            rooms: claims.get(&self.room_claim).and_then(rooms).ok_or(TokenFault::NoRoom)?,
            elsewhere: Vec::new(),
            types: claims.get("types").map_or_else(TypeFilter::all, allowed_types),
            expires_at,
        })
    }
}

/// Seconds since 1970, whole or not.
fn numeric_date(value: &Value) -> Option<Micros> {
    if let Some(seconds) = value.as_i64() {
        return Some(Micros::from_seconds(seconds));
    }
    let seconds = value.as_f64().filter(|seconds| seconds.is_finite())?;
    // The cast saturates, which is what an absurdly far date needs.
    Some(Micros((seconds * 1e6) as i64))
}

/// One room or a list of them. Something unusable among them makes the claim unusable: rather no access than a
/// guess at what the issuer meant.
fn rooms(claim: &Value) -> Option<Vec<RoomName>> {
    let one = |value: &Value| match value {
        Value::String(name) => RoomName::parse(name).ok(),
        Value::Number(number) if number.is_i64() || number.is_u64() => {
            RoomName::parse(&number.to_string()).ok()
        }
        _ => None,
    };
    let mut rooms = match claim {
        Value::Array(list) => list.iter().map(one).collect::<Option<Vec<_>>>()?,
        single => vec![one(single)?],
    };
    rooms.sort();
    rooms.dedup();
    (1..=MAX_ROOMS).contains(&rooms.len()).then_some(rooms)
}

/// A claim of a wrong shape allows nothing.
fn allowed_types(claim: &Value) -> TypeFilter {
    let patterns: Vec<&str> = match claim {
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        Value::String(single) => vec![single],
        _ => Vec::new(),
    };
    TypeFilter::of(&patterns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::{EncodingKey, Header};
    use serde_json::json;

    const NOW: Micros = Micros(1_700_000_000_000_000);

    fn token(claims: &Value) -> String {
        jsonwebtoken::encode(&Header::default(), claims, &EncodingKey::from_secret(b"secret")).expect("signs")
    }

    fn verify(claims: Value) -> Result<Identity, TokenFault> {
        Verifier::hs256(b"secret", "merchantId", 0).verify(&token(&claims), NOW)
    }

    #[test]
    fn a_good_token_names_its_rooms() {
        let identity = verify(json!({ "exp": 1_700_000_060, "sub": "u", "merchantId": ["b", "a", "b", 7] }));
        let identity = identity.expect("good");
        let rooms: Vec<_> = identity.rooms.iter().map(RoomName::as_str).collect();
        assert_eq!((rooms, identity.subject.as_deref()), (vec!["7", "a", "b"], Some("u")));
        assert_eq!(identity.expires_at, Micros(1_700_000_060_000_000));
    }

    #[test]
    fn each_fault_has_its_answer() {
        let good = json!({ "exp": 1_700_000_060, "merchantId": "m" });
        let with = |name: &str, value: Value| {
            let mut claims = good.clone();
            claims[name] = value;
            verify(claims).err()
        };
        assert_eq!(with("exp", json!(1_700_000_000)), Some(TokenFault::Expired));
        assert_eq!(with("exp", json!("1700000060")), Some(TokenFault::NoExpiry));
        assert_eq!(with("exp", json!(-1e300)), Some(TokenFault::Expired));
        assert_eq!(with("exp", json!(1e300)), None);
        assert_eq!(with("exp", json!(i64::MIN)), Some(TokenFault::Expired));
        assert_eq!(with("nbf", json!(1_700_000_001)), Some(TokenFault::NotYet));
        assert_eq!(with("nbf", json!("soon")), Some(TokenFault::NotYet));
        for unusable in [
            json!(null),
            json!(""),
            json!([]),
            json!(["m", ""]),
            json!(1.5),
            json!({}),
            json!("x".repeat(201)),
        ] {
            assert_eq!(with("merchantId", unusable), Some(TokenFault::NoRoom));
        }
    }

    #[test]
    fn another_algorithm_secret_or_extension_is_refused() {
        let claims = json!({ "exp": 1_700_000_060, "merchantId": "m" });
        let verifier = Verifier::hs256(b"secret", "merchantId", 0);
        let sign = |header: &Header, secret: &[u8]| {
            jsonwebtoken::encode(header, &claims, &EncodingKey::from_secret(secret)).expect("signs")
        };
        let hs512 = sign(&Header::new(Algorithm::HS512), b"secret");
        assert_eq!(verifier.verify(&hs512, NOW).err(), Some(TokenFault::Algorithm));
        let stranger = sign(&Header::default(), b"other");
        assert_eq!(verifier.verify(&stranger, NOW).err(), Some(TokenFault::Invalid));
        let critical = Header { crit: Some(vec!["x".to_owned()]), ..Header::default() };
        assert_eq!(verifier.verify(&sign(&critical, b"secret"), NOW).err(), Some(TokenFault::Critical));
        for text in ["", ".", "..", "a.b.c", "\u{0}"] {
            assert!(verifier.verify(text, NOW).is_err());
        }
    }
}
