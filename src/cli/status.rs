//! `status` and `replica list`.

use serde_json::{Map, Value, json};

use super::args::status::{ReplicaCommand, StatusArgs};
use super::args::{Global, Output};
use super::{all_pages, open_service, output, refuse_token_output};
use crate::service::view;

/// Runs `status`.
pub(super) async fn status(global: &Global, args: StatusArgs) -> anyhow::Result<()> {
    refuse_token_output(global)?;
    let service = open_service(global).await?;
    let status = view::status(&service.status(Some(args.expiring_within)).await?);
    match global.output {
        Output::Json => output::item(global.output, &status)?,
        Output::Table | Output::Token => output::item(global.output, &flat(&status))?,
    }
    service.close().await;
    Ok(())
}

/// Runs a command about replicas.
pub(super) async fn replica(global: &Global, command: ReplicaCommand) -> anyhow::Result<()> {
    refuse_token_output(global)?;
    match command {
        ReplicaCommand::List => {
            let service = open_service(global).await?;
            let replicas = all_pages(async |page| service.list_replicas(&page).await).await?;
            let mut replicas: Vec<_> = replicas.iter().map(view::replica).collect();
            if global.output == Output::Table {
                replicas.iter_mut().for_each(mark_lag_of_ended);
            }
            let columns = [
                "id",
                "host",
                "process_id",
                "version",
                "state",
                "start_time",
                "revision_lag",
                "lease",
                "sync_time",
                "waited_time",
                "waited_count",
            ];
            output::list(global.output, "replicas", &columns, &replicas)?;
            service.close().await;
        }
    }
    Ok(())
}

/// Marks that a replica which has ended has no lag, for a table. An empty cell could be taken for none.
fn mark_lag_of_ended(replica: &mut Value) {
    if replica.get("revision_lag").is_none() {
        replica["revision_lag"] = "-".into();
    }
}

/// Returns the status with one field for each number, and one line of text for each credential, for a table.
fn flat(status: &Value) -> Value {
    let mut fields = Map::new();
    for (name, value) in status.as_object().into_iter().flatten() {
        match name.as_str() {
            "credential_counts" => {
                for counted in value.as_array().into_iter().flatten() {
                    let [kind, state] = ["kind", "state"].map(|name| text(&counted[name]));
                    fields.insert(format!("{kind}_{state}"), number(&counted["count"]));
                }
            }
            "expiring_credentials" => {
                for (place, credential) in (1..).zip(value.as_array().into_iter().flatten()) {
                    let words = ["expire_time", "kind", "id", "hint", "name"]
                        .map(|name| text(&credential[name]));
                    fields.insert(format!("expiring_{place:02}"), words.join(" ").into());
                }
            }
            _ if value.get("count").is_some() => {
                fields.insert(name.clone(), number(value));
            }
            _ => {
                fields.insert(name.clone(), value.clone());
            }
        }
    }
    Value::Object(fields)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Returns a count as text: `12`, or `at least 1000000`.
fn number(counted: &Value) -> Value {
    let count = &counted["count"];
    if counted["at_least"] == json!(true) {
        format!("at least {count}").into()
    } else {
        count.clone()
    }
}
