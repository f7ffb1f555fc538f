//! What is set of Socket.IO: section `edge.socketio`.

use std::time::Duration;

use rowcast_process::config::duration;
use rowcast_protocol::socketio::{self, Shape};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The most namespaces: a client may have a session in each.
const MOST_NAMESPACES: usize = 16;

/// Section `edge.socketio`: clients of Socket.IO, at `/socket.io/` behind the base path.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SocketIoConfig {
    /// `ROWCAST_EDGE__SOCKETIO__ENABLED`: whether clients of Socket.IO are served, `true`.
    pub enabled: bool,
    /// `ROWCAST_EDGE__SOCKETIO__NAMESPACES`: the namespaces that they may connect to, `/notifications`; `/` is the one that clients
    /// take who name none. Each has all that the token allows.
    pub namespaces: Vec<String>,
    /// `ROWCAST_EDGE__SOCKETIO__PAYLOAD`: what an event's listeners are given: `flat`, its data with `type` and `merchantId` added
    /// where it has no fields of these names, or `envelope`, the whole event with its room, cursor, id, time and data; `flat`.
    #[schemars(with = "String")]
    pub payload: Shape,
    /// `ROWCAST_EDGE__SOCKETIO__PING_TIMEOUT`: how long a client may take to answer a ping, which it gets at every
    /// `edge.heartbeat`; `20s`. Clients wait as long for a ping that is due.
    #[serde(with = "duration")]
    #[schemars(with = "String")]
    pub ping_timeout: Duration,
}

impl Default for SocketIoConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            namespaces: vec!["/notifications".to_owned()],
            payload: Shape::Flat,
            ping_timeout: Duration::from_secs(20),
        }
    }
}

impl SocketIoConfig {
    /// What types cannot say.
    ///
    /// # Errors
    /// The first thing that is wrong, with the key and what to do.
    pub fn validate(&self) -> anyhow::Result<()> {
        let count = self.namespaces.len();
        anyhow::ensure!(
            (1..=MOST_NAMESPACES).contains(&count),
            "edge.socketio.namespaces has {count} names; give 1 to {MOST_NAMESPACES}, or set edge.socketio.enabled to false"
        );
        for (index, name) in self.namespaces.iter().enumerate() {
            anyhow::ensure!(
                socketio::is_namespace(name),
                "edge.socketio.namespaces: {name:?} is no namespace; one begins with a slash, as /notifications, and has no spaces, commas, quotes or question marks"
            );
            anyhow::ensure!(
                !self.namespaces[..index].contains(name),
                "edge.socketio.namespaces: {name} comes twice"
            );
        }
        anyhow::ensure!(
            self.ping_timeout >= Duration::from_secs(1),
            "edge.socketio.ping_timeout must be at least 1s"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(change: impl FnOnce(&mut SocketIoConfig)) -> String {
        let mut config = SocketIoConfig::default();
        change(&mut config);
        config.validate().err().map_or_else(String::new, |fault| fault.to_string())
    }

    #[test]
    fn a_bad_namespace_or_time_is_named_with_what_to_do() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(said(|_| {}), "");
        assert_eq!(said(|config| config.namespaces = names(&["/", "/a"])), "");
        for (fault, advice) in [
            (said(|config| config.namespaces.clear()), "edge.socketio.enabled"),
            (said(|config| config.namespaces = vec!["/a".to_owned(); 17]), "1 to 16"),
            (said(|config| config.namespaces = names(&["notifications"])), "begins with a slash"),
            (said(|config| config.namespaces = names(&["/a", "/a"])), "/a comes twice"),
            (said(|config| config.ping_timeout = Duration::ZERO), "at least 1s"),
        ] {
            assert!(fault.contains("edge.socketio.") && fault.contains(advice), "{fault:?}");
        }
    }
}
