//! Writes the configuration's reference into its page.

use anyhow::Context as _;

fn main() -> anyhow::Result<()> {
    let path = rowcast_docs::page();
    let there = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let renewed = rowcast_docs::renewed(&there)?;
    if renewed == there {
        println!("{} is up to date", path.display());
        return Ok(());
    }
    std::fs::write(&path, renewed).with_context(|| format!("cannot write {}", path.display()))?;
    println!("wrote {}", path.display());
    Ok(())
}
