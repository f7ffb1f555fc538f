//! The command `switch`: what is turned off and on at run time, in the database, from where the leader tells the edges.

use std::io::Write;

use rowcast_protocol::Micros;
use rowcast_store::{Switch, SwitchList};

use crate::{
    args::{SwitchArgs, SwitchState},
    columns,
    database::{connect, explained, url},
};

/// The command `switch`.
pub(crate) async fn switch(args: SwitchArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let url = url(&args.database)?;
    let watches = connect(&url).await?;
    let done = async {
        let changed = match (&args.name, args.state) {
            (Some(name), Some(state)) => Some(watches.set_switch(name, state == SwitchState::On).await?),
            _ => None,
        };
        Ok((changed, watches.switches().await?))
    };
    let done = done.await;
    watches.close().await;
    let (changed, list) = done.map_err(|error| explained(error, &url))?;
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&as_json(changed, &list))?)?;
        return Ok(());
    }
    let turned = list.switches.iter().find(|switch| Some(&switch.name) == args.name.as_ref());
    match (changed, turned) {
        (Some(changed), Some(switch)) => write_turned(switch, list.version, changed, out)?,
        _ => write_list(&list, out)?,
    }
    Ok(())
}

fn state(switch: &Switch) -> &'static str {
    if switch.is_on { "on" } else { "off" }
}

fn write_list(list: &SwitchList, out: &mut impl Write) -> std::io::Result<()> {
    let rows = list.switches.iter().map(|switch| {
        let since = Micros(switch.since_micros).to_string();
        [switch.name.clone(), state(switch).to_owned(), since, list.version.to_string()]
    });
    columns::write(["SWITCH", "STATE", "SINCE", "VERSION"], rows, out)
}

fn write_turned(switch: &Switch, version: u64, changed: bool, out: &mut impl Write) -> std::io::Result<()> {
    let (name, state) = (&switch.name, state(switch));
    if !changed {
        let since = Micros(switch.since_micros);
        return writeln!(
            out,
            "{name} was {state} already, since {since} (version {version}); nothing has changed"
        );
    }
    writeln!(out, "{name} is {state} (version {version})")?;
    let (happens, connections, back) = match switch.is_on {
        false => (
            "Each edge sends its open sockets to polling, spread over edge.switch_window (10s by default), and new ones as \
             soon as they have signed in. Clients go on from their cursors: nothing is lost.",
            "falls to 0",
            "on",
        ),
        true => (
            "Edges take sockets again. Clients that poll hear of it with their next page and come back by themselves, from \
             their cursors.",
            "rises again",
            "off",
        ),
    };
    writeln!(out, "{happens}")?;
    writeln!(
        out,
        "To follow it: rowcast_edge_switches_version is {version} on every edge within a second or two (while a listener leads), \
         and rowcast_edge_connections{{transport=\"websocket\"}} {connections}. Back: rowcast switch {name} {back}"
    )
}

fn as_json(changed: Option<bool>, list: &SwitchList) -> serde_json::Value {
    let switches = list.switches.iter().map(|switch| {
        let since = Micros(switch.since_micros).to_string();
        serde_json::json!({ "name": switch.name, "state": state(switch), "since": since })
    });
    let mut all = serde_json::json!({ "version": list.version, "switches": switches.collect::<Vec<_>>() });
    if let Some(changed) = changed {
        all["changed"] = changed.into();
    }
    all
}
