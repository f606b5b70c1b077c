# A throwaway Postgres that runs as an ordinary user, since Postgres refuses root. Source this file.
#
#   postgres_start [-c setting=value …]   finds or installs the server, starts it, exports SOPHIC_AUTH_TEST_POSTGRES_URL
#   postgres_restart fast|immediate                      restarts it with this `pg_ctl` mode; immediate is a crash
#   postgres_standby                      starts a synchronous standby beside it, and prints the standby's port
#   postgres_switch_over PORT             promotes the standby on this port, and makes the old primary a standby of it
#                                         that applies no later commits
#   postgres_stop                         stops it and its standby, and removes their directory

postgres_say() { echo "postgres: $*" >&2; }

# Prints the folder of the newest server of version 14 or later.
postgres_find() {
  local folder version best= best_version=13
  for folder in "$(pg_config --bindir 2>/dev/null || true)" /usr/lib/postgresql/*/bin /usr/local/pgsql/bin /usr/local/bin; do
    [ -x "$folder/initdb" ] && [ -x "$folder/postgres" ] || continue
    version=$("$folder/postgres" --version | sed -E 's/[^0-9]*([0-9]+).*/\1/')
    if [ "$version" -gt "$best_version" ]; then best=$folder best_version=$version; fi
  done
  [ -n "$best" ] && echo "$best"
}

postgres_install() {
  local sudo=
  command -v apt-get >/dev/null || { postgres_say "not found: install PostgreSQL 14 or later, server included"; return 1; }
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { postgres_say "not found: run 'apt-get install postgresql' as root"; return 1; }
    sudo=sudo
  fi
  postgres_say "not found, installing it"
  # The cluster that the package creates would occupy a port and start with the machine.
  if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
    $sudo mkdir -p /etc/postgresql-common
    echo 'create_main_cluster = false' | $sudo tee /etc/postgresql-common/createcluster.conf >/dev/null
  fi
  $sudo apt-get update -q >&2 && $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -qy postgresql >&2
}

# Runs a command as the server's user.
postgres_as() {
  if [ -n "$POSTGRES_USER" ]; then (cd / && setpriv --reuid "$POSTGRES_USER" --regid "$(id -g "$POSTGRES_USER")" --clear-groups "$@"); else (cd / && "$@"); fi
}

postgres_start() {
  POSTGRES_BIN=$(postgres_find) || { postgres_install && POSTGRES_BIN=$(postgres_find); } || return 1
  POSTGRES_USER=
  if [ "$(id -u)" -eq 0 ]; then
    POSTGRES_USER=nobody
    if id postgres >/dev/null 2>&1; then POSTGRES_USER=postgres; fi
  fi
  POSTGRES_DIR=$(mktemp -d "${TMPDIR:-/tmp}/sophic-auth-postgres.XXXXXX")
  [ -z "$POSTGRES_USER" ] || chown "$POSTGRES_USER" "$POSTGRES_DIR"
  postgres_as "$POSTGRES_BIN/initdb" -D "$POSTGRES_DIR/data" -U sophic -A trust -E UTF8 --locale=C -N >"$POSTGRES_DIR.initdb" 2>&1 ||
    { cat "$POSTGRES_DIR.initdb" >&2; rm -f "$POSTGRES_DIR.initdb"; return 1; }
  rm -f "$POSTGRES_DIR.initdb"
  postgres_run data "$@" || return 1
  export SOPHIC_AUTH_TEST_POSTGRES_URL="postgres://sophic@127.0.0.1:$POSTGRES_PORT/postgres"
  postgres_say "$("$POSTGRES_BIN/postgres" --version) on port $POSTGRES_PORT, in $POSTGRES_DIR"
}

# Starts the server in this folder of POSTGRES_DIR, and sets POSTGRES_PORT.
postgres_run() {
  local folder=$POSTGRES_DIR/$1 tries
  shift
  for tries in 1 2 3 4 5; do
    # Another process may take the port before the start. Then another port is tried.
    POSTGRES_PORT=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    if postgres_as "$POSTGRES_BIN/pg_ctl" -D "$folder" -s -w -t 60 -l "$folder/server.log" start \
      -o "-h 127.0.0.1 -p $POSTGRES_PORT -k $POSTGRES_DIR -c max_connections=400 -c shared_buffers=128MB -c log_error_verbosity=terse $*" >&2; then
      return 0
    fi
  done
  cat "$folder/server.log" >&2
  return 1
}

# Runs a statement on this port.
postgres_ask() { postgres_as "$POSTGRES_BIN/psql" -h 127.0.0.1 -p "$1" -U sophic -Atqc "$2" postgres; }

postgres_standby() {
  local primary=${SOPHIC_AUTH_TEST_POSTGRES_URL##*:}
  primary=${primary%%/*}
  postgres_as "$POSTGRES_BIN/pg_basebackup" -D "$POSTGRES_DIR/standby" -R -X stream -c fast -N -h 127.0.0.1 -p "$primary" -U sophic >&2 &&
    postgres_run standby -c fsync=off &&
    postgres_ask "$primary" "ALTER SYSTEM SET synchronous_standby_names = '*'" &&
    postgres_ask "$primary" "SELECT pg_reload_conf()" >&2 || return 1
  until [ "$(postgres_ask "$primary" "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'")" = 1 ]; do sleep 0.1; done
  echo "$POSTGRES_PORT"
}

postgres_switch_over() {
  postgres_as tee -a "$POSTGRES_DIR/data/postgresql.auto.conf" >/dev/null <<CONF
primary_conninfo = 'host=127.0.0.1 port=$1 user=sophic'
recovery_min_apply_delay = '1d'
CONF
  postgres_as touch "$POSTGRES_DIR/data/standby.signal"
  # A fast shutdown waits until the standby has received everything.
  postgres_restart fast && postgres_as "$POSTGRES_BIN/pg_ctl" -D "$POSTGRES_DIR/standby" -s -w -t 60 promote >&2
}

postgres_restart() {
  postgres_as "$POSTGRES_BIN/pg_ctl" -D "$POSTGRES_DIR/data" -s -w -t 60 -m "$1" -l "$POSTGRES_DIR/data/server.log" restart >&2
}

postgres_stop() {
  [ -n "${POSTGRES_DIR:-}" ] || return 0
  local folder
  for folder in "$POSTGRES_DIR/standby" "$POSTGRES_DIR/data"; do
    [ ! -d "$folder" ] || postgres_as "$POSTGRES_BIN/pg_ctl" -D "$folder" -s -m immediate stop >/dev/null 2>&1 || true
  done
  rm -rf "$POSTGRES_DIR"
  POSTGRES_DIR=
}
