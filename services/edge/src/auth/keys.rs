//! Keys, each bound to one kind of signature when it is read: a public key is never a secret for HMAC, and a secret is never
//! anything else, whatever a token says of itself.

use jsonwebtoken::{Algorithm, DecodingKey};

use super::compact::Compact;
use super::faults::TokenFault;

/// A secret has at least as many bytes as the shortest hash (RFC 7518, 3.2).
pub const MIN_SECRET: usize = 32;

/// RSA with fewer bits can be broken (RFC 7518, 3.3), and with more than the most costs an edge too much.
pub const RSA_BITS: std::ops::RangeInclusive<u64> = 2_048..=8_192;

/// The kinds of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// A secret.
    Secret,
    /// RSA, for both of its ways to sign.
    Rsa,
    /// The curve P-256.
    P256,
    /// The curve P-384.
    P384,
    /// Ed25519.
    Ed25519,
}

impl Family {
    /// The kind of key that an algorithm needs; none for one that is not known here.
    pub fn of(algorithm: Algorithm) -> Option<Self> {
        Some(match algorithm {
            Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => Self::Secret,
            Algorithm::RS256 | Algorithm::RS384 | Algorithm::RS512 => Self::Rsa,
            Algorithm::PS256 | Algorithm::PS384 | Algorithm::PS512 => Self::Rsa,
            Algorithm::ES256 => Self::P256,
            Algorithm::ES384 => Self::P384,
            Algorithm::EdDSA => Self::Ed25519,
            _ => return None,
        })
    }
}

/// A key.
#[derive(Clone)]
pub struct Key {
    /// Its name; without one it is for tokens that name no key.
    pub id: Option<String>,
    /// What it is.
    pub family: Family,
    /// The one algorithm that it is for, where it says so.
    pub only: Option<Algorithm>,
    material: DecodingKey,
}

impl Key {
    /// A secret, and whom it is for.
    pub fn secret(id: Option<&str>, secret: &[u8]) -> Self {
        Self::new(id, Family::Secret, DecodingKey::from_secret(secret))
    }

    /// A public key. `material` is of this family.
    pub fn public(id: Option<&str>, family: Family, material: DecodingKey) -> Self {
        Self::new(id, family, material)
    }

    fn new(id: Option<&str>, family: Family, material: DecodingKey) -> Self {
        Self { id: id.map(str::to_owned), family, only: None, material }
    }

    fn fits(&self, algorithm: Algorithm) -> bool {
        Family::of(algorithm) == Some(self.family) && self.only.is_none_or(|only| only == algorithm)
    }

    /// Whether it made the signature.
    pub fn signed(&self, token: &Compact<'_>) -> bool {
        // The family is looked at here once more: this is where mixing them up would count.
        let signed = self.fits(token.algorithm)
            && jsonwebtoken::crypto::verify(
                token.signature,
                token.message.as_bytes(),
                &self.material,
                token.algorithm,
            )
            .unwrap_or(false);
        signed && !token.signature.is_empty()
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({:?}, {:?})", self.id, self.family)
    }
}

/// Keys that belong together: an issuer's, or this installation's own.
#[derive(Debug, Default, Clone)]
pub struct KeySet {
    keys: Vec<Key>,
    /// Whether a key without a name serves tokens that name an unknown one.
    unnamed_serves_all: bool,
}

impl KeySet {
    /// An issuer's keys. One that it does not name is for tokens that name none.
    pub fn of_issuer(keys: Vec<Key>) -> Self {
        Self { keys, unnamed_serves_all: false }
    }

    /// This installation's own. The secret without a name was there before any had names: it serves all tokens whose
    /// key is not another one.
    pub fn own(keys: Vec<Key>) -> Self {
        Self { keys, unnamed_serves_all: true }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether there is one of a kind.
    pub fn has(&self, family: Family) -> bool {
        self.keys.iter().any(|key| key.family == family)
    }

    /// The one key that a token can be signed with: at most one signature is checked a token. A token that names none
    /// gets the one without a name, or the only one that fits.
    pub fn find(&self, token: &Compact<'_>) -> Result<&Key, TokenFault> {
        let fitting = || self.keys.iter().filter(|key| key.fits(token.algorithm));
        let unnamed = || fitting().find(|key| key.id.is_none());
        let found = match &token.key_id {
            Some(id) => fitting()
                .find(|key| key.id.as_ref() == Some(id))
                .or_else(|| unnamed().filter(|_| self.unnamed_serves_all)),
            None => unnamed().or_else(|| {
                let mut all = fitting();
                all.next().filter(|_| all.next().is_none())
            }),
        };
        found.ok_or(TokenFault::UnknownKey)
    }
}
