//! The edge's configuration. Each field's comment is its manual.

mod socketio;

use std::time::Duration;

use anyhow::Context as _;
use rowcast_bus::{BusConfig, ClientFiles, Keys};
pub use rowcast_process::config::shared::AuthConfig;
use rowcast_process::config::shared::{AdminConfig, LogConfig, RedisConfig, default_installation};
use rowcast_process::config::{duration, size};
use rowcast_tls::{ServerCertificate, ServerFiles};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::address::{self, Addresses, Trusted};
use crate::auth::Verifier;
use crate::http::origins::Origins;
use crate::limits::LimitsConfig;
use crate::limits::inbound::InboundLimits;
use crate::limits::rate::Rate;
pub use socketio::SocketIoConfig;

/// Everything that an edge reads.
#[derive(Debug, Clone, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `ROWCAST_INSTALLATION`: the installation's name, part of every key in Redis, `default` by default. Listeners and edges
    /// of one installation have the same.
    pub installation: String,
    /// Log lines.
    pub log: LogConfig,
    /// The admin port.
    pub admin: AdminConfig,
    /// Redis.
    pub redis: RedisConfig,
    /// Tokens.
    pub auth: AuthConfig,
    /// The edge itself.
    pub edge: EdgeConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            installation: default_installation(),
            log: LogConfig::default(),
            admin: AdminConfig::default(),
            redis: RedisConfig::default(),
            auth: AuthConfig::default(),
            edge: EdgeConfig::default(),
        }
    }
}

/// Where trusted proxies name the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedHeader {
    /// Nowhere.
    Off,
    /// In `X-Forwarded-For`.
    XForwardedFor,
}

/// Section `edge.tls`: TLS on the public port, where no balancer in front ends it. The admin port stays without.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EdgeTlsConfig {
    /// `ROWCAST_EDGE__TLS__CERT`: the file (PEM) of the certificate and its chain, its own first; empty by default: no TLS.
    pub cert: String,
    /// `ROWCAST_EDGE__TLS__KEY`: the file (PEM) of its private key; empty by default.
    pub key: String,
    /// `ROWCAST_EDGE__TLS__RELOAD_INTERVAL`: how often the files are looked at, `1m`; on SIGHUP too. A new certificate counts for
    /// new connections; one that can not be used is refused, and the old one goes on.
    #[serde(with = "duration")]
    #[schemars(with = "String")]
    pub reload_interval: Duration,
}

impl Default for EdgeTlsConfig {
    fn default() -> Self {
        Self { cert: String::new(), key: String::new(), reload_interval: Duration::from_secs(60) }
    }
}

impl EdgeTlsConfig {
    /// The certificate, where there is to be TLS.
    ///
    /// # Errors
    /// What is wrong with the files, by their names.
    pub fn certificate(&self) -> anyhow::Result<Option<ServerCertificate>> {
        match (self.cert.as_str(), self.key.as_str()) {
            ("", "") => Ok(None),
            ("", _) => anyhow::bail!("edge.tls.key is set and edge.tls.cert is not: they belong together"),
            (_, "") => anyhow::bail!("edge.tls.cert is set and edge.tls.key is not: they belong together"),
            (cert, key) => {
                let files = ServerFiles { cert: cert.into(), key: key.into() };
                Ok(Some(ServerCertificate::load(files).context("edge.tls")?))
            }
        }
    }
}

