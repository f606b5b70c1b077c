//! Sufficient rights: the roles of `docs/postgres-roles.md`, and a read-only file.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use super::program::{Ended, Serving, command, run, split};
use crate::store::raw;
use crate::stores::{Database, cluster_url};

/// The SQL blocks of the page, for this database and separate roles.
pub(crate) fn statements(database: &str) -> Vec<String> {
    let page = include_str!("../../../docs/postgres-roles.md");
    let blocks = page.split("```sql").skip(1).filter_map(|rest| rest.split("```").next());
    let own = |block: &str| {
        let block = block.replace("DATABASE auth", &format!("DATABASE {database}"));
        block
            .replace("sophic_server", &role(database, "server"))
            .replace("sophic_reader", &role(database, "reader"))
    };
    blocks.map(own).collect()
}

pub(crate) fn role(database: &str, part: &str) -> String {
    format!("{database}_{part}")
}

/// Returns the URL of the database with this role.
pub(crate) fn url_of(database: &Database, name: &str, part: &str) -> String {
    let url = database.url();
    let (_, rest) = url.split_once("://").expect("a URL");
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    format!("postgres://{}:change-me@{host}", role(name, part))
}

fn on(url: &str, words: &str, input: &str) -> Ended {
    let mut command = command();
    command.args(split(words)).args(["--database-url", url]);
    run(command, input)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documented_roles_are_enough_and_no_more() {
    let database = Database::postgres().await;
    let Database::Postgres { name } = &database else { unreachable!("it is in the cluster") };
    for statement in statements(name) {
        raw::run(&database, &statement).await;
    }
    let (server, reader) = (url_of(&database, name, "server"), url_of(&database, name, "reader"));
    let mut serving = command();
    // The schema is up to date, so no migration runs.
    let words = "serve --listen 127.0.0.1:0 --http-listen 127.0.0.1:0 --output json \
                 --last-use-flush 1s --purge-every 1s --purge-changes-after 1s";
    serving.args(split(words)).args(["--database-url", &server]);
    let mut serving = Serving::start(serving);
    serving.json();
    on(&server, "workspace put acme --keys-max 9", "").ok();
    on(&server, "user put ada", "").ok();
    on(&server, "member put --workspace acme --user ada --role member", "").ok();
    on(&server, "caller create gateway --permission introspect", "").ok();
    let key =
        on(&server, "key create --workspace acme --name ci --scope read --output token", "").word();
    let pat = on(&server, "pat create --user ada --name ci --scope read --output json", "").json();
    let pat_id = pat["credential"]["id"].as_str().expect("an id");
    on(&server, &format!("pat rotate {pat_id} --overlap 1h --output token"), "").word();
    // With a running server that must confirm the change.
    on(&server, "caller rotate gateway --overlap 0s --output token", "").word();
    on(&server, "member delete --workspace acme --user ada", "").ok();
    on(&server, "user put bob", "").ok();
    on(&server, "user delete bob", "").ok();
    on(&server, "purge --dead-after 1s", "").ok();
    // It warns of the new incarnation.
    assert_eq!(on(&server, "new-epoch", "").code, Some(0));
    on(&server, "export", "").ok();
    // Servers may only append to the log, and still number its events for followers.
    assert!(
        on(&server, "audit list --order commit --output json", "").json()["resume_token"]
            .is_string()
    );
    for words in ["audit purge --older-than 0s", "audit redact-user bob"] {
        assert!(on(&server, words, "").failed(1).contains("permission denied"), "{words}");
    }
    on(database.url().as_str(), "audit redact-user bob", "").ok();
    on(&server, "migrate", "").ok();

    let shows = [
        "workspace list",
        "user list",
        "member list --user ada",
        "caller list",
        "key list",
        "pat list",
        "credentials list",
        "credentials expiring --within 1s",
        "audit list",
        "audit export",
        "migrate",
        "migrate --dry-run",
        &format!("pat show {pat_id}"),
    ];
    for words in shows {
        let ended = on(&reader, words, "");
        assert_eq!(ended.code, Some(0), "{words}: {}", ended.err);
    }
    on(&reader, "introspect --workspace acme --scope read", &key).ok();
    for words in ["user put bob", "caller revoke gateway", "new-epoch"] {
        let error = on(&reader, words, "").failed(1);
        let error = error.lines().find(|line| line.starts_with("error: ")).expect("an error");
        for said in ["permission denied", "_reader lacks ", "INSERT on ", "docs/postgres-roles.md"]
        {
            assert!(error.contains(said), "{words}: {error}");
        }
    }
    let error = on(&reader, "--output json user put bob", "").failed(1);
    assert!(error.contains(r#""reason":"STORE_DENIED""#), "{error}");
    let exported = on(&reader, "export", "");
    assert!(exported.code == Some(1) && exported.err.contains("audit_events"), "{exported:?}");
    serving.signal(Signal::TERM);
    assert_eq!(serving.end().code(), Some(0));

    raw::run(&database, "DELETE FROM _sqlx_migrations WHERE version > 14").await;
    for words in ["migrate", "serve --listen 127.0.0.1:0 --http-listen 127.0.0.1:0"] {
        let error = on(&server, words, "").failed(1);
        for said in ["0016_untold", "`sophic-auth migrate` as the owner", "docs/postgres-roles.md"]
        {
            assert!(error.contains(said), "{words}: {error}");
        }
    }
    for part in ["server", "reader"] {
        let role = role(name, part);
        raw::run(&database, &format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
    }
    database.drop_database().await;
    assert!(cluster_url().contains("://"));
}

/// Runs the program as user nobody, because root can write to read-only files. The program is opened by a file descriptor,
/// because nobody may not be able to enter the build directory.
fn as_nobody(url: &str, words: &str) -> Ended {
    let mut command = if rustix::process::geteuid().is_root() {
        let mut shell = Command::new("bash");
        let program = env!("CARGO_BIN_EXE_sophic-auth");
        let script = format!(
            "exec 3<'{program}'; exec setpriv --reuid 65534 --regid 65534 --clear-groups /proc/self/fd/3 \"$@\""
        );
        shell.args(["-c", &script]).arg0("bash").arg("bash");
        shell
    } else {
        command()
    };
    command.args(split(words)).args(["--database-url", url]);
    run(command, "")
}

#[tokio::test]
async fn a_read_only_file_can_be_read() {
    use std::os::unix::fs::PermissionsExt as _;
    let database = Database::sqlite();
    let (url, file) = (database.url(), database.file().expect("a file"));
    on(&url, "migrate", "").ok();
    on(&url, "user put ada", "").ok();
    let folder = file.parent().expect("a folder");
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("a mode");
    };
    let names = || {
        let entries = std::fs::read_dir(folder).expect("a folder");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        names.collect::<Vec<_>>()
    };
    for (file_mode, folder_mode) in [(0o444, 0o555), (0o444, 0o777), (0o666, 0o555)] {
        mode(&file, file_mode);
        mode(folder, folder_mode);
        assert!(as_nobody(&url, "user list").ok().contains("ada"));
        as_nobody(&url, "migrate --dry-run").ok();
        as_nobody(&url, "migrate").ok();
        let error = as_nobody(&url, "user put bob").failed(1);
        assert!(error.contains("this user may only read"), "{error}");
        let serve = "serve --listen 127.0.0.1:0 --http-listen 127.0.0.1:0";
        for words in [serve, &format!("{serve} --no-migrate")] {
            // Such a server would not learn of revocations.
            let error = as_nobody(&url, words).failed(1);
            assert!(error.contains("a server must write to the file"), "{error}");
        }
        assert_eq!(names(), ["store.db"], "no other file is left");
    }
    mode(folder, 0o755);
}
