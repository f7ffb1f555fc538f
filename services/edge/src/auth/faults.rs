//! Why a token lets nobody in: what the client is told, and what is counted. Neither holds anything of the token.

use rowcast_protocol::CloseCode;

/// Why a token does not let anybody in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenFault {
    /// Not a token, or not signed with the key that it names.
    Invalid,
    /// It is longer than tokens may be here.
    TooLarge,
    /// Its algorithm is not on the allow-list.
    Algorithm,
    /// There is no key of the name and kind that it was signed with.
    UnknownKey,
    /// Its issuer's keys are not here and cannot be fetched.
    KeysUnavailable,
    /// It demands extensions (`crit`, `b64`) that are not known.
    Critical,
    /// No usable `exp`.
    NoExpiry,
    /// `exp` has passed.
    Expired,
    /// `nbf` is to come, or is no time.
    NotYet,
    /// `iat` is to come, or is no time.
    IssuedAhead,
    /// `iss` is somebody else.
    Issuer,
    /// `aud` does not name this installation.
    Audience,
    /// A claim is of a kind that it cannot be.
    Claim,
    /// It was revoked.
    Revoked,
    /// It is good, and names no usable room.
    NoRoom,
}

impl TokenFault {
    /// The close code for it.
    pub fn close_code(self) -> CloseCode {
        match self {
            Self::NoRoom => CloseCode::NotAllowed,
            _ => CloseCode::Token,
        }
    }

    /// What the client is told.
    pub fn message(self) -> &'static str {
        match self {
            Self::Invalid => "the token is not valid here",
            Self::TooLarge => "the token is too long",
            Self::Algorithm => "the token's algorithm is not allowed here",
            Self::UnknownKey => "the token is signed with a key that is not known here",
            Self::KeysUnavailable => "the keys of the token's issuer cannot be loaded at present",
            Self::Critical => "the token demands an unknown extension",
            Self::NoExpiry => "the token has no usable exp",
            Self::Expired => "the token has expired",
            Self::NotYet => "the token is not valid yet",
            Self::IssuedAhead => "the token was issued in the future",
            Self::Issuer => "the token's issuer is not known here",
            Self::Audience => "the token is for another audience",
            Self::Claim => "a claim of the token is of the wrong kind",
            Self::Revoked => "the token was revoked",
            Self::NoRoom => "the token names no usable room",
        }
    }

    /// A metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::TooLarge => "too_large",
            Self::Algorithm => "algorithm",
            Self::UnknownKey => "unknown_key",
            Self::KeysUnavailable => "keys_unavailable",
            Self::Critical => "critical",
            Self::NoExpiry => "no_expiry",
            Self::Expired => "expired",
            Self::NotYet => "not_yet",
            Self::IssuedAhead => "issued_ahead",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Claim => "claim",
            Self::Revoked => "revoked",
            Self::NoRoom => "no_room",
        }
    }
}
