//! Spelling of allowlists and client addresses. Tests of row 5 of the decision cover what they allow.

use super::super::*;

fn parse(entries: &[&str]) -> Result<String, Invalid> {
    IpAllowlist::parse(entries.iter().copied()).map(|allowlist| allowlist.to_string())
}

fn parsed(entries: &[&str]) -> String {
    parse(entries).expect("a good allowlist")
}

#[test]
fn an_entry_is_a_network_or_a_single_address() {
    assert_eq!(parsed(&[]), "");
    assert_eq!(parsed(&["192.0.2.0/24", "2001:db8::/32"]), "192.0.2.0/24,2001:db8::/32");
    assert_eq!(parsed(&["192.0.2.1", "2001:db8::1"]), "192.0.2.1/32,2001:db8::1/128");
    assert_eq!(parsed(&["0.0.0.0/0", "::/0"]), "0.0.0.0/0,::/0");
}

#[test]
fn the_host_part_is_cut_off_and_duplicates_are_dropped() {
    assert_eq!(parsed(&["192.0.2.77/24", "192.0.2.0/24", "192.0.2.1/24"]), "192.0.2.0/24");
    assert_eq!(parsed(&["2001:DB8:0::7/32", "2001:db8::/32"]), "2001:db8::/32");
}

#[test]
fn a_stored_allowlist_is_read_back_unchanged() {
    let text = parsed(&["192.0.2.0/24", "198.51.100.7", "2001:db8::/32"]);
    assert_eq!(parsed(&text.split(',').collect::<Vec<_>>()), text);
}

#[test]
fn a_network_mapped_into_ipv6_is_that_ipv4_network() {
    assert_eq!(parsed(&["::ffff:192.0.2.1"]), "192.0.2.1/32");
    assert_eq!(parsed(&["::ffff:192.0.2.9/120", "192.0.2.0/24"]), "192.0.2.0/24");
    assert_eq!(parsed(&["::ffff:0:0/96"]), "0.0.0.0/0");
    // A network one bit wider contains more than IPv4, so it stays IPv6.
    assert_eq!(parsed(&["::ffff:0:0/95"]), "::fffe:0:0/95");
}

#[test]
fn an_ambiguous_entry_is_refused() {
    for bad in [
        "",
        " ",
        "/",
        "/24",
        "192.0.2.0/",
        "192.0.2.0/33",
        "2001:db8::/129",
        "192.0.2.0/-1",
        "192.0.2.0/+8",
        "192.0.2.0/24/24",
        "192.0.2.0/256",
        "192.0.2.0/255.255.255.0",
        "192.0.2",
        "192.0.2.256",
        "010.0.0.0/8",
        "192.0.02.1",
        "192.0.2.0/024",
        "0x0a.0.0.0/8",
        "167772160",
        " 192.0.2.1",
        "192.0.2.1 ",
        "192.0.2.1\n",
        "192.0.2.1:443",
        "[2001:db8::1]",
        "fe80::1%eth0",
        "fe80::1%eth0/64",
        "192.0.2.0-192.0.2.9",
        "192.0.2.*",
        "example.com",
        "localhost",
        "192.0.2.1,192.0.2.2",
        "192.0.2.0/24\0",
        "１92.0.2.1",
    ] {
        assert!(parse(&[bad]).is_err(), "{bad:?}");
        assert!(parse(&["192.0.2.1", bad]).is_err(), "{bad:?}");
    }
}

#[test]
fn an_allowlist_has_at_most_64_networks() {
    let entries: Vec<String> = (0..65).map(|i| format!("10.0.{i}.0/24")).collect();
    let mut entries: Vec<&str> = entries.iter().map(String::as_str).collect();
    assert!(parse(&entries).is_err());
    entries.pop();
    assert!(parse(&entries).is_ok());
}

#[test]
fn a_clients_address_is_an_address_with_or_without_a_port() {
    for (text, address) in [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::ffff:c000:201", "192.0.2.1"),
        // The deprecated IPv4-compatible form does not name an IPv4 address.
        ("::192.0.2.1", "::c000:201"),
        // A port, brackets and a zone are dropped.
        ("192.0.2.1:443", "192.0.2.1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("[::ffff:192.0.2.1]:65535", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("[fe80::1%25eth0]:443", "fe80::1"),
        // White space and quotes are dropped too.
        (" 192.0.2.1\t", "192.0.2.1"),
        ("192.0.2.1\n", "192.0.2.1"),
        ("\"192.0.2.1\"", "192.0.2.1"),
        (" \"[2001:db8::1]:443\" ", "2001:db8::1"),
    ] {
        assert_eq!(
            parse_client_ip(text).map(|ip| ip.to_string()).as_deref(),
            Ok(address),
            "{text}"
        );
    }
    for bad in [
        "",
        " ",
        "192.0.2.1:",
        "192.0.2.1:65536",
        "192.0.2.1:+1",
        "192.0.2.1:443:443",
        "[2001:db8::1",
        "2001:db8::1]:443",
        "[2001:db8::1]443",
        "[2001:db8::1]:",
        "[192.0.2.1]:443",
        "[]",
        "192.0.2.1%eth0",
        "fe80::1%",
        "192.0.2.0/24",
        "unix:",
        "192.0.02.1",
        "unknown",
        "192.0.2.1, 192.0.2.2",
        "192.0.2.1,",
        "_hidden",
        "\"\"",
        "\"192.0.2.1",
    ] {
        assert!(parse_client_ip(bad).is_err(), "{bad:?}");
    }
}
