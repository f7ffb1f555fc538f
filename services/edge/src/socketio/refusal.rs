//! What a client is told whose CONNECT is refused. Stock clients do not try again by themselves after such an answer: only
//! what asks something of the application is said so. Their applications look for `jwt` in the message.

use rowcast_protocol::close::Reconnect;
use rowcast_protocol::{CloseCode, socketio};
use serde_json::json;

use crate::auth::TokenFault;

/// A refused CONNECT.
pub enum Refusal {
    /// It brings no token.
    NoToken,
    /// Its token lets nobody in.
    Token(TokenFault),
    /// Sockets are switched off.
    Polling,
    /// There is no such namespace.
    Namespace,
}

impl Refusal {
    /// What a close is that comes in place of a welcome; none where the client is to come back by itself.
    pub fn of(code: CloseCode, fault: TokenFault) -> Option<Self> {
        match code {
            // Another token would not help; time may.
            CloseCode::Token if fault == TokenFault::KeysUnavailable => None,
            CloseCode::Token | CloseCode::NotAllowed => Some(Self::Token(fault)),
            CloseCode::SwitchedToPolling => Some(Self::Polling),
            _ => None,
        }
    }

    /// The packet that says so.
    pub fn packet(&self, namespace: &str) -> String {
        let (message, code, reason) = match self {
            Self::Namespace => return socketio::connect_error(namespace, "Invalid namespace", None),
            Self::NoToken => ("jwt must be provided".to_owned(), CloseCode::Token, "missing"),
            Self::Token(fault) => (words(*fault), fault.close_code(), fault.label()),
            Self::Polling => {
                let code = CloseCode::SwitchedToPolling;
                ("switched to polling: sockets are off".to_owned(), code, code.label())
            }
        };
        let data = json!({
            "code": code.code(),
            "reason": reason,
            "message": self.message(),
            "reconnect": match code.reconnect() {
                Reconnect::Backoff => "backoff",
                Reconnect::NewToken => "new_token",
                Reconnect::Never => "never",
            },
        });
        socketio::connect_error(namespace, &message, Some(&data))
    }

    fn message(&self) -> &'static str {
        match self {
            Self::NoToken => "send the token as auth: { token }",
            Self::Token(fault) => fault.message(),
            Self::Polling => "sockets are switched off: poll GET /v1/events",
            Self::Namespace => "there is no such namespace",
        }
    }
}

/// The words in which stock stacks say it, where they have any.
fn words(fault: TokenFault) -> String {
    match fault {
        TokenFault::Expired => "jwt expired".to_owned(),
        TokenFault::NotYet => "jwt not active".to_owned(),
        TokenFault::Revoked => "jwt revoked".to_owned(),
        TokenFault::NoRoom => format!("not allowed: {}", fault.message()),
        other => format!("jwt refused: {}", other.message()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn said(refusal: &Refusal) -> (String, Value) {
        let packet = refusal.packet("/n");
        let json: Value =
            serde_json::from_str(packet.strip_prefix("44/n,").expect("a connect error")).expect("JSON");
        (json["message"].as_str().expect("a message").to_owned(), json["data"].clone())
    }

    #[test]
    fn who_needs_another_token_is_told_so_in_words_that_applications_look_for() {
        let (message, data) = said(&Refusal::Token(TokenFault::Expired));
        assert_eq!(message, "jwt expired");
        let text = "the token has expired";
        assert_eq!(
            data,
            json!({ "code": 4401, "reason": "expired", "message": text, "reconnect": "new_token" })
        );
        for fault in [TokenFault::Invalid, TokenFault::Revoked, TokenFault::NotYet, TokenFault::Audience] {
            let (message, data) = said(&Refusal::Token(fault));
            assert!(message.contains("jwt") && data["reconnect"] == "new_token", "{message}");
        }
        assert!(said(&Refusal::NoToken).0.contains("jwt"));
    }

    #[test]
    fn who_would_fare_no_better_with_another_token_is_not_told_to_get_one() {
        for refusal in [Refusal::Token(TokenFault::NoRoom), Refusal::Polling] {
            let (message, data) = said(&refusal);
            assert!(!message.contains("jwt") && data["reconnect"] == "never", "{message}");
        }
        assert_eq!(Refusal::Namespace.packet("/n"), r#"44/n,{"message":"Invalid namespace"}"#);
    }

    #[test]
    fn who_is_to_come_back_by_itself_is_not_refused() {
        let of = |code| Refusal::of(code, TokenFault::Expired);
        for code in [CloseCode::Restart, CloseCode::Limit, CloseCode::TooSlow, CloseCode::SignInTimeout] {
            assert!(of(code).is_none(), "{code:?}");
        }
        assert!(of(CloseCode::Token).is_some() && of(CloseCode::SwitchedToPolling).is_some());
        assert!(Refusal::of(CloseCode::Token, TokenFault::KeysUnavailable).is_none());
    }
}
