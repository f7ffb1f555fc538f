//! The end that connects: whom it trusts, and what it shows of itself.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::CertificateDer;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};

use crate::files::{Identity, TlsError, certificates, nearly_over, read};
use crate::provider;
use crate::verify::Weaker;

/// Files of a client. They are read for each connection, so that what is replaced counts from the next one on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientFiles {
    /// Certificates of the authorities to trust, in place of the system's.
    pub ca: Option<PathBuf>,
    /// The client's own certificate with its chain.
    pub cert: Option<PathBuf>,
    /// The key of that certificate.
    pub key: Option<PathBuf>,
}

impl ClientFiles {
    /// From settings, in which an empty text means none.
    pub fn from_settings(ca: &str, cert: &str, key: &str) -> Self {
        let path = |text: &str| (!text.is_empty()).then(|| PathBuf::from(text));
        Self { ca: path(ca), cert: path(cert), key: path(key) }
    }
}

/// What a server's certificate must show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// An authority that is trusted, and the name by which the server was called.
    Full,
    /// An authority that is trusted.
    Chain,
    /// Nothing: whoever answers is believed, and only listeners are kept out.
    Anyone,
}

/// Reads the files and makes a configuration of them.
///
/// # Errors
/// What is wrong with a file, by its name.
pub fn client_config(files: &ClientFiles, trust: Trust) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let builder = match trust {
        Trust::Full => builder.with_root_certificates(roots(files)?),
        Trust::Chain => {
            let chain = WebPkiServerVerifier::builder_with_provider(roots(files)?, provider()).build();
            let chain = chain.map_err(|error| TlsError::NoRoots(error.to_string()))?;
            builder.dangerous().with_custom_certificate_verifier(Weaker::new(Some(chain)))
        }
        Trust::Anyone => builder.dangerous().with_custom_certificate_verifier(Weaker::new(None)),
    };
    let (cert, key) = match (&files.cert, &files.key) {
        (None, None) => return Ok(builder.with_no_client_auth()),
        (Some(_), None) => return Err(TlsError::Half("the key")),
        (None, Some(_)) => return Err(TlsError::Half("the certificate")),
        (Some(cert), Some(key)) => (cert, key),
    };
    let identity = Identity::load(cert, key)?;
    if let Some(what) = nearly_over(identity.expires) {
        tracing::warn!(file = %cert.display(), "the client certificate: {what}");
    }
    Ok(builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.key))))
}

fn roots(files: &ClientFiles) -> Result<Arc<RootCertStore>, TlsError> {
    let Some(path) = &files.ca else { return system_roots() };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, &read(path)?)? {
        let added = roots.add(certificate);
        added.map_err(|error| TlsError::Content {
            path: path.clone(),
            reason: format!("a certificate in it can not be an authority's: {error}"),
        })?;
    }
    Ok(Arc::new(roots))
}

/// The system's, read once: there are more than a hundred.
fn system_roots() -> Result<Arc<RootCertStore>, TlsError> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    if let Some(roots) = ROOTS.get() {
        return Ok(Arc::clone(roots));
    }
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let certificates: Vec<CertificateDer<'static>> = found.certs;
    roots.add_parsable_certificates(certificates);
    if roots.is_empty() {
        let reasons: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        return Err(TlsError::NoRoots(reasons.join("; ")));
    }
    Ok(Arc::clone(ROOTS.get_or_init(|| Arc::new(roots))))
}
