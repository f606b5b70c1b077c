//! Parses the URL of a Postgres database. Parsing is strict, and errors never repeat the URL, because it may contain a
//! password. A URL may name several hosts, as in libpq: `postgres://user@a:5432,b:5433/db`. sqlx takes only one.

use std::str::FromStr as _;

use sqlx::postgres::PgConnectOptions;

use crate::store::{Result, StoreError};

/// Parameters that sqlx knows. It logs any other parameter with its value, which may be a password if the name is
/// misspelled.
const KNOWN: [&str; 16] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
];

/// Parameters that other clients know, and that an error may therefore repeat. Any other name could be a part of a
/// password.
const KNOWN_ELSEWHERE: [&str; 34] = [
    "channel_binding",
    "client_encoding",
    "connect_timeout",
    "connection_limit",
    "fallback_application_name",
    "gssdelegation",
    "gssencmode",
    "gsslib",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "krbsrvname",
    "load_balance_hosts",
    "max_protocol_version",
    "min_protocol_version",
    "passfile",
    "pool_timeout",
    "replication",
    "require_auth",
    "requirepeer",
    "schema",
    "search_path",
    "service",
    "socket_timeout",
    "sslcertmode",
    "sslcompression",
    "sslcrl",
    "sslcrldir",
    "sslnegotiation",
    "sslpassword",
    "sslsni",
    "statement_timeout",
    "tcp_user_timeout",
];
/// Advice for a URL with an unencoded separator.
const ENCODE_HINT: &str = "characters that separate the parts of a URL must be percent-encoded in a user name, password or \
     database name: / as %2F, ? as %3F, # as %23, @ as %40, % as %25";

/// Values of `sslmode`.
const SSL_MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];
const PORTS: &str = "numbers from 1 to 65535";
/// Form of a URL.
const URL_FORM: &str = "the form is postgres://USER:PASSWORD@HOST:PORT/DATABASE";

/// Maximum number of hosts in a URL.
const HOSTS_MAX: usize = 16;

/// A parsed URL.
#[derive(Debug)]
pub(super) struct Parsed {
    /// Options for connecting to each host, in the order of the URL. There is at least one.
    pub(super) hosts: Vec<PgConnectOptions>,
    /// Whether the URL declares a transaction-mode pooler: `pgbouncer=true` or `statement_cache_capacity=0`.
    pub(super) pooled: bool,
}

/// Parses a URL.
pub(super) fn parse(url: &str) -> Result<Parsed> {
    check_encoding(url)?;
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let bases = url_for_each_host(base)?;
    let (user, _) = base.rsplit_once('@').unwrap_or_default();
    let mut has_user =
        user.rsplit('/').next().is_some_and(|user| !user.is_empty() && !user.starts_with(':'));
    let may_repeat_name = !query.contains('@');
    let mut pooled = false;
    let mut parameters = String::new();
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        match parameter.split_once('=').unwrap_or((parameter, "")) {
            ("pgbouncer", "true")
            | ("statement_cache_capacity" | "statement-cache-capacity", "0") => {
                pooled = true;
            }
            // The program always searches for the primary.
            ("pgbouncer", "false") | ("target_session_attrs", "primary" | "read-write") => {}
            ("target_session_attrs", _) => {
                return reject(
                    "target_session_attrs must be primary, because only the primary counts",
                );
            }
            ("pgbouncer", _) => return Err(bad_value("pgbouncer", "true and false")),
            (key @ ("statement_cache_capacity" | "statement-cache-capacity"), _) => {
                return Err(bad_value(key, "0, which declares a pooler in front of Postgres"));
            }
            (key @ ("host" | "hostaddr" | "port"), value) if bases.len() > 1 || is_list(value) => {
                return Err(invalid_url(format!(
                    "the database URL has the parameter {key}, which does not allow several hosts: list them before \
                     the database's name, as in postgres://USER@A:5432,B:5432/DATABASE"
                )));
            }
            (key, value)
                if KNOWN.contains(&key) || key == "options" || key.starts_with("options[") =>
            {
                check_value(key, value)?;
                has_user |= key == "user" && !value.is_empty();
                parameters.push(if parameters.is_empty() { '?' } else { '&' });
                parameters.push_str(parameter);
            }
            (key, _) => return Err(unknown(key, parameter, may_repeat_name)),
        }
    }
    if !has_user && std::env::var_os("PGUSER").is_none_or(|user| user.is_empty()) {
        parameters.push_str(if parameters.is_empty() { "?user=" } else { "&user=" });
        parameters.extend(system_user()?.bytes().map(|byte| format!("%{byte:02X}")));
    }
    let hosts = bases
        .iter()
        .map(|base| parse_single_host(&format!("{base}{parameters}")))
        .collect::<Result<_>>()?;
    Ok(Parsed { hosts, pooled })
}

