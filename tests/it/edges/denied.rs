//! A store that refuses writes, or reads, of this server. Health, the answers and the log report it, and the server
//! recovers as soon as the store is fixed.

use std::process::Stdio;
use std::sync::Arc;

use sophic_auth::store;
use tonic::Code;

use super::{Remote, SERVE, page, reason, until_management};
use crate::cli::program::{Program, Serving, command, run, split};
use crate::cli::roles;
use crate::store::raw;
use crate::stores::Database;
use crate::waits::eventually;

/// A server, and the owner of its database.
struct Scene {
    p: Program,
    role: String,
    log: tempfile::NamedTempFile,
    http: String,
    remote: Remote,
    _serving: Serving,
}

impl Scene {
    /// Starts the server as this role of the documentation.
    async fn new(part: &str) -> Self {
        let database = Arc::new(Database::postgres().await);
        let Database::Postgres { name } = &*database else { unreachable!("it is in the cluster") };
        for statement in roles::statements(name) {
            raw::run(&database, &statement).await;
        }
        let (role, url) = (roles::role(name, part), roles::url_of(&database, name, part));
        let p = Program { database };
        p.run("workspace put acme").ok();
        let create = "caller create root --permission credentials.admin --permission introspect --output token";
        let token = p.run(create).word();
        let log = tempfile::NamedTempFile::new().expect("a file");
        let mut serve = command();
        // The schema is current, so migrating needs no more privileges than `--no-migrate`.
        serve.args(split(SERVE)).args(["--database-url", &url]);
        let said = Stdio::from(log.reopen().expect("it opens"));
        let mut serving = Serving::start_logging(serve, said);
        let urls = serving.json();
        let url = |name: &str| urls[name].as_str().expect("a URL").to_owned();
        let remote = Remote::connect(&url("grpc"), &token).await;
        Self { p, role, log, http: url("http"), remote, _serving: serving }
    }

    async fn as_owner(&self, statement: &str) {
        raw::run(&self.p.database, &statement.replace(":role", &self.role)).await;
    }

