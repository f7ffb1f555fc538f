//! What a server says of itself.

use redis::Value;
use redis::aio::MultiplexedConnection;

use crate::error::BusError;

/// A field of the answer to `INFO`, or to `CLUSTER INFO`.
pub fn info_field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// What it says to `ROLE`: `master`, `slave` or `sentinel`.
pub(crate) async fn role(connection: &mut MultiplexedConnection) -> Result<String, BusError> {
    let answer: Vec<Value> = redis::cmd("ROLE").query_async(connection).await.map_err(BusError::from)?;
    match answer.first() {
        Some(Value::BulkString(role)) => Ok(String::from_utf8_lossy(role).into_owned()),
        _ => Err(BusError::Unexpected { command: "ROLE", detail: "there is no role in it".to_owned() }),
    }
}
