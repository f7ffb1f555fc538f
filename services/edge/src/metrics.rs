//! What the edge counts. Made once, passed down; no label by user or room.

use rowcast_process::metrics::{LATENCY_BUCKETS, Metrics as Registry, MetricsError};
use rowcast_process::prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use rowcast_protocol::{CloseCode, Sheet};
use serde_json::Value;

use crate::auth::metrics::IssuerMetrics;
use crate::client_metrics::ClientMetrics;
use crate::room::{Answer, Source};
use crate::worker::Transport;

/// The edge's metrics.
pub struct Metrics {
    /// What is known of issuers' keys.
    pub issuers: IssuerMetrics,
    /// Rooms subscribed to.
    pub rooms: IntGauge,
    /// 1 while the light is on.
    pub live: IntGauge,
    /// The history's number as it was last heard.
    pub generation: IntGauge,
    /// Events from Redis.
    pub events: IntCounter,
    /// Records that could not be read.
    pub unreadable: IntCounter,
    /// Events queued for sockets.
    pub deliveries: IntCounter,
    /// Sessions that fell back to the log.
    pub slow_sessions: IntCounter,
    /// Gaps that made a room read the log.
    pub gaps: IntCounter,
    /// Reads of Redis.
    pub redis_reads: IntCounterVec,
    /// Links to Redis that broke.
    pub redis_losses: IntCounter,
    /// Sockets that were sent to polling, by when.
    pub sent_to_polling: IntCounterVec,
    /// Revocations in force here.
    pub revocations: IntGauge,
    switches_version: IntGauge,
    revocations_version: IntGauge,
    revoked: IntCounterVec,
    /// When the certificate of the public port ends, in seconds since 1970.
    pub tls_certificate_expires: IntGauge,
    tls_handshakes_failed: IntCounterVec,
    tls_reloads: IntCounterVec,
    /// Commit to this edge.
    pub edge_latency: Histogram,
    pending: IntGauge,
    connections: IntGaugeVec,
    sign_ins: IntCounterVec,
    refreshes: IntCounterVec,
    handshakes: IntCounterVec,
    limited: IntCounterVec,
    proxy_headers: IntCounterVec,
    closes: IntCounterVec,
    http_requests: IntCounterVec,
    clients: ClientMetrics,
    joins: IntCounterVec,
    resyncs: IntCounterVec,
}

impl Metrics {
    /// Registers them.
    pub fn new(registry: &Registry) -> Result<Self, MetricsError> {
        Ok(Self {
            pending: registry.gauge(
                "rowcast_edge_pending_connections",
                "Connections that carry nobody: in a handshake, not signed in yet, or kept alive between requests.",
            )?,
            connections: registry.gauge_vec(
                "rowcast_edge_connections",
                "Open sockets, event streams, and requests for a page that are being answered.",
                &["transport"],
            )?,
            rooms: registry.gauge("rowcast_edge_rooms", "Rooms that this edge is subscribed to.")?,
            live: registry
                .gauge("rowcast_edge_live", "1 while the way from PostgreSQL to this edge works, else 0.")?,
            generation: registry
                .gauge("rowcast_edge_generation", "The generation of history last heard of.")?,
            events: registry.counter("rowcast_edge_events_total", "Events received from Redis.")?,
            unreadable: registry.counter(
                "rowcast_edge_unreadable_records_total",
                "Records from Redis that this build cannot read.",
            )?,
            deliveries: registry.counter("rowcast_edge_deliveries_total", "Events queued for sockets.")?,
            slow_sessions: registry.counter(
                "rowcast_edge_slow_sessions_total",
                "Times that a session's full queue made it fall back to the log.",
            )?,
            gaps: registry.counter(
                "rowcast_edge_gaps_total",
                "Gaps in a room's events that were found and read from the log.",
            )?,
            redis_reads: registry.counter_vec(
                "rowcast_edge_redis_reads_total",
                "Reads of Redis, by what was read.",
                &["what"],
            )?,
            redis_losses: registry
                .counter("rowcast_edge_redis_losses_total", "Links to Redis that broke.")?,
            sent_to_polling: registry.counter_vec(
                "rowcast_edge_sent_to_polling_total",
                "Sockets sent to polling because sockets are switched off: while open, or at sign_in.",
                &["when"],
            )?,
            revocations: registry
                .gauge("rowcast_edge_revocations", "Revocations of tokens that are in force here.")?,
            revocations_version: registry.gauge(
                "rowcast_edge_revocations_version",
                "The version of the revocations in force here; 0 where no leader has told of any.",
            )?,
            revoked: registry.counter_vec(
                "rowcast_edge_revoked_total",
                "Sessions that were ended because their token was revoked.",
                &["transport"],
            )?,
            switches_version: registry.gauge(
                "rowcast_edge_switches_version",
                "The version of the switches in force here; 0 where no leader has told of any.",
            )?,
            tls_certificate_expires: registry.gauge(
                "rowcast_edge_tls_certificate_expires_seconds",
                "When the certificate of the public port ends, in seconds since 1970; 0 without TLS.",
            )?,
            tls_handshakes_failed: registry.counter_vec(
                "rowcast_edge_tls_handshakes_failed_total",
                "TLS handshakes that failed, by reason.",
                &["reason"],
            )?,
            tls_reloads: registry.counter_vec(
                "rowcast_edge_tls_reloads_total",
                "New certificates found in the files: replaced, or refused while the old one goes on.",
                &["result"],
            )?,
            edge_latency: registry.histogram(
                "rowcast_edge_commit_to_edge_seconds",
                "Time from an event's occurrence to its arrival at this edge; needs clocks that agree.",
                LATENCY_BUCKETS,
            )?,
            sign_ins: registry.counter_vec(
                "rowcast_edge_sign_ins_total",
                "Tokens judged at sign-in, by result.",
                &["result"],
            )?,
            refreshes: registry.counter_vec(
                "rowcast_edge_refreshes_total",
                "Refreshes of tokens in place, by result; limit: too many by one socket.",
                &["result"],
            )?,
            issuers: IssuerMetrics::new(registry)?,
            handshakes: registry.counter_vec(
                "rowcast_edge_handshakes_total",
                "WebSocket handshakes, by HTTP status.",
                &["status"],
            )?,
            limited: registry.counter_vec(
                "rowcast_edge_limited_total",
                "Connections, requests and sockets that were refused or ended by a limit, by which.",
                &["limit"],
            )?,
            proxy_headers: registry.counter_vec(
                "rowcast_edge_proxy_headers_total",
                "PROXY protocol headers of trusted proxies: client and local were taken, connections with another result closed.",
                &["result"],
            )?,
            closes: registry.counter_vec(
                "rowcast_edge_closes_total",
                "Sockets and event streams that ended, by the close code sent; `peer` where none was.",
                &["transport", "code"],
            )?,
            http_requests: registry.counter_vec(
                "rowcast_edge_http_requests_total",
                "Requests for events, by what was asked for and HTTP status.",
                &["transport", "status"],
            )?,
            clients: ClientMetrics::new(registry)?,
            joins: registry.counter_vec(
                "rowcast_edge_joins_total",
                "Joins of rooms, by where the missed events came from.",
                &["source"],
            )?,
            resyncs: registry.counter_vec(
                "rowcast_edge_resyncs_total",
                "Resyncs of one session (join) or of a room (others), by reason.",
                &["reason"],
            )?,
        })
    }

