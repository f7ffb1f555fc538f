//! The end that is connected to: a certificate that can be replaced while connections are open.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::files::{Identity, TlsError, nearly_over, read};
use crate::provider;

/// Files of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFiles {
    /// The certificate with its chain, its own first.
    pub cert: PathBuf,
    /// The key of that certificate.
    pub key: PathBuf,
}

/// What a look at the files came to.
#[derive(Debug)]
pub enum Reload {
    /// They are as they were when they were last looked at.
    Unchanged,
    /// The new certificate counts for handshakes from now on.
    Replaced,
    /// What is there now can not be used; the old one goes on. Told once for each content.
    Refused(TlsError),
}

/// A server's certificate, and the files that it is from.
#[derive(Debug)]
pub struct ServerCertificate {
    files: ServerFiles,
    current: Arc<Current>,
    /// What the files held at the last look, whether it could be used or not; nothing where they could not be read.
    seen: Mutex<Option<[Vec<u8>; 2]>>,
}

#[derive(Debug)]
struct Current(RwLock<(Arc<CertifiedKey>, SystemTime)>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner).0))
    }
}

impl ServerCertificate {
    /// Reads the files. A certificate that has expired is taken with a warning: whoever starts has no better one.
    ///
    /// # Errors
    /// What is wrong with a file, by its name.
    pub fn load(files: ServerFiles) -> Result<Self, TlsError> {
        let identity = Identity::load(&files.cert, &files.key)?;
        if let Some(what) = nearly_over(identity.expires) {
            tracing::warn!(file = %files.cert.display(), "the server's certificate: {what}");
        }
        let current = Current(RwLock::new((Arc::new(identity.key), identity.expires)));
        Ok(Self { files, current: Arc::new(current), seen: Mutex::new(Some(identity.read)) })
    }

    /// A configuration that always shows the newest certificate. `alpn` are the protocols offered, the best first.
    ///
    /// # Errors
    /// When rustls does not accept it.
    pub fn config(&self, alpn: &[&[u8]]) -> Result<ServerConfig, TlsError> {
        let builder =
            ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let mut config =
            builder.with_no_client_auth().with_cert_resolver(Arc::clone(&self.current) as Arc<_>);
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Ok(config)
    }

    /// When the certificate in use ends.
    pub fn expires(&self) -> SystemTime {
        self.current.0.read().unwrap_or_else(PoisonError::into_inner).1
    }

    /// Looks at the files again. It blocks for as long as reading two small files does.
    pub fn reload(&self) -> Reload {
        let found = read(&self.files.cert).and_then(|cert| Ok([cert, read(&self.files.key)?]));
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let found = match found {
            Ok(found) => found,
            // Told once, until they can be read again.
            Err(_) if seen.is_none() => return Reload::Unchanged,
            Err(error) => {
                *seen = None;
                return Reload::Refused(error);
            }
        };
        if seen.as_ref() == Some(&found) {
            return Reload::Unchanged;
        }
        *seen = Some(found.clone());
        match Identity::of(&self.files.cert, &self.files.key, found).and_then(|new| self.fresh(new)) {
            Ok(identity) => {
                let new = (Arc::new(identity.key), identity.expires);
                *self.current.0.write().unwrap_or_else(PoisonError::into_inner) = new;
                Reload::Replaced
            }
            Err(error) => Reload::Refused(error),
        }
    }

    /// One that has expired is refused: the old one is at least as good.
    fn fresh(&self, new: Identity) -> Result<Identity, TlsError> {
        match new.expires < SystemTime::now() {
            false => Ok(new),
            true => {
                let reason = "the certificate has expired already".to_owned();
                Err(TlsError::Content { path: self.files.cert.clone(), reason })
            }
        }
    }
}
