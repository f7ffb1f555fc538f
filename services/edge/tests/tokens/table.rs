//! The tokens, and what each gets.

use anyhow::Result;
use rowcast_edge::auth::TokenFault::{self, *};
use rowcast_protocol::Micros;
use serde_json::{Value, json};

use super::support::SECRET;
use super::support::issuer::{Behaviour, Issuer};
use super::support::mint::{Mint, base64, compact};

const NAMED: &str = "another secret, with a name, of more than 32 bytes";

/// What becomes of a token.
#[derive(Debug, Clone, Copy)]
pub enum Outcome {
    Welcome,
    Refused(TokenFault),
    /// By HTTP, it is no token at all.
    None,
}

impl Outcome {
    /// Code and reason of the close; 0 where there is none.
    pub fn socket(self) -> (u16, String) {
        match self {
            Self::Welcome => (0, "welcome".to_owned()),
            Self::Refused(fault) => (fault.close_code().code(), fault.message().to_owned()),
            Self::None => (4401, Invalid.message().to_owned()),
        }
    }

    /// The status by HTTP.
    pub fn status(self) -> u16 {
        match self {
            Self::Welcome => 200,
            Self::Refused(NoRoom) => 403,
            Self::Refused(_) | Self::None => 401,
        }
    }
}

/// A token.
pub struct Case {
    pub name: &'static str,
    pub outcome: Outcome,
    pub token: Box<dyn Fn(&World) -> String + Send + Sync>,
}

/// An edge's own keys, two issuers, and somebody who has none of them.
pub struct World {
    secret: Mint,
    named: Mint,
    rsa: Mint,
    p256: Mint,
    ed: Mint,
    a_rsa: Mint,
    a_p256: Mint,
    a_encrypts: Mint,
    a_secret: Mint,
    b_ed: Mint,
    stranger: Mint,
    stranger_p384: Mint,
    a: Issuer,
    b: Issuer,
    now: i64,
}

impl World {
    pub async fn new() -> Result<Self> {
        let (a_rsa, a_p256, b_ed) = (Mint::rsa(), Mint::p256(), Mint::ed25519());
        let (a_encrypts, a_secret) =
            (Mint::rsa(), Mint::secret("a secret that an issuer shows to everybody"));
        let mut encrypts = a_encrypts.jwk("a-encrypts");
        encrypts["use"] = json!("enc");
        let entries = [a_rsa.jwk("a-rsa"), a_p256.jwk("a-p256"), encrypts, a_secret.jwk("a-secret")];
        let a = Issuer::start(Behaviour::keys(&entries)).await?;
        let b = Issuer::start(Behaviour::keys(&[b_ed.jwk("b-ed")])).await?;
        Ok(Self {
            secret: Mint::secret(SECRET),
            named: Mint::secret(NAMED),
            rsa: Mint::rsa(),
            p256: Mint::p256(),
            ed: Mint::ed25519(),
            a_rsa,
            a_p256,
            a_encrypts,
            a_secret,
            b_ed,
            stranger: Mint::rsa(),
            stranger_p384: Mint::p384(),
            a,
            b,
            now: Micros::from_system_time(std::time::SystemTime::now()).0 / 1_000_000,
        })
    }

