//! The lifecycle of a credential on the command line, and a server that is killed during rotations.

use std::collections::BTreeSet;
use std::io::BufReader;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sophic_auth::grpc::pb::{
    self, IntrospectRequest, ListCredentialsRequest, RotateRequest, RotateResponse,
};
use sophic_auth_client::pb::auth_service_client::AuthServiceClient;
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::program::{Program, operator, split};
use crate::stores::on_every_store;
use crate::waits::{self, eventually};

on_every_store! {
    a_key_is_shown_updated_disabled_and_rotated,
    a_pat_is_not_found_as_a_key,
    lists_take_filters_and_orders,
    credentials_that_expire_soon_have_an_exit_code,
    a_workspace_policy_applies_to_the_command_line,
    the_flags_of_serve_make_its_policy,
    a_retried_command_makes_no_second_credential,
    a_rotation_interrupted_while_it_waits_has_printed_its_token,
    an_interrupted_update_waits_again_before_it_is_refused,
    a_refused_command_never_claims_a_change,
    a_server_killed_in_the_middle_of_rotations_leaves_none_half_done,
}

fn made(p: &Program, words: &str) -> (String, String) {
    let made = p.run(&format!("{words} --output json")).json();
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    (text(&made["credential"]["id"]), text(&made["token"]))
}

/// Whether the token is accepted.
fn allowed(p: &Program, token: &str) -> bool {
    p.pipe(token, "introspect --workspace acme").code == Some(0)
}

async fn a_key_is_shown_updated_disabled_and_rotated(p: Program) {
    p.run("workspace put acme").ok();
    let (id, token) = made(&p, "key create --workspace acme --name ci --scope read --scope admin");
    let shown = p.run(&format!("key show {id} --output json")).json();
    assert_eq!((&shown["id"], &shown["state"]), (&Value::from(&*id), &Value::from("active")));
    let words = "--name \"ci 2\" --scope read --allow-ip 192.0.2.0/24 --annotation team=a --ttl 1d";
    let changed = p.run(&format!("key update {id} {words} --output json")).json();
    assert_eq!(changed["name"], "ci 2");
    assert_eq!(changed["scopes"], serde_json::json!(["read"]));
    assert_eq!(changed["ip_allowlist"], serde_json::json!(["192.0.2.0/24"]));
    assert_eq!(changed["annotations"], serde_json::json!({"team": "a"}));
    assert!(changed["expire_time"].is_string());
    let words = format!("key update {id} --no-annotations --allow-any-ip --output json");
    let cleared = p.run(&words).json();
    assert!(cleared.get("annotations").is_none() && cleared.get("ip_allowlist").is_none());
    let wider = p.run(&format!("key update {id} --scope admin")).failed(2);
    assert!(wider.contains("--scope: "), "{wider}");
    let stale = p.run(&format!("key update {id} --name x --etag 1")).failed(1);
    assert!(stale.contains("etag"), "{stale}");
    let etag = cleared["etag"].as_str().expect("an etag");
    // A shell takes the quotes away.
    let words =
        format!("key update {id} --name ci --etag {} --output json", etag.trim_matches('"'));
    assert_eq!(p.run(&words).json()["name"], "ci");
    assert!(p.run(&format!("key update {id}")).failed(2).contains("--name"));
    assert!(allowed(&p, &token));
    p.run(&format!("key disable {id} --reason \"to see\"")).ok();
    assert!(!allowed(&p, &token));
    p.run(&format!("key enable {id}")).ok();
    assert!(allowed(&p, &token));
    let successor = p.run(&format!("key rotate {id} --overlap 1h --output token")).word();
    assert!(allowed(&p, &token) && allowed(&p, &successor));
    let again = p.run(&format!("key rotate {id}")).failed(1);
    assert!(again.contains("successor"), "{again}");
    p.run(&format!("key revoke {id}")).ok();
    assert!(!allowed(&p, &token) && allowed(&p, &successor));
    let gone = p.run(&format!("key enable {id}")).failed(1);
    assert!(gone.contains("revoked"), "{gone}");
}

