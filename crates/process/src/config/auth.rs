//! Section `auth`: whose tokens let somebody in. Edges verify by it; the command signs by a part of it.

use std::{collections::BTreeMap, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Secret, duration, size};

/// Section `auth`.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthConfig {
    /// `ROWCAST_AUTH__ALGORITHMS`: how tokens may be signed, `HS256` by default: any of `HS256`, `HS384`, `HS512`, `RS256`,
    /// `RS384`, `RS512`, `PS256`, `PS384`, `PS512`, `ES256`, `ES384`, `EdDSA`.
    pub algorithms: Vec<String>,
    /// `ROWCAST_AUTH__HS256_SECRET`: the secret that signs tokens without a key id (`kid`), at least 32 bytes; required where
    /// an HS algorithm is allowed and `secrets` has none.
    pub hs256_secret: Secret,
    /// `ROWCAST_AUTH__SECRETS`: further secrets by key id, so that one can take another's place; as JSON:
    /// `{"2026-11": "…"}`. Each has at least 32 bytes.
    pub secrets: BTreeMap<String, Secret>,
    /// `ROWCAST_AUTH__PUBLIC_KEYS`: public keys by key id, RSA (at least 2048 bits), P-256, P-384 or Ed25519; each is the text
    /// of a PEM, or the path of a file that holds one; as JSON: `{"2026-11": "/etc/rowcast/2026-11.pem"}`.
    pub public_keys: BTreeMap<String, String>,
    /// `ROWCAST_AUTH__ISSUER`: what `iss` must be in tokens signed with the keys above; empty. Without one it may be
    /// anything but the names in `issuers`.
    pub issuer: String,
    /// `ROWCAST_AUTH__AUDIENCE`: names of which one has to stand in `aud`; empty. Without any, `aud` is not
    /// looked at.
    pub audience: Vec<String>,
    /// `ROWCAST_AUTH__ISSUERS`: issuers whose keys are fetched; as JSON: `[{"issuer": "https://id.example.com/", "jwks_url":
    /// "https://id.example.com/jwks", "audience": ["rowcast"], "algorithms": ["RS256"]}]`. A token's `iss` picks one, and then
    /// that one's keys, audience and algorithms alone count. `audience` and `algorithms` may be left out: those of this section
    /// count then.
    pub issuers: Vec<IssuerConfig>,
    /// `ROWCAST_AUTH__ROOM_CLAIM`: the claim that names the room or a list of rooms; `merchantId`. Where no claim has this name, dots
    /// lead into claims: `app_metadata.merchant`.
    pub room_claim: String,
    /// `ROWCAST_AUTH__LEEWAY`: how far ahead of this machine's clock the issuer's may be, for `nbf` and `iat`; `5s`. At `exp`
    /// a token ends without any.
    #[serde(with = "duration")]
    #[schemars(with = "String")]
    pub leeway: Duration,
    /// `ROWCAST_AUTH__MAX_TOKEN_SIZE`: a longer token is refused before anything of it is looked at; `16KiB`.
    #[serde(with = "size")]
    #[schemars(with = "String")]
    pub max_token_size: u64,
    /// `ROWCAST_AUTH__MAX_REFRESHES`: how often one socket may refresh its token in a minute, 30; one more closes it with 4429. 0 sets
    /// no limit.
    pub max_refreshes: u32,
    /// `ROWCAST_AUTH__MAX_WAITING`: clients of this edge that may wait for an issuer's keys at a time, 1000; one more is answered
    /// as if the keys could not be loaded.
    pub max_waiting: usize,
    /// `ROWCAST_AUTH__JWKS_REFRESH`: how often an issuer's keys are fetched, at the least, `10m`; sooner where its answer has a
    /// shorter `max-age`.
    #[serde(with = "duration")]
    #[schemars(with = "String")]
    pub jwks_refresh: Duration,
    /// `ROWCAST_AUTH__JWKS_MIN_INTERVAL`: how long an issuer is left alone after a fetch, whatever tokens name unknown keys
    /// meanwhile; `30s`.
    #[serde(with = "duration")]
    #[schemars(with = "String")]
    pub jwks_min_interval: Duration,
    /// `ROWCAST_AUTH__JWKS_TIMEOUT`: how long a fetch may take, `3s`.
    #[serde(with = "duration")]
    #[schemars(with = "String")]
    pub jwks_timeout: Duration,
    /// `ROWCAST_AUTH__JWKS_KEEP`: for how long an issuer's keys count while it cannot be reached, `1d`.
    #[serde(with = "duration")]
    #[schemars(with = "String")]
    pub jwks_keep: Duration,
    /// `ROWCAST_AUTH__JWKS_CA`: a file with certificates of the authorities to trust for `https://`, in place of the system's; empty.
    pub jwks_ca: String,
    /// `ROWCAST_AUTH__JWKS_PLAIN_HTTP`: whether `jwks_url` may be `http://` for another host than this one, `false`. Whoever is on
    /// the way can then sign tokens.
    pub jwks_plain_http: bool,
    /// `ROWCAST_AUTH__TOKEN_IN_URL`: whether `GET /v1/events` takes the token as `?access_token=` too, for a browser's
    /// EventSource, which can send no header, and a handshake of Socket.IO as `?token=`; `false`. What is in a URL ends in logs.
    pub token_in_url: bool,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            algorithms: vec!["HS256".to_owned()],
            hs256_secret: Secret::default(),
            secrets: BTreeMap::new(),
            public_keys: BTreeMap::new(),
            issuer: String::new(),
            audience: Vec::new(),
            issuers: Vec::new(),
            room_claim: "merchantId".to_owned(),
            leeway: Duration::from_secs(5),
            max_token_size: 16 * 1024,
            max_refreshes: 30,
            max_waiting: 1_000,
            jwks_refresh: Duration::from_secs(600),
            jwks_min_interval: Duration::from_secs(30),
            jwks_timeout: Duration::from_secs(3),
            jwks_keep: Duration::from_secs(86_400),
            jwks_ca: String::new(),
            jwks_plain_http: false,
            token_in_url: false,
        }
    }
}

/// One of `auth.issuers`.
#[derive(Debug, Clone, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IssuerConfig {
    /// What `iss` is in its tokens, to the letter.
    pub issuer: String,
    /// Where its public keys are, as a JSON Web Key Set.
    pub jwks_url: String,
    /// Names of which one has to stand in `aud`; those of the section where this is empty.
    pub audience: Vec<String>,
    /// How its tokens may be signed; the section's asymmetric ones where this is empty.
    pub algorithms: Vec<String>,
}
