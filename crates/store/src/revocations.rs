//! Revoking tokens for the command line, and lifting that again. How the leader reads them is in [`crate::mirror`], what
//! they mean in `rowcast_protocol::revocations`.

use rowcast_protocol::{Micros, RevocationKind, Sheet};
use tokio_postgres::Row;

use crate::lead::unsigned;
use crate::{StoreError, Watches};

/// What is to be revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRevocation {
    /// By what.
    pub kind: RevocationKind,
    /// A subject, a token's id or a room.
    pub value: String,
    /// Tokens that were issued before this. None for what is usual: all with this token id; of a subject or a room those
    /// that were issued up to now.
    pub issued_before: Option<Before>,
    /// For people.
    pub reason: Option<String>,
    /// For how long it is kept, in seconds. None for what is usual.
    pub keep_seconds: Option<i64>,
}

/// Which tokens are revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// Those that were issued before this.
    Time(Micros),
    /// Whenever they were issued.
    Always,
}

/// A revocation that is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// Names it.
    pub id: i64,
    /// By what.
    pub kind: String,
    /// A subject, a token's id or a room.
    pub value: String,
    /// Which tokens.
    pub issued_before: Before,
    /// When it may be forgotten; none for never.
    pub expires_at: Option<Micros>,
    /// For people.
    pub reason: Option<String>,
    /// When it was last said.
    pub created_at: Micros,
    /// By whom.
    pub created_by: String,
}

/// A revocation's columns, with times in µs since 1970.
const COLUMNS: &str = "r.id, r.kind, r.value,
    CASE WHEN r.issued_before <> 'infinity' THEN (extract(epoch FROM r.issued_before) * 1000000)::bigint END,
    CASE WHEN r.expires_at <> 'infinity' THEN (extract(epoch FROM r.expires_at) * 1000000)::bigint END,
    r.reason, (extract(epoch FROM r.created_at) * 1000000)::bigint, r.created_by";

fn revocation(row: &Row) -> Result<Revocation, StoreError> {
    let micros = |index: usize| Ok::<_, StoreError>(row.try_get::<_, Option<i64>>(index)?.map(Micros));
    Ok(Revocation {
        id: row.try_get(0)?,
        kind: row.try_get(1)?,
        value: row.try_get(2)?,
        issued_before: micros(3)?.map_or(Before::Always, Before::Time),
        expires_at: micros(4)?,
        reason: row.try_get(5)?,
        created_at: Micros(row.try_get(6)?),
        created_by: row.try_get(7)?,
    })
}

impl Watches {
    /// Revokes tokens; the leader is told. Gives the revocation as it is now, and the version of the sheet.
    pub async fn revoke(&self, new: &NewRevocation) -> Result<(Revocation, u64), StoreError> {
        let (micros, always) = match new.issued_before {
            None => (None, false),
            Some(Before::Time(time)) => (Some(time.0), false),
            Some(Before::Always) => (None, true),
        };
        let row = self
            .client()
            .query_one(
                "SELECT d.id, d.version FROM rowcast.revoke($1, $2,
                     CASE WHEN $4 THEN 'infinity' ELSE timestamptz 'epoch' + $3::bigint * interval '1 microsecond' END, $5,
                     $6::bigint * interval '1 second') AS d",
                &[&new.kind.name(), &new.value, &micros, &always, &new.reason, &new.keep_seconds],
            )
            .await
            .map_err(StoreError::from_statement)?;
        let (id, version): (i64, _) = (row.try_get(0)?, unsigned(row.try_get(1)?)?);
        let found = self.find_revocations("r.id = $1", &[&id]).await?;
        let made = found.into_iter().next();
        let made = made.ok_or_else(|| StoreError::Unexpected("it was lifted at this moment".to_owned()))?;
        Ok((made, version))
    }

    /// All that are in force, in the order in which they were first said.
    pub async fn revocations(&self) -> Result<Vec<Revocation>, StoreError> {
        self.find_revocations("true", &[]).await
    }

    async fn find_revocations(
        &self,
        condition: &str,
        parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)],
    ) -> Result<Vec<Revocation>, StoreError> {
        let query = format!("SELECT {COLUMNS} FROM rowcast.revocations AS r WHERE {condition} ORDER BY r.id");
        let rows = self.client().query(&query, parameters).await.map_err(StoreError::from_statement)?;
        rows.iter().map(revocation).collect()
    }

    /// The revocation with this id, if there is one.
    pub async fn revocation(&self, id: i64) -> Result<Option<Revocation>, StoreError> {
        Ok(self.find_revocations("r.id = $1", &[&id]).await?.into_iter().next())
    }

    /// Lifts a revocation: tokens that it alone revoked count again. Says whether there was one.
    pub async fn lift_revocation(&self, kind: &str, value: &str) -> Result<bool, StoreError> {
        let row = self
            .client()
            .query_one("SELECT rowcast.lift_revocation($1, $2)", &[&kind, &value])
            .await
            .map_err(StoreError::from_statement)?;
        Ok(row.try_get(0)?)
    }

    /// The version of a sheet, and the one of which a leader has last told the edges.
    pub async fn sheet_versions(&self, sheet: Sheet) -> Result<(u64, u64), StoreError> {
        let row = self
            .client()
            .query_one(
                "SELECT m.version, m.told FROM rowcast.mirror AS m WHERE m.sheet = $1",
                &[&sheet.name()],
            )
            .await
            .map_err(StoreError::from_statement)?;
        Ok((unsigned(row.try_get(0)?)?, unsigned(row.try_get(1)?)?))
    }
}
