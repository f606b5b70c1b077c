//! Runs every command of the manual as written, on both stores.

use sophic_auth::token::TokenKind;

use super::program::{Program, operator};
use crate::store::raw;
use crate::store::rules::{end_all, opens_for_0_1, registration_of_0_1};
use crate::stores::on_every_store;

on_every_store! {
    the_lines_of_the_manual_work_as_written,
    a_caller_gets_an_expiry_and_a_new_certificate_by_commands,
    a_token_on_standard_input_ends_its_credential,
    a_second_put_changes_only_the_given_fields,
    deleted_objects_are_not_listed,
    a_created_credential_has_all_given_fields,
    migrate_prints_both_schema_versions,
    a_token_that_acted_in_a_workspace_is_listed_and_barred,
    the_rules_in_use_that_an_earlier_release_does_not_know_are_listed,
    a_replica_that_has_ended_has_no_lag,
}

async fn the_lines_of_the_manual_work_as_written(p: Program) {
    p.run(r#"workspace put acme --name "Acme""#).ok();
    p.run(r#"user put ada --name "Ada""#).ok();
    p.run("member put --workspace acme --user ada --role member").ok();
    let caller = p.run("caller create gateway --permission introspect --output token").word();
    assert_eq!(TokenKind::parse(&caller), Some(TokenKind::Service));
    let key = "key create --workspace acme --name ci --scope read --scope capture --output token";
    let key = p.run(key).word();
    assert_eq!(TokenKind::parse(&key), Some(TokenKind::Key));
    let pat = "pat create --user ada --name laptop --scope read --scope capture --max-role viewer --output token";
    let pat = p.run(pat).word();
    assert_eq!(TokenKind::parse(&pat), Some(TokenKind::Pat));

    let read = "introspect --workspace acme --scope read --output json";
    let allowed = p.pipe(&key, read).json();
    assert_eq!((&allowed["active"], &allowed["allowed"]), (&true.into(), &true.into()));
    let id = allowed["credential"]["id"].as_str().expect("an id").to_owned();
    assert_eq!(p.pipe(&pat, read).json()["role_capped_by"], "token");
    let refused = p.pipe(&pat, "introspect --workspace acme --scope capture --output json");
    assert_eq!(refused.code, Some(1));
    let answer: serde_json::Value = serde_json::from_str(&refused.out).expect("JSON");
    assert_eq!(answer["denial"], "INSUFFICIENT_SCOPE");
    assert_eq!(answer["role_lacks_scopes"][0], "capture");

    p.run(&format!("key revoke {id}")).ok();
    let dead = p.pipe(&key, read);
    assert_eq!(dead.code, Some(1));
    assert!(dead.out.contains("TOKEN_REVOKED"), "{}", dead.out);
}

async fn a_caller_gets_an_expiry_and_a_new_certificate_by_commands(p: Program) {
    p.run("caller create job --permission introspect --ttl 7d").ok();
    p.run("caller create mesh --permission introspect --certificate-san mesh.internal").ok();
    let list = || p.run("caller list --output json").json()["callers"].clone();
    let listed = list();
    let job = &listed[0];
    assert_eq!((&job["name"], &job["state"]), (&"job".into(), &"active".into()));
    assert!(job["expire_time"].is_string() && job["creator"].is_string(), "{job}");
    // The shell takes the quotes of an etag away.
    let etag = job["etag"].as_str().expect("an etag").trim_matches('"').to_owned();
    let update = format!("caller update job --expire-time 2100-01-31T12:00:00Z --etag {etag}");
    p.run(&update).ok();
    assert!(list()[0]["expire_time"].as_str().is_some_and(|time| time.starts_with("2100-01-31")));
    for (command, said) in [
        (update.as_str(), "ETAG_MISMATCH"),
        (&format!("caller rotate job --etag {etag}"), "ETAG_MISMATCH"),
        ("caller update job --certificate-san a.internal", "CALLER_HAS_NO_CERTIFICATE"),
    ] {
        let refused = p.run(&format!("{command} --output json"));
        assert!(
            refused.code == Some(1) && refused.err.contains(said),
            "{command}: {}",
            refused.err
        );
    }
    for wrong in ["", "--ttl 1d --no-expiry", "--ttl 1d --expire-time 2100-01-31T12:00:00Z"] {
        assert_eq!(p.run(&format!("caller update job {wrong}")).code, Some(2), "{wrong}");
    }
    p.run("caller update job --no-expiry").ok();
    assert!(list()[0]["expire_time"].is_null());
    p.run("caller update mesh --certificate-san edge.internal").ok();
    assert_eq!(list()[1]["certificate_san"], "edge.internal");
    let table = p.run("caller list").ok();
    assert!(table.contains("EXPIRE TIME") && table.contains("LAST USE TIME"), "{table}");
}

async fn a_token_on_standard_input_ends_its_credential(p: Program) {
    p.run("workspace put acme").ok();
    p.run("user put ada").ok();
    for make in [
        "key create --workspace acme --name ci --scope read --output token",
        "pat create --user ada --name ci --scope read --output token",
    ] {
        let token = p.run(make).word();
        let kind = &make[..3];
        // With the line break of `echo`, and a second time.
        for input in [format!("{token}\n"), token.clone(), format!("{token}\r\n")] {
            let view = p.pipe(&input, &format!("{kind} revoke - --output json")).json();
            assert_eq!(view["state"], "revoked");
        }
        assert_eq!(p.pipe(&token, "introspect --workspace acme").code, Some(1));
    }
    for kind in ["key", "pat"] {
        let nothing = p.pipe("nobody's", &format!("{kind} revoke - --output json"));
        assert!(nothing.out.is_empty(), "{nothing:?}");
        assert!(nothing.failed(1).contains(&format!("no {kind} has this token")));
    }
    assert!(p.pipe("\n", "key revoke -").failed(2).contains("no token"));
}

async fn a_second_put_changes_only_the_given_fields(p: Program) {
    let put = |words: &str| p.run(&format!("{words} --output json")).json();
    let made = put(r#"workspace put acme --name "Acme Inc""#);
    assert!(made["id"].as_str().expect("an id").starts_with("ws_"));
    let again = put("workspace put acme");
    assert_eq!((&again["id"], &again["display_name"]), (&made["id"], &made["display_name"]));
    let chosen = put("workspace put other --id my-id");
    assert_eq!((&chosen["id"], &chosen["display_name"]), (&"my-id".into(), &"other".into()));
    let renamed = put("workspace put renamed --id my-id --disabled");
    assert_eq!((&renamed["slug"], &renamed["disabled"]), (&"renamed".into(), &true.into()));
    // A rename changes nothing else. Enabling needs its flag.
    assert_eq!(put("workspace put renamed --name Another")["disabled"], true);
    let enabled = put("workspace put renamed --enabled");
    assert_eq!(
        (&enabled["disabled"], &enabled["display_name"]),
        (&false.into(), &"Another".into())
    );
    put("user put bob --disabled");
    assert_eq!(put("user put bob --name Robert")["disabled"], true);
    assert_eq!(put("user put bob")["display_name"], "Robert");
    assert_eq!(put("user put bob --enabled")["disabled"], false);
    p.run("user put bob --enabled --disabled").failed(2);
    put("workspace put blue --id w-blue");
    put("workspace put green --id w-green");
    let swapped = put("workspace swap-slugs blue w-green");
    let of = |id: &str| {
        let all = swapped["workspaces"].as_array().expect("a list").iter();
        all.filter(|one| one["id"] == id).map(|one| one["slug"].clone()).collect::<Vec<_>>()
    };
    assert_eq!((of("w-blue"), of("w-green")), (vec!["green".into()], vec!["blue".into()]));
    p.run("workspace swap-slugs blue blue").failed(2);
    p.run("workspace swap-slugs blue nowhere").failed(1);
    p.run("workspace delete blue").ok();
    let reserved = p.run("workspace put blue").failed(1);
    for text in ["reserved_until: 20", "reclaimed_by_id: w-green"] {
        assert!(reserved.contains(text), "{reserved}");
    }
    put("workspace put blue --id w-green");
    put(r#"user put ada --name "Ada Lovelace""#);
    assert_eq!(put("user put ada")["display_name"], "Ada Lovelace");
    assert_eq!(put("member put --workspace acme --user ada --role viewer")["role"], "viewer");
    assert_eq!(put("member put --workspace acme --user ada --role owner")["role"], "owner");
}

async fn deleted_objects_are_not_listed(p: Program) {
    p.run("workspace put acme --id w1").ok();
    p.run("user put ada").ok();
    p.run("member put --workspace acme --user ada --role owner").ok();
    let members = || p.run("member list --workspace acme --output json").json();
    assert_eq!(members()["memberships"].as_array().map(Vec::len), Some(1));
    assert_eq!(p.run("member delete --workspace w1 --user ada").ok(), "");
    assert_eq!(members()["memberships"].as_array().map(Vec::len), Some(0));
    p.run("user delete ada").ok();
    p.run("workspace delete acme").ok();
    for (noun, words) in [("users", "user list"), ("workspaces", "workspace list")] {
        let list = p.run(&format!("{words} --output json")).json();
        assert_eq!(list[noun].as_array().map(Vec::len), Some(0));
    }
    assert!(p.run("workspace delete acme").failed(1).contains("no such workspace"));
    assert!(p.run("workspace put other --id acme").failed(1).contains("30 days"));
}

async fn a_created_credential_has_all_given_fields(p: Program) {
    p.run("workspace put acme").ok();
    let words = "key create --workspace acme --name ci --scope admin --scope read --ttl 90d \
                 --allow-ip 10.0.0.0/8 --allow-ip 2001:db8::1 --annotation team=search --annotation a=b=c";
    let made = p.run(&format!("{words} --output json")).json();
    let credential = &made["credential"];
    assert_eq!(credential["scopes"], serde_json::json!(["read", "admin"]));
    assert_eq!(credential["ip_allowlist"], serde_json::json!(["10.0.0.0/8", "2001:db8::1/128"]));
    assert_eq!(credential["annotations"], serde_json::json!({"a": "b=c", "team": "search"}));
    assert_eq!(credential["creator"], operator());
    assert!(credential["expire_time"].is_string());
    let token = made["token"].as_str().expect("a token");
    let inside = "introspect --scope read --client-ip 10.1.2.3";
    assert_eq!(p.pipe(token, inside).code, Some(0));
    assert_eq!(p.pipe(token, "introspect --scope read --client-ip 11.1.2.3").code, Some(1));
    let at = "key create --workspace acme --name x --scope read --expire-time 2099-12-31T23:59:59Z";
    let made = p.run(&format!("{at} --output json")).json();
    assert_eq!(made["credential"]["expire_time"], "2099-12-31T23:59:59Z");
    let listed = p.run("key list --workspace acme --output json").json();
    let listed = listed["credentials"].as_array().expect("a list");
    assert_eq!(listed.len(), 2);
    assert!(listed.iter().all(|one| one["state"] == "active" && one["token"].is_null()));
}

async fn migrate_prints_both_schema_versions(p: Program) {
    let first = p.run("migrate --output json").json();
    let second = p.run("migrate --output json").json();
    assert_eq!(second["from_version"], first["to_version"]);
    assert_eq!(second["to_version"], first["to_version"]);
    assert!(first["to_version"].as_i64().is_some_and(|version| version >= 5), "{first}");
}

async fn a_token_that_acted_in_a_workspace_is_listed_and_barred(p: Program) {
    use sophic_auth::model::{CredentialId, Timestamp, WorkspaceId, WorkspaceUse};
    p.run("workspace put acme --id w1").ok();
    p.run("user put ada").ok();
    p.run("member put --workspace acme --user ada --role member").ok();
    let made = p.run("pat create --user ada --name laptop --scope read --output json").json();
    let id = made["credential"]["id"].as_str().expect("an id").to_owned();
    let token = made["token"].as_str().expect("a token").to_owned();
    let bar = format!("workspace bar-pat acme {id} --reason moved --output json");
    let refused = p.run(&bar);
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("CREDENTIAL_NOT_FOUND"), "{}", refused.err);
    let acted = WorkspaceUse {
        credential_id: CredentialId::parse(&id).expect("an id"),
        workspace_id: WorkspaceId::parse("w1").expect("an id"),
        generation: 0,
        time: Timestamp::from_unix_micros(1_767_225_600_000_000).expect("a time"),
    };
    let store = p.database.open().await;
    store.write_last_uses(&[], &[acted]).await.expect("it is written");
    let listed = p.run("workspace pats acme --output json").json();
    let pat = &listed["pats"][0];
    assert_eq!((&pat["credential_id"], &pat["role"]), (&id.as_str().into(), &"member".into()));
    let introspect = "introspect --workspace acme --scope read --output json";
    assert_eq!(p.run(&bar).json()["barred"], true);
    assert!(p.pipe(&token, introspect).out.contains("PAT_NOT_PERMITTED"));
    let unbar = format!("workspace unbar-pat acme {id} --output json");
    assert_eq!(p.run(&unbar).json()["barred"], false);
    p.pipe(&token, introspect).ok();
}

async fn the_rules_in_use_that_an_earlier_release_does_not_know_are_listed(p: Program) {
    p.run("workspace put acme --id w1 --pat-expiry-required --pat-lifetime-max 90d").ok();
    p.run("workspace put strict --id w2 --pats-forbidden").ok();
    p.run("workspace put free --id w3").ok();
    let table = p.run("workspace list").ok();
    let row = |id: &str| table.lines().find(|line| line.starts_with(id)).expect("a row");
    assert!(table.lines().next().is_some_and(|head| head.ends_with("PAT POLICY")), "{table}");
    assert!(row("w1").ends_with("expiry-required,lifetime-max=90d"), "{table}");
    assert!(row("w2").ends_with("forbidden") && row("w3").ends_with('Z'), "{table}");
    let listed = p.run("workspace list --output json").json();
    let policy = |number: usize| listed["workspaces"][number]["pat_policy"].clone();
    let most = serde_json::json!({"expiry_required": true, "lifetime_max": "7776000s"});
    assert_eq!((policy(0), policy(2)), (most, serde_json::Value::Null));
    p.run("user put ada").ok();
    p.run("member put --workspace free --user ada --role member").ok();
    p.run("pat create --user ada --name ci --scope read --workspace free").ok();
    p.run("caller create job --permission introspect --ttl 7d").ok();
    let pat = p.run("pat list --output json").json()["credentials"][0].clone();
    assert_eq!((&pat["limited"], &pat["state"]), (&true.into(), &"active".into()));
    assert!(p.run("caller list --output json").json()["callers"][0]["expire_time"].is_string());

    // As docs/upgrading.md says, none of them keeps an earlier release from the store afterwards.
    assert!(!opens_for_0_1(&p.database).await);
    let clear = "--no-pats-forbidden --no-pat-expiry-required --pat-lifetime-max 0s";
    for slug in ["acme", "strict"] {
        p.run(&format!("workspace put {slug} {clear}")).ok();
    }
    p.run(&format!("pat revoke {}", pat["id"].as_str().expect("an id"))).ok();
    p.run("caller update job --no-expiry").ok();
    p.run("purge").ok();
    assert!(opens_for_0_1(&p.database).await);
}

async fn a_replica_that_has_ended_has_no_lag(p: Program) {
    raw::run(&p.database, &registration_of_0_1(&p.database, 0xee)).await;
    p.run("user put ada").ok();
    let listed = p.run("replica list --output json").json();
    assert!(listed["replicas"][0]["revision_lag"].as_u64() > Some(0), "{listed}");
    raw::run(&p.database, &end_all(&p.database)).await;
    let listed = p.run("replica list --output json").json();
    let replica = &listed["replicas"][0];
    assert_eq!((&replica["state"], replica.get("revision_lag")), (&"ended".into(), None));
    let table = p.run("replica list").ok();
    let row = table.lines().nth(1).expect("a row");
    assert!(row.split_whitespace().any(|cell| cell == "-"), "{table}");
}
