//! From which origins browsers may come: one policy, judged here, for sockets and for HTTP. Not here: who a client is;
//! cookies never say that, so that another site's page can do nothing in a visitor's name.

use std::sync::Arc;

use actix_http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// The origins on the list; the empty list lets sockets come from anywhere and gives HTTP answers no CORS headers.
#[derive(Debug, Clone, Default)]
pub struct Origins {
    allowed: Arc<[Pattern]>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    Any,
    Exact(String),
    /// What stands before and behind the name of a subdomain.
    Subdomains(String, String),
}

/// What becomes of a request's origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// The request names none, or there is no list.
    NotJudged,
    /// It is on the list.
    Allowed(HeaderValue),
    /// It is not.
    Refused,
}

impl Origins {
    /// Reads a list: `https://app.example.com`, `https://*.example.com`, `*`.
    ///
    /// # Errors
    /// The first entry that is not an origin, with what it should look like.
    pub fn parse(list: &[String]) -> Result<Self, String> {
        let patterns = list.iter().map(|text| Pattern::parse(text));
        Ok(Self { allowed: patterns.collect::<Result<Vec<_>, _>>()?.into() })
    }

    /// Judges a request by its `Origin`.
    pub fn judge(&self, headers: &HeaderMap) -> Judgement {
        let Some(origin) = headers.get(header::ORIGIN).filter(|_| !self.allowed.is_empty()) else {
            return Judgement::NotJudged;
        };
        let text = origin.to_str().unwrap_or_default();
        if self.allowed.iter().any(|pattern| pattern.takes(text)) {
            Judgement::Allowed(origin.clone())
        } else {
            Judgement::Refused
        }
    }

    /// The headers with which a browser lets a page read the answer.
    pub fn headers(&self, judgement: &Judgement) -> Vec<(HeaderName, HeaderValue)> {
        let mut headers = Vec::new();
        if !self.allowed.is_empty() {
            headers.push((header::VARY, HeaderValue::from_static("Origin")));
        }
        if let Judgement::Allowed(origin) = judgement {
            headers.push((header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone()));
            let exposed = HeaderValue::from_static("retry-after, www-authenticate");
            headers.push((header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed));
        }
        headers
    }

    /// The headers of the answer to a preflight, besides [`Origins::headers`].
    pub fn preflight() -> [(HeaderName, HeaderValue); 4] {
        [
            (header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET")),
            (
                header::ACCESS_CONTROL_ALLOW_HEADERS,
                HeaderValue::from_static("authorization, last-event-id, cache-control"),
            ),
            (header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("7200")),
            (
                header::VARY,
                HeaderValue::from_static("Access-Control-Request-Method, Access-Control-Request-Headers"),
            ),
        ]
    }
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let origin = text.to_ascii_lowercase();
        let fault = || {
            format!("{text:?} is not an origin; write https://app.example.com, https://*.example.com or *")
        };
        let (scheme, authority) = origin.split_once("://").ok_or_else(fault)?;
        // Browsers leave a scheme's own port out.
        let usual = match scheme {
            "https" => ":443",
            "http" => ":80",
            _ => "",
        };
        let authority = authority.strip_suffix(usual).unwrap_or(authority);
        let name = authority.strip_prefix("*.").unwrap_or(authority);
        if scheme.is_empty() || name.is_empty() || name.contains(['/', '*', '@', '?', '#', ' ']) {
            return Err(fault());
        }
        Ok(match authority.strip_prefix('*') {
            Some(rest) => Self::Subdomains(format!("{scheme}://"), rest.to_owned()),
            None => Self::Exact(format!("{scheme}://{authority}")),
        })
    }

    fn takes(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => origin.eq_ignore_ascii_case(exact),
            Self::Subdomains(before, behind) => {
                let origin = origin.to_ascii_lowercase();
                let name =
                    origin.strip_prefix(before.as_str()).and_then(|rest| rest.strip_suffix(behind.as_str()));
                // Nothing but a name may stand there: `https://evil.com#.example.com` is no subdomain.
                let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
                name.is_some_and(|name| !name.is_empty() && name.bytes().all(is_name))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(list: &[&str], origin: &str) -> bool {
        let list: Vec<_> = list.iter().map(|text| (*text).to_owned()).collect();
        let mut headers = HeaderMap::new();
        headers.insert(header::ORIGIN, HeaderValue::from_str(origin).expect("a header"));
        let origins = Origins::parse(&list).expect("origins");
        matches!(origins.judge(&headers), Judgement::Allowed(allowed) if allowed == origin)
    }

    #[test]
    fn only_what_is_on_the_list_is_allowed() {
        let list = ["https://app.example.com", "https://*.shop.test:8443", "http://localhost:80"];
        for origin in [
            "https://app.example.com",
            "https://a.shop.test:8443",
            "https://a.b.shop.test:8443",
            "http://localhost",
        ] {
            assert!(judge(&list, origin), "{origin}");
        }
        for origin in [
            "http://app.example.com",
            "https://app.example.com.evil.test",
            "https://app.example.com:8443",
            "https://shop.test:8443",
            "https://a.shop.test",
            "https://evil.test/.shop.test:8443",
            "https://evil.test#.shop.test:8443",
            "https://a@b.shop.test:8443",
            "null",
            "",
        ] {
            assert!(!judge(&list, origin), "{origin}");
        }
        assert!(judge(&["*"], "null") && judge(&["*"], "https://any.test"));
    }

    #[test]
    fn without_a_list_or_an_origin_nothing_is_judged() {
        let mut headers = HeaderMap::new();
        let any = Origins::parse(&["*".to_owned()]).expect("origins");
        assert_eq!(any.judge(&headers), Judgement::NotJudged);
        headers.insert(header::ORIGIN, HeaderValue::from_static("https://any.test"));
        assert_eq!(Origins::default().judge(&headers), Judgement::NotJudged);
        assert!(Origins::default().headers(&Judgement::NotJudged).is_empty());
    }

    #[test]
    fn what_is_not_an_origin_is_refused_with_what_to_write() {
        for text in
            ["", "example.com", "https://", "https://*", "https://a/path", "https://a.*.com", "https://*.a/"]
        {
            let error = Origins::parse(&[text.to_owned()]).expect_err(text);
            assert!(error.contains("https://*.example.com"), "{error}");
        }
    }
}
