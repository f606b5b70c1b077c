//! `audit list` in its orders, following the log, and erasing a user, on the command line.

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::program::Program;
use crate::store::raw;
use crate::stores::on_every_store;

on_every_store! {
    the_log_is_listed_in_each_order,
    an_unknown_action_is_refused_with_the_known_ones,
    an_unknown_kind_of_target_is_refused_with_the_known_ones,
    a_state_file_that_cannot_be_used_is_refused_before_anything_is_printed,
    large_events_are_listed_up_to_the_limit,
    a_follower_prints_events_as_they_come_and_continues_after_a_restart,
    a_list_on_behalf_of_a_user_has_what_is_theirs,
    a_deleted_user_is_redacted,
}

fn targets(list: &Value) -> Vec<&str> {
    let events = list["events"].as_array().expect("a list");
    events.iter().map(|event| event["target_id"].as_str().expect("an id")).collect()
}

async fn the_log_is_listed_in_each_order(p: Program) {
    for user in ["ada", "bob", "cyd"] {
        p.run(&format!("user put {user}")).ok();
    }
    let list = |words: &str| p.run(&format!("audit list {words} --output json")).json();
    assert_eq!(targets(&list("")), ["ada", "bob", "cyd"]);
    assert_eq!(targets(&list("--order newest")), ["cyd", "bob", "ada"]);
    assert!(list("").get("resume_token").is_none());
    let first = p.run("audit list --order commit --limit 2 --output json");
    assert!(first.err.contains("--resume-token"), "{}", first.err);
    let first: Value = serde_json::from_str(&first.out).expect("JSON");
    assert_eq!(targets(&first), ["ada", "bob"]);
    let token = |list: &Value| list["resume_token"].as_str().expect("a token").to_owned();
    let next = |token: &str| list(&format!("--order commit --resume-token {token}"));
    let second = next(&token(&first));
    assert_eq!(targets(&second), ["cyd"]);
    let third = next(&token(&second));
    assert_eq!((targets(&third).len(), token(&third)), (0, token(&second)));
    let table = p.run("audit list --order commit").ok();
    assert!(table.lines().last().expect("a line").starts_with("resume_token: "), "{table}");
    p.run("audit list --resume-token x").failed(2);
    assert!(
        p.run("audit list --order commit --resume-token x").failed(2).contains("--resume-token")
    );
}

async fn an_unknown_action_is_refused_with_the_known_ones(p: Program) {
    p.run("user put ada").ok();
    for words in ["audit list --action user.puts", "audit export --action user.puts"] {
        let refused = p.run(words).failed(2);
        assert!(refused.contains("user.put, ") && refused.contains("key.create"), "{refused}");
    }
    // What a newer program wrote is listed all the same.
    let (uuid, time) = if p.database.is_postgres() {
        ("gen_random_uuid()", "now()")
    } else {
        ("randomblob(16)", "strftime('%s', 'now') * 1000000")
    };
    let insert = format!(
        "INSERT INTO audit_events (id, time, action, caller, target_kind, target_id) \
         VALUES ({uuid}, {time}, 'planet.align', 'x', 'planet', 'mars')"
    );
    raw::run(&p.database, &insert).await;
    assert!(p.run("audit list").ok().contains("planet.align"));
    assert_eq!(p.run("audit export --target mars").ok().lines().count(), 1);
    // It warns of the new incarnation.
    assert_eq!(p.run("new-epoch").code, Some(0));
    for name in ["store.new_epoch", "store.renew_epoch"] {
        assert_eq!(p.run(&format!("audit export --action {name}")).ok().lines().count(), 1);
    }
}

async fn a_follower_prints_events_as_they_come_and_continues_after_a_restart(p: Program) {
    let folder = TempDir::new().expect("a folder");
    let state = folder.path().join("state");
    let words =
        format!("audit list --follow --poll 5ms --state-file {} --output json", state.display());
    p.run("user put ada").ok();
    let mut follower = p.start(&words);
    assert_eq!(follower.json()["target_id"], "ada");
    p.run("user put bob").ok();
    assert_eq!(follower.json()["target_id"], "bob");
    crate::waits::eventually("the position is written", async || state.exists()).await;
    follower.signal(Signal::KILL);
    follower.end();
    p.run("user put cyd").ok();
    // A kill between printing and writing repeats an event, and loses none.
    let mut follower = p.start(&words);
    let mut printed = follower.json();
    if printed["target_id"] == "bob" {
        printed = follower.json();
    }
    assert_eq!(printed["target_id"], "cyd");
    follower.signal(Signal::TERM);
    assert!(!follower.end().success(), "a signal ended it");
    p.run("audit list --follow --order newest").failed(2);
}

