//! The population as rows of Postgres: a psql script of COPY statements. Triggers are disabled meanwhile, since they
//! would append a million changes in one transaction. No server runs on the store at that time.

use std::io::Write;

use crate::tokens::{self, OWNERS, REVOKED};

/// Numbers of credentials.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Number of live credentials.
    #[arg(long)]
    live: u64,
    /// Number of revoked credentials, in addition.
    #[arg(long, default_value_t = 0)]
    revoked: u64,
}

/// The columns that are filled. The others have their defaults.
pub(crate) const COLUMNS: &str = "id, kind, workspace_id, user_id, max_role, generation, name, hint, \
     digest, scopes, ip_allowlist, annotations, create_time, revoke_time, creator, family_id, version";
const TIME: &str = "2026-01-01 00:00:00+00";
const TRIGGERS_REST: &str = "
BEGIN;
CREATE TEMP TABLE resting ON COMMIT DROP AS
    SELECT tgrelid::regclass AS relation, tgname FROM pg_trigger WHERE NOT tgisinternal AND tgenabled = 'A';
DO $$
DECLARE one record;
BEGIN
    FOR one IN SELECT * FROM resting LOOP
        EXECUTE format('ALTER TABLE %s DISABLE TRIGGER %I', one.relation, one.tgname);
    END LOOP;
END
$$;";
const TRIGGERS_WAKE: &str = "
DO $$
DECLARE one record;
BEGIN
    FOR one IN SELECT * FROM resting LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', one.relation, one.tgname);
    END LOOP;
END
$$;
COMMIT;
VACUUM ANALYZE;
CHECKPOINT;";

/// Writes the script to standard output.
pub(crate) fn write(args: &Args) -> anyhow::Result<()> {
    let mut out = std::io::BufWriter::with_capacity(1 << 20, std::io::stdout().lock());
    writeln!(out, "{TRIGGERS_REST}")?;
    write_directory(&mut out)?;
    writeln!(out, "COPY credentials ({COLUMNS}) FROM STDIN;")?;
    for index in 0..args.live {
        write_credential(&mut out, index, false)?;
    }
    for index in REVOKED..REVOKED + args.revoked {
        write_credential(&mut out, index, true)?;
    }
    writeln!(out, "\\.\n{TRIGGERS_WAKE}")?;
    Ok(out.flush()?)
}

fn write_directory(out: &mut impl Write) -> anyhow::Result<()> {
    let times = "create_time, update_time";
    writeln!(out, "COPY workspaces (id, slug, display_name, disabled, {times}) FROM STDIN;")?;
    for owner in 0..OWNERS {
        let (id, slug) = (workspace_id(owner), tokens::slug(owner));
        writeln!(out, "{id}\t{slug}\tBench workspace {owner:04}\tf\t{TIME}\t{TIME}")?;
    }
    writeln!(out, "\\.\nCOPY users (id, display_name, disabled, {times}) FROM STDIN;")?;
    for owner in 0..OWNERS {
        writeln!(out, "{}\tBench user {owner:04}\tf\t{TIME}\t{TIME}", user_id(owner))?;
    }
    writeln!(out, "\\.\nCOPY memberships (user_id, workspace_id, role, {times}) FROM STDIN;")?;
    for owner in 0..OWNERS {
        let user = user_id(owner);
        for workspace in [owner, (owner + 1) % OWNERS] {
            writeln!(out, "{user}\t{}\t2\t{TIME}\t{TIME}", workspace_id(workspace))?;
        }
    }
    writeln!(out, "\\.")?;
    Ok(())
}

fn write_credential(out: &mut impl Write, index: u64, revoked: bool) -> anyhow::Result<()> {
    let id = uuid::Uuid::from_bytes(tokens::id(index));
    let owner = tokens::owner(index);
    let (kind, workspace, user, max_role) = if tokens::is_key(index) {
        (1, workspace_id(owner), "\\N".to_owned(), "\\N")
    } else {
        (2, "\\N".to_owned(), user_id(owner), "4")
    };
    let revoke_time = if revoked { TIME } else { "\\N" };
    write!(out, "{id}\t{kind}\t{workspace}\t{user}\t{max_role}\t0\t{}\t", name(index))?;
    write!(out, "{}\t\\\\x{}", tokens::hint(index), hex::encode(tokens::digest(index)))?;
    writeln!(out, "\t3\t\t{{}}\t{TIME}\t{revoke_time}\toperator:bench\t{id}\t1")?;
    Ok(())
}

/// Returns the name of a credential. All have the same length.
pub(crate) fn name(index: u64) -> String {
    format!("credential {index:014}")
}

/// Returns the id of a workspace.
pub(crate) fn workspace_id(owner: u64) -> String {
    format!("ws-bench-{owner:04}")
}

/// Returns the id of a user.
pub(crate) fn user_id(owner: u64) -> String {
    format!("user-bench-{owner:04}")
}
