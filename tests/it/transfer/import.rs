//! Importing through the use case.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};
use sophic_auth::model::{
    AuditEvent, CredentialId, Digest, DisplayName, PolicyChange, Revision, Scope, ScopeSet, Slug,
    WorkspaceId, WorkspaceName,
};
use sophic_auth::service::{
    Context, ImportOptions, ImportPhase, IntrospectionRequest, PutWorkspace, TransferFormat, view,
};
use sophic_auth::store::{AuditFilter, ChangedEntity};

use super::{ALL_OR_NOTHING, EACH, Over, keys, legacy};
use crate::stores::on_every_store;

on_every_store! {
    tokens_and_digests_of_another_system_introspect,
    a_second_import_changes_nothing,
    an_interrupted_import_can_be_continued,
    bad_lines_are_reported_by_number_and_left_out,
    bad_json_is_reported_by_line,
    no_error_repeats_the_content_of_the_file,
    all_or_nothing_writes_nothing_if_a_line_is_bad,
    all_or_nothing_writes_many_batches_in_one_transaction,
    a_plaintext_token_in_another_column_stops_the_import,
    duplicates_are_found_across_batches,
    a_digest_of_another_owner_is_a_conflict,
    lines_with_missing_owners_are_bad_unless_owners_are_created,
    imported_credentials_get_the_current_watermark_of_their_owner,
    a_batch_is_one_change_and_each_credential_has_its_event,
    imported_credentials_are_exempt_from_policies,
    imported_credentials_end_with_their_owner_and_each_has_an_event,
    a_missing_header_is_refused_without_repeating_the_line,
    a_dry_run_writes_nothing,
}

pub(super) async fn is_allowed(over: &Over, token: &str) -> bool {
    let request = IntrospectionRequest {
        token,
        workspace: "",
        required_scopes: ScopeSet::from_scopes(&[Scope::Read]),
        client_ip: None,
        fresh: true,
        at_least_revision: 0,
        caller_id: None,
    };
    over.service.introspect(&request).await.expect("an answer").decision.is_allowed()
}

pub(super) async fn count(over: &Over) -> usize {
    over.export(TransferFormat::Jsonl).await.lines().count()
}

async fn events(over: &Over, action: &str) -> usize {
    let events = over
        .database
        .open()
        .await
        .list_audit_events(&AuditFilter::default(), None, 10_000)
        .await
        .expect("events");
    events.iter().filter(|event| event.action == action).count()
}