    /// How many clients are carried so.
    pub fn connections(&self, transport: Transport) -> IntGauge {
        self.connections.with_label_values(&[transport.label()])
    }

    /// The version of a sheet that is in force here.
    pub fn sheet(&self, sheet: Sheet) -> &IntGauge {
        match sheet {
            Sheet::Switches => &self.switches_version,
            Sheet::Revocations => &self.revocations_version,
        }
    }

    /// A session was ended because its token was revoked.
    pub fn revoked(&self, transport: Transport) {
        self.revoked.with_label_values(&[transport.label()]).inc();
    }

    /// Takes in what a client reports of itself.
    pub fn report(&self, report: &Value) {
        self.clients.take(report);
    }

    /// A TLS handshake failed.
    pub fn tls_handshake_failed(&self, reason: &str) {
        self.tls_handshakes_failed.with_label_values(&[reason]).inc();
    }

    /// The files of the certificate have changed.
    pub fn tls_reload(&self, result: &str) {
        self.tls_reloads.with_label_values(&[result]).inc();
    }

    /// A token was judged.
    pub fn sign_in(&self, result: &str) {
        self.sign_ins.with_label_values(&[result]).inc();
    }

    /// A refresh was judged.
    pub fn refresh(&self, result: &str) {
        self.refreshes.with_label_values(&[result]).inc();
    }

    /// A handshake was answered.
    pub fn handshake(&self, status: u16) {
        self.handshakes.with_label_values(&[&status.to_string()]).inc();
    }

    /// Connections that carry nobody.
    pub fn pending(&self) -> IntGauge {
        self.pending.clone()
    }

    /// What a limit refuses or ends.
    pub fn limited(&self, limit: &str) -> IntCounter {
        self.limited.with_label_values(&[limit])
    }

    /// A trusted proxy's header was read, or not.
    pub fn proxy_header(&self, result: &str) {
        self.proxy_headers.with_label_values(&[result]).inc();
    }

    /// A request for events was answered.
    pub fn http_request(&self, transport: Transport, status: u16) {
        self.http_requests.with_label_values(&[transport.label(), &status.to_string()]).inc();
    }

    /// A socket or a stream ended.
    pub fn closed(&self, transport: Transport, code: Option<CloseCode>) {
        let code = code.map_or("peer", CloseCode::label);
        self.closes.with_label_values(&[transport.label(), code]).inc();
    }

    /// A join was answered.
    pub fn joined(&self, answer: &Answer) {
        let source = match (answer.resync, answer.source) {
            (Some(reason), _) => {
                self.resyncs(reason).inc();
                "resync"
            }
            (None, Source::None) => "nothing_missed",
            (None, Source::Memory) => "memory",
            (None, Source::Log) => "log",
        };
        self.joins.with_label_values(&[source]).inc();
    }

    /// The counter of resyncs for a reason.
    pub fn resyncs(&self, reason: &str) -> IntCounter {
        self.resyncs.with_label_values(&[reason])
    }
}
