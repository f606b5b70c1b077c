//! The pages are current: generated tables match the code, links have targets, and figures come from the benchmark.
//! `UPDATE=1 cargo test --test it docs` rewrites the tables.

mod map;
mod tables;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use sophic_auth::model::Scope;

/// Generator of the text of a block.
type Block = fn() -> String;

/// Every generated block: its page, its name, and its generator.
const BLOCKS: [(&str, &str, Block); 10] = [
    ("ARCHITECTURE.md", "rooms", tables::rooms),
    ("README.md", "benchmark", tables::benchmark),
    ("README.md", "decision", tables::decision),
    ("docs/api.md", "rpcs", tables::rpcs),
    ("docs/api.md", "actions", tables::actions),
    ("docs/decisions.md", "roles", tables::roles),
    ("docs/errors.md", "reasons", tables::reasons),
    ("docs/errors.md", "commands", tables::commands),
    ("docs/flags.md", "global flags", tables::global_flags),
    ("docs/flags.md", "flags", tables::flags),
];

/// Maximum number of lines of the README.
const README_LINES_MAX: usize = 120;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(page: &str) -> String {
    std::fs::read_to_string(root().join(page)).unwrap_or_else(|error| panic!("{page}: {error}"))
}

/// Returns the path of every page from the root.
fn pages() -> Vec<String> {
    let mut pages = Vec::new();
    for folder in ["", "docs", "benches"] {
        for entry in std::fs::read_dir(root().join(folder)).expect("a folder") {
            let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
            if name.ends_with(".md") {
                pages.push(Path::new(folder).join(name).to_string_lossy().into_owned());
            }
        }
    }
    pages.sort();
    pages
}

/// Returns the page with this block replaced.
fn with_block(page: &str, text: &str, name: &str, block: &str) -> String {
    let (begin, end) = (format!("<!-- generated: {name} -->\n"), "<!-- end of generated -->");
    let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("{page} has no {begin}"));
    let (_, after) = rest.split_once(end).unwrap_or_else(|| panic!("{page}: {name} has no end"));
    format!("{before}{begin}{block}{end}{after}")
}

#[test]
fn every_generated_table_is_current() {
    let mut old = Vec::new();
    for (page, name, block) in BLOCKS {
        let text = read(page);
        let fresh = with_block(page, &text, name, &block());
        if text != fresh && std::env::var_os("UPDATE").is_some() {
            // Replaced atomically, because other tests read the page meanwhile.
            let whole = root().join(format!("{page}.new"));
            std::fs::write(&whole, fresh).expect("it can be written");
            std::fs::rename(&whole, root().join(page)).expect("it can be replaced");
        } else if text != fresh {
            old.push(format!("{page}: {name}"));
        }
    }
    assert!(old.is_empty(), "run UPDATE=1 cargo test --test it docs: {old:?}");
    for page in pages() {
        let named = BLOCKS.iter().filter(|(of, ..)| *of == page).count();
        assert_eq!(read(&page).matches("<!-- generated: ").count(), named, "{page}");
    }
}

#[test]
fn the_readme_is_short() {
    let lines = read("README.md").lines().count();
    assert!(lines <= README_LINES_MAX, "README.md has {lines} lines");
}

#[test]
fn the_decision_table_names_every_denial_with_its_status() {
    let table = tables::decision();
    for denial in sophic_auth::decision::Denial::ALL {
        let (code, status) = (format!("`{}`", denial.as_str()), denial.http_status().to_string());
        let row = table.lines().find(|row| row.contains(&code));
        let row = row.unwrap_or_else(|| panic!("docs/decisions.md has no row for {code}"));
        assert!(row.contains(&format!("| {status}")), "{code} is {status}: {row}");
    }
}

/// Returns the anchors that GitHub creates for a page's headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let text = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = text.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect::<String>()
    };
    headings.map(anchor).collect()
}

