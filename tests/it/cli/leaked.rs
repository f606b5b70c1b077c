//! `leaked`, on the output of secret scanners.

use serde_json::{Value, json};

use super::program::Program;
use crate::stores::on_every_store;

on_every_store! {
    leaked_tokens_are_read_from_a_list_and_never_printed,
    tokens_are_found_in_the_output_of_every_scanner,
    a_token_of_another_system_is_found_alone_or_in_its_field,
    input_without_a_candidate_is_exit_code_1,
    one_line_of_many_megabytes_is_searched_whole,
    a_token_that_is_found_often_counts_once_and_keeps_its_places,
    binary_input_is_refused_unread,
    a_token_within_a_word_or_broken_over_lines_is_found,
}

fn key(p: &Program) -> (String, String) {
    p.run("workspace put acme --id w1").ok();
    let made = p.run("key create --workspace acme --name ci --scope read --output json").json();
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    (text(&made["credential"]["id"]), text(&made["token"]))
}

/// Runs `leaked` on `input` and returns its JSON, which contains none of these tokens.
fn leaked(p: &Program, input: &str, tokens: &[&str]) -> (Option<i32>, Value) {
    let ended = p.pipe(input, "leaked --reason \"found by hand\" --output json");
    for token in tokens {
        assert!(!ended.out.contains(token) && !ended.err.contains(token), "it is printed");
    }
    (ended.code, serde_json::from_str(&ended.out).expect("JSON"))
}