    /// The edge's settings. A machine that is busy may take a minute for the table, so no token is near its end.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        let keys = json!({ "rsa": self.rsa.pem(), "p256": self.p256.pem(), "ed": self.ed.pem() });
        let issuers = json!([
            { "issuer": "https://a.example", "jwks_url": self.a.url(), "audience": ["app-a"], "algorithms": ["RS256", "ES256"] },
            { "issuer": "https://b.example", "jwks_url": self.b.url(), "algorithms": ["EdDSA"] },
        ]);
        vec![
            ("AUTH__ALGORITHMS", "HS256,RS256,PS256,ES256,EdDSA".to_owned()),
            ("AUTH__SECRETS", json!({ "named": NAMED }).to_string()),
            ("AUTH__PUBLIC_KEYS", keys.to_string()),
            ("AUTH__ISSUER", "own".to_owned()),
            ("AUTH__AUDIENCE", "rowcast,other-name".to_owned()),
            ("AUTH__ISSUERS", issuers.to_string()),
            ("AUTH__MAX_TOKEN_SIZE", "4KiB".to_owned()),
            ("AUTH__JWKS_MIN_INTERVAL", "1h".to_owned()),
            ("AUTH__TOKEN_IN_URL", "true".to_owned()),
        ]
    }

    /// What must never stand in a log.
    pub fn secrets(&self) -> Vec<String> {
        let token = self.own(json!({}));
        vec![SECRET.to_owned(), NAMED.to_owned(), token.split('.').next_back().unwrap_or_default().to_owned()]
    }

    fn claims(&self, changes: Value) -> Value {
        let mut claims = json!({
            "iss": "own", "aud": "rowcast", "sub": "user", "iat": self.now - 60, "exp": self.now + 3_600, "merchantId": "m1",
        });
        let all = claims.as_object_mut().expect("an object");
        for (name, value) in changes.as_object().expect("an object") {
            match value {
                Value::String(text) if text == "(none)" => drop(all.remove(name)),
                value => drop(all.insert(name.clone(), value.clone())),
            }
        }
        claims
    }

    fn with(&self, key: &Mint, header: Value, changes: Value) -> String {
        key.token(&header, &self.claims(changes))
    }

    /// Signed with the secret.
    fn own(&self, changes: Value) -> String {
        self.with(&self.secret, json!({ "alg": "HS256", "typ": "JWT" }), changes)
    }

    /// The claims of a good one of issuer A.
    fn of_a() -> Value {
        json!({ "iss": "https://a.example", "aud": "app-a" })
    }

    fn of_b() -> Value {
        json!({ "iss": "https://b.example" })
    }

    /// Signed with the secret, of these very texts.
    fn texts(&self, header: &str, payload: &str) -> String {
        compact(header, payload, |message| self.secret.sign("HS256", message))
    }

    /// The good claims, with more text in front.
    fn payload(&self, more: &str) -> String {
        format!("{{{more}{}", &self.claims(json!({})).to_string()[1..])
    }
}

fn case(
    name: &'static str,
    outcome: Outcome,
    token: impl Fn(&World) -> String + Send + Sync + 'static,
) -> Case {
    Case { name, outcome, token: Box::new(token) }
}

fn good(name: &'static str, token: impl Fn(&World) -> String + Send + Sync + 'static) -> Case {
    case(name, Outcome::Welcome, token)
}

fn bad(
    name: &'static str,
    fault: TokenFault,
    token: impl Fn(&World) -> String + Send + Sync + 'static,
) -> Case {
    case(name, Outcome::Refused(fault), token)
}

/// One whose claims differ from a good one's.
fn claims(
    name: &'static str,
    outcome: Outcome,
    changes: impl Fn(i64) -> Value + Send + Sync + 'static,
) -> Case {
    case(name, outcome, move |world| world.own(changes(world.now)))
}

/// One whose header says this, and which is signed with the secret in its way.
fn header(name: &'static str, fault: TokenFault, header: Value) -> Case {
    bad(name, fault, move |world| world.with(&world.secret, header.clone(), json!({})))
}

/// All of them.
pub fn cases() -> Vec<Case> {
    [keys(), confusions(), shapes(), times(), names(), rooms()].into_iter().flatten().collect()
}

const HS256: &str = r#"{"alg":"HS256"}"#;

fn keys() -> Vec<Case> {
    vec![
        good("HS256, the secret without a name", |w| w.own(json!({}))),
        good("HS256, `kid` of nobody: the secret without a name", |w| {
            w.with(&w.secret, json!({ "alg": "HS256", "kid": "nobody" }), json!({}))
        }),
        good("HS256, `kid` of another secret", |w| {
            w.with(&w.named, json!({ "alg": "HS256", "kid": "named" }), json!({}))
        }),
        good("RS256, by `kid`", |w| w.with(&w.rsa, json!({ "alg": "RS256", "kid": "rsa" }), json!({}))),
        good("RS256, no `kid`, the only RSA key", |w| w.with(&w.rsa, json!({ "alg": "RS256" }), json!({}))),
        good("PS256, with the same key", |w| {
            w.with(&w.rsa, json!({ "alg": "PS256", "kid": "rsa" }), json!({}))
        }),
        good("ES256", |w| w.with(&w.p256, json!({ "alg": "ES256", "kid": "p256" }), json!({}))),
        good("EdDSA", |w| w.with(&w.ed, json!({ "alg": "EdDSA", "kid": "ed" }), json!({}))),
        good("issuer A, RS256", |w| {
            w.with(&w.a_rsa, json!({ "alg": "RS256", "kid": "a-rsa" }), World::of_a())
        }),
        good("issuer A, ES256, no `kid`, its only P-256 key", |w| {
            w.with(&w.a_p256, json!({ "alg": "ES256" }), World::of_a())
        }),
        good("issuer B, EdDSA", |w| w.with(&w.b_ed, json!({ "alg": "EdDSA", "kid": "b-ed" }), World::of_b())),
        good("`typ` is `at+jwt`", |w| {
            w.with(&w.secret, json!({ "alg": "HS256", "typ": "at+jwt" }), json!({}))
        }),
        good("a stranger's `jwk`, `jku`, `x5u` in the header of a good token: not looked at", |w| {
            let jku = w.a.url();
            let header = json!({ "alg": "HS256", "jwk": w.stranger.jwk("x"), "jku": jku, "x5u": jku, "x5c": ["AA=="] });
            w.with(&w.secret, header, json!({}))
        }),
    ]
}

