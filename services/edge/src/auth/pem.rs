//! Public keys from PEM: what kind a key is says the key itself.

use jsonwebtoken::DecodingKey;
use simple_asn1::{ASN1Block, BigUint, OID, oid};

use super::keys::{Family, Key, RSA_BITS};

/// What is wrong with a PEM, in words for whoever configured it.
#[derive(Debug, thiserror::Error)]
pub enum PemFault {
    /// Not a PEM at all.
    #[error("it is not a PEM (-----BEGIN PUBLIC KEY-----…)")]
    NotPem,
    /// A secret where a public key belongs.
    #[error(
        "it holds a private key: an edge only verifies and must not have it; `openssl pkey -pubout` writes the public one"
    )]
    Private,
    /// Something else.
    #[error(
        "it holds {0:?} in place of a public key; `openssl x509 -pubkey -noout` takes one out of a certificate"
    )]
    Other(String),
    /// A public key of a kind that tokens are not signed with.
    #[error("its key is neither RSA nor P-256, P-384 or Ed25519")]
    Kind,
    /// An RSA key of a bad size.
    #[error("its RSA key has {0} bits; it takes 2048 at least, and 8192 at most")]
    Size(u64),
}

/// Reads a public key.
pub fn read(id: &str, text: &str) -> Result<Key, PemFault> {
    let pem = pem::parse(text).map_err(|_| PemFault::NotPem)?;
    match pem.tag() {
        "PUBLIC KEY" => subject_public_key(id, pem.contents()),
        "RSA PUBLIC KEY" => rsa(id, pem.contents()),
        tag if tag.contains("PRIVATE") => Err(PemFault::Private),
        tag => Err(PemFault::Other(tag.to_owned())),
    }
}

/// SubjectPublicKeyInfo (RFC 5280, 4.1): `SEQUENCE { SEQUENCE { algorithm, parameters }, BIT STRING }`.
fn subject_public_key(id: &str, der: &[u8]) -> Result<Key, PemFault> {
    let blocks = simple_asn1::from_der(der).map_err(|_| PemFault::Kind)?;
    let [ASN1Block::Sequence(_, parts)] = blocks.as_slice() else { return Err(PemFault::Kind) };
    let [ASN1Block::Sequence(_, algorithm), ASN1Block::BitString(_, _, key)] = parts.as_slice() else {
        return Err(PemFault::Kind);
    };
    let is = |block: Option<&ASN1Block>, wanted: OID| match block {
        Some(ASN1Block::ObjectIdentifier(_, oid)) => *oid == wanted,
        _ => false,
    };
    let (kind, curve) = (algorithm.first(), algorithm.get(1));
    if is(kind, oid!(1, 2, 840, 113549, 1, 1, 1)) {
        rsa(id, key)
    } else if is(kind, oid!(1, 3, 101, 112)) {
        Ok(Key::public(Some(id), Family::Ed25519, DecodingKey::from_ed_der(key)))
    } else if is(kind, oid!(1, 2, 840, 10045, 2, 1)) && is(curve, oid!(1, 2, 840, 10045, 3, 1, 7)) {
        Ok(Key::public(Some(id), Family::P256, DecodingKey::from_ec_der(key)))
    } else if is(kind, oid!(1, 2, 840, 10045, 2, 1)) && is(curve, oid!(1, 3, 132, 0, 34)) {
        Ok(Key::public(Some(id), Family::P384, DecodingKey::from_ec_der(key)))
    } else {
        Err(PemFault::Kind)
    }
}

/// RSAPublicKey (RFC 8017, A.1.1): `SEQUENCE { modulus, exponent }`.
fn rsa(id: &str, der: &[u8]) -> Result<Key, PemFault> {
    let blocks = simple_asn1::from_der(der).map_err(|_| PemFault::Kind)?;
    let [ASN1Block::Sequence(_, parts)] = blocks.as_slice() else { return Err(PemFault::Kind) };
    let [ASN1Block::Integer(_, modulus), ASN1Block::Integer(_, exponent)] = parts.as_slice() else {
        return Err(PemFault::Kind);
    };
    let (modulus, exponent) = (modulus.to_bytes_be().1, exponent.to_bytes_be().1);
    rsa_of(id, &modulus, &exponent)
}

/// An RSA key of its numbers, where it is long enough.
pub fn rsa_of(id: &str, modulus: &[u8], exponent: &[u8]) -> Result<Key, PemFault> {
    let bits = BigUint::from_bytes_be(modulus).bits();
    if !RSA_BITS.contains(&bits) {
        return Err(PemFault::Size(bits));
    }
    let material = DecodingKey::from_rsa_raw_components(modulus, exponent);
    Ok(Key::public(Some(id), Family::Rsa, material))
}