/// Returns the name of the user that runs this process: the default user, as in other clients.
fn system_user() -> Result<String> {
    match nix::unistd::User::from_uid(nix::unistd::geteuid()) {
        Ok(Some(user)) => Ok(user.name),
        _ => reject(
            "the database URL names no user, and the operating system has no name for the user of this process: write \
             postgres://USER@HOST/DATABASE",
        ),
    }
}

/// Error for a parameter that is not accepted. An unknown name is repeated only if it cannot be a part of a password.
fn unknown(key: &str, parameter: &str, may_repeat_name: bool) -> StoreError {
    let lower = key.to_ascii_lowercase();
    let taken = KNOWN.iter().chain(&["options", "pgbouncer", "target_session_attrs"]);
    let what = if let Some(taken) = taken.into_iter().find(|taken| **taken == lower) {
        format!("the parameter {taken} in capitals: it is written {taken}")
    } else if let Some(known) = KNOWN_ELSEWHERE.iter().find(|known| **known == lower) {
        format!("the parameter {known}, which is not supported")
    } else if parameter.contains('@') {
        format!("an unknown parameter that contains an @: {ENCODE_HINT}")
    } else if may_repeat_name && key.len() <= 40 && key.bytes().all(is_name_byte) {
        format!("the parameter {key}, which is not known")
    } else {
        "an unknown parameter".to_owned()
    };
    invalid_url(format!(
        "the database URL has {what}; supported are {}, options, target_session_attrs=primary, \
         pgbouncer=true",
        KNOWN.join(", ")
    ))
}

const fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'[' | b']')
}

/// Error for a value that is not accepted. It does not repeat the value.
fn bad_value(key: &str, allowed: &str) -> StoreError {
    invalid_url(format!(
        "the database URL has an invalid value of the parameter {key}; allowed are {allowed}"
    ))
}

/// Checks the value of a parameter.
fn check_value(key: &str, value: &str) -> Result<()> {
    match key {
        "sslmode" | "ssl-mode" if !SSL_MODES.contains(&&*value.to_ascii_lowercase()) => {
            Err(bad_value(key, &SSL_MODES.join(", ")))
        }
        "port" if !is_port(value) => Err(bad_value(key, PORTS)),
        "hostaddr" if value.parse::<std::net::IpAddr>().is_err() && !value.contains('%') => {
            Err(bad_value(key, "addresses, such as 10.0.0.1 or ::1"))
        }
        _ => Ok(()),
    }
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok_and(|port| port > 0)
}

/// Returns the URL for messages, without password and parameters.
pub fn display_url(url: &str) -> Result<String> {
    let Parsed { hosts, .. } = parse(url)?;
    let hosts_and_ports = hosts.iter().map(|options| match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None if options.get_host().contains(':') => {
            format!("[{}]:{}", options.get_host(), options.get_port())
        }
        None => format!("{}:{}", options.get_host(), options.get_port()),
    });
    let shown = hosts_and_ports.collect::<Vec<_>>().join(",");
    // There is at least one host, and all share the user and the database.
    let (user, database) = hosts.first().map_or(("", ""), |options| {
        (options.get_username(), options.get_database().unwrap_or(options.get_username()))
    });
    Ok(format!("postgres://{user}@{shown}/{database}"))
}

/// Refuses a URL that seems to contain an unencoded separator. Parsed literally, it would name another host or a
/// database that does not exist.
fn check_encoding(url: &str) -> Result<()> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (base, _) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = base.split_once('/').unwrap_or((base, ""));
    // Everything after a `#` would be dropped silently. The hosts and the user come before the path.
    let misplaced = path.contains('@') || (!authority.contains('@') && query_holds_host(rest));
    if rest.contains('#') || misplaced {
        return Err(invalid_url(format!("the database URL cannot be read: {ENCODE_HINT}")));
    }
    Ok(())
}

/// Returns whether the text after the first `?` looks like the end of a password and a host.
fn query_holds_host(rest: &str) -> bool {
    let after = rest.split_once('?').map_or("", |(_, after)| after);
    let first = after.split('&').next().unwrap_or("");
    !first.contains('=') && first.contains('@')
}

fn invalid_url(text: String) -> StoreError {
    StoreError::InvalidLocation(text)
}

fn unreadable() -> StoreError {
    invalid_url(format!("the database URL cannot be read: {URL_FORM}; {ENCODE_HINT}"))
}

fn reject<T>(text: &str) -> Result<T> {
    Err(invalid_url(text.to_owned()))
}

/// Returns whether the value contains a comma, encoded or not.
fn is_list(value: &str) -> bool {
    value.contains(',') || value.to_ascii_lowercase().contains("%2c")
}