/// A scanner, and how it prints a token.
type Printer = (&'static str, fn(&str) -> String);

async fn leaked_tokens_are_read_from_a_list_and_never_printed(p: Program) {
    let ((first_id, first), (second_id, second)) = (key(&p), key(&p));
    let url = "https://example.com/a";
    let list = format!(
        "nothing\n{first}\r\n\n{{\"token\":\"{second}\",\"url\":\"{url}\",\"more\":1}}\n{{\"token\": broken\n"
    );
    let (code, report) = leaked(&p, &list, &[&first, &second, "broken"]);
    assert_eq!((code, &report["candidates"]), (Some(0), &2.into()), "{report}");
    let real = report["real"].as_array().expect("a list");
    assert_eq!((&real[0]["line"], &real[0]["id"]), (&2.into(), &first_id.into()));
    assert_eq!((&real[1]["line"], &real[1]["id"]), (&4.into(), &second_id.clone().into()));
    assert_eq!(real.len(), 2);
    assert_eq!(p.pipe(&first, "introspect").code, Some(1));
    let story = p.run(&format!("audit export --target {second_id}")).ok();
    assert!(story.contains("found by hand: https://example.com/a"), "{story}");
    // The second time, and from a file.
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("list.txt");
    std::fs::write(&file, format!("{first}\n")).expect("the write succeeds");
    let again = p.run(&format!("leaked {} --output json", file.display())).json();
    assert_eq!(again["real"][0]["revoked_now"], false);
    let table = p.run(&format!("leaked {}", file.display()));
    assert!(table.out.starts_with("LINE"), "{}", table.out);
    assert_eq!(table.err, "1 candidates, of which 1 are real\n");
}

async fn tokens_are_found_in_the_output_of_every_scanner(p: Program) {
    let prints: [Printer; 8] = [
        ("a gitleaks report", |token| {
            let finding = json!({"RuleID": "generic-api-key", "File": "a.env", "StartLine": 3,
                "Match": format!("KEY={token}"), "Secret": token, "Link": "https://git.example/a#L3"});
            serde_json::to_string_pretty(&json!([{"RuleID": "x", "Secret": "y"}, finding]))
                .expect("JSON")
        }),
        ("trufflehog's lines", |token| {
            let finding = json!({"SourceMetadata": {"Data": {"Git": {"file": "a.env", "line": 3}}},
                "DetectorName": "CustomRegex", "Verified": false, "Raw": token});
            format!("{{\"level\":\"info\"}}\n{finding}\n")
        }),
        ("betterleaks' lines", |token| {
            format!(
                "{{\"match\":\"KEY\\u003d{token}\\u0026x\",\"attributes\":{{\"path\":\"a\"}}}}\n"
            )
        }),
        ("GitHub's secret scanning", |token| {
            json!([{"token": token, "type": "sophic_key", "url": "https://github.example/a",
                "source": "content"}])
            .to_string()
        }),
        ("grep", |token| format!("file:3: KEY={token}\n")),
        ("JSON within JSON", |token| {
            let inner = json!({"env": [format!("KEY={token}\n")]}).to_string();
            format!("{}\n", json!({"message": inner}))
        }),
        ("a URL", |token| format!("GET /?next=%2Fa%3Ftoken%3D{token} HTTP/1.1\n")),
        ("what is no JSON though it begins so", |token| format!("{{\"KEY\":\"a\\n{token}\", …\n")),
    ];
    for (what, print) in prints {
        let (id, token) = key(&p);
        let (code, report) = leaked(&p, &print(&token), &[&token]);
        assert_eq!(code, Some(0), "{what}");
        assert_eq!(report["real"][0]["id"], id, "{what}: {report}");
        assert_eq!(
            (&report["real"][0]["revoked_now"], &report["candidates"]),
            (&true.into(), &1.into())
        );
    }
    let ((one, first), (other, second)) = (key(&p), key(&p));
    let (_, report) = leaked(&p, &format!("A={first} B={second}; C={first}"), &[&first, &second]);
    assert_eq!(
        (&report["candidates"], &report["real"][1]["id"]),
        (&2.into(), &other.into()),
        "{report}"
    );
    assert_eq!(report["real"][0]["id"], one);
}

async fn a_token_of_another_system_is_found_alone_or_in_its_field(p: Program) {
    p.run("workspace put acme --id w1").ok();
    let (one, other) = ("legacy-000001-5f2c9a71d03b4e86", "legacy-000002-5f2c9a71d03b4e86");
    let csv = format!("workspace,name,scopes,token\nacme,n,read,{one}\nacme,n,read,{other}\n");
    p.pipe(&csv, "import --format csv -").ok();
    let list = format!("{one}\n{}\n", json!({"token": other, "reason": "a paste"}));
    let (code, report) = leaked(&p, &list, &[one, other]);
    assert_eq!((code, &report["candidates"]), (Some(0), &2.into()));
    assert_eq!(report["real"].as_array().map(Vec::len), Some(2), "{report}");
    let id = report["real"][1]["id"].as_str().expect("an id");
    assert!(p.run(&format!("audit export --target {id}")).ok().contains("a paste"));
}

async fn input_without_a_candidate_is_exit_code_1(p: Program) {
    p.run("workspace put acme").ok();
    // A service token is not ended here, so the exit code is 1.
    let caller = p.run("caller create gateway --permission introspect --output token").word();
    let ended = p.pipe(&caller, "leaked --output json");
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    assert!(ended.out.contains(r#""service_tokens":1"#) && !ended.out.contains(&caller));
    for text in
        ["", "\n\n", "nothing to see here\n", "[]", "[{\"Secret\": \"AKIA\"}]", "{\"a\": 1}\n"]
    {
        let ended = p.pipe(text, "leaked");
        assert_eq!(ended.code, Some(1), "{text:?}");
        assert!(ended.err.contains("nothing in it looks like a token"), "{}", ended.err);
    }
}

async fn one_line_of_many_megabytes_is_searched_whole(p: Program) {
    let ((one, first), (other, second)) = (key(&p), key(&p));
    // One token spans two pieces, and one is at the very end.
    let pad = "a,b;".repeat((1024 * 1024 - 20) / 4);
    let bundle = format!("{pad}{first}{}={second}", ";x".repeat(2 * 1024 * 1024));
    for text in [bundle.clone(), format!("[{{\"a\":\"{bundle}\"}}]")] {
        let (code, report) = leaked(&p, &text, &[&first, &second]);
        assert_eq!((code, &report["candidates"]), (Some(0), &2.into()));
        assert_eq!(
            (&report["real"][0]["id"], &report["real"][1]["id"]),
            (&one.clone().into(), &other.clone().into())
        );
        assert_eq!(report["real"][1]["line"], 1);
    }
}

async fn a_token_that_is_found_often_counts_once_and_keeps_its_places(p: Program) {
    let (id, token) = key(&p);
    let place = |n: usize| json!({"token": token, "url": format!("https://git.example/{n}")});
    let places: String = (0..3).map(|n| format!("{}\n", place(n))).collect();
    let (_, report) = leaked(&p, &format!("{places}{places}{token}\n"), &[&token]);
    assert_eq!(
        (&report["candidates"], report["real"].as_array().map(Vec::len)),
        (&1.into(), Some(1))
    );
    let story = p.run(&format!("audit export --target {id}")).ok();
    for n in 0..3 {
        assert!(story.contains(&format!("https://git.example/{n}")), "{story}");
    }
    assert_eq!(story.lines().count(), 2, "made and revoked: {story}");
}

async fn binary_input_is_refused_unread(p: Program) {
    let (_, token) = key(&p);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("list.csv");
    let wide = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
    let marked = wide(&format!("\u{feff}{token}\n"));
    for (bytes, said) in [
        (b"\x1f\x8b\x08\0\0\0\0\0".to_vec(), "it is gzip"),
        (marked, "it is UTF-16"),
        (wide(&token), "it is UTF-16"),
        (b"PK\x03\x04".to_vec(), "it is a ZIP archive"),
    ] {
        std::fs::write(&file, bytes).expect("the write succeeds");
        let shown = file.display();
        for words in [
            format!("leaked {shown}"),
            format!("import {shown}"),
            format!("import --check-token {shown} {shown}"),
        ] {
            let err = p.run(&words).failed(2);
            assert!(err.contains(said), "{words}: {err}");
        }
    }
    assert!(
        p.run(&format!("leaked {}", folder.path().display())).failed(2).contains("a directory")
    );
    assert!(p.pipe(&token, "introspect --scope read").ok().starts_with("ALLOWED"));
}

async fn a_token_within_a_word_or_broken_over_lines_is_found(p: Program) {
    let prints: [Printer; 6] = [
        ("a name before it", |token| format!("export MY_{token}\n")),
        ("more after it", |token| format!("{token}_old\n")),
        ("lines of a terminal", |token| format!("key: {}\r\n  {}\r\n", &token[..30], &token[30..])),
        ("lines of mail", |token| format!("key: {}=\n{}\n", &token[..4], &token[4..])),
        ("lines within JSON", |token| {
            format!("{}\n", json!({"body": format!("{}\n{}", &token[..30], &token[30..])}))
        }),
        ("Windows", |token| format!("a\r\n{token}\r\n")),
    ];
    for (what, print) in prints {
        let (id, token) = key(&p);
        let (code, report) = leaked(&p, &print(&token), &[&token]);
        // Half a token alone on its line counts too, as a possible imported token.
        assert_eq!((code, &report["real"][1]), (Some(0), &Value::Null), "{what}: {report}");
        assert_eq!(report["real"][0]["id"], id, "{what}: {report}");
    }
}
