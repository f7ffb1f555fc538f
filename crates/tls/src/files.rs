//! Certificates and keys from PEM files. Each error names the file.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use x509_cert::Certificate;
use x509_cert::der::Decode;

/// A bundle of all public authorities has 200 KB.
const LARGEST: u64 = 4 << 20;

/// What is wrong with a file, or with two that belong together.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// It can not be read.
    #[error("{}: {reason}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        reason: io::Error,
    },
    /// It can be read, and is not what it should be.
    #[error("{}: {reason}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do about it.
        reason: String,
    },
    /// A certificate without its key, or the other way round.
    #[error("a certificate and its private key belong together: {0} is missing")]
    Half(&'static str),
    /// This machine has no certificates of authorities.
    #[error(
        "this system has no certificates of public authorities (install ca-certificates, or name the file of the CA that \
         signed the server's certificate): {0}"
    )]
    NoRoots(String),
    /// rustls does not accept it.
    #[error("TLS can not be set up: {0}")]
    Setup(#[from] Error),
}

impl TlsError {
    fn content(path: &Path, reason: impl Into<String>) -> Self {
        Self::Content { path: path.to_owned(), reason: reason.into() }
    }
}

/// A whole file, if it has the size of a certificate.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |reason| TlsError::Read { path: path.to_owned(), reason };
    let found = std::fs::metadata(path).map_err(failed)?;
    if found.len() > LARGEST {
        return Err(TlsError::content(path, format!("{} bytes are no certificate or key", found.len())));
    }
    std::fs::read(path).map_err(failed)
}

/// All certificates of a file, in its order.
pub(crate) fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, PemError> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| TlsError::content(path, format!("it is not PEM: {error}")))?;
    if found.is_empty() {
        let reason = "it holds no certificate (a PEM section that begins with -----BEGIN CERTIFICATE-----)";
        return Err(TlsError::content(path, reason));
    }
    Ok(found)
}

fn private_key(path: &Path, pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| {
        let encrypted = String::from_utf8_lossy(pem).contains("ENCRYPTED");
        TlsError::content(
            path,
            match error {
                _ if encrypted => {
                    "the private key has a passphrase; write one without (openssl pkey -in … -out …)"
                }
                PemError::NoItemsFound => {
                    "it holds no private key (a PEM section that ends with PRIVATE KEY-----)"
                }
                _ => "the private key is not PEM that can be read",
            },
        )
    })
}

/// A certificate with its chain, and the key that belongs to it.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub key: CertifiedKey,
    pub expires: SystemTime,
    /// What was read, to tell later whether it has changed.
    pub read: [Vec<u8>; 2],
}

impl Identity {
    /// Reads both files.
    pub fn load(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let read = [read(cert)?, read(key)?];
        Self::of(cert, key, read)
    }

    /// Judges what was read: the key must be the certificate's.
    pub fn of(cert: &Path, key: &Path, read: [Vec<u8>; 2]) -> Result<Self, TlsError> {
        let chain = certificates(cert, &read[0])?;
        let expires = expiry(cert, &chain)?;
        let private = private_key(key, &read[1])?;
        let certified = CertifiedKey::from_der(chain, private, &crate::provider());
        let key = certified.map_err(|error| match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => TlsError::content(
                key,
                format!("the private key is not that of the first certificate in {}", cert.display()),
            ),
            Error::InvalidCertificate(what) => {
                TlsError::content(cert, format!("the certificate can not be used: {what}"))
            }
            other => TlsError::content(key, format!("the private key can not be used: {other}")),
        })?;
        Ok(Self { key, expires, read })
    }
}

/// When the first certificate of a chain ends.
fn expiry(path: &Path, chain: &[CertificateDer<'_>]) -> Result<SystemTime, TlsError> {
    let first = chain.first().expect("a chain that was read is not empty");
    let parsed = Certificate::from_der(first);
    let parsed = parsed.map_err(|error| TlsError::content(path, format!("no certificate: {error}")))?;
    Ok(parsed.tbs_certificate.validity.not_after.to_system_time())
}

/// How long a certificate is still good, in words, where it is time to say so.
pub(crate) fn nearly_over(expires: SystemTime) -> Option<String> {
    const SOON: Duration = Duration::from_secs(7 * 86_400);
    match expires.duration_since(SystemTime::now()) {
        Err(since) => Some(format!("it has expired {} hours ago", since.duration().as_secs() / 3600)),
        Ok(left) if left < SOON => Some(format!("it expires in {} hours", left.as_secs() / 3600)),
        Ok(_) => None,
    }
}
