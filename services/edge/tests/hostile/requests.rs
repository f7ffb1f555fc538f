//! Requests that are too large, ambiguous, or not where they seem to be.

use anyhow::{Result, ensure};

use crate::siege::{A_WHILE, Siege, answered};

#[tokio::test]
async fn heads_are_bounded_in_bytes_and_headers() -> Result<()> {
    answered(&["huge-header", "many-headers"], &["431"]).await
}

#[tokio::test]
async fn addresses_are_bounded() -> Result<()> {
    answered(&["huge-url"], &["431", "401"]).await
}

#[tokio::test]
async fn requests_of_two_meanings_are_refused_and_nothing_behind_them_is_answered() -> Result<()> {
    answered(&["smuggling"], &["400"]).await
}

#[tokio::test]
async fn an_upgrade_has_no_body_in_which_a_request_could_hide() -> Result<()> {
    answered(&["upgrade-with-body"], &["400", "426"]).await
}

#[tokio::test]
async fn what_is_sent_behind_an_upgrade_is_never_taken_for_a_request() -> Result<()> {
    answered(&["behind-an-upgrade"], &["close 1002"]).await?;
    answered(&["behind-a-refused-upgrade"], &["404"]).await
}

#[tokio::test]
async fn paths_that_only_look_like_those_which_are_served_are_not_found() -> Result<()> {
    // 426 tells whoever asks for no upgrade that sockets are there: an encoded letter is the same path to it.
    answered(&["path-tricks"], &["404", "400", "426"]).await
}

#[tokio::test]
async fn what_a_request_says_twice_is_refused() -> Result<()> {
    answered(&["parameters-twice"], &["400"]).await?;
    answered(&["two-tokens"], &["401"]).await
}

#[tokio::test]
async fn bodies_are_not_read() -> Result<()> {
    answered(&["endless-body"], &["405"]).await
}

#[tokio::test]
async fn requests_behind_each_other_are_taken_one_at_a_time() -> Result<()> {
    let siege = Siege::begin(&[]).await?;
    let counts = siege.bear("pipelining", A_WHILE).await?;
    ensure!(counts.all(&["401", "open"]) && counts.bytes > 1_000_000, "{counts:?}");
    // 128 KiB of requests would be thousands of them in memory at the same time, on each of eight connections.
    siege.end_within(4 * 1024).await
}
