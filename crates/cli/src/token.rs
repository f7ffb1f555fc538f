//! Signs tokens. Verifying them is the edge's.

use std::{
    io::Write,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, bail};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rowcast_process::config::shared::AuthConfig;
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

/// Claims that have options of their own, besides the one with the rooms.
const RESERVED: [(&str, &str); 6] = [
    ("sub", "--subject"),
    ("exp", "--expires-in"),
    ("iat", "the clock"),
    ("jti", "--token-id"),
    ("iss", "--issuer"),
    ("aud", "--audience"),
];

/// What a token says.
#[derive(Debug, Clone, Default)]
pub struct Claims {
    /// The rooms. One is written as text, several as a list.
    pub merchants: Vec<String>,
    /// The claim that names them; [`ROOM_CLAIM`] by default. It is written by just this name, which edges look for first.
    pub room_claim: Option<String>,
    /// The subject.
    pub subject: String,
    /// How long it is good.
    pub expires_in: Duration,
    /// Further claims.
    pub others: Map<String, Value>,
}

/// What signs.
#[derive(Clone)]
pub struct Signer {
    header: Header,
    key: EncodingKey,
}

impl Signer {
    /// HS256.
    ///
    /// # Errors
    /// When the secret is too short.
    pub fn secret(secret: &str) -> anyhow::Result<Self> {
        if secret.len() < MIN_SECRET_BYTES {
            bail!(
                "the secret has {} bytes, and edges take none with fewer than {MIN_SECRET_BYTES} (RFC 7518, 3.2)",
                secret.len()
            );
        }
        Ok(Self { header: Header::default(), key: EncodingKey::from_secret(secret.as_bytes()) })
    }

    /// By what the key in a PEM is for.
    ///
    /// # Errors
    /// When it is no private key of a kind that signs tokens.
    pub fn private_key(pem: &[u8]) -> anyhow::Result<Self> {
        let rsa = EncodingKey::from_rsa_pem(pem).map(|key| (Algorithm::RS256, key));
        let ed = EncodingKey::from_ed_pem(pem).map(|key| (Algorithm::EdDSA, key));
        // Which curve a key is of, only signing shows.
        let [p256, p384] = [Algorithm::ES256, Algorithm::ES384]
            .map(|algorithm| EncodingKey::from_ec_pem(pem).map(|key| (algorithm, key)));
        let signers = [rsa, ed, p256, p384].into_iter().flatten();
        let mut signers = signers.map(|(algorithm, key)| Self { header: Header::new(algorithm), key });
        signers
            .find(|signer| jsonwebtoken::encode(&signer.header, &Map::new(), &signer.key).is_ok())
            .context("it holds no private key to sign with: PKCS#8 of RSA, P-256, P-384 or Ed25519 (`openssl genpkey`)")
    }

    /// With the key's name in the header.
    #[must_use]
    pub fn named(mut self, key_id: Option<&str>) -> Self {
        self.header.kid = key_id.map(str::to_owned);
        self
    }
}

