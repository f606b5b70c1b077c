//! A real PgBouncer that the URL does not mention.

use std::net::SocketAddr;

use sophic_auth::store::{self, Store};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::task::JoinSet;

use super::samples::{workspace, write};
use crate::faces::process::{Process, free_address, program};
use crate::stores::{Database, location};
use crate::waits::within;

/// Starts PgBouncer in front of the server of this database, with additional settings.
pub(super) async fn pgbouncer(url: &str, settings: &str) -> (Process, String) {
    let (user, rest) = url.split_once('@').expect("a user");
    let (address, name) = rest.split_once('/').expect("a database");
    let server: SocketAddr = address.parse().expect("an address");
    let folder = TempDir::new().expect("a folder");
    let address = free_address();
    let (ini, users) = (folder.path().join("pgbouncer.ini"), folder.path().join("users.txt"));
    let text = format!(
        "[databases]\n* = host={} port={}\n[pgbouncer]\nlisten_addr = {}\nlisten_port = {}\n\
         auth_type = any\nauth_file = {}\nmax_client_conn = 500\n\
         unix_socket_dir =\n{settings}\n",
        server.ip(),
        server.port(),
        address.ip(),
        address.port(),
        users.display(),
    );
    // PgBouncer connects as the first user in its file, since authentication is off.
    let database = format!("* = host={} port={}", server.ip(), server.port());
    let text = text.replace(&database, &format!("{database} user=sophic"));
    std::fs::write(&ini, text).expect("its configuration");
    std::fs::write(&users, "\"sophic\" \"\"\n").expect("its users");
    let binary = program("pgbouncer", &["/usr/sbin", "/usr/bin"]);
    // PgBouncer refuses to run as root, and the user it runs as must be able to read its files.
    let mut command = if rustix::process::geteuid().is_root() {
        use std::os::unix::fs::PermissionsExt as _;
        let all = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(folder.path(), all).expect("it can be read");
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "--"]);
        command.arg(binary);
        command
    } else {
        Command::new(binary)
    };
    command.arg(&ini);
    let process = Process::start(command, folder, address).await;
    (process, format!("{user}@{address}/{name}"))
}

/// Reads and writes from many tasks at once, and returns the number of failures.
pub(super) async fn failures(store: &std::sync::Arc<dyn Store>) -> usize {
    let mut tasks = JoinSet::new();
    for _ in 0..16 {
        let store = std::sync::Arc::clone(store);
        tasks.spawn(async move {
            let mut failed = 0;
            for _ in 0..25 {
                failed += usize::from(store.revision().await.is_err());
                failed += usize::from(store.find_workspace("acme").await.is_err());
            }
            failed
        });
    }
    within("every task ends", tasks.join_all()).await.into_iter().sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_that_the_url_does_not_mention_is_detected_without_failures() {
    for ignored in ["", "ignore_startup_parameters = extra_float_digits,options"] {
        let database = Database::postgres().await;
        // With few connections, so that the clients share them.
        let settings = format!("pool_mode = transaction\ndefault_pool_size = 4\n{ignored}");
        let (pooler, url) = pgbouncer(&database.url(), &settings).await;
        for _ in 0..2 {
            // The second store reuses the server connections of the first.
            let store = store::open(&location(&url)).await.unwrap_or_else(|error| {
                panic!("{error}\n{}", pooler.log());
            });
            let acme = workspace("acme");
            // A replica retries opening the feed, and its first attempt may be what detects the pooler.
            let feed = match store.open_feed().await {
                Err(error) if error.is_pooler() => store.open_feed().await,
                feed => feed,
            };
            let feed = feed.expect("it is followed");
            assert_eq!(failures(&store).await, 0, "{ignored}");
            write(&*store, async |tx| tx.put_workspace(&acme).await.expect("it is put")).await;
            assert_eq!(store.find_workspace("acme").await, Ok(Some(acme)));
            drop(feed);
            within("it closes", store.close()).await;
        }
        drop(pooler);
        database.drop_database().await;
    }
}
