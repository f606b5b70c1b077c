//! The audit log, bulk revocation, purging and callers, on the command line.

use serde_json::Value;

use super::program::{Program, operator};
use crate::stores::on_every_store;

on_every_store! {
    the_audit_log_is_listed_exported_and_purged,
    an_export_ends_quietly_when_its_reader_closes_the_pipe,
    a_bulk_revocation_counts_first_and_then_revokes,
    purge_deletes_credentials_that_ended_long_ago,
    a_caller_is_updated_and_rotated,
}

fn set_up(p: &Program) {
    p.run("workspace put acme --id w1").ok();
    p.run("user put ada").ok();
    p.run("member put --workspace acme --user ada --role owner").ok();
}

fn key(p: &Program) -> (String, String) {
    let made = p.run("key create --workspace acme --name ci --scope read --output json").json();
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    (text(&made["credential"]["id"]), text(&made["token"]))
}

fn length(list: &Value) -> usize {
    list.as_array().expect("a list").len()
}

async fn the_audit_log_is_listed_exported_and_purged(p: Program) {
    set_up(&p);
    let (id, token) = key(&p);
    p.run("key revoke 0195f2d4-7c1e-7b3a-9d58-0242ac120002").failed(1);
    let listed = p.run("audit list").ok();
    let header = listed.lines().next().expect("a header");
    assert!(header.starts_with("TIME") && header.contains("REFUSAL"), "{header}");
    assert!(listed.contains("key.create") && listed.contains("CREDENTIAL_NOT_FOUND"), "{listed}");
    let of_key = p.run(&format!("audit list --target {id} --output json")).json();
    assert_eq!(of_key["events"][0]["caller"], operator());
    assert_eq!(length(&of_key["events"]), 1);
    let cut = p.run("audit list --limit 2");
    assert!(cut.err.contains("audit export"), "{}", cut.err);

    let exported = p.run("audit export").ok();
    let json = |line| serde_json::from_str::<Value>(line).expect("JSON");
    assert_eq!(exported.lines().map(json).collect::<Vec<_>>().len(), 5);
    assert!(!exported.contains(&token));
    let put = p.run("audit export --action workspace.put --until 2999-01-01T00:00:00Z").ok();
    assert_eq!(put.lines().count(), 1);

    assert_eq!(p.run("audit purge --older-than 400d --output json").json()["purged_count"], 0);
    assert_eq!(p.run("audit purge --older-than 0s --output json").json()["purged_count"], 6);
    let left = p.run("audit export").ok();
    assert_eq!(left.lines().count(), 1, "{left}");
    assert!(left.contains("audit.purge") && left.contains(&operator()), "{left}");
    p.run("audit list --since yesterday").failed(2);
}

async fn an_export_ends_quietly_when_its_reader_closes_the_pipe(p: Program) {
    set_up(&p);
    let mut command = p.command(&["audit".to_owned(), "export".to_owned()]);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let status = command.stdout(writer).status().expect("the program runs");
    assert!(status.success(), "{status}");
}

async fn a_bulk_revocation_counts_first_and_then_revokes(p: Program) {
    set_up(&p);
    for _ in 0..3 {
        key(&p);
    }
    let (_, token) = key(&p);
    let dry = p.run("credentials revoke --workspace acme --dry-run --output json").json();
    assert_eq!((&dry["would_revoke_count"], length(&dry["sample"])), (&4.into(), 4));
    assert!(p.run("credentials revoke --workspace acme --dry-run").ok().contains("would revoke 4"));
    p.pipe(&token, "introspect").ok();
    let words = "credentials revoke --workspace acme --reason \"broken into\" --output json";
    assert_eq!(p.run(words).json()["revoked_count"], 4);
    assert_eq!(p.run(words).json()["revoked_count"], 0);
    assert_eq!(p.pipe(&token, "introspect").code, Some(1));
    p.run("credentials revoke --dry-run").failed(2);
    p.run("credentials revoke --workspace nowhere").failed(1);
    let events = p.run("audit export --action credential.revoke").ok();
    assert_eq!(events.lines().count(), 4);
    assert!(events.lines().all(|line| line.contains("broken into")), "{events}");
}

async fn purge_deletes_credentials_that_ended_long_ago(p: Program) {
    set_up(&p);
    let ((dead, _), (alive, _)) = (key(&p), key(&p));
    p.run(&format!("key revoke {dead}")).ok();
    let purge = |words: &str| {
        let purged = p.run(&format!("purge {words} --output json")).json();
        let count = |name: &str| purged[name].as_u64().expect("a count");
        (count("purged_credential_count"), count("purged_change_count"))
    };
    assert_eq!(purge(""), (0, 0), "no event is that old");
    assert_eq!(purge("--dead-after 1us --changes-after 0s"), (1, 0));
    let (credentials, changes) = purge("--dead-after 0s --changes-after 1us");
    assert!(credentials == 0 && changes > 3, "{changes}");
    let listed = p.run("key list --output json").json();
    assert_eq!(length(&listed["credentials"]), 1);
    assert_eq!(listed["credentials"][0]["id"], alive);
    let story = p.run(&format!("audit export --target {dead}")).ok();
    assert!(story.lines().last().expect("its end").contains("credential.purge"), "{story}");
}

async fn a_caller_is_updated_and_rotated(p: Program) {
    p.run("caller create gateway --permission introspect").ok();
    let changed = p.run("caller update gateway --name edge --permission audit.read --output json");
    assert_eq!(changed.json()["permissions"], serde_json::json!(["audit.read"]));
    let token = p.run("caller rotate edge --output token").word();
    assert!(token.starts_with("sophic_svc_"));
    assert!(p.run("caller rotate edge").ok().contains("sophic_svc_"));
    let rotated = p.run("caller rotate edge --overlap 1h --output json").json();
    assert!(rotated["caller"]["previous_token_expire_time"].is_string(), "{rotated}");
    assert!(rotated.get("end_pending").is_none());
    let rotated = p.run("caller rotate edge --overlap 0s --output json").json();
    assert!(rotated["caller"].get("previous_token_expire_time").is_none(), "{rotated}");
    let again =
        "caller rotate edge --request-id 6f6f1d52-6b6e-4f0c-9d5e-2f8f2c1a7b11 --output token";
    assert_ne!(p.run(again).word(), p.run(again).word());
    assert!(p.run("caller rotate edge --overlap 8d").failed(2).contains("7 days"));
    p.run("caller update edge").failed(2);
    p.run("caller rotate nobody").failed(1);
}