fn confusions() -> Vec<Case> {
    let none = |name, alg: &'static str| {
        bad(name, Algorithm, move |w: &World| {
            compact(&json!({ "alg": alg }).to_string(), &w.claims(json!({})).to_string(), |_| Vec::new())
        })
    };
    let by = |name,
              fault,
              key: fn(&World) -> &Mint,
              alg: &'static str,
              kid: &'static str,
              changes: fn() -> Value| {
        bad(name, fault, move |w: &World| w.with(key(w), json!({ "alg": alg, "kid": kid }), changes()))
    };
    let own = || json!({});
    vec![
        none("`alg` is `none`, no signature", "none"),
        none("`alg` is `None`", "None"),
        none("`alg` is `NONE`", "NONE"),
        none("`alg` is `nOnE`", "nOnE"),
        none("`alg` is empty", ""),
        header("`alg` is `none`, with a good HMAC", Algorithm, json!({ "alg": "none" })),
        header("`alg` is `hs256`", Algorithm, json!({ "alg": "hs256" })),
        header("`alg` is missing", Invalid, json!({ "typ": "JWT" })),
        header("`alg` is a number", Invalid, json!({ "alg": 256 })),
        header("`alg` is a list", Invalid, json!({ "alg": ["HS256"] })),
        header("HS384, not on the allow-list", Algorithm, json!({ "alg": "HS384" })),
        header("HS512, not on the allow-list", Algorithm, json!({ "alg": "HS512" })),
        by("RS384, not on the allow-list", Algorithm, |w| &w.rsa, "RS384", "rsa", own),
        by("ES384, not on the allow-list", Algorithm, |w| &w.stranger_p384, "ES384", "p256", own),
        by("ES256K, which nobody knows", Algorithm, |w| &w.p256, "ES256K", "p256", own),
        bad("HS256 with the RSA public key's PEM as the secret", Invalid, |w| {
            w.with(&Mint::secret(w.rsa.pem()), json!({ "alg": "HS256", "kid": "rsa" }), json!({}))
        }),
        bad("HS256 with the RSA public key's PEM as the secret, no `kid`", Invalid, |w| {
            w.with(&Mint::secret(w.rsa.pem()), json!({ "alg": "HS256" }), json!({}))
        }),
        bad("HS256 with the RSA public key's DER as the secret", Invalid, |w| {
            w.with(&Mint::secret(w.rsa.der()), json!({ "alg": "HS256", "kid": "rsa" }), json!({}))
        }),
        bad("HS256 with the P-256 public key's PEM as the secret", Invalid, |w| {
            w.with(&Mint::secret(w.p256.pem()), json!({ "alg": "HS256", "kid": "p256" }), json!({}))
        }),
        bad("HS256 with an empty secret", Invalid, |w| {
            w.with(&Mint::secret(""), json!({ "alg": "HS256" }), json!({}))
        }),
        bad("HS256 with another secret", Invalid, |w| {
            w.with(
                &Mint::secret("a secret of somebody else, long enough"),
                json!({ "alg": "HS256" }),
                json!({}),
            )
        }),
        by("HS256, `kid` of a secret, signed with another", Invalid, |w| &w.secret, "HS256", "named", own),
        by("RS256, signed with a stranger's key", Invalid, |w| &w.stranger, "RS256", "rsa", own),
        by("RS256, `kid` of a secret", UnknownKey, |w| &w.rsa, "RS256", "named", own),
        by("RS256, `kid` of the P-256 key", UnknownKey, |w| &w.rsa, "RS256", "p256", own),
        by("ES256, `kid` of the RSA key", UnknownKey, |w| &w.p256, "ES256", "rsa", own),
        by("EdDSA, `kid` of the P-256 key", UnknownKey, |w| &w.ed, "EdDSA", "p256", own),
        by("ES256, signed on P-384", Invalid, |w| &w.stranger_p384, "ES256", "p256", own),
        bad("PS256 in the header, an RS256 signature", Invalid, |w| {
            let header = json!({ "alg": "PS256", "kid": "rsa" }).to_string();
            compact(&header, &w.claims(json!({})).to_string(), |message| w.rsa.sign("RS256", message))
        }),
        by("RS256, `kid` of nobody", UnknownKey, |w| &w.rsa, "RS256", "nobody", own),
        by("RS256, `kid` is a path", UnknownKey, |w| &w.rsa, "RS256", "../../../dev/null", own),
        by("RS256, `kid` is SQL", UnknownKey, |w| &w.rsa, "RS256", "x' UNION SELECT 'secret", own),
        by("RS256, `kid` is empty", UnknownKey, |w| &w.rsa, "RS256", "", own),
        header("`kid` is a number", Invalid, json!({ "alg": "HS256", "kid": 1 })),
        header("`kid` is a list", Invalid, json!({ "alg": "HS256", "kid": ["named"] })),
        bad("`kid` of 300 bytes", Invalid, |w| {
            w.with(&w.secret, json!({ "alg": "HS256", "kid": "k".repeat(300) }), json!({}))
        }),
        bad("a stranger's key in `jwk`, and signed with it", Invalid, |w| {
            let header = json!({ "alg": "RS256", "kid": "rsa", "jwk": w.stranger.jwk("rsa") });
            w.with(&w.stranger, header, json!({}))
        }),
        bad("a `jku` that leads to the key that signed", UnknownKey, |w| {
            w.with(&w.a_rsa, json!({ "alg": "RS256", "kid": "a-rsa", "jku": w.a.url() }), json!({}))
        }),
        by("own `iss`, issuer A's key", UnknownKey, |w| &w.a_rsa, "RS256", "a-rsa", own),
        by("issuer A's `iss`, the own secret", Algorithm, |w| &w.secret, "HS256", "named", World::of_a),
        by("issuer A's `iss`, the own RSA key", UnknownKey, |w| &w.rsa, "RS256", "rsa", World::of_a),
        by(
            "issuer A's `iss`, issuer B's key and algorithm",
            Algorithm,
            |w| &w.b_ed,
            "EdDSA",
            "b-ed",
            World::of_a,
        ),
        by(
            "issuer B's `iss`, issuer A's key and algorithm",
            Algorithm,
            |w| &w.a_rsa,
            "RS256",
            "a-rsa",
            World::of_b,
        ),
        by(
            "issuer A, ES256 with the `kid` of its RSA key",
            UnknownKey,
            |w| &w.a_p256,
            "ES256",
            "a-rsa",
            World::of_a,
        ),
        by(
            "issuer A, its key for encryption",
            UnknownKey,
            |w| &w.a_encrypts,
            "RS256",
            "a-encrypts",
            World::of_a,
        ),
        by(
            "issuer A, a secret (`oct`) that it publishes",
            Algorithm,
            |w| &w.a_secret,
            "HS256",
            "a-secret",
            World::of_a,
        ),
        bad("issuer A's key, `aud` of the own tokens", Audience, |w| {
            w.with(&w.a_rsa, json!({ "alg": "RS256", "kid": "a-rsa" }), json!({ "iss": "https://a.example" }))
        }),
        header("`crit` demands something", Critical, json!({ "alg": "HS256", "crit": ["exp"] })),
        header("`crit` is empty", Critical, json!({ "alg": "HS256", "crit": [] })),
        header("`b64` is false", Critical, json!({ "alg": "HS256", "b64": false, "crit": ["b64"] })),
        header("`b64` without `crit`", Critical, json!({ "alg": "HS256", "b64": false })),
        header("`typ` is `logout+jwt`", Invalid, json!({ "alg": "HS256", "typ": "logout+jwt" })),
        header("`typ` is a number", Invalid, json!({ "alg": "HS256", "typ": 1 })),
    ]
}

