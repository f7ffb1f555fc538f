//! All Redis: compare-and-append, logs, heads, subscriptions, heartbeats.
