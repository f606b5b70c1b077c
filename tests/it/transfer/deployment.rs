//! Moving a whole deployment from one store to another by two commands, repeatedly, and never partially.

use serde_json::Value;

use crate::cli::program::Program;
use crate::store::raw;
use crate::stores::{Database, on_every_store};

on_every_store! {
    a_deployment_moves_by_two_commands_and_everything_is_as_it_was,
    a_difference_in_the_target_is_a_conflict_and_nothing_is_written,
    an_incomplete_file_is_refused_and_nothing_is_written,
    an_import_restores_nothing_that_was_revoked_or_restricted,
}

/// Commands whose output must be the same on both stores.
const ASKED: [&str; 5] =
    ["workspace list", "user list", "member list --user ada", "caller list", "export"];

struct Made {
    tokens: Vec<(String, bool)>,
    gateway: String,
    folder: tempfile::TempDir,
}

impl Made {
    fn file(&self) -> String {
        self.folder.path().join("deployment.jsonl").to_str().expect("UTF-8").to_owned()
    }
}

/// Creates one of everything, and exports it.
async fn make(p: &Program) -> Made {
    p.run("workspace put acme --id w1 --name \"Acme, Inc\"").ok();
    p.run("workspace put closed --id w2").ok();
    p.run("workspace put reborn --id w3").ok();
    p.run("user put ada --name Ada").ok();
    p.run("user put bob --disabled").ok();
    p.run("member put --workspace acme --user ada --role admin").ok();
    p.run("member put --workspace closed --user ada --role viewer").ok();
    let token = |words: &str| p.run(&format!("{words} --output token")).word();
    let key = |workspace: &str| {
        token(&format!("key create --workspace {workspace} --name k --scope read"))
    };
    let before = key("reborn");
    // Its generation revokes its keys, and is above zero from now on.
    p.run("workspace delete reborn").ok();
    p.run("workspace put reborn --id w3").ok();
    let (alive, revoked, closed, after) = (key("acme"), key("acme"), key("closed"), key("reborn"));
    p.run("workspace put closed --id w2 --disabled").ok();
    p.pipe(&revoked, "key revoke -").ok();
    let pat = token("pat create --user ada --name laptop --scope read --max-role viewer");
    let of_bob = token("pat create --user ada --name other --scope read");
    p.run("workspace put acme --id w1 --name \"Acme, Inc\" --key-lifetime-max 90d --keys-max 20")
        .ok();
    let gateway = token("caller create gateway --permission introspect");
    p.run("caller rotate gateway --overlap 1h").ok();
    p.run("caller create edge --permission introspect --certificate-san spiffe://x/edge --ttl 90d")
        .ok();
    // A permission that only a newer program knows.
    let newer = "UPDATE callers SET permissions = permissions + 16384 WHERE name = 'gateway'";
    raw::run(&p.database, newer).await;
    p.run("caller create gone --permission audit.read").ok();
    p.run("caller revoke gone").ok();
    let folder = tempfile::tempdir().expect("a folder");
    let alive = [(alive, true), (pat, true), (of_bob, true), (after, true)];
    let dead = [(before, false), (revoked, false), (closed, false)];
    let made = Made { tokens: alive.into_iter().chain(dead).collect(), gateway, folder };
    p.run(&format!("export --all {}", made.file())).ok();
    made
}

fn other() -> Program {
    let p = Program { database: std::sync::Arc::new(Database::sqlite()) };
    p.run("migrate").ok();
    p
}

fn answers(p: &Program) -> Vec<String> {
    ASKED.iter().map(|words| p.run(&format!("{words} --output json")).ok()).collect()
}