/// Section `edge`.
#[derive(Debug, Clone, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EdgeConfig {
    /// `ROWCAST_EDGE__LISTEN`: address and port for clients, `0.0.0.0:8080`; port 0 takes a free one.
    pub listen: String,
    /// TLS on it.
    pub tls: EdgeTlsConfig,
    /// Clients of Socket.IO.
    pub socketio: SocketIoConfig,
    /// `ROWCAST_EDGE__BASE_PATH`: a path before `/ws`, `/v1/events` and `/socket.io/`, such as `/realtime`; empty.
    pub base_path: String,
    /// `ROWCAST_EDGE__WORKERS`: threads that serve sockets, `0` by default; 0 takes one a core.
    pub workers: usize,
    /// `ROWCAST_EDGE__MAX_CONNECTIONS`: sockets, event streams and waiting requests on this edge, 20000; one more is
    /// answered 503. 0 sets no limit.
    pub max_connections: usize,
    /// `ROWCAST_EDGE__MAX_PER_ROOM`: the same, of one room, 20000; one more is closed with 4429, by HTTP answered 429. A client
    /// counts in each room of its token. 0 sets no limit.
    pub max_per_room: usize,
    /// `ROWCAST_EDGE__MAX_PER_USER`: the same, of one `sub`, 0 by default; 0 sets no limit, and a token without `sub` has none. A
    /// page of your application in ten tabs is ten, or one with shared tabs.
    pub max_per_user: usize,
    /// `ROWCAST_EDGE__MAX_PER_ADDRESS`: the same, of one address, 0 by default; one more is answered 429. 0 sets no limit. Whole
    /// offices and mobile networks share an address.
    pub max_per_address: usize,
    /// `ROWCAST_EDGE__HANDSHAKE_RATE`: sockets, streams and pages that may be asked for in a second, and as many at once, 0 by
    /// default; one more is answered 503. 0 sets no limit.
    pub handshake_rate: u64,
    /// `ROWCAST_EDGE__HANDSHAKE_RATE_PER_ADDRESS`: the same, from one address, 0 by default; one more is answered 429. 0
    /// sets no limit.
    pub handshake_rate_per_address: u64,
    /// `ROWCAST_EDGE__IPV6_PREFIX`: how long the prefix of an IPv6 network is that counts as one address, 64.
    pub ipv6_prefix: u8,
    /// `ROWCAST_EDGE__TRUSTED_PROXIES`: networks and addresses of the proxies in front, such as `10.0.0.0/8`, whose word on a
    /// client's address counts; empty by default: nobody's does.
    pub trusted_proxies: Vec<String>,
    /// `ROWCAST_EDGE__FORWARDED_HEADER`: where trusted proxies name the client, `x-forwarded-for` or `off`; `x-forwarded-for`.
    pub forwarded_header: ForwardedHeader,
    /// `ROWCAST_EDGE__PROXY_PROTOCOL`: whether trusted proxies begin each connection with a PROXY protocol header, version 1
    /// or 2; `false`. If so, a connection of theirs without one is closed. From others none is read.
    pub proxy_protocol: bool,
    /// `ROWCAST_EDGE__MESSAGE_RATE`: frames of any kind that a socket may send in a second, 50; then it is closed with
    /// 4429. 0 sets no limit.
    pub message_rate: u64,
    /// `ROWCAST_EDGE__MESSAGE_BURST`: frames that it may send at once, 100.
    pub message_burst: u64,
    /// `ROWCAST_EDGE__INBOUND_RATE`: bytes that a socket may send in a second, `64KiB`; then it is closed with 4429. `0B` sets no
    /// limit.
    #[serde(with = "size")]
    #[schemars(with = "String")]
    pub inbound_rate: u64,
    /// `ROWCAST_EDGE__INBOUND_BURST`: bytes that it may send at once, `256KiB`; not less than the largest message.
    #[serde(with = "size")]
    #[schemars(with = "String")]
    pub inbound_burst: u64,
    /// `ROWCAST_EDGE__MAX_PENDING`: connections that carry nobody, 4096: in a handshake, not signed in yet, or kept
    /// alive between requests. One more, and the one that has waited longest is cut. 0 sets no limit.
    pub max_pending: usize,
    /// `ROWCAST_EDGE__ALLOWED_ORIGINS`: from which origins browsers may come, by sockets and by HTTP:
    /// `https://app.example.com`, `https://*.example.com` (its subdomains), or `*`. Empty by default: sockets may come from
    /// anywhere, and pages of other origins cannot read what HTTP answers. With a list, the edge's own origin has to be on it too.
    pub allowed_origins: Vec<String>,
    /// `ROWCAST_EDGE__MAX_WAIT`: how long `GET /v1/events` may wait for something to say, at most; `30s`. Shorter than what
    /// proxies in front allow.
    #[serde(with = "duration")]
    #[schemars(with = "String")]
    pub max_wait: Duration,
    /// `ROWCAST_EDGE__MAX_MESSAGE`: the largest message that a client may send, `64KiB`.
    #[serde(with = "size")]
    #[schemars(with = "String")]
    pub max_message: u64,
    /// `ROWCAST_EDGE__SIGN_IN_TIMEOUT`: how long a client may take to sign in, `5s`.
    #[serde(with = "duration")]
    #[schemars(with = "String")]
    pub sign_in_timeout: Duration,
    /// `ROWCAST_EDGE__HEARTBEAT`: a silent socket is pinged so often, and given up after twice as long; `25s`.
    #[serde(with = "duration")]
    #[schemars(with = "String")]
    pub heartbeat: Duration,
    /// `ROWCAST_EDGE__QUEUE_FRAMES`: frames that may wait for one socket before its session falls back to the
    /// log; 512.
    pub queue_frames: usize,
    /// `ROWCAST_EDGE__QUEUE_SIZE`: bytes that may wait for one socket before its session falls back to the log,
    /// `1MiB`.
    #[serde(with = "size")]
    #[schemars(with = "String")]
    pub queue_size: u64,
    /// `ROWCAST_EDGE__STALLED_TIMEOUT`: a socket that takes nothing for so long is closed with 4008; `30s`.
    #[serde(with = "duration")]
    #[schemars(with = "String")]
    pub stalled_timeout: Duration,
    /// `ROWCAST_EDGE__RECENT_EVENTS`: events of each room kept in memory for those who come back; 256.
    pub recent_events: usize,
    /// `ROWCAST_EDGE__RECENT_SIZE`: bytes of each room's recent events kept in memory, `1MiB`.
    #[serde(with = "size")]
    #[schemars(with = "String")]
    pub recent_size: u64,
    /// `ROWCAST_EDGE__RECENT_AGE`: how long recent events are kept in memory, `2m`; older ones are read from the log.
    #[serde(with = "duration")]
    #[schemars(with = "String")]
    pub recent_age: Duration,
    /// `ROWCAST_EDGE__ROOM_LINGER`: how long a room without clients stays subscribed, `30s`.
    #[serde(with = "duration")]
    #[schemars(with = "String")]
    pub room_linger: Duration,
    /// `ROWCAST_EDGE__HEAD_CHECKS`: heads of rooms read each second to find lost messages; 5000.
    pub head_checks: usize,
    /// `ROWCAST_EDGE__SWITCH_WINDOW`: the time over which open sockets are sent to polling when `rowcast switch websocket
    /// off` is said; `10s`.
    #[serde(with = "duration")]
    #[schemars(with = "String")]
    pub switch_window: Duration,
    /// `ROWCAST_EDGE__DRAIN_DELAY`: at shutdown, how long the edge goes on accepting while it is not ready, until
    /// balancers have noticed; `5s`.
    #[serde(with = "duration")]
    #[schemars(with = "String")]
    pub drain_delay: Duration,
    /// `ROWCAST_EDGE__DRAIN_WINDOW`: the time over which sockets are then sent elsewhere; `20s`.
    #[serde(with = "duration")]
    #[schemars(with = "String")]
    pub drain_window: Duration,
}