/// Returns the URL without its parameters, once for each host.
fn url_for_each_host(base: &str) -> Result<Vec<String>> {
    let Some((scheme, rest)) = base.split_once("://") else {
        return Err(unreadable());
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    // A password may contain commas, and a host never contains an `@`.
    let (user, hosts) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
    let hosts: Vec<_> = hosts.split(',').collect();
    if hosts.len() > HOSTS_MAX {
        return reject("the database URL names too many hosts");
    }
    if hosts.len() > 1 && hosts.iter().any(|host| host.is_empty() || host.starts_with(':')) {
        return reject("the database URL names several hosts, and one of them is empty");
    }
    for host in &hosts {
        // Skip an IPv6 address in brackets.
        let after = host.rsplit_once(']').map_or(*host, |(_, after)| after);
        if let Some((_, port)) = after.split_once(':')
            && !port.is_empty()
            && !is_port(port)
        {
            return Err(invalid_url(format!(
                "the database URL has an invalid port: allowed are {PORTS}; {URL_FORM}; {ENCODE_HINT}"
            )));
        }
    }
    Ok(hosts.iter().map(|host| format!("{scheme}://{user}{host}{path}")).collect())
}

/// Parses a URL with one host.
fn parse_single_host(url: &str) -> Result<PgConnectOptions> {
    let Ok(options) = PgConnectOptions::from_str(url) else {
        return Err(unreadable());
    };
    let bare = options.get_host().strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    // The brackets belong to the URL, not to the address.
    let bare = bare.map(str::to_owned);
    Ok(match bare {
        Some(host) => options.host(&host),
        None => options,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(url: &str) -> Vec<(String, u16)> {
        let parsed = parse(url).expect("it can be read");
        let host = |options: &PgConnectOptions| (options.get_host().to_owned(), options.get_port());
        parsed.hosts.iter().map(host).collect()
    }

    fn refusal(url: &str) -> String {
        match parse(url).expect_err("it is refused") {
            StoreError::InvalidLocation(text) => text,
            error => panic!("{error:?}"),
        }
    }

    #[test]
    fn a_url_with_one_host_is_parsed() {
        let parsed = parse("postgres://sophic:pw@db:6432/auth?pgbouncer=true").expect("it is one");
        assert!(parsed.pooled);
        let [options] = &parsed.hosts[..] else { panic!("one host") };
        assert_eq!((options.get_host(), options.get_port()), ("db", 6432));
        assert_eq!(options.get_username(), "sophic");
        assert_eq!(options.get_database(), Some("auth"));
    }

    #[test]
    fn several_hosts_have_their_own_ports_and_share_the_rest() {
        let url = "postgresql://sophic:p%2Cw@a:5433,10.0.0.2:5434,c:1/auth?application_name=x&\
                   target_session_attrs=read-write";
        let expected = [("a", 5433), ("10.0.0.2", 5434), ("c", 1)];
        assert_eq!(hosts(url), expected.map(|(host, port)| (host.to_owned(), port)));
        for options in parse(url).expect("it can be read").hosts {
            assert_eq!(options.get_username(), "sophic");
            assert_eq!(options.get_database(), Some("auth"));
            assert_eq!(options.get_application_name(), Some("x"));
        }
    }

    #[test]
    fn ipv6_addresses_are_in_brackets() {
        let expected = [("::1", 5433), ("fe80::2", 5432), ("b", 5434)];
        let read = hosts("postgres://sophic@[::1]:5433,[fe80::2]:5432,b:5434/auth");
        assert_eq!(read, expected.map(|(host, port)| (host.to_owned(), port)));
        assert_eq!(hosts("postgres://[::1]:1/auth"), [("::1".to_owned(), 1)]);
    }

    #[test]
    fn a_password_may_contain_commas() {
        assert_eq!(hosts("postgres://u:a,b@h:1/auth"), [("h".to_owned(), 1)]);
        let read = hosts("postgres://u:a,b@h:1,i:2/auth");
        assert_eq!(read, [("h".to_owned(), 1), ("i".to_owned(), 2)]);
    }

    #[test]
    fn an_invalid_url_is_refused_and_its_secrets_are_not_repeated() {
        let many = ["hunter2.example:1"; HOSTS_MAX + 1].join(",");
        let wrong = [
            "postgres:hunter2",
            "postgres://u:hunter2@a:1,,b:2/auth",
            "postgres://u:hunter2@a:1,/auth",
            "postgres://u:hunter2@a:1,:2/auth",
            "postgres://u:hunter2@a:1,b:hunter2/auth",
            "postgres://u:hunter2@a:1,b:65536/auth",
            "postgres://u:hunter2@[::1,b:2/auth",
            "postgres://u:hunter2@a:1,b:2/auth?host=c",
            "postgres://u:hunter2@a:1,b:2/auth?port=3",
            "postgres://u:hunter2@/auth?host=a,b",
            "postgres://u:hunter2@/auth?host=a%2Cb",
            "postgres://u:hunter2@a:1/auth?target_session_attrs=any",
            "postgres://u@a:1,b:2/auth?passwort=hunter2",
            "postgres://u:hunter2/x@a:1/auth",
            "postgres://u:hunter2?x@a:1/auth",
            "postgres://u:hunter2?x=y@a:1/auth",
            "postgres://u:hunter2#x@a:1/auth",
            "postgres://u:1/hunter2@a:1/auth",
            "postgres://u:p@w?hunter2&x@a:1/auth",
            "postgres://u@a:1/auth?sslmode=hunter2",
            "postgres://u@a:1/auth?port=hunter2",
            "postgres://u@a:hunter2/auth",
            &format!("postgres://u:hunter2@{many}/auth"),
        ];
        for url in wrong {
            assert!(!refusal(url).contains("hunter2"), "{url}: {}", refusal(url));
        }
    }

    #[test]
    fn a_refused_parameter_is_named() {
        for (url, named) in [
            ("postgres://u@a/auth?sslmode=require&channel_binding=require", "channel_binding"),
            ("postgres://u@a/auth?connect_timeout=10", "connect_timeout"),
            ("postgres://u@a:1,b:2/auth?host=c", "parameter host"),
            ("postgres://u@a/auth?port=1,2", "parameter port"),
            ("postgres://u@a/auth?PGBOUNCER=true", "it is written pgbouncer"),
            ("postgres://u:pw@a/auth?pg_bouncer=true", "the parameter pg_bouncer, which"),
        ] {
            assert!(refusal(url).contains(named), "{url}: {}", refusal(url));
        }
    }

    #[test]
    fn a_refused_value_is_reported_with_its_parameter_and_the_allowed_values() {
        for (url, named) in [
            ("postgres://u@a/auth?sslmode=bogus", ["parameter sslmode", "verify-full"]),
            ("postgres://u@a/auth?pgbouncer=yes", ["parameter pgbouncer", "true and false"]),
            ("postgres://u@a/auth?pgbouncer=1", ["parameter pgbouncer", "true and false"]),
            ("postgres://u@a/auth?pgbouncer=", ["parameter pgbouncer", "true and false"]),
            ("postgres://u@a/auth?pgbouncer", ["parameter pgbouncer", "true and false"]),
            ("postgres://u@a/auth?port=0", ["parameter port", "1 to 65535"]),
            ("postgres://u@/auth?hostaddr=a", ["parameter hostaddr", "10.0.0.1"]),
            ("postgres://u@a/auth?statement_cache_capacity=5", ["cache_capacity", "0"]),
            ("postgres://u@a:99999/auth", ["port", "1 to 65535"]),
            ("postgres://u@[::1]:0/auth", ["port", "1 to 65535"]),
            ("postgres://u@a:b c/auth", ["port", "postgres://USER"]),
        ] {
            for named in named {
                assert!(refusal(url).contains(named), "{url}: {}", refusal(url));
            }
        }
    }

    #[test]
    fn the_default_user_is_the_one_that_runs_the_process() {
        let runs = nix::unistd::User::from_uid(nix::unistd::geteuid()).expect("it can be read");
        let runs = std::env::var("PGUSER").ok().or(runs.map(|user| user.name)).expect("a name");
        for (url, user) in [
            ("postgres:///postgres?host=/run/postgresql", &*runs),
            ("postgres://a:1/postgres", &*runs),
            ("postgres://:pw@a/postgres", &*runs),
            ("postgres://ada@a/postgres", "ada"),
            ("postgres:///postgres?user=ada&host=a", "ada"),
        ] {
            assert_eq!(parse(url).expect("it can be read").hosts[0].get_username(), user, "{url}");
        }
    }

    #[test]
    fn an_unencoded_separator_in_a_password_gets_a_hint() {
        for password in ["a/b", "a?b", "a#b", "1/b", "1?b", "a?b=c", "a/b@c", "a?b@c"] {
            let refused = refusal(&format!("postgres://u:{password}@h:1/auth"));
            assert!(refused.contains("percent-encoded") && refused.contains("%2F"), "{refused}");
        }
        for fine in ["a%2Fb%3Fc%23d%40e", "a@b", "a:b,c"] {
            assert_eq!(hosts(&format!("postgres://u:{fine}@h:1/auth")), [("h".to_owned(), 1)]);
        }
        let named = parse("postgres://h/auth?application_name=me@here").expect("it can be read");
        assert_eq!(named.hosts[0].get_application_name(), Some("me@here"));
    }
}
