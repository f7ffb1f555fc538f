//! Judges tokens: whose they are, whether that one signed them, and then what they say.

use std::pin::Pin;
use std::sync::Arc;

use jsonwebtoken::Algorithm;
use rowcast_protocol::Micros;
use serde_json::{Map, Value};
use tokio::sync::Semaphore;

use super::claims::{self, Rules};
use super::compact::Compact;
use super::faults::TokenFault;
use super::identity::Identity;
use super::issuer::{Fetch, Issuer, Keys};
use super::keys::{Key, KeySet};

/// A verdict on a token.
pub type Judged = Result<Identity, TokenFault>;

/// What became of a token.
pub enum Verdict {
    /// It is judged.
    Known(Judged),
    /// The keys that it needs are being fetched; this ends with the verdict, within the time that a fetch may take. It is
    /// waited for beside everything else, never in its place.
    Waiting(Pin<Box<dyn Future<Output = Judged> + Send>>),
}

impl Verdict {
    /// The verdict, when it is there.
    pub async fn judged(self) -> Judged {
        match self {
            Self::Known(judged) => judged,
            Self::Waiting(verdict) => verdict.await,
        }
    }
}

/// Verifies tokens.
pub struct Verifier {
    pub(super) rules: Rules,
    /// A longer token is not looked at.
    pub(super) max_size: usize,
    pub(super) own: Own,
    pub(super) issuers: Vec<Arc<Issuer>>,
    /// Who may wait for keys at a time.
    pub(super) waiting: Arc<Semaphore>,
}

/// This installation's own keys.
pub(super) struct Own {
    pub keys: KeySet,
    pub algorithms: Vec<Algorithm>,
    /// What `iss` has to be.
    pub issuer: Option<String>,
    pub audience: Vec<String>,
}

/// How far one can get at once.
enum Step {
    Done(Judged),
    /// The token's key may come with a fetch; without it, this is the verdict.
    Missing(Fetch, TokenFault),
}

impl Verifier {
    /// For HS256 with one secret, and nothing else. `leeway_seconds` is how far ahead the issuer's clock may be.
    pub fn hs256(secret: &[u8], room_claim: &str, leeway_seconds: u32) -> Self {
        Self {
            rules: Rules { room_claim: room_claim.to_owned(), leeway: i64::from(leeway_seconds) * 1_000_000 },
            max_size: 16 * 1024,
            own: Own {
                keys: KeySet::own(vec![Key::secret(None, secret)]),
                algorithms: vec![Algorithm::HS256],
                issuer: None,
                audience: Vec::new(),
            },
            issuers: Vec::new(),
            waiting: Arc::new(Semaphore::new(0)),
        }
    }

    /// The issuers whose keys are to be fetched.
    pub fn issuers(&self) -> &[Arc<Issuer>] {
        &self.issuers
    }

    /// Judges a token at a moment, or says what it waits for.
    pub fn judge(self: &Arc<Self>, token: &str, now: Micros) -> Verdict {
        let (fetch, fault) = match self.step(token, now) {
            Step::Done(judged) => return Verdict::Known(judged),
            Step::Missing(fetch, fault) => (fetch, fault),
        };
        // Beyond the bound nobody waits: whoever floods an edge with unknown keys must not fill it with sessions.
        let Ok(place) = Arc::clone(&self.waiting).try_acquire_owned() else {
            return Verdict::Known(Err(fault));
        };
        let (verifier, token) = (Arc::clone(self), token.to_owned());
        Verdict::Waiting(Box::pin(async move {
            let _place = place;
            let began = std::time::Instant::now();
            fetch.ended().await;
            let waited = i64::try_from(began.elapsed().as_micros()).unwrap_or(i64::MAX);
            verifier.verify(&token, Micros(now.0.saturating_add(waited)))
        }))
    }

    /// Judges a token by what is known now.
    pub fn verify(&self, token: &str, now: Micros) -> Judged {
        match self.step(token, now) {
            Step::Done(judged) => judged,
            Step::Missing(_, fault) => Err(fault),
        }
    }

    fn step(&self, token: &str, now: Micros) -> Step {
        self.try_step(token, now).unwrap_or_else(|fault| Step::Done(Err(fault)))
    }

    fn try_step(&self, token: &str, now: Micros) -> Result<Step, TokenFault> {
        if token.len() > self.max_size {
            return Err(TokenFault::TooLarge);
        }
        let compact = Compact::parse(token)?;
        // Read before it is proven, but only to find whose keys are to prove it.
        let claims = compact.claims()?;
        let Some(issuer) = self.issuer_of(&claims)? else {
            let own = &self.own;
            allowed(&own.algorithms, &compact)?;
            return self
                .prove(&own.keys, &own.audience, &compact, &claims, now)
                .map(|identity| Step::Done(Ok(identity)));
        };
        allowed(&issuer.algorithms, &compact)?;
        let (keys, fetch) = match issuer.keys() {
            Keys::There(keys, fetch) => (keys, fetch),
            Keys::Soon(fetch) => return Ok(Step::Missing(fetch, TokenFault::KeysUnavailable)),
            Keys::Away => return Err(TokenFault::KeysUnavailable),
        };
        match (self.prove(&keys, &issuer.audience, &compact, &claims, now), fetch) {
            (Err(fault @ TokenFault::UnknownKey), Some(fetch)) => Ok(Step::Missing(fetch, fault)),
            (Ok(identity), _) => {
                Ok(Step::Done(Ok(Identity { issuer: Some(Arc::clone(&issuer.name)), ..identity })))
            }
            (Err(fault), _) => Err(fault),
        }
    }

    /// Whose token it says it is: a configured issuer's, or one of this installation's own.
    fn issuer_of(&self, claims: &Map<String, Value>) -> Result<Option<&Arc<Issuer>>, TokenFault> {
        let name = match claims.get("iss") {
            None => None,
            Some(Value::String(name)) => Some(name.as_str()),
            Some(_) => return Err(TokenFault::Claim),
        };
        let issuer = self.issuers.iter().find(|issuer| name == Some(&issuer.name));
        let is_own = self.own.issuer.as_deref().is_none_or(|own| name == Some(own));
        if issuer.is_none() && (!is_own || self.own.keys.is_empty()) {
            return Err(TokenFault::Issuer);
        }
        Ok(issuer)
    }

    fn prove(
        &self,
        keys: &KeySet,
        audience: &[String],
        compact: &Compact<'_>,
        claims: &Map<String, Value>,
        now: Micros,
    ) -> Judged {
        if !keys.find(compact)?.signed(compact) {
            return Err(TokenFault::Invalid);
        }
        if !claims::is_for(claims, audience) {
            return Err(TokenFault::Audience);
        }
        self.rules.judge(claims, now)
    }
}

fn allowed(algorithms: &[Algorithm], token: &Compact<'_>) -> Result<(), TokenFault> {
    if algorithms.contains(&token.algorithm) { Ok(()) } else { Err(TokenFault::Algorithm) }
}
