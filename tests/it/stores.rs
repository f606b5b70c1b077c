//! A new database for each test: an SQLite file, or a copy of a migrated template in the Postgres cluster that
//! `scripts/test` starts. [`on_every_store`] runs each case on both.

use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sophic_auth::store::{self, Location, Store};
use sqlx::{Connection as _, PgConnection};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::waits::{self, let_time_pass, within};

/// Declares a test of each case for each database. The type of a case's argument selects the [`Fixture`].
macro_rules! on_every_store {
    ($($case:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                crate::stores::run(crate::stores::Database::sqlite(), super::$case).await;
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                crate::stores::run(crate::stores::Database::postgres().await, super::$case).await;
            })+
        }
    };
}

pub(crate) use on_every_store;

/// The argument of a case.
pub(crate) trait Fixture: Sized {
    /// Sets up the fixture on this database.
    async fn set_up(database: Arc<Database>) -> Self;
    /// Tears down the fixture.
    async fn tear_down(database: &Database);
}

/// Runs a case, and drops its database if the case passed. The database of a failed case is kept for inspection.
pub(crate) async fn run<F: Fixture, R: Future<Output = ()>>(
    database: Database,
    case: impl FnOnce(F) -> R,
) {
    let database = Arc::new(database);
    let name = std::any::type_name_of_val(&case);
    if !database.is_postgres() {
        // The template of Postgres is migrated too.
        store::migrate(&database.location()).await.expect("it can be migrated");
    }
    let whole = async { case(F::set_up(Arc::clone(&database)).await).await };
    waits::test(name, whole).await;
    F::tear_down(&database).await;
    database.drop_database().await;
}

/// The database of one test.
#[derive(Debug)]
pub(crate) enum Database {
    /// A file in a directory that is deleted on drop.
    Sqlite { folder: TempDir },
    /// A database of the test cluster, by name.
    Postgres { name: String },
}

impl Database {
    /// Returns a file that does not exist yet.
    pub(crate) fn sqlite() -> Self {
        Self::Sqlite { folder: TempDir::new().expect("a folder for temporary files") }
    }

    /// Creates a copy of the migrated template.
    pub(crate) async fn postgres() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let template = template().await;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("t{}_{number}", std::process::id());
        admin(&format!("CREATE DATABASE {name} TEMPLATE {template}")).await;
        Self::Postgres { name }
    }

    /// Creates a database without a schema.
    pub(crate) async fn empty_postgres() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("e{}_{number}", std::process::id());
        admin(&format!("CREATE DATABASE {name} TEMPLATE template0")).await;
        Self::Postgres { name }
    }

    /// Creates a database with these options of `CREATE DATABASE`.
    pub(crate) async fn postgres_with(options: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("w{}_{number}", std::process::id());
        admin(&format!("CREATE DATABASE {name} {options}")).await;
        Self::Postgres { name }
    }

    /// Returns its URL, as the program accepts it.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Sqlite { folder } => {
                format!("sqlite:{}", folder.path().join("store.db").display())
            }
            Self::Postgres { name } => with_database(&cluster_url(), name),
        }
    }

    /// Returns its location.
    pub(crate) fn location(&self) -> Location {
        location(&self.url())
    }

    /// Opens the store once more.
    pub(crate) async fn open(&self) -> Arc<dyn Store> {
        store::open_existing(&self.location()).await.expect("the store opens")
    }

    /// Whether it is in the Postgres cluster.
    pub(crate) fn is_postgres(&self) -> bool {
        matches!(self, Self::Postgres { .. })
    }

    /// Returns the file of an SQLite database.
    pub(crate) fn file(&self) -> Option<PathBuf> {
        match self {
            Self::Sqlite { folder } => Some(folder.path().join("store.db")),
            Self::Postgres { .. } => None,
        }
    }

    /// Ends all connections to a Postgres database, and refuses new ones.
    pub(crate) async fn refuse_connections(&self) {
        if let Self::Postgres { name } = self {
            admin(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false")).await;
            admin(&format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
            ))
            .await;
        }
    }

    /// Allows connections again.
    pub(crate) async fn allow_connections(&self) {
        if let Self::Postgres { name } = self {
            admin(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true")).await;
        }
    }

    /// Drops a Postgres database. The file of an SQLite database is deleted with its directory.
    pub(crate) async fn drop_database(&self) {
        if let Self::Postgres { name } = self {
            admin(&format!("DROP DATABASE {name} WITH (FORCE)")).await;
        }
    }
}

/// A store on a database that no other test uses.
pub(crate) struct TestStore {
    /// The database, to be opened again.
    pub(crate) database: Arc<Database>,
    store: Arc<dyn Store>,
}

impl TestStore {
    /// Returns a shared handle of the store.
    pub(crate) fn shared(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }
}

impl Deref for TestStore {
    type Target = dyn Store;

    fn deref(&self) -> &Self::Target {
        &*self.store
    }
}

impl Fixture for TestStore {
    async fn set_up(database: Arc<Database>) -> Self {
        let store = store::open(&database.location()).await.expect("the store opens");
        Self { database, store }
    }

    async fn tear_down(_: &Database) {}
}

/// Returns the URL of the cluster that `scripts/test` started. Without it, tests on Postgres fail. They are never
/// skipped.
pub(crate) fn cluster_url() -> String {
    std::env::var("SOPHIC_AUTH_TEST_POSTGRES_URL").expect(
        "no Postgres: run scripts/test, which starts one, or set SOPHIC_AUTH_TEST_POSTGRES_URL to a server's URL",
    )
}

/// Parses a URL that a test has made.
pub(crate) fn location(url: &str) -> Location {
    Location::parse(url).expect("a URL of a store")
}

fn with_database(url: &str, name: &str) -> String {
    let (head, _) = url.rsplit_once('/').expect("a URL with a database");
    format!("{head}/{name}")
}

/// Runs a statement on the cluster. It is retried, because it fails while another test copies the template.
async fn admin(statement: &str) {
    let mut tries = 0;
    within(statement, async {
        loop {
            let mut connection =
                PgConnection::connect(&cluster_url()).await.expect("the test cluster answers");
            let statement = sqlx::AssertSqlSafe(statement.to_owned());
            match sqlx::raw_sql(statement).execute(&mut connection).await {
                Ok(_) => return,
                Err(error) if tries == 50 => panic!("the cluster refuses: {error}"),
                Err(_) => tries += 1,
            }
            let_time_pass("between two tries", Duration::from_millis(100)).await;
        }
    })
    .await;
}

async fn template() -> String {
    static TEMPLATE: OnceCell<String> = OnceCell::const_new();
    TEMPLATE
        .get_or_init(|| async {
            let name = format!("template_{}", std::process::id());
            admin(&format!("CREATE DATABASE {name} TEMPLATE template0")).await;
            store::migrate(&location(&with_database(&cluster_url(), &name)))
                .await
                .expect("it can be migrated");
            name
        })
        .await
        .clone()
}