    /// Changes what only new connections see, and ends the existing ones.
    async fn as_owner_reconnecting(&self, statement: &str) {
        self.as_owner(&format!(
            "{statement}; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = ':role'"
        ))
        .await;
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.log.path()).expect("it can be read")
    }

    /// Checks that management is refused with an error that a retry does not fix, and that introspection works.
    async fn assert_management_refused(&self, why: &str) {
        until_management(&self.http, false).await;
        let refused = self.remote.make_key("refused").await.expect_err("it may not");
        assert_eq!(
            (refused.code(), &*reason(&refused)),
            (Code::FailedPrecondition, "STORE_DENIED")
        );
        assert!(refused.message().contains(why), "{refused:?}");
        assert!(!self.remote.is_active("nobody's").await.expect("it answers"));
    }

    async fn end(self) {
        drop(self._serving);
        let statement = format!("DROP OWNED BY {role}; DROP ROLE {role}", role = self.role);
        raw::run(&self.p.database, &statement).await;
        self.p.database.drop_database().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_a_read_only_role_answers_but_does_not_manage() {
    let scene = Scene::new("reader").await;
    scene.assert_management_refused("permission denied for table").await;
    eventually("the log says that management does not work", async || {
        scene.said().contains("management does not work")
    })
    .await;
    let said = scene.said();
    let lines: Vec<_> =
        said.lines().filter(|line| line.contains("management does not work")).collect();
    assert!(lines.len() == 1 && lines[0].contains("lacks UPDATE on callers, counter"), "{said}");
    scene.as_owner("GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO :role").await;
    until_management(&scene.http, true).await;
    scene.remote.make_key("allowed").await.expect("now it may");

    // Readiness depends on the tables that an introspection reads.
    scene.as_owner("REVOKE SELECT ON credentials FROM :role").await;
    eventually("it is not ready", async || page(&scene.http, "/readyz").await == 503).await;
    scene.as_owner("GRANT SELECT ON credentials TO :role").await;
    until_management(&scene.http, true).await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_set_to_read_only_gets_no_writes() {
    let scene = Scene::new("server").await;
    until_management(&scene.http, true).await;
    scene.as_owner_reconnecting("ALTER ROLE :role SET default_transaction_read_only = on").await;
    scene.assert_management_refused("read-only transaction").await;
    // If the server took this for a standby, it would drop its connections and look for another primary.
    let thrown = || scene.said().matches("connections to the store are being replaced").count();
    let before = thrown();
    for _ in 0..5 {
        scene.remote.make_key("refused").await.expect_err("it may not");
    }
    assert_eq!(thrown(), before, "{}", scene.said());
    scene.as_owner_reconnecting("ALTER ROLE :role RESET default_transaction_read_only").await;
    until_management(&scene.http, true).await;
    eventually("it writes", async || scene.remote.make_key("allowed").await.is_ok()).await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_of_postgres_ends_management_until_there_is_room() {
    let scene = Scene::new("server").await;
    until_management(&scene.http, true).await;
    // The error of Postgres for a full disk.
    scene
        .as_owner(
            "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                 RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$; \
             CREATE TRIGGER no_room BEFORE INSERT ON audit_events EXECUTE FUNCTION no_room()",
        )
        .await;
    let refused = scene.remote.make_key("refused").await.expect_err("there is no room");
    assert_eq!((refused.code(), &*reason(&refused)), (Code::Unavailable, "STORE_FULL"));
    until_management(&scene.http, false).await;
    assert!(scene.said().contains("could not extend file"), "{}", scene.said());
    scene.as_owner("DROP TRIGGER no_room ON audit_events").await;
    until_management(&scene.http, true).await;
    scene.remote.make_key("allowed").await.expect("there is room");
    scene.end().await;
}

/// The newest migration of release 0.1.
const LAST_RELEASE: i64 = 16;

/// Asserts that the error says that the database is read-only, and gives no advice about rights.
fn assert_read_only(error: &str) {
    assert!(error.contains("the database is read-only: "), "{error}");
    for wrong in ["as the owner", "postgres-roles.md", "a right is missing", "may only read"] {
        assert!(!error.contains(wrong), "{wrong}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_database_is_called_read_only_before_its_migrations_and_after_them() {
    let database = Database::empty_postgres().await;
    let on = |words: &str| {
        let url = format!("{}?options=-c%20default_transaction_read_only%3Don", database.url());
        let mut program = command();
        program.args(split(words)).args(["--database-url", &url]);
        run(program, "")
    };
    for words in ["migrate", SERVE] {
        let error = on(words).failed(1);
        assert_read_only(&error);
        assert!(error.contains("there is no store yet"), "{words}: {error}");
    }
    store::migrate_to(&database.location(), LAST_RELEASE).await.expect("it is migrated");
    for words in ["migrate", SERVE] {
        let error = on(words).failed(1);
        assert_read_only(&error);
        let said = "the schema is at version 16, and the pending migrations (4: 0017_expand_";
        assert!(error.contains(said), "{words}: {error}");
    }
    store::migrate(&database.location()).await.expect("it is migrated");
    on("migrate").ok();
    assert_read_only(&on("user put ada").failed(1));
    assert!(on("user put ada --output json").failed(1).contains(r#""reason":"STORE_DENIED""#));
    database.drop_database().await;
}

#[tokio::test]
async fn a_file_on_a_read_only_file_system_is_called_read_only_before_its_migrations() {
    let database = Database::sqlite();
    store::migrate_to(&database.location(), LAST_RELEASE).await.expect("it is migrated");
    let mount = tempfile::TempDir::new().expect("a folder");
    let (file, small) = (database.file().expect("a file"), mount.path().display().to_string());
    // A separate file system in a user namespace, so that the test needs no privileges.
    let script = r#"mount -t tmpfs none "$0" && cp "$1" "$0/store.db" && mount -o remount,ro none "$0" \
        && shift && exec "$@""#;
    for words in ["migrate", SERVE] {
        let mut program = std::process::Command::new("unshare");
        program.args(["--mount", "--map-root-user", "sh", "-c", script, &small]);
        program.arg(&file).arg(env!("CARGO_BIN_EXE_sophic-auth")).args(split(words));
        program.args(["--database-url", &format!("sqlite:{small}/store.db")]);
        let error = run(program, "").failed(1);
        assert_read_only(&error);
        assert!(error.contains("is mounted read-only; the schema is at version 16"), "{error}");
    }
}
