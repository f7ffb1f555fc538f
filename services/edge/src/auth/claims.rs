//! What the claims of a token say, once its signature is proven: times, audience, rooms and types. An absurd number is an
//! answer and not a panic; a claim that is not what it has to be is never guessed at.

use rowcast_protocol::{Micros, RoomName, TypeFilter};
use serde_json::{Map, Value};

use super::faults::TokenFault;
use super::identity::Identity;

/// The most rooms that one token may name.
const MAX_ROOMS: usize = 256;

/// A subject, or a token's id, of more bytes than this is not kept.
const MAX_NAME: usize = 512;

/// By what claims are judged.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The claim that names the rooms; the names of claims within claims where there is none of that name.
    pub room_claim: String,
    /// How far ahead the issuer's clock may be, in microseconds.
    pub leeway: i64,
}

impl Rules {
    /// Who the claims say somebody is at a moment.
    pub fn judge(&self, claims: &Map<String, Value>, now: Micros) -> Result<Identity, TokenFault> {
        let expires_at = claims.get("exp").and_then(numeric_date).ok_or(TokenFault::NoExpiry)?;
        // No leeway here: at `exp` a socket is closed, so it would be let in only to be thrown out.
        if expires_at <= now {
            return Err(TokenFault::Expired);
        }
        self.not_ahead(claims, "nbf", now, TokenFault::NotYet)?;
        // A time of issue that is to come would escape every revocation of what was issued before.
        let issued_at = self.not_ahead(claims, "iat", now, TokenFault::IssuedAhead)?;
        Ok(Identity {
            issuer: None,
            subject: name(claims, "sub")?,
            token_id: name(claims, "jti")?,
            issued_at,
            rooms: self.room_claim(claims).and_then(rooms).ok_or(TokenFault::NoRoom)?,
            elsewhere: Vec::new(),
            types: claims.get("types").map_or_else(TypeFilter::all, allowed_types),
            expires_at,
        })
    }

    fn not_ahead(
        &self,
        claims: &Map<String, Value>,
        claim: &str,
        now: Micros,
        fault: TokenFault,
    ) -> Result<Option<Micros>, TokenFault> {
        let Some(value) = claims.get(claim) else { return Ok(None) };
        let moment = numeric_date(value).ok_or(fault)?;
        if moment.0.saturating_sub(self.leeway) > now.0 { Err(fault) } else { Ok(Some(moment)) }
    }

    /// The claim of this very name; issuers put dots, even URLs, into names. Else the one to which the dots lead.
    fn room_claim<'a>(&self, claims: &'a Map<String, Value>) -> Option<&'a Value> {
        if let Some(claim) = claims.get(&self.room_claim) {
            return Some(claim);
        }
        let (first, rest) = self.room_claim.split_once('.')?;
        rest.split('.').try_fold(claims.get(first)?, |claim, name| claim.as_object()?.get(name))
    }
}

