//! Who may ask: whoever sits at this machine, not a web page from elsewhere. A page of another site can make a browser send
//! requests to 127.0.0.1, but not hide where it is from; and a name that was made to lead here is not this page's own.

use std::sync::Arc;

use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;

use super::answer::Refusal;

/// The page's own names.
pub struct Guard {
    hosts: Vec<String>,
}

impl Guard {
    /// For a page at this port of 127.0.0.1.
    pub fn new(port: u16) -> Self {
        Self { hosts: ["127.0.0.1", "localhost"].map(|name| format!("{name}:{port}")).to_vec() }
    }

    fn judge(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        if !self.hosts.iter().any(|own| own.eq_ignore_ascii_case(host)) {
            let own = self.hosts.join(" or ");
            return Err(Refusal::forbidden("host", format!("this page is at {own}, not at {host:?}")));
        }
        // Browsers send it with whatever may change something.
        let foreign = headers.get_all(header::ORIGIN).find(|origin| {
            let origin = origin.to_str().ok().and_then(|origin| origin.strip_prefix("http://"));
            !origin.is_some_and(|origin| origin.eq_ignore_ascii_case(host))
        });
        match foreign {
            Some(origin) => {
                Err(Refusal::forbidden("origin", format!("{origin:?} is another origin than {host}")))
            }
            None => Ok(()),
        }
    }
}

/// Refuses foreigners, and says that nobody may put the page into a frame: its buttons would be pressed there.
pub async fn check<B: MessageBody + 'static>(
    guard: Arc<Guard>,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    guard.judge(request.headers())?;
    let mut response = next.call(request).await?;
    let own = [
        (header::CONTENT_SECURITY_POLICY, "frame-ancestors 'none'"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in own {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(pairs: &[(&'static str, &'static str)]) -> bool {
        let pairs = pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        Guard::new(8080).judge(&pairs.collect()).is_ok()
    }

    #[test]
    fn only_the_pages_own_origin_may_ask() {
        assert!(allowed(&[("host", "127.0.0.1:8080")]));
        assert!(allowed(&[("host", "localhost:8080"), ("origin", "http://localhost:8080")]));
        assert!(allowed(&[("host", "LOCALHOST:8080")]));
        for host in ["", "127.0.0.1", "127.0.0.1:8081", "evil.example:8080", "127.0.0.1.evil.example:8080"] {
            assert!(!allowed(&[("host", host)]), "{host}");
        }
        assert!(!allowed(&[]));
        for origin in ["null", "http://evil.example", "https://127.0.0.1:8080", "http://127.0.0.1:8081", ""] {
            assert!(!allowed(&[("host", "127.0.0.1:8080"), ("origin", origin)]), "{origin}");
        }
    }
}