async fn tokens_and_digests_of_another_system_introspect(over: Over) {
    assert!(!is_allowed(&over, &legacy(1)).await);
    let digest = Digest::of(&legacy(2)).to_hex();
    let text = format!(
        "kind,workspace,name,scopes,digest,token,ip_allowlist,annotations,revoke_time\r\n\
         key,acme,\"one, \"\"quoted\"\"\",\"read,admin\",,{},,\"{{\"\"team\"\":\"\"search\"\"}}\",\r\n\
         key,w,two,read,{digest},,,,\r\n\
         \r\n\
         key,w,three,read,,{},,,2025-01-31T12:00:00+02:00\r\n",
        legacy(1),
        legacy(3)
    );
    let (report, recorded) = over.import_csv(&text).await;
    assert_eq!(recorded.bad, []);
    assert_eq!((report.lines, report.written, report.existing, report.bad), (3, 3, 0, 0));
    assert!(is_allowed(&over, &legacy(1)).await);
    assert!(is_allowed(&over, &legacy(2)).await);
    assert!(!is_allowed(&over, &legacy(3)).await, "it was imported as revoked");
    assert!(!is_allowed(&over, &digest).await, "a digest is no token");
    let exported = over.export(TransferFormat::Jsonl).await;
    assert!(exported.contains(r#""name":"one, \"quoted\"""#), "{exported}");
    assert!(exported.contains(r#""annotations":{"team":"search"}"#), "{exported}");
    assert!(exported.contains(r#""revoke_time":"2025-01-31T10:00:00Z""#), "{exported}");
    assert!(exported.contains(r#""creator":"operator:test""#), "{exported}");
    assert!(!exported.contains(&legacy(1)));
}

async fn a_second_import_changes_nothing(over: Over) {
    let text = keys(0..2_500);
    let (report, _) = over.import_csv(&text).await;
    assert_eq!((report.written, report.existing), (2_500, 0));
    let export = over.export(TransferFormat::Csv).await;
    let revision = over.service.revision().await.expect("a revision");
    let imports = events(&over, "credential.import").await;
    for options in [EACH, ALL_OR_NOTHING] {
        let (report, recorded) = over.import(&text, TransferFormat::Csv, options).await;
        let report = report.expect("a report");
        assert_eq!((report.written, report.existing, report.bad), (0, 2_500, 0));
        assert!(!recorded.phases.contains(&ImportPhase::Write));
    }
    // Exported credentials are recognized as already there.
    let (report, recorded) = over.import_csv(&export).await;
    assert_eq!(recorded.bad, []);
    assert_eq!((report.written, report.existing, report.bad), (0, 2_500, 0));
    assert_eq!(over.export(TransferFormat::Csv).await, export);
    assert_eq!(over.service.revision().await.expect("a revision"), revision);
    assert_eq!(events(&over, "credential.import").await, imports);
}

async fn an_interrupted_import_can_be_continued(over: Over) {
    over.import_csv(&keys(500..1_700)).await;
    let (report, recorded) = over.import_csv(&keys(0..2_200)).await;
    assert_eq!(recorded.bad, []);
    assert_eq!((report.lines, report.written, report.existing), (2_200, 1_000, 1_200));
    assert_eq!(count(&over).await, 2_200);
}

async fn bad_lines_are_reported_by_number_and_left_out(over: Over) {
    let good = legacy(1);
    let digest = Digest::of("another").to_hex();
    let header = "kind,workspace,user,max_role,name,scopes,digest,token,ip_allowlist,annotations,\
                  create_time,expire_time,revoke_time,last_use_time,last_use_ip,predecessor_id,id";
    let empty = Digest::of("").to_hex();
    let lines = [
        // The column that is wrong, and the line.
        ("", format!("key,acme,,,good,read,,{good},,,,,,,,,")),
        ("kind", format!("robot,acme,,,n,read,{digest},,,,,,,,,,")),
        ("kind", format!(",acme,ada,,n,read,{digest},,,,,,,,,,")),
        ("workspace", format!("key,,,,n,read,{digest},,,,,,,,,,")),
        ("user", format!("key,acme,ada,,n,read,{digest},,,,,,,,,,")),
        ("max_role", format!("pat,,ada,king,n,read,{digest},,,,,,,,,,")),
        ("max_role", format!("key,acme,,owner,n,read,{digest},,,,,,,,,,")),
        ("name", format!("key,acme,,,,read,{digest},,,,,,,,,,")),
        ("name", format!("key,acme,,,a\u{202e}b,read,{digest},,,,,,,,,,")),
        ("scopes", format!("key,acme,,,n,,{digest},,,,,,,,,,")),
        ("scopes", format!("key,acme,,,n,everything,{digest},,,,,,,,,,")),
        ("digest", "key,acme,,,n,read,,,,,,,,,,,".to_owned()),
        ("digest", format!("key,acme,,,n,read,{},,,,,,,,,,", "0123")),
        ("digest", format!("key,acme,,,n,read,{},,,,,,,,,,", &digest[1..])),
        ("digest", format!("key,acme,,,n,read,{empty},,,,,,,,,,")),
        ("digest", format!("key,acme,,,n,read,{},,,,,,,,,,", "0".repeat(64))),
        ("token", format!("key,acme,,,n,read,{digest},{good},,,,,,,,,")),
        ("token", "key,acme,,,n,read,,short,,,,,,,,,".to_owned()),
        ("token", format!("key,acme,,,n,read,,{},,,,,,,,,", "ab".repeat(20))),
        ("token", format!("key,acme,,,n,read,,{good} ,,,,,,,,,")),
        ("token", format!("key,acme,,,n,read,,sophic_key_{},,,,,,,,,", "a".repeat(38))),
        ("ip_allowlist", format!("key,acme,,,n,read,{digest},,10.0.0.300,,,,,,,,")),
        ("annotations", format!("key,acme,,,n,read,{digest},,,[],,,,,,,")),
        ("create_time", format!("key,acme,,,n,read,{digest},,,,2999-01-01T00:00:00Z,,,,,,")),
        ("create_time", format!("key,acme,,,n,read,{digest},,,,yesterday,,,,,,")),
        ("create_time", format!("key,acme,,,n,read,{digest},,,,2020-01-01T00:00:60Z,,,,,,")),
        (
            "expire_time",
            format!("key,acme,,,n,read,{digest},,,,2020-01-01T00:00:00Z,2019-01-01T00:00:00Z,,,,,"),
        ),
        ("revoke_time", format!("key,acme,,,n,read,{digest},,,,,,2999-01-01T00:00:00Z,,,,")),
        ("last_use_ip", format!("key,acme,,,n,read,{digest},,,,,,,,10.0.0.1,,")),
        (
            "predecessor_id",
            format!("key,acme,,,n,read,{digest},,,,,,,,,01890a5d-ac96-774b-bcce-b302099a8057,"),
        ),
        ("id", format!("key,acme,,,n,read,{digest},,,,,,,,,,NOT-A-UUID")),
        ("it has", format!("key,acme,,,n,read,{digest},,,,,,,,,")),
        ("name", format!("key,acme,,,\"n\tn\",read,{digest},,,,,,,,,,")),
        ("", format!("key,acme,,,good too,read,,{},,,,,,,,,", legacy(2))),
    ];
    let text: String = lines.iter().map(|(_, line)| format!("{line}\n")).collect();
    let (report, recorded) = over.import_csv(&format!("{header}\n{text}")).await;
    let wanted: Vec<_> =
        lines.iter().enumerate().filter(|(_, (what, _))| !what.is_empty()).collect();
    for ((i, (what, line)), (number, reason)) in wanted.iter().zip(&recorded.bad) {
        // The header is line 1.
        assert_eq!(*number, *i as u64 + 2, "{reason}: {line}");
        assert!(reason.starts_with(what), "line {number} ({what}): {reason}");
    }
    assert_eq!(recorded.bad.len(), wanted.len());
    assert_eq!((report.written, report.bad as usize), (2, wanted.len()));
    assert!(is_allowed(&over, &legacy(1)).await && is_allowed(&over, &legacy(2)).await);
}

async fn bad_json_is_reported_by_line(over: Over) {
    let good = |n: usize| {
        let token = legacy(n);
        format!(r#"{{"workspace":"acme","name":"n","scopes":["read"],"token":"{token}"}}"#)
    };
    let digest = Digest::of("another").to_hex();
    let rest = format!(r#""workspace":"acme","scopes":["read"],"digest":"{digest}""#);
    let lines = [
        good(1),
        format!("{}{}", "[".repeat(10_000), "]".repeat(10_000)),
        format!(r#"{{"annotations":{}1{}}}"#, r#"{"a":"#.repeat(10_000), "}".repeat(10_000)),
        format!(r#"{{"name":"a","name":"b",{rest}}}"#),
        format!(r#"{{"name":"a","annotations":{{"k":"1","k":"2"}},{rest}}}"#),
        format!(r#"{{"name":1e999,{rest}}}"#),
        format!(r#"{{"name":{},{rest}}}"#, "9".repeat(5_000)),
        format!(r#"{{"name":NaN,{rest}}}"#),
        format!(r#"{{"name":"\ud800",{rest}}}"#),
        format!(r#"{{"name":["a"],{rest}}}"#),
        format!(r#"{{"name":"a","password":"b",{rest}}}"#),
        format!(r#"{{"name":"a",{rest}}} {{}}"#),
        format!(r#"{{"name":"{}",{rest}}}"#, "x".repeat(200_000)),
        format!(r#"{{"name":"a\u0000b",{rest}}}"#),
        r#"["a"]"#.to_owned(),
        good(2),
        // The file ends in the middle of a record.
        good(3)[..40].to_owned(),
    ];
    let (report, recorded) = over.import(&lines.join("\n"), TransferFormat::Jsonl, EACH).await;
    let report = report.expect("a report");
    let wanted: Vec<u64> = (2..=15).chain([17]).collect();
    assert_eq!(recorded.lines(), wanted);
    assert_eq!(report.written, 2);
    let reason = |line: u64| recorded.bad.iter().find(|(l, _)| *l == line).map(|(_, r)| r.as_str());
    assert!(reason(4).is_some_and(|reason| reason.starts_with("name: is given twice")));
    assert!(reason(10).is_some_and(|reason| reason.starts_with("name: must be a string")));
    assert!(reason(11).is_some_and(|reason| reason.contains("format: password")));
    assert!(reason(13).is_some_and(|reason| reason.contains("longer than")));
    assert!(reason(17).is_some_and(|reason| reason.contains("ends in the middle")));
}

async fn no_error_repeats_the_content_of_the_file(over: Over) {
    let secret = "Zq7hush-hush-9w";
    let text = format!(
        "kind,workspace,name,scopes,digest,token,create_time,annotations\n\
         {secret},acme,n,read,{secret},,,\n\
         key,{secret}!,n,{secret},,{secret},{secret},{secret}\n\
         key,acme,n,read,,{secret},,\"{{\"\"{secret}\"\":1}}\"\n\
         key,none-{secret},n,read,,{},,\n",
        legacy(1)
    );
    let (report, recorded) = over.import_csv(&text).await;
    assert_eq!((report.written, report.bad), (0, 4));
    let line = format!(r#"{{"{secret}":"{secret}","kind":{secret}}}"#);
    let (_, recorded_of_json) = over.import(&line, TransferFormat::Jsonl, EACH).await;
    assert_eq!(recorded_of_json.bad.len(), 1);
    for (_, reason) in recorded.bad.iter().chain(&recorded_of_json.bad) {
        assert!(!reason.contains("hush"), "{reason}");
    }
}

async fn all_or_nothing_writes_nothing_if_a_line_is_bad(over: Over) {
    let revision = over.service.revision().await.expect("a revision");
    let text = format!("{}nowhere,n,read,{}\n", keys(0..1_500), legacy(9_999));
    let (report, recorded) = over.import(&text, TransferFormat::Csv, ALL_OR_NOTHING).await;
    let report = report.expect("a report");
    assert_eq!((report.written, report.bad), (0, 1));
    assert_eq!(recorded.lines(), [1_502]);
    assert!(report.nothing_written.is_some());
    assert_eq!(over.service.revision().await.expect("a revision"), revision);
    assert_eq!(count(&over).await, 0);
}

async fn all_or_nothing_writes_many_batches_in_one_transaction(over: Over) {
    let (report, recorded) =
        over.import(&keys(0..3_200), TransferFormat::Csv, ALL_OR_NOTHING).await;
    assert_eq!(recorded.bad, []);
    assert_eq!(report.expect("a report").written, 3_200);
    assert_eq!(count(&over).await, 3_200);
    // Each credential and each batch has an event.
    assert_eq!(events(&over, "credential.import").await, 3_204);
}

async fn a_plaintext_token_in_another_column_stops_the_import(over: Over) {
    let ours = format!("sophic_key_{}", "aB3".repeat(12) + "zz");
    let digest = Digest::of("another").to_hex();
    for line in [
        format!("acme,the key is {ours} !,read,{digest},,,"),
        format!("acme,n,read,{},,,", legacy(3)),
        format!("acme,n,read,{digest},,{ours},"),
        format!("acme,n,read,{digest},,,\"{{\"\"old\"\":\"\"{ours}\"\"}}\""),
        format!("acme,{0},read,,{0},,", legacy(3)),
    ] {
        let header = "workspace,name,scopes,digest,token,creator,annotations";
        let text = format!("{header}\nacme,good,read,,{},,\n{line}\n", legacy(1));
        let (report, recorded) = over.import_csv(&text).await;
        assert_eq!(recorded.lines(), [3], "{:?}", recorded.bad);
        assert_eq!((report.written, report.bad), (0, 1));
        assert!(report.nothing_written.is_some_and(|reason| reason.contains("in the clear")));
    }
    assert_eq!(count(&over).await, 0);
}

async fn duplicates_are_found_across_batches(over: Over) {
    let id = "01890a5d-ac96-774b-bcce-b302099a8057";
    let mut text = String::from("id,workspace,name,scopes,token\n");
    for n in 0..2_500 {
        writeln!(text, ",acme,n,read,{}", legacy(n)).expect("text");
    }
    writeln!(text, ",acme,again,read,{}", legacy(7)).expect("text");
    writeln!(text, "{id},acme,first,read,{}", legacy(3_001)).expect("text");
    writeln!(text, "{id},acme,second,read,{}", legacy(3_002)).expect("text");
    let (report, mut recorded) = over.import_csv(&text).await;
    recorded.bad.sort();
    let wanted = [
        (2_502, "digest: is the same as on line 9".to_owned()),
        (2_504, "id: is the same as on line 2503".to_owned()),
    ];
    assert_eq!(recorded.bad, wanted);
    assert_eq!((report.written, report.bad), (2_501, 2));
    // A second import reports the same bad lines, and the rest as already there.
    let (report, recorded) = over.import_csv(&text).await;
    assert_eq!((report.written, report.existing, report.bad), (0, 2_501, 2));
    assert_eq!(recorded.bad.len(), 2);
}

async fn a_digest_of_another_owner_is_a_conflict(over: Over) {
    over.import_csv(&keys(0..2)).await;
    let text =
        format!("user,name,scopes,token\nada,n,read,{}\nada,n,read,{}\n", legacy(0), legacy(5));
    let (report, recorded) = over.import_csv(&text).await;
    assert_eq!(recorded.bad, [(2, "digest: a credential of another owner has it".to_owned())]);
    assert_eq!(report.written, 1);
    let id =
        over.export(TransferFormat::Csv).await.lines().nth(1).map(|line| line[..36].to_owned());
    let id = id.expect("an id");
    let (report, recorded) = over
        .import_csv(&format!("id,workspace,name,scopes,token\n{id},w,n,read,{}\n", legacy(8)))
        .await;
    assert_eq!(recorded.bad, [(2, "id: another credential with another digest has it".to_owned())]);
    assert_eq!(report.written, 0);
}

async fn lines_with_missing_owners_are_bad_unless_owners_are_created(over: Over) {
    let text = format!(
        "workspace,user,name,scopes,token\n\
         globex,,n,read,{}\n,bob,n,read,{}\nNot_a_slug,,n,read,{}\nacme,,n,read,{}\nglobex,,m,read,{}\n",
        legacy(1),
        legacy(2),
        legacy(3),
        legacy(4),
        legacy(5)
    );
    let (report, recorded) = over.import_csv(&text).await;
    assert_eq!(recorded.lines(), [2, 3, 4, 6]);
    assert_eq!(report.written, 1);
    let create_missing = ImportOptions { create_missing: true, ..EACH };
    let (report, recorded) = over.import(&text, TransferFormat::Csv, create_missing).await;
    let report = report.expect("a report");
    assert_eq!(recorded.lines(), [4]);
    assert_eq!((report.written, report.existing), (3, 1));
    assert!(is_allowed(&over, &legacy(1)).await && is_allowed(&over, &legacy(5)).await);
    assert_eq!(events(&over, "workspace.put").await, 2, "acme and globex");
    assert_eq!(events(&over, "user.put").await, 2, "ada and bob");
    let all = ImportOptions { create_missing: true, ..ALL_OR_NOTHING };
    let text = format!("user,name,scopes,token\ncarol,n,read,{}\n", legacy(6));
    let (report, _) = over.import(&text, TransferFormat::Csv, all).await;
    assert_eq!(report.expect("a report").written, 1);
}

async fn imported_credentials_get_the_current_watermark_of_their_owner(over: Over) {
    let context = || sophic_auth::service::Context::operator("test");
    let name = || sophic_auth::model::WorkspaceName::parse("acme").expect("a name");
    over.import_csv(&keys(0..1)).await;
    over.service.delete_workspace(context(), name(), false).await.expect("deleted");
    let (report, recorded) = over.import_csv(&keys(1..2)).await;
    assert_eq!((recorded.lines(), report.written), (vec![2], 0));
    let revived = format!("workspace,name,scopes,token\nw,n,read,{}\n", legacy(1));
    over.put_owners().await;
    let (report, recorded) = over.import_csv(&revived).await;
    assert_eq!(recorded.bad, []);
    assert_eq!(report.written, 1);
    assert!(is_allowed(&over, &legacy(1)).await);
    assert!(!is_allowed(&over, &legacy(0)).await, "it ended with the workspace");
}

async fn of_action(over: &Over, action: &str) -> Vec<AuditEvent> {
    let filter = AuditFilter { action: Some(action.to_owned()), ..Default::default() };
    over.database.open().await.list_audit_events(&filter, None, 10_000).await.expect("events")
}

fn json(text: Option<&String>) -> Value {
    serde_json::from_str(text.expect("it is recorded")).expect("JSON")
}

async fn a_batch_is_one_change_and_each_credential_has_its_event(over: Over) {
    let before = over.service.revision().await.expect("a revision");
    over.import_csv(&keys(0..2_001)).await;
    let changes = over.database.open().await.list_changes(before, 100).await.expect("changes");
    let revisions: Vec<_> = changes.iter().map(|change| change.revision).collect();
    assert_eq!(revisions, [1, 2, 3].map(|n| Revision(before.0 + n)));
    assert!(changes.iter().all(|change| change.entity == ChangedEntity::UnknownDigests));
    let events = of_action(&over, "credential.import").await;
    let (batches, each): (Vec<_>, Vec<_>) =
        events.iter().partition(|event| event.target_id.is_empty());
    let batches: Vec<_> = batches.iter().map(|event| json(event.after.as_ref())).collect();
    let batch = |count: u32, lines: &str| json!({"credentials": count, "lines": lines});
    let expected = [batch(1_000, "2-1001"), batch(1_000, "1002-2001"), batch(1, "2002-2002")];
    assert_eq!(batches, expected);
    let exported = over.export(TransferFormat::Csv).await;
    let ids: BTreeSet<_> = exported.lines().skip(1).map(|line| &line[..36]).collect();
    let recorded: BTreeSet<_> = each.iter().map(|event| event.target_id.as_str()).collect();
    assert_eq!((recorded, each.len()), (ids, 2_001));
    let first = each[0];
    let id = CredentialId::parse(&first.target_id).expect("an id");
    let row = over.database.open().await.find_credential(id).await.expect("a read").expect("a row");
    assert_eq!((&*first.caller, first.before.as_ref()), ("operator:test", None));
    assert_eq!(json(first.after.as_ref()), view::credential(&row, over.service.now()));
}

async fn imported_credentials_are_exempt_from_policies(over: Over) {
    let (id, slug) = (WorkspaceId::parse("strict"), Slug::parse("strict"));
    let name = DisplayName::parse("Strict").expect("a name");
    let policy = PolicyChange {
        key_lifetime_max: Some(Duration::from_hours(1)),
        key_expiry_required: Some(true),
        keys_max: Some(1),
        ..PolicyChange::default()
    };
    let (id, slug) = (id.expect("an id"), slug.expect("a slug"));
    let context = Context::operator("test");
    let (slug, display_name) = (Some(slug), Some(name));
    let put = PutWorkspace {
        id,
        slug,
        display_name,
        disabled: None,
        policy: Some(policy),
        pat_policy: None,
    };
    let put = over.service.put_workspace(context, put).await;
    put.expect("a workspace");
    let (report, recorded) = over.import_csv(&keys(0..2).replace("acme,", "strict,")).await;
    assert_eq!((report.written, recorded.bad), (2, vec![]));
}

/// More credentials than one batch reads.
async fn imported_credentials_end_with_their_owner_and_each_has_an_event(over: Over) {
    over.import_csv(&keys(0..1_201)).await;
    let name = WorkspaceName::parse("acme").expect("a name");
    let context = Context::operator("test");
    over.service.delete_workspace(context, name, false).await.expect("it is deleted");
    let [deleted] = &of_action(&over, "workspace.delete").await[..] else { panic!("one event") };
    let more = json!({"revoked_count_min": 51, "counted_by": "credential.revoke_owned"});
    assert_eq!(json(deleted.after.as_ref()), more);
    let rest = over.service.write_pending_ends(|_| ()).await.expect("it is recorded");
    assert_eq!(rest, 1_151);
    let [all] = &of_action(&over, "credential.revoke_owned").await[..] else { panic!("one event") };
    assert_eq!(json(all.after.as_ref())["revoked_count"], 1_201);
    assert_eq!(all.caller, "operator:test");
    let recorded = |events: &[AuditEvent], which: fn(&AuditEvent) -> Option<&String>| {
        let each = events.iter().filter(|event| !event.target_id.is_empty());
        let views = each.map(|event| (event.target_id.clone(), json(which(event))));
        views.collect::<BTreeMap<_, _>>()
    };
    let imported = of_action(&over, "credential.import").await;
    let revoked = of_action(&over, "credential.revoke").await;
    assert_eq!(revoked.len(), 1_201);
    let before = recorded(&revoked, |event| event.before.as_ref());
    assert_eq!(before, recorded(&imported, |event| event.after.as_ref()));
    for (id, after) in recorded(&revoked, |event| event.after.as_ref()) {
        let id = CredentialId::parse(&id).expect("an id");
        let row =
            over.database.open().await.find_credential(id).await.expect("a read").expect("a row");
        assert_eq!(after, view::credential(&row, over.service.now()));
    }
}

async fn a_missing_header_is_refused_without_repeating_the_line(over: Over) {
    for (text, wanted) in [
        (format!("acme,n,read,{}\n", legacy(1)), "acme, n, read, column 4 (not shown"),
        ("workspace,name,name\n".to_owned(), "names name twice"),
    ] {
        let (report, _) = over.import(&text, TransferFormat::Csv, EACH).await;
        let error = report.expect_err("it is refused").to_string();
        assert!(error.contains(wanted) && error.starts_with("line 1: "), "{error}");
        assert!(!error.contains("legacy"), "{error}");
    }
}

async fn a_dry_run_writes_nothing(over: Over) {
    let dry_run = ImportOptions { dry_run: true, ..EACH };
    let (report, _) = over.import(&keys(0..10), TransferFormat::Csv, dry_run).await;
    let report = report.expect("a report");
    assert_eq!((report.lines, report.written, report.bad), (10, 0, 0));
    assert_eq!(count(&over).await, 0);
}
