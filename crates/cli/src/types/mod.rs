//! The command `types`: the events of all watched tables as TypeScript. What the text looks like is in [`render`].

mod render;

use std::{io::Write, path::Path};

use anyhow::Context as _;
use rowcast_store::{Column, StoreError, Watched, Watches};

use crate::{
    args::TypesArgs,
    database::{connect, explained, url},
};

/// A watched table with the columns that it sends.
pub(crate) struct Table {
    pub watched: Watched,
    pub columns: Vec<Column>,
}

/// The command `types`.
pub(crate) async fn types(args: TypesArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let url = url(&args.database)?;
    let watches = connect(&url).await?;
    let tables = tables(&watches).await;
    watches.close().await;
    let tables = tables.map_err(|error| explained(error, &url))?;
    for table in &tables {
        for missing in table.watched.columns.iter().filter(|name| !has(table, name)) {
            eprintln!("{}: there is no column {missing} any more; it is left out", table.watched.table);
        }
    }
    let text = render::render(&tables);
    match args.out {
        None => out.write_all(text.as_bytes())?,
        Some(path) => write_file(&path, &text)?,
    }
    Ok(())
}

async fn tables(watches: &Watches) -> Result<Vec<Table>, StoreError> {
    let mut tables = Vec::new();
    for watched in watches.list().await? {
        let columns = watches.columns(&watched).await?;
        tables.push(Table { watched, columns });
    }
    Ok(tables)
}

fn has(table: &Table, name: &str) -> bool {
    table.columns.iter().any(|column| column.name == name)
}

/// Leaves a file alone that says the same already, so that nothing is built anew for it.
fn write_file(path: &Path, text: &str) -> anyhow::Result<()> {
    if std::fs::read_to_string(path).is_ok_and(|there| there == text) {
        eprintln!("{} is up to date", path.display());
        return Ok(());
    }
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!("wrote {}", path.display());
    Ok(())
}