async fn a_deployment_moves_by_two_commands_and_everything_is_as_it_was(p: Program) {
    let made = make(&p).await;
    let text = std::fs::read_to_string(made.file()).expect("the file");
    for (token, _) in &made.tokens {
        assert!(!text.contains(token.as_str()));
    }
    assert!(!text.contains(&made.gateway));
    // To the other kind of store and back: from either store to SQLite, and from there into this one, which still has
    // its records.
    let target = other();
    let dry = target.run(&format!("import --dry-run {} --output json", made.file())).json();
    assert_eq!((&dry["written"], &dry["bad"]), (&0.into(), &0.into()), "{dry}");
    assert_eq!(
        target.run("workspace list --output json").json()["workspaces"],
        serde_json::json!([])
    );
    let report = target.run(&format!("import {} --output json", made.file())).json();
    // 3 workspaces, 2 users, 2 memberships, 7 credentials, 3 callers.
    assert_eq!((&report["written"], &report["bad"]), (&17.into(), &0.into()), "{report}");
    for (token, alive) in &made.tokens {
        let answer: Value =
            serde_json::from_str(&target.pipe(token, "introspect --output json").out)
                .expect("JSON");
        assert_eq!(answer["active"], *alive, "{answer}");
    }
    assert_eq!(answers(&target), answers(&p));
    // The export of the target equals the first export, except for the time in the first line.
    let again = made.folder.path().join("again.jsonl");
    target.run(&format!("export --all {}", again.display())).ok();
    let again = std::fs::read_to_string(again).expect("the file");
    let rest = |text: &str| text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(rest(&again), rest(&text));
    // A second import changes nothing, and neither does an import here.
    for store in [&target, &p] {
        let report = store.run(&format!("import {} --output json", made.file())).json();
        assert_eq!((&report["written"], &report["already_there"]), (&0.into(), &17.into()));
    }
    let story = target.run("audit export").ok();
    for action in [
        "workspace.put",
        "user.put",
        "membership.put",
        "caller.create",
        "credential.import",
        "store.import",
    ] {
        assert!(story.contains(&format!(r#""action":"{action}""#)), "{action}");
    }
}

async fn a_difference_in_the_target_is_a_conflict_and_nothing_is_written(p: Program) {
    let target = other();
    target.run("workspace put acme --id another").ok();
    target.run("user put ada --name \"Another Ada\"").ok();
    target.run("caller create edge --permission introspect").ok();
    let before = target.run("audit export").ok();
    let made = make(&p).await;
    let refused = target.run(&format!("import {} --output json", made.file()));
    assert_eq!(refused.code, Some(1));
    for reason in [
        "line 2: workspace: another workspace has its slug or id here",
        "differs in display_name",
        "caller: another caller has its name here",
    ] {
        assert!(refused.err.contains(reason), "{reason}: {}", refused.err);
    }
    let report: Value = serde_json::from_str(&refused.out).expect("JSON");
    assert_eq!(report["written"], 0);
    assert!(report["nothing_written"].is_string(), "{report}");
    assert_eq!(target.run("audit export").ok(), before, "nothing is written");
    // A credential that is revoked in the file and active here is a conflict too. Revoked credentials stay revoked.
    let fresh = other();
    let text = std::fs::read_to_string(made.file()).expect("the file");
    let alive = made.folder.path().join("alive.jsonl");
    let revived: String = text
        .lines()
        .map(|line| {
            let mut record: Value = serde_json::from_str(line).expect("JSON");
            if record["record"] == "credential" {
                record.as_object_mut().expect("an object").remove("revoke_time");
            }
            format!("{record}\n")
        })
        .collect();
    std::fs::write(&alive, revived).expect("written");
    fresh.run(&format!("import {}", alive.display())).ok();
    let refused = fresh.run(&format!("import {}", made.file()));
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.err.contains("it is revoked in the file but not here: revoke it first"),
        "{}",
        refused.err
    );
}

async fn an_incomplete_file_is_refused_and_nothing_is_written(p: Program) {
    let made = make(&p).await;
    let text = std::fs::read_to_string(made.file()).expect("the file");
    let lines: Vec<_> = text.lines().collect();
    let without = |n: usize| {
        let kept = lines.iter().enumerate().filter(|(i, _)| *i != n);
        kept.map(|(_, line)| format!("{line}\n")).collect::<String>()
    };
    let swapped = {
        let mut lines = lines.clone();
        lines.swap(1, 5);
        lines.join("\n")
    };
    let target = other();
    target.run("workspace list").ok();
    for (what, text) in [
        ("its last line is missing", without(lines.len() - 1)),
        ("not as many records", without(3)),
        ("not in the order", swapped),
        (
            "not a JSON object with a known `record`",
            text.replace(r#""record":"user""#, r#""record":"robot""#),
        ),
        ("version", text.replace(r#""version":1"#, r#""version":2"#)),
    ] {
        let refused = target.pipe(&text, "import --format jsonl -");
        assert_eq!(refused.code, Some(1), "{what}");
        assert!(
            refused.err.contains(what) && refused.err.contains("nothing is written"),
            "{}",
            refused.err
        );
    }
    // One bad record is enough.
    let bad = text.replace(r#""role":"admin""#, r#""role":"king""#);
    let refused = target.pipe(&bad, "import --format jsonl -");
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("membership: "), "{}", refused.err);
    assert_eq!(
        target.run("workspace list --output json").json()["workspaces"],
        serde_json::json!([])
    );
    assert!(
        target
            .pipe(&text, "import --format jsonl --create-missing -")
            .failed(2)
            .contains("--create-missing")
    );
    assert!(p.run("export --all --format csv").failed(2).contains("--all"));
    p.run("export --all --workspace acme").failed(2);
}

async fn an_import_restores_nothing_that_was_revoked_or_restricted(p: Program) {
    let source = other();
    let made = make(&source).await;
    let import = format!("import {} --output json", made.file());
    assert_eq!(p.run(&import).json()["narrower_here"], 0);
    let id = |token: &str| {
        let answer = p.pipe(token, "introspect --output json").out;
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        answer["credential"]["id"].as_str().expect("an id").to_owned()
    };
    let (dead, pat) = (&made.tokens[0].0, &made.tokens[1].0);
    let (dead_id, pat_id) = (id(dead), id(pat));
    p.pipe(dead, "key revoke -").ok();
    p.run(&format!("pat update {pat_id} --ttl 1h --allow-ip 10.0.0.0/8")).ok();
    // A credential that can do less here is reported by number and by id, and stays as it is.
    let again = p.run(&import);
    assert_eq!(again.code, Some(0), "{}", again.err);
    let report: Value = serde_json::from_str(&again.out).expect("JSON");
    assert_eq!((&report["narrower_here"], &report["already_there"]), (&2.into(), &17.into()));
    for said in [
        format!("credential {dead_id} is revoked here"),
        format!("credential {pat_id} is to expire earlier, of a narrower ip_allowlist here"),
    ] {
        assert!(again.err.contains(&said), "{said}: {}", again.err);
    }
    assert_eq!(p.pipe(dead, "introspect").code, Some(1));
    // The same holds once its row is deleted.
    let purged = p.run("purge --dead-after 1ms --output json").json();
    assert_ne!(purged["purged_count"], 0, "{purged}");
    let again = p.run(&import);
    let said = format!("credential {dead_id} was purged here, and is not imported again");
    assert!(again.code == Some(0) && again.err.contains(&said), "{}", again.err);
    assert_eq!(p.pipe(dead, "introspect").code, Some(1));
    // The same holds for an export of credentials only, and for its owner.
    let plain = source.run("export").ok();
    p.run("user delete bob").ok();
    let of_bob = "user,name,scopes,token\nbob,n,read,legacy-000001-5f2c9a71d03b4e86\n";
    for (text, format, said) in [
        (plain.as_str(), "jsonl", "id: this credential was purged here"),
        (of_bob, "csv", "it was deleted here"),
    ] {
        let refused = p.pipe(text, &format!("import --format {format} --create-missing -"));
        assert!(refused.code == Some(1) && refused.err.contains(said), "{said}: {}", refused.err);
    }
    assert_eq!(p.pipe(dead, "introspect").code, Some(1));
    assert!(!p.run("user list").ok().contains("bob"));
    // Every other difference is a conflict, for the operator to resolve.
    for narrowing in [
        "member delete --workspace acme --user ada",
        "workspace put acme --keys-max 5",
        "workspace delete closed",
        "user put ada --disabled",
        "caller revoke gateway",
        "caller update edge --permission audit.read --ttl 1d",
    ] {
        p.run(narrowing).ok();
    }
    let before = p.run("audit export").ok();
    let refused = p.run(&format!("import {}", made.file()));
    assert_eq!(refused.code, Some(1));
    for said in [
        "membership: it was removed here",
        "differs in policy",
        "workspace: a workspace with this id was deleted here",
        "differs in disabled (disabled here)",
        "revoke_time (revoked here)",
        "differs in permissions, expire_time",
    ] {
        assert!(refused.err.contains(said), "{said}: {}", refused.err);
    }
    assert_eq!(p.run("audit export").ok(), before, "nothing is written");
}
