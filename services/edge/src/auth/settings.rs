//! From section `auth` to a verifier. Whatever is wrong with it is an error before a port is bound.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use jsonwebtoken::Algorithm;
use rowcast_process::config::shared::{AuthConfig, IssuerConfig};
use tokio::sync::Semaphore;

use super::claims::Rules;
use super::fetch::Fetcher;
use super::issuer::{Issuer, Times};
use super::keys::{Family, Key, KeySet, MIN_SECRET};
use super::pem;
use super::verifier::{Own, Verifier};

impl Verifier {
    /// By the configuration. Keys in files are read now.
    ///
    /// # Errors
    /// The first thing that is wrong, with the key and what to do.
    pub fn new(config: &AuthConfig) -> anyhow::Result<Self> {
        let algorithms = algorithms("auth.algorithms", &config.algorithms)?;
        let keys = own_keys(config, &algorithms)?;
        let issuers = issuers(config, &algorithms)?;
        ensure!(!config.room_claim.is_empty(), "auth.room_claim is empty; it names the claim with the rooms");
        ensure!(config.max_token_size >= 64, "auth.max_token_size must be at least 64B");
        let leeway = i64::try_from(config.leeway.as_micros()).unwrap_or(i64::MAX);
        Ok(Self {
            rules: Rules { room_claim: config.room_claim.clone(), leeway },
            max_size: usize::try_from(config.max_token_size).unwrap_or(usize::MAX),
            own: Own {
                keys: KeySet::own(keys),
                algorithms,
                issuer: Some(config.issuer.clone()).filter(|issuer| !issuer.is_empty()),
                audience: config.audience.clone(),
            },
            issuers,
            waiting: Arc::new(Semaphore::new(config.max_waiting.min(Semaphore::MAX_PERMITS))),
        })
    }
}

fn algorithms(key: &str, names: &[String]) -> anyhow::Result<Vec<Algorithm>> {
    ensure!(!names.is_empty(), "{key} is empty: no token could be good; name algorithms, such as HS256");
    let parse = |name: &String| {
        name.parse().ok().filter(|algorithm| Family::of(*algorithm).is_some()).with_context(|| {
            format!(
                "{key}: {name:?} is none of HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA"
            )
        })
    };
    names.iter().map(parse).collect()
}

fn own_keys(config: &AuthConfig, algorithms: &[Algorithm]) -> anyhow::Result<Vec<Key>> {
    let mut keys = Vec::new();
    let signs_with_secrets =
        algorithms.iter().any(|algorithm| Family::of(*algorithm) == Some(Family::Secret));
    let secret = config.hs256_secret.expose();
    if config.hs256_secret.is_set() || (signs_with_secrets && config.secrets.is_empty()) {
        ensure!(
            secret.len() >= MIN_SECRET,
            "auth.hs256_secret has {} bytes; set ROWCAST_AUTH__HS256_SECRET to the secret that signs your tokens, at \
             least {MIN_SECRET} bytes{}",
            secret.len(),
            if config.issuers.is_empty() && config.public_keys.is_empty() {
                ""
            } else {
                ", or take the HS algorithms off auth.algorithms"
            }
        );
        keys.push(Key::secret(None, secret.as_bytes()));
    }
    for (id, secret) in &config.secrets {
        let length = secret.expose().len();
        ensure!(
            length >= MIN_SECRET,
            "auth.secrets: the one of {id:?} has {length} bytes; it takes {MIN_SECRET} at least (`openssl rand -base64 48`)"
        );
        keys.push(Key::secret(Some(id), secret.expose().as_bytes()));
    }
    for (id, text) in &config.public_keys {
        keys.push(public_key(id, text)?);
    }
    let used = |key: &Key| algorithms.iter().any(|algorithm| Family::of(*algorithm) == Some(key.family));
    if let Some(key) = keys.iter().find(|key| !used(key) && key.family != Family::Secret) {
        bail!(
            "auth.public_keys: no algorithm on auth.algorithms goes with the key {:?}",
            key.id.as_deref().unwrap_or("")
        );
    }
    for algorithm in algorithms {
        let family = Family::of(*algorithm);
        let served = keys.iter().any(|key| Some(key.family) == family)
            || (family != Some(Family::Secret) && !config.issuers.is_empty());
        ensure!(
            served,
            "auth.algorithms has {algorithm:?}, and there is no key for it: auth.public_keys and auth.issuers name them"
        );
    }
    Ok(keys)
}

fn public_key(id: &str, text: &str) -> anyhow::Result<Key> {
    let text = match text.trim_start().starts_with("-----BEGIN") {
        true => text.to_owned(),
        false => std::fs::read_to_string(text)
            .with_context(|| format!("auth.public_keys: cannot read the file of {id:?}"))?,
    };
    pem::read(id, &text).with_context(|| format!("auth.public_keys: {id:?} cannot be used"))
}

fn issuers(config: &AuthConfig, allowed: &[Algorithm]) -> anyhow::Result<Vec<Arc<Issuer>>> {
    let mut names = BTreeSet::new();
    let mut all = Vec::new();
    for issuer in &config.issuers {
        let name = &issuer.issuer;
        ensure!(!name.is_empty(), "auth.issuers: an entry has no issuer: what is `iss` in its tokens?");
        ensure!(names.insert(name), "auth.issuers: {name:?} stands there twice");
        ensure!(
            *name != config.issuer,
            "auth.issuers: {name:?} is auth.issuer too; it can be only one of them"
        );
        all.push(Arc::new(one(config, issuer, allowed).with_context(|| format!("auth.issuers: {name:?}"))?));
    }
    ensure!(
        config.issuers.is_empty() || config.jwks_timeout.as_millis() > 0,
        "auth.jwks_timeout must be above 0"
    );
    Ok(all)
}

fn one(config: &AuthConfig, issuer: &IssuerConfig, allowed: &[Algorithm]) -> anyhow::Result<Issuer> {
    let asymmetric = |algorithm: &Algorithm| Family::of(*algorithm) != Some(Family::Secret);
    let own = match issuer.algorithms.is_empty() {
        true => allowed.iter().copied().filter(asymmetric).collect(),
        false => algorithms("its algorithms", &issuer.algorithms)?,
    };
    ensure!(!own.is_empty(), "auth.algorithms has none for public keys; add RS256, or what it signs with");
    for algorithm in &own {
        ensure!(asymmetric(algorithm), "{algorithm:?} is for secrets, and what an issuer publishes is none");
        ensure!(allowed.contains(algorithm), "{algorithm:?} is not on auth.algorithms, which holds for all");
    }
    let audience = if issuer.audience.is_empty() { &config.audience } else { &issuer.audience };
    let fetcher =
        Fetcher::new(&issuer.jwks_url, config.jwks_timeout, config.jwks_plain_http, &config.jwks_ca)
            .context("its jwks_url")?;
    let times = Times {
        refresh: config.jwks_refresh,
        min_interval: config.jwks_min_interval,
        keep: config.jwks_keep,
    };
    Ok(Issuer::new(&issuer.issuer, own, audience.clone(), times, fetcher))
}
