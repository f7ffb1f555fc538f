//! Tokens. The way of one: [`compact`] takes it apart, [`verifier`] finds whose it is and with which of that one's [`keys`] it
//! must have been signed, and [`claims`] says who its bearer is. Cryptography is jsonwebtoken's; what it is applied to, and
//! what is believed, is decided here.
//!
//! Keys come from the configuration ([`settings`], [`pem`]) and from issuers ([`issuer`], [`fetch`], [`jwks`]).

mod claims;
mod compact;
mod faults;
mod fetch;
mod identity;
mod issuer;
pub mod jwks;
mod keys;
pub mod metrics;
mod pem;
mod settings;
mod strict;
mod verifier;

pub use faults::TokenFault;
pub use identity::Identity;
pub use verifier::{Judged, Verdict, Verifier};

#[cfg(test)]
mod tests;