/// A crashed replica with a lease much longer than the test.
async fn dead_replica(p: &Program) {
    let store =
        sophic_auth::store::open_existing(&p.database.location()).await.expect("the store opens");
    let mut feed = store.open_feed().await.expect("a feed");
    let id = sophic_auth::model::ReplicaId(uuid::Uuid::from_u128(7));
    feed.register(id, std::time::Duration::from_mins(1)).await.expect("the replica is registered");
}

async fn a_rotation_interrupted_while_it_waits_has_printed_its_token(p: Program) {
    p.run("workspace put acme").ok();
    let (id, old) = made(&p, "key create --workspace acme --name ci --scope read");
    p.run("caller create gateway --permission introspect").ok();
    dead_replica(&p).await;
    let mut rotating = p.start(&format!("key rotate {id} --output token"));
    let token = rotating.line();
    rotating.signal(Signal::INT);
    assert!(!rotating.end().success(), "it was waiting");
    assert!(allowed(&p, token.trim()) && !allowed(&p, &old));
    let mut rotating = p.start("caller rotate gateway --overlap 0s --output json");
    let shown: Value = rotating.json();
    assert_eq!(shown["end_pending"], true);
    rotating.signal(Signal::INT);
    assert!(!rotating.end().success(), "it was waiting");
    assert!(shown["token"].as_str().expect("a token").starts_with("sophic_svc_"));
}

/// Runs a command until it reports its wait, and ends it by Ctrl-C. Returns its exit code and its last words.
fn interrupted(p: &Program, words: &str) -> (Option<i32>, String) {
    let mut words = p.command(&split(words));
    let words = words.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = words.spawn().expect("the process starts");
    let mut errors = BufReader::new(child.stderr.take().expect("its errors"));
    let mut said = String::new();
    loop {
        let line = waits::read_line(child.id(), &mut errors);
        said += &line;
        if line.is_empty() || line.contains("; waiting until ") {
            break;
        }
    }
    // Fails if the process has ended.
    let _ = kill_process(Pid::from_child(&child), Signal::INT);
    child.stderr = Some(errors.into_inner());
    let output = waits::output(child);
    (output.status.code(), said + &String::from_utf8_lossy(&output.stderr))
}

async fn a_refused_command_never_claims_a_change(p: Program) {
    p.run("workspace put acme").ok();
    let make = "key create --workspace acme --name ci --scope read --scope capture";
    let (key, token) = made(&p, make);
    dead_replica(&p).await;
    for words in [
        format!("pat revoke {key}"),
        format!("pat rotate {key} --overlap 0s"),
        format!("key update {key} --scope read --etag 7"),
        format!("key rotate {key} --etag 7"),
        "caller revoke nosuch".to_owned(),
        "workspace delete nosuch".to_owned(),
    ] {
        let (code, said) = interrupted(&p, &words);
        assert_eq!(code, Some(130), "{words}: {said}");
        assert!(said.starts_with("refused ("), "{words}: {said}");
        assert!(said.contains("this command changed nothing"), "{words}: {said}");
        assert!(!said.contains("committed"), "{words}: {said}");
    }
    assert!(allowed(&p, &token));
}