/// Whether `aud` names one of these; always where there are none.
pub fn is_for(claims: &Map<String, Value>, audience: &[String]) -> bool {
    let named = |value: &Value| value.as_str().is_some_and(|name| audience.iter().any(|known| known == name));
    audience.is_empty()
        || match claims.get("aud") {
            Some(Value::Array(list)) => list.iter().all(Value::is_string) && list.iter().any(named),
            Some(single) => named(single),
            None => false,
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

/// A text; a whole number is its digits, as for rooms. Two clients must not look the same because neither's name was
/// understood.
fn name(claims: &Map<String, Value>, claim: &str) -> Result<Option<String>, TokenFault> {
    let text = match claims.get(claim) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) if number.is_i64() || number.is_u64() => number.to_string(),
        Some(_) => return Err(TokenFault::Claim),
    };
    if text.len() > MAX_NAME { Err(TokenFault::Claim) } else { Ok(Some(text)) }
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
    use serde_json::json;

    const NOW: Micros = Micros(1_700_000_000_000_000);

    fn judge(claims: Value) -> Result<Identity, TokenFault> {
        judge_by("merchantId", claims)
    }

    fn judge_by(room_claim: &str, claims: Value) -> Result<Identity, TokenFault> {
        let rules = Rules { room_claim: room_claim.to_owned(), leeway: 0 };
        rules.judge(claims.as_object().expect("an object"), NOW)
    }

    fn rooms_of(identity: &Identity) -> Vec<&str> {
        identity.rooms.iter().map(RoomName::as_str).collect()
    }

    #[test]
    fn a_good_token_names_its_rooms() {
        let claims = json!({ "exp": 1_700_000_060, "iat": 1_700_000_000, "sub": 7, "jti": "t", "merchantId": ["b", "a", "b", 7] });
        let identity = judge(claims).expect("good");
        assert_eq!(rooms_of(&identity), ["7", "a", "b"]);
        assert_eq!((identity.subject.as_deref(), identity.token_id.as_deref()), (Some("7"), Some("t")));
        assert_eq!((identity.expires_at, identity.issued_at), (Micros(1_700_000_060_000_000), Some(NOW)));
    }

    #[test]
    fn rooms_are_found_by_name_and_then_by_path() {
        let room = |claim: &str, claims: Value| {
            let mut all = json!({ "exp": 1_700_000_060 });
            all.as_object_mut().expect("an object").extend(claims.as_object().expect("an object").clone());
            judge_by(claim, all).map(|identity| rooms_of(&identity).join(","))
        };
        let nested = json!({ "app": { "at": { "shop": ["m", 1] } } });
        assert_eq!(room("app.at.shop", nested.clone()).as_deref(), Ok("1,m"));
        assert_eq!(
            room("https://x.example/shop", json!({ "https://x.example/shop": "m" })).as_deref(),
            Ok("m")
        );
        assert_eq!(room("a.b", json!({ "a.b": "named", "a": { "b": "led to" } })).as_deref(), Ok("named"));
        for missing in ["app", "app.at", "app.at.shop.0", "app..shop", ".app", "at.shop", ""] {
            assert_eq!(room(missing, nested.clone()), Err(TokenFault::NoRoom), "{missing}");
        }
    }

    #[test]
    fn each_fault_has_its_answer() {
        let good = json!({ "exp": 1_700_000_060, "merchantId": "m" });
        let with = |name: &str, value: Value| {
            let mut claims = good.clone();
            claims[name] = value;
            judge(claims).err()
        };
        assert_eq!(with("exp", json!(1_700_000_000)), Some(TokenFault::Expired));
        assert_eq!(with("exp", json!("1700000060")), Some(TokenFault::NoExpiry));
        assert_eq!(with("exp", json!(-1e300)), Some(TokenFault::Expired));
        assert_eq!(with("exp", json!(1e300)), None);
        assert_eq!(with("exp", json!(i64::MIN)), Some(TokenFault::Expired));
        assert_eq!(with("nbf", json!(1_700_000_001)), Some(TokenFault::NotYet));
        assert_eq!(with("nbf", json!("soon")), Some(TokenFault::NotYet));
        assert_eq!(with("iat", json!(u64::MAX)), Some(TokenFault::IssuedAhead));
        assert_eq!(with("iat", json!("2023")), Some(TokenFault::IssuedAhead));
        for (claim, value) in [("sub", json!(["u"])), ("sub", json!(1.5)), ("jti", json!("x".repeat(513)))] {
            assert_eq!(with(claim, value), Some(TokenFault::Claim));
        }
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
    fn an_audience_is_named_alone_or_in_a_list_of_texts() {
        let audience = ["rowcast".to_owned()];
        let is = |aud: Value| is_for(json!({ "aud": aud }).as_object().expect("an object"), &audience);
        assert!(is(json!("rowcast")) && is(json!(["other", "rowcast"])));
        for other in [json!("other"), json!([]), json!(null), json!(["rowcast", 1]), json!({ "rowcast": 1 })]
        {
            assert!(!is(other.clone()), "{other}");
        }
        assert!(!is_for(&Map::new(), &audience) && is_for(&Map::new(), &[]));
    }
}
