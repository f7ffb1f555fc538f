//! Frames that break the WebSocket protocol, or that would fill memory if it were kept.

use anyhow::Result;

use crate::siege::answered;

#[tokio::test]
async fn a_declared_length_is_judged_before_the_payload() -> Result<()> {
    answered(&["declared-length", "absurd-length"], &["close 1009"]).await
}

#[tokio::test]
async fn a_control_frame_is_short_and_whole_and_judged_before_its_payload() -> Result<()> {
    answered(&["long-control", "fragmented-control"], &["close 1002"]).await
}

#[tokio::test]
async fn fragments_have_an_end_with_bytes_and_without() -> Result<()> {
    answered(&["endless-fragments", "empty-fragments"], &["close 1009"]).await
}

#[tokio::test]
async fn fragments_that_belong_to_nothing_are_refused() -> Result<()> {
    answered(&["confused-fragments"], &["close 1002"]).await
}

#[tokio::test]
async fn text_is_utf8_where_fragments_meet_too() -> Result<()> {
    answered(&["invalid-utf8", "invalid-utf8-in-pieces"], &["close 1007"]).await
}

#[tokio::test]
async fn frames_without_a_mask_are_refused() -> Result<()> {
    answered(&["unmasked"], &["close 1002"]).await
}

#[tokio::test]
async fn reserved_bits_and_opcodes_are_refused() -> Result<()> {
    answered(&["reserved"], &["close 1002"]).await
}

#[tokio::test]
async fn compression_is_not_agreed_to_and_compressed_frames_are_refused() -> Result<()> {
    answered(&["compressed"], &["close 1002"]).await
}

#[tokio::test]
async fn binary_messages_are_refused() -> Result<()> {
    answered(&["binary"], &["close 4400"]).await
}

#[tokio::test]
async fn a_close_is_understood_or_refused() -> Result<()> {
    answered(&["bad-close"], &["close 1002"]).await
}