async fn an_unknown_kind_of_target_is_refused_with_the_known_ones(p: Program) {
    p.run("user put ada").ok();
    for command in ["list", "export"] {
        let refused = p.run(&format!("audit {command} --target-kind foo")).failed(2);
        let known = ["credential", "workspace", "user", "membership", "caller", "audit", "store"];
        assert!(known.iter().all(|kind| refused.contains(kind)), "{refused}");
        let found = p.run(&format!("audit {command} --target-kind user --output json")).ok();
        assert!(found.contains("\"ada\""), "{found}");
    }
}

async fn a_state_file_that_cannot_be_used_is_refused_before_anything_is_printed(p: Program) {
    p.run("user put ada").ok();
    let folder = TempDir::new().expect("a folder");
    let follow = |file: &std::path::Path| {
        let words = format!("audit list --follow --state-file {}", file.display());
        let refused = p.run(&words).failed(2);
        assert!(refused.contains(&format!("--state-file {}", file.display())), "{refused}");
        assert!(!refused.contains("standard output"), "{refused}");
        refused
    };
    let missing = folder.path().join("missing").join("state");
    assert!(follow(&missing).contains("cannot be written"));
    follow(folder.path());
    let state = folder.path().join("state");
    for garbage in [&b"nonsense"[..], &[0xff, 0xfe], &[b'x'; 1_000]] {
        std::fs::write(&state, garbage).expect("it is written");
        assert!(follow(&state).contains("no resume token"));
        assert_eq!(std::fs::read(&state).expect("it stays"), garbage);
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1, "no file is left");
}

async fn large_events_are_listed_up_to_the_limit(p: Program) {
    let (uuid, time) = if p.database.is_postgres() {
        ("gen_random_uuid()", "now()")
    } else {
        ("randomblob(16)", "strftime('%s', 'now') * 1000000")
    };
    p.run("user put ada").ok();
    for _ in 0..5 {
        let insert = format!(
            "INSERT INTO audit_events (id, time, action, caller, target_kind, target_id, after) \
             VALUES ({uuid}, {time}, 'user.put', 'x', 'user', 'bob', '\"{}\"')",
            "x".repeat(1_500_000)
        );
        raw::run(&p.database, &insert).await;
    }
    for (limit, expected) in [("", 5), ("--limit 3", 3)] {
        let listed = p.run(&format!("audit list --target bob {limit} --output json"));
        let listed: Value = serde_json::from_str(&listed.out).expect("JSON");
        assert_eq!(targets(&listed).len(), expected);
    }
    assert_eq!(p.run("audit export --target bob").ok().lines().count(), 5);
}

async fn a_list_on_behalf_of_a_user_has_what_is_theirs(p: Program) {
    p.run("workspace put acme --id w1").ok();
    p.run("user put ada").ok();
    p.run("member put --workspace acme --user ada --role owner").ok();
    p.run("pat create --user ada --name laptop --scope read").ok();
    let list = |words: &str| p.run(&format!("audit list {words} --output json")).json();
    assert_eq!(targets(&list("--workspace acme")), ["w1", "w1/ada"]);
    assert_eq!(targets(&list("--workspace acme --acting-user ada")), ["w1", "w1/ada"]);
    let own = list("--acting-user ada");
    assert_eq!(own["events"][0]["action"], "pat.create");
    assert_eq!(targets(&own).len(), 1);
    assert_eq!(targets(&list("--filter-acting-user ada")).len(), 0);
    p.run("member put --workspace acme --user ada --role admin").ok();
    let refused = p.run("audit list --workspace acme --acting-user ada").failed(1);
    assert!(refused.contains("role"), "{refused}");
}

async fn a_deleted_user_is_redacted(p: Program) {
    p.run("user put ada --name Lovelace").ok();
    let refused = p.run("audit redact-user ada").failed(1);
    assert!(refused.contains("not deleted"), "{refused}");
    p.run("user delete ada").ok();
    assert!(p.run("audit export").ok().contains("Lovelace"));
    let redacted = p.run("audit redact-user ada --output json").json();
    assert_eq!((&redacted["user"], &redacted["credential_count"]), (&"ada".into(), &0.into()));
    assert_eq!(redacted["event_count"], 2);
    assert!(!p.run("audit export").ok().contains("Lovelace"));
    assert_eq!(p.run("audit redact-user ada --output json").json()["event_count"], 0);
    p.run("audit redact-user nobody").failed(1);
    p.run("audit redact-user ?").failed(2);
}
