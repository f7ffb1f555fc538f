//! WebSocket close codes: a documented protocol, because each says whether the client may come back.

/// Why the edge ends a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseCode {
    /// The peer closed, or asked for it. 1000.
    Normal,
    /// A frame that breaks the WebSocket protocol. 1002.
    Protocol,
    /// A text frame that is not UTF-8. 1007.
    NotUtf8,
    /// A message above the size limit. 1009.
    TooLarge,
    /// This edge is going away; another one serves. 1012.
    Restart,
    /// Not a message of the protocol. 4400.
    Malformed,
    /// The token is missing, unreadable, wrong or expired. 4401.
    Token,
    /// The token is good and names no usable room. 4403.
    NotAllowed,
    /// No sign-in within the time for it. 4408.
    SignInTimeout,
    /// The client reads too slowly. 4008.
    TooSlow,
    /// A limit is reached. 4429.
    Limit,
    /// Sockets are switched off: poll. 4410.
    SwitchedToPolling,
}

/// What a client does after a close.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reconnect {
    /// Come back with backoff and the cursor.
    Backoff,
    /// Come back, with a new token.
    NewToken,
    /// Do not come back by socket.
    Never,
}

impl CloseCode {
    /// Every code, for documentation and tests.
    pub const ALL: [CloseCode; 12] = [
        Self::Normal,
        Self::Protocol,
        Self::NotUtf8,
        Self::TooLarge,
        Self::Restart,
        Self::Malformed,
        Self::Token,
        Self::NotAllowed,
        Self::SignInTimeout,
        Self::TooSlow,
        Self::Limit,
        Self::SwitchedToPolling,
    ];

    /// The number on the wire.
    pub fn code(self) -> u16 {
        match self {
            Self::Normal => 1000,
            Self::Protocol => 1002,
            Self::NotUtf8 => 1007,
            Self::TooLarge => 1009,
            Self::Restart => 1012,
            Self::TooSlow => 4008,
            Self::Malformed => 4400,
            Self::Token => 4401,
            Self::NotAllowed => 4403,
            Self::SignInTimeout => 4408,
            Self::SwitchedToPolling => 4410,
            Self::Limit => 4429,
        }
    }

    /// Whether and how the client comes back.
    pub fn reconnect(self) -> Reconnect {
        match self {
            Self::Restart | Self::TooSlow | Self::SignInTimeout | Self::Limit => Reconnect::Backoff,
            Self::Token => Reconnect::NewToken,
            Self::Normal
            | Self::Protocol
            | Self::NotUtf8
            | Self::TooLarge
            | Self::Malformed
            | Self::NotAllowed
            | Self::SwitchedToPolling => Reconnect::Never,
        }
    }

    /// A metric label: few values, stable.
    pub fn label(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Protocol => "protocol",
            Self::NotUtf8 => "not_utf8",
            Self::TooLarge => "too_large",
            Self::Restart => "restart",
            Self::Malformed => "malformed",
            Self::Token => "token",
            Self::NotAllowed => "not_allowed",
            Self::SignInTimeout => "sign_in_timeout",
            Self::TooSlow => "too_slow",
            Self::Limit => "limit",
            Self::SwitchedToPolling => "switched_to_polling",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_code_says_whether_the_client_comes_back() {
        let of =
            |how| CloseCode::ALL.into_iter().filter(|c| c.reconnect() == how).map(CloseCode::code).collect();
        let codes: [Vec<u16>; 3] = [Reconnect::Backoff, Reconnect::NewToken, Reconnect::Never].map(of);
        let never = vec![1000, 1002, 1007, 1009, 4400, 4403, 4410];
        assert_eq!(codes, [vec![1012, 4408, 4008, 4429], vec![4401], never]);
    }

    #[test]
    fn codes_and_labels_are_distinct() {
        let codes: HashSet<_> = CloseCode::ALL.iter().map(|c| c.code()).collect();
        let labels: HashSet<_> = CloseCode::ALL.iter().map(|c| c.label()).collect();
        assert_eq!((codes.len(), labels.len()), (CloseCode::ALL.len(), CloseCode::ALL.len()));
    }
}
