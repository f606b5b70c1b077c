//! Lists the migrations, so that none is forgotten.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=migrations");
    list_migrations(&PathBuf::from(env::var("OUT_DIR")?))
}

/// Writes, for each database, an array of (version, name, SQL) in the order of the versions.
fn list_migrations(out: &Path) -> Result<(), Box<dyn Error>> {
    let mut listing = String::new();
    for database in ["sqlite", "postgres"] {
        let folder = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("migrations").join(database);
        let mut files = fs::read_dir(&folder)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<Vec<_>, _>>()?;
        files.sort();
        let constant = database.to_uppercase();
        writeln!(listing, "pub(super) const {constant}: &[(i64, &str, &str)] = &[")?;
        for file in files {
            let stem =
                file.file_stem().and_then(|stem| stem.to_str()).ok_or("a name not in UTF-8")?;
            let (version, name) =
                stem.split_once('_').ok_or("a migration is named NNNN_name.sql")?;
            let version: i64 = version.parse()?;
            writeln!(listing, "    ({version}, {name:?}, include_str!({:?})),", file.display())?;
        }
        writeln!(listing, "];")?;
    }
    fs::write(out.join("migrations.rs"), listing)?;
    Ok(())
}