async fn an_interrupted_update_waits_again_before_it_is_refused(p: Program) {
    p.run("workspace put acme").ok();
    let make = "key create --workspace acme --name ci --scope read --scope capture";
    let ((later, _), (by_etag, _), (rotated, _)) = (made(&p, make), made(&p, make), made(&p, make));
    p.run("caller create gateway --permission introspect").ok();
    dead_replica(&p).await;
    let updates = [
        format!("key update {later} --ttl 1h"),
        format!("key update {by_etag} --scope read --etag 1"),
    ];
    for (expected, first) in [(3, "committed; waiting"), (130, "refused (")] {
        for words in &updates {
            let (code, said) = interrupted(&p, words);
            assert_eq!(code, Some(expected), "{words}: {said}");
            assert!(said.contains(first), "{words}: {said}");
            assert!(said.contains("run the same command again"), "{words}: {said}");
        }
    }
    // The same command could rotate once more, so the report names another one.
    let rotations = [
        ("caller rotate gateway".to_owned(), "caller update gateway --name gateway".to_owned()),
        (format!("key rotate {rotated}"), format!("key revoke {rotated}")),
        (
            format!("key rotate {by_etag} --overlap 1h"),
            format!("key update {by_etag} --expire-time "),
        ),
    ];
    for (words, waiting) in rotations {
        let (code, said) = interrupted(&p, &words);
        assert_eq!(code, Some(3), "{words}: {said}");
        let (_, named) = said.split_once("run `sophic-auth ").expect("a command");
        assert!(named.starts_with(&waiting), "{words}: {said}");
        let (named, _) = named.split_once('`').expect("its end");
        let (code, said) = interrupted(&p, named);
        assert_eq!(code, Some(130), "{named}: {said}");
        assert!(said.starts_with("nothing left to change; waiting"), "{named}: {said}");
    }
}

async fn a_pat_is_not_found_as_a_key(p: Program) {
    p.run("user put ada").ok();
    let (id, _) = made(&p, "pat create --user ada --name laptop --scope read");
    for words in ["show", "disable", "enable", "rotate", "update --name x"] {
        let (verb, rest) = words.split_once(' ').unwrap_or((words, ""));
        let said = p.run(&format!("key {verb} {id} {rest}")).failed(1);
        assert!(said.contains("no such credential"), "{words}: {said}");
        p.run(&format!("pat {verb} {id} {rest}")).ok();
        if verb == "rotate" {
            break;
        }
    }
}

fn names(p: &Program, words: &str) -> Vec<String> {
    let listed = p.run(&format!("{words} --output json")).json();
    let listed = listed["credentials"].as_array().expect("a list").clone();
    listed.iter().map(|one| one["name"].as_str().expect("a name").to_owned()).collect()
}

async fn lists_take_filters_and_orders(p: Program) {
    p.run("workspace put acme").ok();
    p.run("user put ada").ok();
    let (first, _) = made(&p, "key create --workspace acme --name ci-1 --scope read --ttl 10d");
    made(&p, "key create --workspace acme --name ci-2 --scope admin --ttl 5d");
    made(&p, "pat create --user ada --name laptop --scope read");
    p.run(&format!("key disable {first}")).ok();
    let of_operator = format!("key list --creator {}", operator());
    let cases: [(&str, &[&str]); 13] = [
        ("credentials list", &["ci-1", "ci-2", "laptop"]),
        ("credentials list --order newest --limit 2", &["laptop", "ci-2"]),
        ("credentials list --order expiry", &["ci-2", "ci-1"]),
        ("credentials list --order last-use --kind key", &["ci-1", "ci-2"]),
        ("credentials list --user ada", &["laptop"]),
        ("credentials list --workspace acme --scope admin", &["ci-2"]),
        ("credentials list --state disabled", &["ci-1"]),
        ("credentials list --name-prefix ci- --state active", &["ci-2"]),
        ("key list --expiring-within 7d", &["ci-2"]),
        (&of_operator, &["ci-1", "ci-2"]),
        ("key list --creator user:ada", &[]),
        ("pat list --user ada --unused-for 90d", &["laptop"]),
        ("key list --expires-before 2000-01-01T00:00:00Z", &[]),
    ];
    for (words, expected) in cases {
        assert_eq!(names(&p, words), expected, "{words}");
    }
    assert_eq!(names(&p, &format!("key list --family {first}")), ["ci-1"]);
    p.run("credentials list --user ada --workspace acme").failed(2);
    assert!(p.run("key list --unused-since yesterday").failed(2).contains("--unused-since"));
}

