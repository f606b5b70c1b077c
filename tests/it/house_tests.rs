//! The rules of the house for the tests: how they wait, and what they must assert.

use std::path::Path;

use sophic_auth::decision::Denial;
use sophic_auth::service::Reason;

use crate::house::sources;

/// Waits that bypass `waits.rs`.
const BARE: [&str; 5] =
    ["sleep(", "sleep_until(", "yield_now(", "time::timeout(", "time::interval("];

/// Calls that may never return, and that must stand within one of [`LIMITS`].
const ENDLESS: [&str; 17] = [
    ".message().await",
    ".recv().await",
    ".next().await",
    ".join_next().await",
    ".join_all().await",
    "join_all(",
    ".changed().await",
    ".notified().await",
    ".wait_for(",
    ".read_exact(",
    ".read_to_end(",
    ".read_to_string(",
    ".read_u8(",
    ".read_line(",
    ".wait()",
    ".wait_with_output(",
    ".output()",
];

/// Calls that limit the time of their argument. A spawned task is awaited elsewhere, or ends with its test.
const LIMITS: [&str; 7] = [
    "within",
    "eventually",
    "eventually_some",
    "while_child_runs",
    "stays_pending",
    "drop_after",
    "spawn",
];

/// Whether a file's loops run until they are dropped, such as those of test servers. Simulations have virtual time.
fn runs_until_dropped(path: &Path) -> bool {
    let files = ["it/waits.rs", "it/proxy.rs", "it/faces/upstream.rs"];
    files.iter().any(|file| path.ends_with(file))
        || path.components().any(|part| part.as_os_str() == "simulation")
}

/// Replaces comments, strings and character literals by spaces. Offsets do not change.
fn blank_comments_and_strings(text: &str) -> String {
    let pattern =
        r##"(?s)//[^\n]*|b?r"[^"]*"|b?r#".*?"#|b?"(?:\\.|[^"\\])*"|b?'(?:\\[^']+|[^'\\])'"##;
    let pattern = regex::Regex::new(pattern).expect("an expression");
    let blank = |found: &regex::Captures<'_>| -> String {
        found[0].bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect()
    };
    pattern.replace_all(text, blank).into_owned()
}

/// Returns the offset of each of [`ENDLESS`], and of each loop that awaits a condition, that is outside every limit.
fn waits_without_a_limit(code: &str) -> Vec<usize> {
    let mut found = Vec::new();
    // The name before each open bracket.
    let mut open: Vec<&str> = Vec::new();
    for (at, byte) in code.bytes().enumerate() {
        let rest = &code[at..];
        let limited = open.iter().any(|name| LIMITS.contains(name));
        match byte {
            b'(' | b'[' | b'{' => {
                let before = code[..at].trim_end_matches(|c: char| c.is_alphanumeric() || c == '_');
                open.push(&code[before.len()..at]);
            }
            b')' | b']' | b'}' => drop(open.pop()),
            b'l' | b'w' if !limited && is_at_word_start(code, at) && is_a_wait(rest) => {
                found.push(at)
            }
            _ if !limited
                && ENDLESS.iter().any(|name| rest.starts_with(name))
                && !code[..at].ends_with("fn ") =>
            {
                found.push(at);
            }
            _ => {}
        }
    }
    found
}

fn is_at_word_start(code: &str, at: usize) -> bool {
    let before = code[..at].chars().next_back();
    before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != '\'')
}

/// Whether the text begins with a loop that awaits and ends on a condition. A loop without an end is a load, which is
/// dropped.
fn is_a_wait(rest: &str) -> bool {
    let is_while = rest.starts_with("while ");
    if !is_while && !rest.starts_with("loop {") {
        return false;
    }
    let mut depth = 0_i32;
    let end = rest.char_indices().find(|(_, c)| {
        depth += i32::from(*c == '{') - i32::from(*c == '}');
        *c == '}' && depth == 0
    });
    let body = &rest[..end.map_or(rest.len(), |(end, _)| end)];
    let ends = is_while || ["break", "return", "?;"].iter().any(|word| body.contains(word));
    ends && body.contains(".await")
}

#[test]
fn every_wait_of_the_tests_has_a_limit_and_says_what_it_waits_for() {
    let mut wrong = Vec::new();
    for (path, text) in sources("tests/it") {
        if runs_until_dropped(&path) || path.ends_with("house_tests.rs") {
            continue;
        }
        let code = blank_comments_and_strings(&text);
        let bare = BARE.iter().flat_map(|name| code.match_indices(name).map(|(at, _)| at));
        for at in bare.filter(|&at| is_at_word_start(&code, at)).chain(waits_without_a_limit(&code))
        {
            let line = code[..at].matches('\n').count();
            let shown = text.lines().nth(line).unwrap_or_default().trim();
            wrong.push(format!("{}:{}: {shown}", path.display(), line + 1));
        }
    }
    assert!(wrong.is_empty(), "no limit, see tests/it/waits.rs:\n{}", wrong.join("\n"));
}

#[test]
fn a_wait_without_a_limit_is_found() {
    let wrong = [
        "while !is_so().await {}",
        "loop { if is_so().await { break; } }",
        "let x = stream.message().await;",
        "within(a, b).await; child.wait();",
    ];
    for code in wrong {
        assert_eq!(waits_without_a_limit(&blank_comments_and_strings(code)).len(), 1, "{code}");
    }
    let right = [
        "within(a, async { while !is_so().await {} }).await;",
        "spawn(async move { loop { if is_so().await { break; } } });",
        "loop { ask().await; }",
        "while n < 3 { n += 1; }",
        "// while !is_so().await {}",
        "let text = \"while !is_so().await {}\";",
    ];
    for code in right {
        assert_eq!(waits_without_a_limit(&blank_comments_and_strings(code)).len(), 0, "{code}");
    }
}

/// Returns the text of all tests, except for the files that iterate over all reasons.
fn assertions() -> String {
    let sources = sources("tests/it").into_iter();
    let sources = sources
        .filter(|(path, _)| !path.ends_with("house.rs") && !path.ends_with("house_tests.rs"));
    sources.map(|(_, text)| text).collect()
}

#[test]
fn every_reason_and_every_denial_is_asserted_by_name() {
    let tests = assertions();
    let variant = |code: &str| -> String {
        let word = |word: &str| word[..1].to_owned() + &word[1..].to_lowercase();
        code.split('_').map(word).collect()
    };
    let mut missing = Vec::new();
    for code in Reason::ALL.iter().map(|reason| reason.code()) {
        let named = [format!("\"{code}\""), format!("Reason::{}", variant(code))];
        if !named.iter().any(|name| tests.contains(name)) {
            missing.push(code);
        }
    }
    for code in Denial::ALL.iter().map(|denial| denial.as_str()) {
        let named = [format!("\"{code}\""), format!("Denial::{}", variant(code))];
        if !named.iter().any(|name| tests.contains(name)) {
            missing.push(code);
        }
    }
    assert!(missing.is_empty(), "no test in tests/it asserts {missing:?}");
}
