//! Trying a watch without keeping it: what `rowcast.watch` would install, grant and record. Nothing here is kept.

use std::collections::BTreeSet;

use tokio_postgres::Client;

use crate::{StoreError, WatchOptions, Watched, Watches};

/// What a watch would come to, as SQL statements without the closing semicolon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// The row that would be recorded.
    pub watched: Watched,
    /// Triggers and functions of an earlier watch of the same table that would go.
    pub removed: Vec<String>,
    /// The trigger functions, each followed by what is said about its owner and its rights.
    pub functions: Vec<String>,
    /// The triggers, on the table and on all below it.
    pub triggers: Vec<String>,
    /// What roles would be given that they do not have yet.
    pub grants: Vec<String>,
}

/// A function of Rowcast's that hangs on a table, and its trigger there.
struct Hung {
    oid: u32,
    function: String,
    definition: String,
    owner: Option<String>,
    trigger: String,
    drop_trigger: String,
}

impl Watches {
    /// Does what [`Watches::watch`] does, in a transaction that is rolled back, and tells what it came to. For that
    /// moment it takes the same locks (writers to the table wait), and it fails with the same errors.
    pub async fn try_watch(&self, options: &WatchOptions) -> Result<Trial, StoreError> {
        let client = self.client();
        client.batch_execute("BEGIN").await?;
        let tried = self.within_transaction(options).await;
        // Where the connection is gone, so is the transaction, and the first error says why.
        let rolled_back = client.batch_execute("ROLLBACK").await;
        let trial = tried?;
        rolled_back?;
        Ok(trial)
    }

    async fn within_transaction(&self, options: &WatchOptions) -> Result<Trial, StoreError> {
        let client = self.client();
        let row = client.query_one("SELECT to_regnamespace('rowcast_triggers') IS NULL", &[]).await?;
        if row.try_get(0)? {
            return Err(StoreError::NotMigrated);
        }
        let (hung_before, granted_before) = (hung(client, options).await?, grants(client).await?);
        self.watch(options).await?;
        let (hung_after, granted_after) = (hung(client, options).await?, grants(client).await?);
        let row = client.query_one("SELECT $1::text::regclass::text", &[&options.table]).await?;
        let table: String = row.try_get(0)?;
        let watched = self.list().await?.into_iter().find(|watched| watched.table == table);
        Ok(Trial {
            watched: watched
                .ok_or_else(|| StoreError::Unexpected(format!("{table} is not in rowcast.watches")))?,
            removed: removed(client, &hung_before).await?,
            functions: functions(&hung_after),
            triggers: hung_after.into_iter().map(|hung| hung.trigger).collect(),
            grants: granted_after.difference(&granted_before).cloned().collect(),
        })
    }
}

/// A function that belongs to somebody else is left behind by a watch.
async fn removed(client: &Client, before: &[Hung]) -> Result<Vec<String>, StoreError> {
    let oids: Vec<u32> = before.iter().map(|hung| hung.oid).collect();
    let rows = client.query("SELECT oid FROM pg_proc WHERE oid = ANY ($1)", &[&oids]).await?;
    let left = rows.iter().map(|row| row.try_get(0)).collect::<Result<BTreeSet<u32>, _>>()?;
    let gone: BTreeSet<&str> =
        before.iter().filter(|hung| !left.contains(&hung.oid)).map(|hung| hung.function.as_str()).collect();
    let triggers = before.iter().map(|hung| hung.drop_trigger.clone());
    Ok(triggers.chain(gone.iter().map(|name| format!("DROP FUNCTION {name}"))).collect())
}

fn functions(hung: &[Hung]) -> Vec<String> {
    let mut statements = Vec::new();
    let mut known = BTreeSet::new();
    for hung in hung.iter().filter(|hung| known.insert(&hung.function)) {
        statements.push(hung.definition.clone());
        statements.push(format!("REVOKE EXECUTE ON FUNCTION {} FROM PUBLIC", hung.function));
        if let Some(owner) = &hung.owner {
            statements.push(format!("ALTER FUNCTION {} OWNER TO {owner}", hung.function));
        }
    }
    statements
}

/// What hangs on the table and on all below it. Before the table was ever watched, it is nothing.
async fn hung(client: &Client, options: &WatchOptions) -> Result<Vec<Hung>, StoreError> {
    let rows = client
        .query(
            "SELECT p.oid, p.oid::regprocedure::text, rtrim(pg_get_functiondef(p.oid), E'\\n'),
                    CASE WHEN p.proowner <> (SELECT r.oid FROM pg_roles AS r WHERE r.rolname = current_user)
                         THEN p.proowner::regrole::text END,
                    pg_get_triggerdef(t.oid), format('DROP TRIGGER %I ON %s', t.tgname, t.tgrelid::regclass)
               FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = t.tgfoid
              WHERE t.tgrelid IN (SELECT rowcast.family($1::text::regclass))
                AND p.pronamespace = 'rowcast_triggers'::regnamespace
              ORDER BY t.tgrelid <> $1::text::regclass, t.tgrelid::regclass::text, t.tgname",
            &[&options.table],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Hung {
                oid: row.try_get(0)?,
                function: row.try_get(1)?,
                definition: row.try_get(2)?,
                owner: row.try_get(3)?,
                trigger: row.try_get(4)?,
                drop_trigger: row.try_get(5)?,
            })
        })
        .collect()
}

/// The rights that have been given in Rowcast's schemas, each as the statement that gives it.
async fn grants(client: &Client) -> Result<BTreeSet<String>, StoreError> {
    let rows = client
        .query(
            "WITH given (object, acl) AS (
                SELECT format('SCHEMA %I', n.nspname), n.nspacl FROM pg_namespace AS n
                 WHERE n.nspname IN ('rowcast', 'rowcast_triggers')
                UNION ALL
                SELECT c.oid::regclass::text, c.relacl FROM pg_class AS c WHERE c.relnamespace = 'rowcast'::regnamespace
                UNION ALL
                SELECT format('FUNCTION %s', p.oid::regprocedure), p.proacl FROM pg_proc AS p
                 WHERE p.pronamespace = 'rowcast'::regnamespace)
             SELECT format('GRANT %s ON %s TO %s', a.privilege_type, g.object, a.grantee::regrole)
               FROM given AS g CROSS JOIN LATERAL aclexplode(g.acl) AS a WHERE a.grantee <> 0",
            &[],
        )
        .await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}