impl Default for EdgeConfig {
    fn default() -> Self {
        Self {
            listen: "0.0.0.0:8080".to_owned(),
            tls: EdgeTlsConfig::default(),
            socketio: SocketIoConfig::default(),
            base_path: String::new(),
            workers: 0,
            max_connections: 20_000,
            max_per_room: 20_000,
            max_per_user: 0,
            max_per_address: 0,
            handshake_rate: 0,
            handshake_rate_per_address: 0,
            ipv6_prefix: 64,
            trusted_proxies: Vec::new(),
            forwarded_header: ForwardedHeader::XForwardedFor,
            proxy_protocol: false,
            message_rate: 50,
            message_burst: 100,
            inbound_rate: 64 * 1024,
            inbound_burst: 256 * 1024,
            max_pending: 4_096,
            allowed_origins: Vec::new(),
            max_wait: Duration::from_secs(30),
            max_message: 64 * 1024,
            sign_in_timeout: Duration::from_secs(5),
            heartbeat: Duration::from_secs(25),
            queue_frames: 512,
            queue_size: 1024 * 1024,
            stalled_timeout: Duration::from_secs(30),
            recent_events: 256,
            recent_size: 1024 * 1024,
            recent_age: Duration::from_secs(120),
            room_linger: Duration::from_secs(30),
            head_checks: 5_000,
            switch_window: Duration::from_secs(10),
            drain_delay: Duration::from_secs(5),
            drain_window: Duration::from_secs(20),
        }
    }
}

