//! A disk that is full for a moment: writes are refused, nothing is stuck, and writing resumes once there is space.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{KilledOnDrop, Remote, SERVE, reason, until_management};
use crate::cli::program::{run, split};
use crate::waits::{self, eventually};

/// Creates a file that takes all the space.
fn fill(path: &Path) {
    let mut file = std::fs::File::create(path).expect("a file");
    for size in [64 * 1024, 4096, 512, 1] {
        let block = vec![0x5a; size];
        while file.write_all(&block).is_ok() {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_resumes_writing_once_there_is_space() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let small = folder.path().display().to_string();
    // A separate file system in a user namespace, so that the test needs no privileges.
    let script = r#"mount -t tmpfs -o size=2m none "$0" && exec "$@""#;
    let mut server = Command::new("unshare");
    server.args(["--mount", "--map-root-user", "sh", "-c", script, &small]);
    server.arg(env!("CARGO_BIN_EXE_sophic-auth")).args(split(SERVE));
    server.env("SOPHIC_AUTH_DATABASE_URL", format!("sqlite:{small}/store.db"));
    let log = tempfile::NamedTempFile::new().expect("a file");
    let said = || std::fs::read_to_string(log.path()).expect("it can be read");
    server.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log.reopen().expect("it opens"));
    let mut server = KilledOnDrop(server.spawn().expect("unshare starts"));
    let out = server.0.stdout.take().expect("its output");
    let line = waits::read_line(server.0.id(), &mut std::io::BufReader::new(out));
    let urls: serde_json::Value = serde_json::from_str(&line).expect("it runs");
    let (grpc, http) = (urls["grpc"].as_str().expect("a URL"), urls["http"].as_str().expect("one"));
    // The path of that file system from outside the namespace.
    let disk = Path::new("/proc").join(server.0.id().to_string()).join("root");
    let disk = disk.join(folder.path().strip_prefix("/").expect("absolute"));
    let program = |words: &str| {
        // Enters the namespace instead of using that path, which SQLite could not resolve.
        let mut command = Command::new("nsenter");
        let pid = server.0.id().to_string();
        command.args(["--target", &pid, "--user", "--mount", "--preserve-credentials"]);
        command.arg(env!("CARGO_BIN_EXE_sophic-auth")).args(split(words));
        command.env("SOPHIC_AUTH_DATABASE_URL", format!("sqlite:{small}/store.db"));
        run(command, "")
    };
    program("workspace put acme").ok();
    let token = program(
        "caller create root --permission credentials.admin --permission introspect --output token",
    )
    .word();
    let remote = Remote::connect(grpc, &token).await;
    remote.make_key("before").await.expect("there is room");
    until_management(http, true).await;

    fill(&disk.join("filler"));
    let mut refused = None;
    // The log has some free space left.
    for i in 0..500 {
        if let Err(status) = remote.make_key(&format!("key {i}")).await {
            refused = Some(status);
            break;
        }
    }
    let refused = refused.expect("there is no room");
    assert_eq!((refused.code(), &*reason(&refused)), (tonic::Code::Unavailable, "STORE_FULL"));
    until_management(http, false).await;
    let cause = said().lines().filter(|line| line.contains("management does not work")).count();
    assert!(cause > 0 && said().contains("the store's disk is full"), "{}", said());
    // No write is needed to answer.
    assert!(!remote.is_active("nobody's").await.expect("it answers all the same"));

    std::fs::remove_file(disk.join("filler")).expect("there is a file");
    eventually("a key can be made", async || remote.make_key("after").await.is_ok()).await;
    for i in 0..5 {
        remote.make_key(&format!("later {i}")).await.expect("writing keeps working");
    }
    until_management(http, true).await;
}

#[tokio::test]
async fn a_disk_that_is_full_before_sqlite_opens_the_file_is_called_full() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let small = folder.path().display().to_string();
    let url = format!("sqlite:{small}/store.db");
    let program = env!("CARGO_BIN_EXE_sophic-auth");
    // No room even for the index of the log (`-shm`).
    let script = r#"mount -t tmpfs -o size=2m none "$0" && "$1" migrate --database-url "$2" >"$0/said" \
        && { cat /dev/zero >"$0/filler" 2>"$0/said"; program=$1 url=$2; shift 2; \
             exec "$program" "$@" --database-url "$url" --output json; }"#;
    for words in ["user put ada", "user list", "migrate --dry-run", SERVE] {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--map-root-user", "sh", "-c", script, &small, program, &url]);
        command.args(split(&words.replace(" --output json", "")));
        let ended = run(command, "");
        assert_eq!(ended.code, Some(1), "{words}: {ended:?}");
        assert!(ended.err.contains(r#""reason":"STORE_FULL""#), "{words}: {ended:?}");
    }
}
