//! ARCHITECTURE.md is true: every path, module, test and name in it exists, and every room has a section.

use std::path::PathBuf;

use super::{read, root};
use crate::house::{ROOMS, sources};

const MAP: &str = "ARCHITECTURE.md";

/// Pages that name tests.
const OF_THE_CODE: [&str; 4] = [MAP, "CONTRIBUTING.md", "docs/protocol.md", "docs/query-plans.md"];

/// Whether tools create this directory of the root.
fn is_made(name: &str) -> bool {
    name == "target" || name.starts_with('.')
}

/// Returns the texts between backticks outside code blocks.
fn words(text: &str) -> Vec<String> {
    let mut in_block = false;
    let prose = text.lines().filter(|line| {
        let fence = line.starts_with("```");
        in_block ^= fence;
        !in_block && !fence
    });
    let prose: Vec<_> = prose.collect();
    prose.join("\n").split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn is_path(word: &str) -> bool {
    let ending = [".rs", ".md", ".toml", ".proto", ".sql", "/"];
    !word.contains([' ', '*', '<', ':']) && ending.iter().any(|ending| word.ends_with(ending))
}

/// Whether a word is a module path or a name: `store::lineage`, `Service::run`, `decide!`, `WriteTx`.
fn is_name(word: &str) -> bool {
    let word = word.trim_end_matches('!');
    let named = word.contains("::") || word.contains('_') || word.starts_with(char::is_uppercase);
    named && word.len() > 2 && word.chars().all(|c| c.is_alphanumeric() || c == '_' || c == ':')
}

#[test]
fn every_path_that_the_map_names_is_there() {
    let words = words(&read(MAP));
    let paths: Vec<_> = words.iter().filter(|word| is_path(word)).collect();
    assert!(paths.len() >= 40, "{paths:?}");
    let missing: Vec<_> = paths.into_iter().filter(|path| !root().join(path).exists()).collect();
    assert!(missing.is_empty(), "{MAP} names what is not there: {missing:#?}");
}

#[test]
fn every_step_names_what_is_in_its_file() {
    let map = read(MAP);
    let (mut steps, mut wrong) = (0, Vec::new());
    for (at, between) in map.match_indices("` (`") {
        let (before, after) = (&map[..at], &map[at + between.len()..]);
        let path = before.rsplit('`').next().unwrap_or_default();
        let name = after.split('`').next().unwrap_or_default();
        if !path.ends_with(".rs") || is_path(name) {
            continue;
        }
        steps += 1;
        let text = read(path);
        if !text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == name) {
            wrong.push(format!("{path} has no {name}"));
        }
    }
    assert!(wrong.is_empty(), "{MAP}: {wrong:#?}");
    assert!(steps >= 10, "{steps}");
}

/// Returns the files in which a module may be, in the program, its tests and the client.
fn modules(segments: &[&str]) -> Vec<PathBuf> {
    let path = segments.join("/");
    let above = ["src", "tests/it", "client/src"].map(|above| root().join(above));
    let files = above
        .iter()
        .flat_map(|above| [above.join(format!("{path}.rs")), above.join(&path).join("mod.rs")]);
    files.filter(|file| file.is_file()).collect()
}

/// Whether `a::b::c` is a module, or an item that the module `a::b` declares.
fn is_declared(segments: &[&str]) -> bool {
    let (last, above) = segments.split_last().expect("a word has a segment");
    let declares = |file: PathBuf| {
        let text = std::fs::read_to_string(file).expect("a file");
        [format!("fn {last}("), format!("fn {last}<"), format!(" {last},\n")]
            .iter()
            .any(|declared| text.contains(declared))
    };
    !modules(segments).is_empty() || modules(above).into_iter().any(declares)
}

#[test]
fn every_name_that_the_map_uses_is_in_the_source() {
    let mut text = String::new();
    for folder in ["src", "tests/it", "client/src"] {
        text.extend(sources(folder).into_iter().map(|(_, text)| text));
    }
    let (mut missing, mut tests) = (Vec::new(), 0);
    for word in words(&read(MAP)).iter().filter(|word| is_name(word)) {
        let segments: Vec<_> = word.trim_end_matches('!').split("::").collect();
        let lowercase = !word.contains(char::is_uppercase);
        let last = segments[segments.len() - 1];
        let known = if segments.len() > 1 && lowercase {
            tests += 1;
            is_declared(&segments)
        } else {
            text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|name| name == last)
        };
        if !known {
            missing.push(word.clone());
        }
    }
    assert!(missing.is_empty(), "{MAP} names what is nowhere declared: {missing:#?}");
    assert!(tests >= 25, "{MAP} names only {tests} modules and tests");
}

#[test]
fn every_room_has_a_section_of_the_map() {
    let map = read(MAP);
    let headings: Vec<_> = map.lines().filter(|line| line.starts_with('#')).collect();
    let rooms = ROOMS.iter().map(|(name, _)| match *name {
        file @ ("lib" | "main" | "proxied") => format!("src/{file}.rs"),
        folder => format!("src/{folder}/"),
    });
    let entries =
        std::fs::read_dir(root()).expect("the root").map(|entry| entry.expect("an entry"));
    let folders = entries.filter(|entry| entry.path().is_dir());
    let folders = folders.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let folders = folders.filter(|name| name != "src" && !is_made(name));
    let folders = folders.map(|name| format!("{name}/"));
    for place in rooms.chain(folders) {
        let word = format!("`{place}`");
        assert!(headings.iter().any(|heading| heading.contains(&word)), "{MAP}: no section {word}");
    }
}

#[test]
fn every_test_that_a_page_names_is_there() {
    let tests: String = ["tests/it", "src", "client/src"]
        .iter()
        .flat_map(|folder| sources(folder))
        .map(|(_, text)| text)
        .collect();
    let mut named = 0;
    for page in OF_THE_CODE {
        for word in words(&read(page)) {
            // Names of five words or more are those of tests.
            let Some(name) = word.rsplit("::").next().filter(|name| {
                name.matches('_').count() >= 4 && name.chars().all(|c| c.is_lowercase() || c == '_')
            }) else {
                continue;
            };
            named += 1;
            let there =
                tests.contains(&format!("fn {name}(")) || tests.contains(&format!("{name},\n"));
            assert!(there, "{page}: no test is called {name}");
        }
    }
    assert!(named >= 10, "{named}");
}
