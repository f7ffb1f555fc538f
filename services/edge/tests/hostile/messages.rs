//! Messages of the protocol with something in them that nobody should be able to use.

use anyhow::Result;

use crate::siege::answered;

#[tokio::test]
async fn json_may_be_neither_deep_nor_large() -> Result<()> {
    answered(&["deep-json"], &["close 4400"]).await?;
    answered(&["large-json"], &["close 1009"]).await
}

#[tokio::test]
async fn what_a_message_says_twice_is_refused() -> Result<()> {
    answered(&["duplicate-keys"], &["close 4400"]).await
}

#[tokio::test]
async fn nobody_signs_in_twice() -> Result<()> {
    answered(&["second-sign-in"], &["close 4400"]).await
}

#[tokio::test]
async fn tokens_that_are_none_or_bombs_let_nobody_in() -> Result<()> {
    answered(&["garbage-tokens", "token-flood"], &["close 4401"]).await
}

#[tokio::test]
async fn cursors_come_for_a_bounded_number_of_rooms() -> Result<()> {
    answered(&["many-rooms"], &["close 4400", "close 1009"]).await
}

#[tokio::test]
async fn forged_cursors_lead_to_a_resync_and_no_further() -> Result<()> {
    answered(&["forged-cursors"], &["resync"]).await
}

#[tokio::test]
async fn odd_names_of_rooms_and_types_are_names_that_nothing_has() -> Result<()> {
    answered(&["odd-names"], &["welcome"]).await
}
