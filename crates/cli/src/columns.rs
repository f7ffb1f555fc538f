//! Lists for the terminal, in columns.

use std::io::Write;

/// Writes a head and rows, each column as wide as its widest cell; the last one is not padded.
pub(crate) fn write<const N: usize>(
    head: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
    out: &mut impl Write,
) -> std::io::Result<()> {
    let rows: Vec<[String; N]> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    for row in &rows {
        for (column, cell) in row.iter().enumerate() {
            match column + 1 < N {
                true => write!(out, "{cell:<width$}  ", width = width(column))?,
                false => writeln!(out, "{cell}")?,
            }
        }
    }
    Ok(())
}
