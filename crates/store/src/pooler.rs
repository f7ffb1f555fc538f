//! Whether an address gives each client a session of its own. A pooler that hands them out by transaction does not: a
//! lock, a LISTEN or a setting would end up in the application's sessions.

use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::error::SqlState;

use crate::StoreError;
use crate::session::{Session, SessionOptions};

/// How long a second session may take to answer.
const ANSWER: Duration = Duration::from_secs(5);
/// A pooler may give us the same server process again by chance, when others use it too.
const ROUNDS: usize = 8;

/// Returns the process of the session, once it is known to be the session's own: it is no other session's, and stays
/// while another keeps one busy. To be asked before anything is set, locked or prepared: nothing is here, because on
/// a pooler it would stay behind.
///
/// # Errors
/// [`StoreError::Pooler`] with what gave it away; [`StoreError::NoSecondSession`]; those of connections.
pub(crate) async fn own_process(session: &Session, options: &SessionOptions) -> Result<i32, StoreError> {
    let before = process(session, "SELECT pg_backend_pid()").await?;
    let other = session.beside(options).await?;
    for _ in 0..ROUNDS {
        let others =
            answer(process(&other, "BEGIN; SELECT pg_backend_pid()")).await.map_err(refused_block)?;
        if others == before {
            return Err(StoreError::Pooler(format!("two sessions share the server process {before}")));
        }
        same_process(before, answer(process(session, "SELECT pg_backend_pid()")).await?)?;
        answer(async { Ok(other.client().batch_execute("ROLLBACK").await?) }).await?;
    }
    other.close().await;
    Ok(before)
}

/// That a session's server process is still the one that it was.
pub(crate) fn same_process(before: i32, after: i32) -> Result<(), StoreError> {
    if before == after {
        return Ok(());
    }
    Err(StoreError::Pooler(format!("the session's server process was {before} and is now {after}")))
}

/// A pooler that shares sessions by statement refuses what would tell.
fn refused_block(error: StoreError) -> StoreError {
    let text = error.to_string();
    let poolers = error.code() == Some(&SqlState::PROTOCOL_VIOLATION) && text.contains("pooling");
    if poolers { StoreError::Pooler(text) } else { error }
}

async fn answer<T>(statement: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    timeout(ANSWER, statement).await.map_err(|_| StoreError::NoSecondSession(ANSWER))?
}

/// The number in the answer. Without a prepared statement: that would be of one server process.
async fn process(session: &Session, sql: &str) -> Result<i32, StoreError> {
    let messages = session.client().simple_query(sql).await?;
    let number = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
        _ => None,
    });
    number.ok_or_else(|| StoreError::Unexpected("no server process".to_owned()))
}