impl EdgeConfig {
    /// The list of origins, read.
    ///
    /// # Errors
    /// An entry that is not an origin.
    pub fn origins(&self) -> anyhow::Result<Origins> {
        Origins::parse(&self.allowed_origins)
            .map_err(|fault| anyhow::anyhow!("edge.allowed_origins: {fault}"))
    }

    /// How clients' addresses are found.
    ///
    /// # Errors
    /// An entry of the trusted proxies that is no network, or a prefix that is none.
    pub fn addresses(&self) -> anyhow::Result<Addresses> {
        let trusted = Trusted::parse(&self.trusted_proxies)
            .map_err(|fault| anyhow::anyhow!("edge.trusted_proxies: {fault}"))?;
        anyhow::ensure!(
            !self.proxy_protocol || !trusted.is_empty(),
            "edge.proxy_protocol is on and nobody's header is read; name your proxies in edge.trusted_proxies"
        );
        anyhow::ensure!(
            address::is_prefix(self.ipv6_prefix),
            "edge.ipv6_prefix is {}; a prefix of an IPv6 network has 1 to 128 bits",
            self.ipv6_prefix
        );
        let forwarded = self.forwarded_header == ForwardedHeader::XForwardedFor;
        Ok(Addresses { trusted, forwarded, ipv6_prefix: self.ipv6_prefix })
    }

    /// How many may come in, and how fast.
    pub fn limits(&self) -> LimitsConfig {
        LimitsConfig {
            connections: self.max_connections,
            per_address: self.max_per_address,
            per_user: self.max_per_user,
            per_room: self.max_per_room,
            handshakes: self.handshake_rate,
            handshakes_per_address: self.handshake_rate_per_address,
            inbound: InboundLimits {
                messages: Rate::new(self.message_rate, self.message_burst),
                bytes: Rate::new(self.inbound_rate, self.inbound_burst),
            },
        }
    }

    /// What types cannot say.
    ///
    /// # Errors
    /// The first thing that is wrong, with the key and what to do.
    pub fn validate(&self) -> anyhow::Result<()> {
        let base = &self.base_path;
        anyhow::ensure!(
            base.is_empty() || (base.starts_with('/') && !base.ends_with('/')),
            "edge.base_path is {base:?}; it must be empty, or begin with a slash and not end with one"
        );
        for (key, value) in [
            ("edge.queue_frames", self.queue_frames),
            ("edge.recent_events", self.recent_events),
            ("edge.head_checks", self.head_checks),
        ] {
            anyhow::ensure!(value > 0, "{key} must be at least 1");
        }
        self.origins()?;
        self.addresses()?;
        anyhow::ensure!(
            self.inbound_rate == 0 || self.inbound_burst >= self.max_message,
            "edge.inbound_burst is less than edge.max_message: the largest message would end its socket; raise the burst"
        );
        anyhow::ensure!(
            self.message_rate == 0 || self.message_burst > 0,
            "edge.message_burst must be at least 1"
        );
        self.socketio.validate()?;
        self.tls.certificate()?;
        let every = self.tls.reload_interval;
        anyhow::ensure!(!every.is_zero(), "edge.tls.reload_interval must be more than 0s");
        anyhow::ensure!(self.heartbeat >= Duration::from_secs(1), "edge.heartbeat must be at least 1s");
        Ok(())
    }
}

impl Config {
    /// Where Redis is.
    pub(crate) fn bus(&self, keys: Keys) -> BusConfig {
        let tls = &self.redis.tls;
        let files = ClientFiles::from_settings(&tls.ca, &tls.cert, &tls.key);
        BusConfig::new(self.redis.url.expose(), keys).with_tls(files)
    }

    /// What types cannot say.
    ///
    /// # Errors
    /// The first thing that is wrong, with the key and what to do.
    pub fn validate(&self) -> anyhow::Result<()> {
        Verifier::new(&self.auth)?;
        self.bus(Keys::new(&self.redis.prefix, &self.installation)).check()?;
        self.edge.validate()
    }
}

#[cfg(test)]
mod tests;