#[test]
fn the_changelog_names_every_scope() {
    let page = read("CHANGELOG.md");
    for scope in Scope::ALL {
        let named = |line: &str| line.contains("scope") && line.contains(&format!("`{scope}`"));
        assert!(page.lines().any(named), "{scope}");
    }
}

#[test]
fn every_link_leads_somewhere() {
    let mut broken = Vec::new();
    for page in pages() {
        let text = read(&page);
        let folder = root().join(&page).parent().expect("a folder").to_path_buf();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { root().join(&page) } else { folder.join(file) };
            let there = target.exists()
                && (anchor.is_empty()
                    || std::fs::read_to_string(&target)
                        .is_ok_and(|text| anchors(&text).contains(anchor)));
            if !there {
                broken.push(format!("{page}: {link}"));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// Documents that are not in the repository.
const ELSEWHERE: [&str; 4] = ["DESIGN §", "DESIGN.md", "CATALOGUE", "CONVENTIONS"];

/// Directories with sources.
const SOURCES: [&str; 7] = ["src", "client", "crates", "tests", "benches", "examples", "proto"];

#[test]
fn no_page_refers_to_a_page_that_is_not_in_the_repository() {
    for page in pages() {
        for elsewhere in ELSEWHERE {
            assert!(!read(&page).contains(elsewhere), "{page} refers to {elsewhere}");
        }
    }
}

/// Returns the comment of each line of the sources that has one, with its file. Generated code has those of its source.
fn comments() -> Vec<(PathBuf, String)> {
    let mut comments = Vec::new();
    let mut folders: Vec<_> = SOURCES.iter().map(|folder| root().join(folder)).collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                if !path.ends_with("generated") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|ending| ending == "rs" || ending == "proto") {
                let text = std::fs::read_to_string(&path).expect("a file");
                let lines = text.lines().filter_map(|line| line.split_once("//"));
                comments.extend(lines.map(|(_, comment)| (path.clone(), comment.to_owned())));
            }
        }
    }
    comments
}

#[test]
fn no_comment_refers_to_a_page_that_is_not_in_the_repository() {
    let (mut pages, mut wrong) = (0, Vec::new());
    for (path, comment) in comments() {
        let folders = [root(), root().join("docs"), path.parent().expect("a folder").to_owned()];
        let words = comment.split(|c: char| !c.is_ascii_alphanumeric() && !"_-./".contains(c));
        let named =
            words.map(|word| word.trim_end_matches('.')).filter(|word| word.ends_with(".md"));
        for page in named {
            pages += 1;
            if !folders.iter().any(|folder| folder.join(page).exists()) {
                wrong.push(format!("{}: {page}", path.display()));
            }
        }
        let elsewhere = ELSEWHERE.iter().filter(|elsewhere| comment.contains(**elsewhere));
        wrong.extend(elsewhere.map(|elsewhere| format!("{}: {elsewhere}", path.display())));
    }
    assert!(pages >= 30, "{pages} pages are named");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_page_is_linked_from_the_readme_or_from_another_page() {
    let texts: Vec<_> = pages().into_iter().map(|page| (read(&page), page)).collect();
    for (_, page) in texts.iter().filter(|(_, page)| page.starts_with("docs/")) {
        let name = page.trim_start_matches("docs/");
        let linked = texts.iter().any(|(text, other)| {
            other != page
                && (text.contains(&format!("]({name}")) || text.contains(&format!("]({page}")))
        });
        assert!(linked, "nothing links to {page}");
    }
}

#[test]
fn the_license_is_apache_2_0_whole() {
    let license = read("LICENSE");
    for line in [
        "Version 2.0, January 2004",
        "END OF TERMS AND CONDITIONS",
        "[yyyy] [name of copyright owner]",
    ] {
        assert!(license.contains(line), "LICENSE lacks {line}");
    }
    assert!(read("Cargo.toml").contains("license = \"Apache-2.0\""));
}