fn shapes() -> Vec<Case> {
    let bent = |name, bend: fn(String) -> String| bad(name, Invalid, move |w: &World| bend(w.own(json!({}))));
    let payload = |name, payload: &'static str| bad(name, Invalid, move |w: &World| w.texts(HS256, payload));
    vec![
        case("nothing", Outcome::None, |_| String::new()),
        bad("two dots", Invalid, |_| "..".to_owned()),
        bad("not a token", Invalid, |_| "not a token".to_owned()),
        bent("without its signature", |token| token.rsplit_once('.').expect("dots").0.to_owned()),
        bent("with an empty signature", |token| format!("{}.", token.rsplit_once('.').expect("dots").0)),
        bent("with half of its signature", |token| token[..token.len() - 21].to_owned()),
        bent("with a fourth part", |token| format!("{token}.AAAA")),
        bent("five parts, as of an encrypted one", |token| format!("{token}.AAAA.AAAA")),
        bent("with padding", |token| format!("{token}=")),
        bent("with a line break behind it", |token| format!("{token}\n")),
        bent("with a blank before it", |token| format!(" {token}")),
        bent("with a NUL within", |token| token.replacen('.', "\0.", 1)),
        bent("with a letter of the other base64", |token| format!("{}+", &token[..token.len() - 1])),
        bent("with other bits behind the last byte of its signature", |token| {
            // 32 bytes are 43 letters, of which the last has two bits that say nothing.
            let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
            let last = token.chars().next_back().and_then(|letter| alphabet.find(letter)).expect("a letter");
            format!("{}{}", &token[..token.len() - 1], &alphabet[last + 1..last + 2])
        }),
        bad("a claim changed behind its signature", Invalid, |w| {
            let (token, other) = (w.own(json!({})), w.own(json!({ "merchantId": "m2" })));
            let (parts, others): (Vec<_>, Vec<_>) = (token.split('.').collect(), other.split('.').collect());
            format!("{}.{}.{}", parts[0], others[1], parts[2])
        }),
        bad("a header that is no JSON", Invalid, |w| w.texts("HS256", "{}")),
        bad("`alg` twice in the header", Invalid, |w| {
            w.texts(r#"{"alg":"none","alg":"HS256"}"#, &w.payload(""))
        }),
        bad("`exp` twice", Invalid, |w| w.texts(HS256, &w.payload(r#""exp":1,"#))),
        bad("the room twice, once in escapes", Invalid, |w| {
            w.texts(HS256, &w.payload(r#""merchant\u0049d":"m2","#))
        }),
        payload("claims that are a list", "[]"),
        payload("claims that are a text", "\"m1\""),
        payload("claims with a comma too many", r#"{"merchantId":"m1",}"#),
        payload("a number that no machine holds", r#"{"exp":1e999,"merchantId":"m1"}"#),
        bad("claims that are not UTF-8", Invalid, |w| {
            let message = format!("{}.{}", base64(HS256), base64(b"{\"merchantId\":\"\xff\"}"));
            format!("{message}.{}", base64(w.secret.sign("HS256", message.as_bytes())))
        }),
        bad("claims nested a hundred deep", Invalid, |w| {
            w.texts(HS256, &w.payload(&format!("\"x\":{}{},", "[".repeat(100), "]".repeat(100))))
        }),
        bad("5 KiB, where 4 are allowed", TooLarge, |w| w.own(json!({ "x": "x".repeat(5 * 1_024) }))),
    ]
}

fn times() -> Vec<Case> {
    let of = |fault| Outcome::Refused(fault);
    vec![
        claims("`exp` is a fraction", Outcome::Welcome, |now| json!({ "exp": now as f64 + 600.5 })),
        claims("`exp` is absurdly far", Outcome::Welcome, |_| json!({ "exp": 1e300 })),
        claims("`exp` is missing", of(NoExpiry), |_| json!({ "exp": "(none)" })),
        claims("`exp` is null", of(NoExpiry), |_| json!({ "exp": null })),
        claims("`exp` is a text", of(NoExpiry), |now| json!({ "exp": (now + 600).to_string() })),
        claims("`exp` is a list", of(NoExpiry), |now| json!({ "exp": [now + 600] })),
        claims("`exp` is now", of(Expired), |now| json!({ "exp": now })),
        claims("`exp` was a second ago: no leeway", of(Expired), |now| json!({ "exp": now - 1 })),
        claims("`exp` is 0", of(Expired), |_| json!({ "exp": 0 })),
        claims("`exp` is negative", of(Expired), |_| json!({ "exp": i64::MIN })),
        claims("`exp` is -1e300", of(Expired), |_| json!({ "exp": -1e300 })),
        claims("`nbf` has passed", Outcome::Welcome, |now| json!({ "nbf": now - 1 })),
        claims("`nbf` is ahead by less than the leeway", Outcome::Welcome, |now| json!({ "nbf": now + 4 })),
        claims("`nbf` is ahead", of(NotYet), |now| json!({ "nbf": now + 3_000 })),
        claims("`nbf` is absurdly far", of(NotYet), |_| json!({ "nbf": 1e300 })),
        claims("`nbf` is a text", of(NotYet), |_| json!({ "nbf": "soon" })),
        claims("`iat` is missing", Outcome::Welcome, |_| json!({ "iat": "(none)" })),
        claims("`iat` is ahead by less than the leeway", Outcome::Welcome, |now| json!({ "iat": now + 4 })),
        claims("`iat` is ahead", of(IssuedAhead), |now| json!({ "iat": now + 3_000 })),
        claims("`iat` is the largest number", of(IssuedAhead), |_| json!({ "iat": u64::MAX })),
        claims("`iat` is a text", of(IssuedAhead), |_| json!({ "iat": "2026-11-27" })),
    ]
}

fn names() -> Vec<Case> {
    let of = |fault| Outcome::Refused(fault);
    vec![
        claims(
            "`aud` is a list with a name of ours",
            Outcome::Welcome,
            |_| json!({ "aud": ["x", "other-name"] }),
        ),
        claims("`aud` is missing", of(Audience), |_| json!({ "aud": "(none)" })),
        claims("`aud` is somebody else", of(Audience), |_| json!({ "aud": "rowcast2" })),
        claims("`aud` is an empty list", of(Audience), |_| json!({ "aud": [] })),
        claims("`aud` is a list that holds a number", of(Audience), |_| json!({ "aud": ["rowcast", 1] })),
        claims("`aud` is an object", of(Audience), |_| json!({ "aud": { "rowcast": true } })),
        claims("`iss` is missing", of(Issuer), |_| json!({ "iss": "(none)" })),
        claims("`iss` is nobody", of(Issuer), |_| json!({ "iss": "https://c.example" })),
        claims(
            "`iss` is issuer A's with a slash more",
            of(Issuer),
            |_| json!({ "iss": "https://a.example/" }),
        ),
        claims("`iss` is a list", of(Claim), |_| json!({ "iss": ["own", "https://a.example"] })),
        claims("`iss` is null", of(Claim), |_| json!({ "iss": null })),
        claims("`sub` is missing", Outcome::Welcome, |_| json!({ "sub": "(none)" })),
        claims("`sub` is a whole number", Outcome::Welcome, |_| json!({ "sub": 7 })),
        claims("`sub` is a list", of(Claim), |_| json!({ "sub": ["user"] })),
        claims("`sub` of 600 bytes", of(Claim), |_| json!({ "sub": "u".repeat(600) })),
        claims("`jti` is an object", of(Claim), |_| json!({ "jti": {} })),
    ]
}

fn rooms() -> Vec<Case> {
    let of = |fault| Outcome::Refused(fault);
    vec![
        claims("the room is a whole number", Outcome::Welcome, |_| json!({ "merchantId": 7 })),
        claims("a list of rooms", Outcome::Welcome, |_| json!({ "merchantId": ["m1", "m2", 3] })),
        claims("`types` limits what it sees", Outcome::Welcome, |_| json!({ "types": ["booking.*"] })),
        claims("`types` is a number: it sees nothing", Outcome::Welcome, |_| json!({ "types": 1 })),
        claims("no room", of(NoRoom), |_| json!({ "merchantId": "(none)" })),
        claims("the room is null", of(NoRoom), |_| json!({ "merchantId": null })),
        claims("the room is empty", of(NoRoom), |_| json!({ "merchantId": "" })),
        claims("an empty list of rooms", of(NoRoom), |_| json!({ "merchantId": [] })),
        claims("an empty room among good ones", of(NoRoom), |_| json!({ "merchantId": ["m1", ""] })),
        claims("a list within the list of rooms", of(NoRoom), |_| json!({ "merchantId": [["m1"]] })),
        claims("the room is a fraction", of(NoRoom), |_| json!({ "merchantId": 1.5 })),
        claims("the room is true", of(NoRoom), |_| json!({ "merchantId": true })),
        claims("the room is an object", of(NoRoom), |_| json!({ "merchantId": { "id": "m1" } })),
        claims("a room of 201 bytes", of(NoRoom), |_| json!({ "merchantId": "m".repeat(201) })),
        claims("257 rooms", of(NoRoom), |_| json!({ "merchantId": (0..257).collect::<Vec<_>>() })),
    ]
}
