//! What went wrong in a handshake, in words that say what to do.

use std::error::Error as StdError;
use std::sync::Arc;

use rustls::{AlertDescription, CertificateError, Error};

/// The first error of TLS beneath another error.
fn beneath<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Error> {
    let mut next = Some(error);
    while let Some(here) = next {
        if let Some(found) = here.downcast_ref::<Error>() {
            return Some(found);
        }
        // An io::Error shows what it wraps here, and not as its source; an Arc has no type but its own.
        let wrapped = here.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let shared = here.downcast_ref::<Arc<dyn StdError + Send + Sync>>();
        next = match (wrapped, shared) {
            (Some(wrapped), _) => Some(wrapped),
            (None, Some(shared)) => Some(&**shared),
            (None, None) => here.source(),
        };
    }
    None
}

/// What to do about an error that comes from TLS; nothing where it does not.
///
/// `ca` and `cert` are what settings call the files of authorities and of the client's certificate.
pub fn explain(error: &(dyn StdError + 'static), ca: &str, cert: &str) -> Option<String> {
    let said = beneath(error)?;
    let text = match said {
        Error::InvalidCertificate(fault) => certificate(fault, ca),
        Error::AlertReceived(alert) => match alert {
            AlertDescription::CertificateRequired => {
                format!("the server wants a client certificate: give one and its key in {cert}")
            }
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::UnsupportedCertificate => {
                format!("the server does not accept the client certificate ({alert:?}): look at {cert}")
            }
            AlertDescription::HandshakeFailure => {
                format!("the server broke the handshake off; it may want a client certificate ({cert})")
            }
            AlertDescription::ProtocolVersion => {
                "the server speaks neither TLS 1.2 nor 1.3: let it".to_owned()
            }
            other => format!("the server broke TLS off: {other:?}"),
        },
        Error::InvalidMessage(_) => {
            "what answers there does not speak TLS: is this the port for TLS, and is TLS on there?".to_owned()
        }
        other => other.to_string(),
    };
    Some(text)
}

fn certificate(fault: &CertificateError, ca: &str) -> String {
    match fault {
        CertificateError::UnknownIssuer => format!(
            "the server's certificate is not signed by an authority that is trusted here: name its CA's file in {ca}"
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the server's certificate, or one above it, has expired: renew it there".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the server's certificate is not valid yet: are the clocks right?".to_owned()
        }
        CertificateError::NotValidForNameContext { expected, presented } => format!(
            "the server's certificate is not for {} but for {}: use a name that it has, or give it this one (subjectAltName)",
            expected.to_str(),
            if presented.is_empty() { "no name".to_owned() } else { presented.join(", ") }
        ),
        CertificateError::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => format!(
            "the server shows an authority's certificate as its own: give it one that a CA has signed, and name that CA in {ca}"
        ),
        other => format!("the server's certificate is refused: {other}"),
    }
}

/// A few words for a metric's label, for a handshake that failed on the server's side.
pub fn kind(error: &(dyn StdError + 'static)) -> &'static str {
    match beneath(error) {
        Some(Error::AlertReceived(_)) => "alert",
        Some(Error::InvalidMessage(_) | Error::InappropriateMessage { .. }) => "not_tls",
        Some(Error::PeerIncompatible(_)) => "incompatible",
        Some(_) => "other",
        None => "broken_off",
    }
}