async fn credentials_that_expire_soon_have_an_exit_code(p: Program) {
    p.run("workspace put acme").ok();
    made(&p, "key create --workspace acme --name later --scope read --ttl 30d");
    made(&p, "key create --workspace acme --name never --scope read");
    let none = p.run("credentials expiring --within 14d --output json").json();
    assert_eq!((&none["count"], &none["within"]), (&Value::from(0), &Value::from("14days")));
    let (id, _) = made(&p, "key create --workspace acme --name soon --scope read --ttl 13d");
    made(&p, "key create --workspace acme --name sooner --scope read --ttl 1d");
    let some = p.run("credentials expiring --within 14d --output json");
    assert_eq!((some.code, some.err.as_str()), (Some(1), ""));
    let json: Value = serde_json::from_str(&some.out).expect("JSON");
    assert_eq!(json["count"], 2);
    assert_eq!(json["credentials"][0]["name"], "sooner");
    assert!(json["credentials"][1]["expire_time"].is_string());
    let table = p.run("credentials expiring --within 14d");
    assert!(table.code == Some(1) && table.out.contains("soon"), "{table:?}");
    p.run(&format!("key revoke {id}")).ok();
    let left = p.run("credentials expiring --within 14d --workspace acme --output json");
    assert!(left.code == Some(1) && left.out.contains("\"count\":1"), "{left:?}");
    assert!(
        p.run("credentials expiring --within 14d --workspace other").failed(2).contains("tell")
    );
    p.run("credentials expiring").failed(2);
    p.run("credentials expiring --within soon").failed(2);
}

async fn a_workspace_policy_applies_to_the_command_line(p: Program) {
    let put = p.run("workspace put acme --key-lifetime-max 90d --keys-max 1 --output json").json();
    let policy = serde_json::json!({"key_lifetime_max": "7776000s", "keys_max": 1});
    assert_eq!(put["policy"], policy);
    let said = p.run("key create --workspace acme --name ci --scope read").failed(2);
    assert!(said.contains("90d"), "{said}");
    made(&p, "key create --workspace acme --name ci --scope read --ttl 90d");
    let said = p.run("key create --workspace acme --name ci --scope read --ttl 90d").failed(1);
    assert!(said.contains("max: 1"), "{said}");
    let kept = p.run("workspace put acme --name Acme --output json").json();
    assert_eq!(kept["policy"], policy);
    let listed = p.run("workspace list --output json").json();
    assert_eq!(listed["workspaces"][0]["policy"], policy);
    // Limits without a flag stay. 0 and `--no-…` remove a limit.
    let put = |flags: &str| {
        p.run(&format!("workspace put acme --output json {flags}")).json()["policy"].clone()
    };
    assert_eq!(
        put("--keys-max 9"),
        serde_json::json!({"key_lifetime_max": "7776000s", "keys_max": 9})
    );
    let policy = put("--key-expiry-required --key-lifetime-max 0s");
    assert_eq!(policy, serde_json::json!({"key_expiry_required": true, "keys_max": 9}));
    assert_eq!(put("--overlap-max 1h --keys-max 0")["key_expiry_required"], true);
    assert_eq!(put("--no-key-expiry-required"), serde_json::json!({"overlap_max": "3600s"}));
    let error = p.run("workspace put acme --overlap-min 2h").failed(2);
    assert!(error.contains("--overlap-min") && error.contains("--overlap-max"), "{error}");
    let gone = p.run("workspace put acme --no-policy --output json").json();
    assert!(gone.get("policy").is_none());
    made(&p, "key create --workspace acme --name ci --scope read");
    p.run("workspace put acme --no-policy --keys-max 1").failed(2);
    p.run("workspace put acme --key-expiry-required --no-key-expiry-required").failed(2);
}

const SERVE: &str = "serve --listen 127.0.0.1:0 --http-listen 127.0.0.1:0 --output json";