impl Claims {
    /// What the arguments say, and the configuration where they do not.
    ///
    /// # Errors
    /// When a claim is not of the form NAME=VALUE, or has an option of its own.
    pub fn new(args: &ClaimArgs, auth: &AuthConfig) -> anyhow::Result<Self> {
        let room_claim = args.room_claim.as_ref().unwrap_or(&auth.room_claim);
        let mut others = Map::new();
        for claim in &args.claim {
            let (name, value) = claim
                .split_once('=')
                .filter(|(name, _)| !name.is_empty())
                .with_context(|| format!("--claim {claim:?} is not of the form NAME=VALUE"))?;
            let rooms = (room_claim.as_str(), "--merchant");
            if let Some((_, option)) = RESERVED.iter().chain([&rooms]).find(|(reserved, _)| *reserved == name)
            {
                bail!("--claim {name}: this claim is set by {option}");
            }
            let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
            others.insert(name.to_owned(), value);
        }
        let issuer = args.issuer.clone().or(Some(auth.issuer.clone()).filter(|issuer| !issuer.is_empty()));
        let audience = match args.audience.as_slice() {
            [] => auth.audience.first().map(|name| Value::from(name.as_str())),
            [one] => Some(one.as_str().into()),
            several => Some(several.into()),
        };
        let named = [
            ("jti", args.token_id.clone().map(Value::from)),
            ("iss", issuer.map(Value::from)),
            ("aud", audience),
        ];
        others.extend(named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        Ok(Self {
            merchants: args.merchant.clone(),
            room_claim: Some(room_claim.clone()),
            subject: args.subject.clone(),
            expires_in: args.expires_in,
            others,
        })
    }

    /// Signs with HS256, good from `now`.
    ///
    /// # Errors
    /// When the secret is too short, no merchant is named, or the signature fails.
    pub fn sign(&self, secret: &str, now: SystemTime) -> anyhow::Result<String> {
        self.signed_by(&Signer::secret(secret)?, now)
    }

    /// Signs, good from `now`.
    ///
    /// # Errors
    /// When no merchant is named, or the signature fails.
    pub fn signed_by(&self, signer: &Signer, now: SystemTime) -> anyhow::Result<String> {
        let merchants = match self.merchants.as_slice() {
            [] => bail!("a token needs at least one merchant: give --merchant ID"),
            [one] => Value::from(one.as_str()),
            several => Value::from(several),
        };
        let now = now.duration_since(SystemTime::UNIX_EPOCH).context("the clock stands before 1970")?;
        let expires = now.checked_add(self.expires_in).context("the token's end is too far away")?;
        let mut claims = self.others.clone();
        claims.insert(self.room_claim.as_deref().unwrap_or(ROOM_CLAIM).to_owned(), merchants);
        claims.insert("sub".to_owned(), self.subject.as_str().into());
        claims.insert("iat".to_owned(), now.as_secs().into());
        claims.insert("exp".to_owned(), expires.as_secs().into());
        jsonwebtoken::encode(&signer.header, &claims, &signer.key).context("the token cannot be signed")
    }
}

/// What the arguments sign, and with what: the key given on the command line, the secret of a running `rowcast dev`, or the
/// configuration's.
pub(crate) fn by_arguments(args: &ClaimArgs, dev: Option<&DevFile>) -> anyhow::Result<(Claims, Signer)> {
    let auth = match dev {
        Some(_) => AuthConfig::default(),
        None => Config::load(args.config.as_deref())?.auth,
    };
    let claims = Claims::new(args, &auth)?;
    let signer = if let Some(path) = &args.private_key {
        let named = || format!("--private-key {}", path.display());
        Signer::private_key(&std::fs::read(path).with_context(named)?).with_context(named)?
    } else if let Some(secret) = args.secret.as_ref().or(dev.map(|dev| &dev.jwt_secret)) {
        Signer::secret(secret)?
    } else {
        let named = args.kid.as_ref().and_then(|kid| auth.secrets.get(kid));
        let secret = named.unwrap_or(&auth.hs256_secret);
        if !secret.is_set() {
            bail!(
                "no secret to sign with: give --secret, set ROWCAST_AUTH__HS256_SECRET, or name a --dev folder"
            )
        }
        Signer::secret(secret.expose())?
    };
    Ok((claims, signer.named(args.kid.as_deref())))
}

/// The command `token`.
pub(crate) fn print(args: &TokenArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let dev = args.dev.as_deref().map(DevFile::read).transpose()?;
    let (claims, signer) = by_arguments(&args.claims, dev.as_ref())?;
    let token = claims.signed_by(&signer, SystemTime::now())?;
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
            private_key: None,
            kid: None,
            room_claim: None,
            token_id: None,
            issuer: None,
            audience: Vec::new(),
            config: None,
            merchant: merchant.iter().map(|id| (*id).to_owned()).collect(),
            subject: "ana".to_owned(),
            expires_in: Duration::from_secs(900),
            claim: claim.iter().map(|claim| (*claim).to_owned()).collect(),
        }
    }

    fn claims(args: &ClaimArgs) -> anyhow::Result<Claims> {
        Claims::new(args, &AuthConfig::default())
    }

    fn decoded(token: &str, secret: &str) -> jsonwebtoken::errors::Result<Value> {
        let key = DecodingKey::from_secret(secret.as_bytes());
        jsonwebtoken::decode(token, &key, &Validation::new(Algorithm::HS256)).map(|data| data.claims)
    }

    #[test]
    fn a_token_says_what_was_asked_and_only_its_secret_verifies_it() {
        let args = args(&["types=[\"booking.*\"]", "name=Ana = best", "level=3"], &["m1"]);
        let token = claims(&args).unwrap().sign(SECRET, SystemTime::now()).unwrap();
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
    fn the_configuration_says_what_edges_look_for() {
        let auth = AuthConfig {
            room_claim: "shop".into(),
            issuer: "own".into(),
            audience: vec!["rowcast".into(), "other".into()],
            ..AuthConfig::default()
        };
        let token = |args: &ClaimArgs| {
            let token = Claims::new(args, &auth).unwrap().sign(SECRET, SystemTime::now()).unwrap();
            let mut rules = Validation::new(Algorithm::HS256);
            rules.validate_aud = false;
            let key = DecodingKey::from_secret(SECRET.as_bytes());
            jsonwebtoken::decode::<Value>(&token, &key, &rules).unwrap().claims
        };
        let said = token(&args(&[], &["m1"]));
        assert_eq!(
            (&said["shop"], &said["iss"], &said["aud"]),
            (&"m1".into(), &"own".into(), &"rowcast".into())
        );
        let mut given = args(&[], &["m1"]);
        given.room_claim = Some("merchantId".into());
        given.token_id = Some("t1".into());
        given.audience = vec!["a".into(), "b".into()];
        let said = token(&given);
        assert_eq!((&said["merchantId"], &said["jti"]), (&"m1".into(), &"t1".into()));
        assert_eq!(said["aud"], serde_json::json!(["a", "b"]));
        assert!(
            Claims::new(&args(&["shop=x"], &["m1"]), &auth).unwrap_err().to_string().contains("--merchant")
        );
    }

    #[test]
    fn a_private_key_signs_in_its_own_way() {
        let pem = "-----BEGIN PRIVATE KEY-----\n\
            MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
            -----END PRIVATE KEY-----\n";
        let signer = Signer::private_key(pem.as_bytes()).unwrap().named(Some("k"));
        let token = claims(&args(&[], &["m1"])).unwrap().signed_by(&signer, SystemTime::now()).unwrap();
        let header = jsonwebtoken::decode_header(&token).unwrap();
        assert_eq!((header.alg, header.kid.as_deref()), (Algorithm::EdDSA, Some("k")));
        assert!(Signer::private_key(b"nothing").is_err());
    }

    #[test]
    fn several_merchants_become_a_list() {
        let token = claims(&args(&[], &["m1", "m2"])).unwrap().sign(SECRET, SystemTime::now()).unwrap();
        assert_eq!(decoded(&token, SECRET).unwrap()["merchantId"], serde_json::json!(["m1", "m2"]));
    }

    #[test]
    fn what_cannot_be_signed_says_what_to_do() {
        let fault = |claim: &[&str], merchant: &[&str], secret: &str| {
            let signed =
                claims(&args(claim, merchant)).and_then(|claims| claims.sign(secret, SystemTime::now()));
            signed.unwrap_err().to_string()
        };
        assert!(fault(&[], &[], SECRET).contains("--merchant"));
        assert!(fault(&[], &["m1"], "short").contains("5 bytes"));
        assert!(fault(&["exp=1"], &["m1"], SECRET).contains("--expires-in"));
        assert!(fault(&["alone"], &["m1"], SECRET).contains("NAME=VALUE"));
    }
}