/// A client of the server that printed this line.
async fn client(line: &Value) -> AuthServiceClient<Channel> {
    let url = line["grpc"].as_str().expect("a URL").to_owned();
    AuthServiceClient::connect(url).await.expect("the server accepts the connection")
}

fn by<T>(caller: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let value = format!("Bearer {caller}").parse().expect("a header");
    request.metadata_mut().insert("authorization", value);
    request
}

async fn the_flags_of_serve_make_its_policy(p: Program) {
    p.run("workspace put acme").ok();
    let words = "caller create root --permission credentials.admin --output token";
    let caller = p.run(words).word();
    let flags = "--key-lifetime-max 30d --workspace-keys-max 1 --overlap-max 1h";
    let mut serving = p.start(&format!("{SERVE} {flags}"));
    let mut client = client(&serving.json()).await;
    let request = pb::CreateKeyRequest {
        workspace: "acme".to_owned(),
        name: "ci".to_owned(),
        scopes: vec![1],
        ..Default::default()
    };
    let status = client.create_key(by(&caller, request)).await.expect_err("no expiry");
    assert!(status.message().contains("30d"), "{status:?}");
    let said = p.run("serve --overlap-min 2h --overlap-max 1h").failed(2);
    assert!(said.contains("--overlap-max"), "{said}");
    let said = p.run("serve --key-lifetime-max 0s").failed(2);
    assert!(said.contains("--key-lifetime-max"), "{said}");
}

async fn a_retried_command_makes_no_second_credential(p: Program) {
    p.run("workspace put acme").ok();
    let words = "key create --workspace acme --name ci --scope read \
                 --request-id 3f0c9a52-8f3e-4d59-9b1c-6a1c2a7f0e11";
    let (first, dead) = made(&p, words);
    let (again, token) = made(&p, words);
    assert_eq!(first, again);
    assert!(!allowed(&p, &dead) && allowed(&p, &token));
    assert_eq!(names(&p, "key list"), ["ci"]);
}

/// Rotates this key and its successors until the server is killed. Returns the tokens, the id of the last credential, and
/// the request that got no answer.
async fn rotate_until_gone(
    mut client: AuthServiceClient<Channel>,
    caller: String,
    first: (String, String),
    worker: u128,
) -> (Vec<(String, String)>, RotateRequest) {
    let mut shown = vec![first];
    for number in 0.. {
        let request = RotateRequest {
            credential_id: shown.last().expect("there is one").0.clone(),
            request_id: uuid::Uuid::from_u128(worker << 64 | number).to_string(),
            ..Default::default()
        };
        let rotated: Result<tonic::Response<RotateResponse>, Status> =
            client.rotate(by(&caller, request.clone())).await;
        match rotated {
            Ok(response) => {
                let response = response.into_inner();
                let id = response.credential.expect("the successor").id;
                shown.push((id, response.token));
            }
            Err(_) => return (shown, request),
        }
    }
    unreachable!("the server is killed");
}

async fn a_server_killed_in_the_middle_of_rotations_leaves_none_half_done(p: Program) {
    const WORKERS: u128 = 4;
    p.run("workspace put acme").ok();
    let permissions = "--permission introspect --permission credentials.admin";
    let caller = p.run(&format!("caller create root {permissions} --output token")).word();
    for round in 0..3 {
        let mut serving = p.start(SERVE);
        let client_of = client(&serving.json()).await;
        let mut workers = Vec::new();
        for worker in 0..WORKERS {
            let first = made(&p, "key create --workspace acme --name ci --scope read");
            let (client, caller) = (client_of.clone(), caller.clone());
            let number = round * WORKERS + worker + 1;
            workers.push(tokio::spawn(rotate_until_gone(client, caller, first, number)));
        }
        // Killed once some rotations are done.
        let begun = p.database.clone();
        eventually("some rotations are done", async || {
            count(&begun, "SELECT count(*) FROM requests").await >= (round as i64 + 1) * 20
        })
        .await;
        serving.signal(Signal::KILL);
        serving.end();
        let mut again = p.start(SERVE);
        let mut client = client(&again.json()).await;
        for worker in workers {
            let (shown, unanswered) = worker.await.expect("the process ends");
            let whole = check_family(&mut client, &caller, &shown).await;
            // A retry of the unanswered call leads to exactly one successor.
            let rotated =
                client.rotate(by(&caller, unanswered)).await.expect("the rotation succeeds");
            let rotated = rotated.into_inner();
            let id = rotated.credential.expect("the successor").id;
            let family = family(&mut client, &caller, &shown[0].0).await;
            assert_eq!(family.last().map(|last| &last.id), Some(&id));
            assert_eq!(family.len(), shown.len() + 1, "{whole} before");
            assert!(active(&mut client, &caller, &rotated.token).await);
            assert!(!rotated.end_pending);
            let (_, old) = shown.last().expect("there is one");
            assert!(!active(&mut client, &caller, old).await, "a retry completes the second step");
        }
        again.signal(Signal::TERM);
        assert_eq!(again.end().code(), Some(0));
    }
}

/// Checks that no acknowledged rotation is lost and none is half done. Returns the size of the family.
async fn check_family(
    client: &mut AuthServiceClient<Channel>,
    caller: &str,
    shown: &[(String, String)],
) -> usize {
    let family = family(client, caller, &shown[0].0).await;
    assert!([shown.len(), shown.len() + 1].contains(&family.len()), "{}", family.len());
    let ids: BTreeSet<_> = family.iter().map(|one| &one.id).collect();
    assert!(shown.iter().all(|(id, _)| ids.contains(id)), "acknowledged rotations are kept");
    // All but the last are revoked, and each one's predecessor is the one before it.
    for (one, next) in family.iter().zip(&family[1..]) {
        assert_eq!(next.predecessor_id, one.id);
        let end = one.revoke_time.or(one.expire_time).expect("it is revoked or expires");
        let made = next.create_time.expect("a time");
        // A server killed before the second step leaves the old token valid for a minute. A retry ends it.
        assert!((0..=60).contains(&(end.seconds - made.seconds)), "{end:?} {made:?}");
    }
    assert!(family.last().is_some_and(|last| last.revoke_time.is_none()));
    let (last, before) = shown.split_last().expect("there is one");
    for (_, token) in before {
        assert!(!active(client, caller, token).await);
    }
    // If there is a successor, the server was killed before or after the second step, which ends the old token.
    assert!(active(client, caller, &last.1).await || family.len() > shown.len());
    family.len()
}

async fn family(
    client: &mut AuthServiceClient<Channel>,
    caller: &str,
    id: &str,
) -> Vec<pb::Credential> {
    let request =
        ListCredentialsRequest { family_id: id.to_owned(), page_size: 1_000, ..Default::default() };
    let listed = client.list_credentials(by(caller, request)).await.expect("a page");
    listed.into_inner().credentials
}

async fn active(client: &mut AuthServiceClient<Channel>, caller: &str, token: &str) -> bool {
    let request = IntrospectRequest { token: token.to_owned(), ..Default::default() };
    client.introspect(by(caller, request)).await.expect("an answer").into_inner().active
}

/// Runs a counting statement directly on the database.
async fn count(database: &crate::stores::Database, statement: &'static str) -> i64 {
    use sqlx::{Connection as _, Row as _};
    let row = match database.file() {
        Some(file) => {
            use sqlx::ConnectOptions as _;
            let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file).read_only(true);
            let mut connection = options.connect().await.expect("the file opens");
            let row = sqlx::query(statement).fetch_one(&mut connection).await.expect("a row");
            return row.get(0);
        }
        None => {
            let connecting = sqlx::PgConnection::connect(&database.url());
            let mut connection = connecting.await.expect("the database answers");
            sqlx::query(statement).fetch_one(&mut connection).await.expect("a row")
        }
    };
    row.get(0)
}
