//! Parses every `WWW-Authenticate` text as strictly as RFC 6750 §3 and RFC 9110 §11 allow.

use super::super::*;

/// Returns the attributes in order, or an error text.
fn parse_challenge(text: &str) -> Result<Vec<(&str, &str)>, String> {
    let mut rest = text.strip_prefix("Bearer ").ok_or("another scheme")?;
    let mut attributes: Vec<(&str, &str)> = Vec::new();
    loop {
        let (name, value_on) = rest.split_once("=\"").ok_or("no quoted value")?;
        if !["realm", "scope", "error", "error_description", "error_uri"].contains(&name) {
            return Err(format!("not an attribute of RFC 6750: {name:?}"));
        }
        if attributes.iter().any(|(earlier, _)| *earlier == name) {
            return Err(format!("{name} stands twice"));
        }
        let (value, after) = value_on.split_once('"').ok_or("the quotes do not close")?;
        check_value(name, value)?;
        attributes.push((name, value));
        if after.is_empty() {
            return Ok(attributes);
        }
        rest = after.strip_prefix(", ").ok_or("no comma between attributes")?;
    }
}

fn check_value(name: &str, value: &str) -> Result<(), String> {
    // RFC 6750 §3: %x20-21 / %x23-5B / %x5D-7E, so that nothing needs to be escaped.
    let plain = |byte: u8| matches!(byte, 0x20..=0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    if value.is_empty() || !value.bytes().all(plain) {
        return Err(format!("{name} is empty or has characters that it may not have"));
    }
    // RFC 6749 §3.3: scope-token *( SP scope-token ).
    if name == "scope" && value.split(' ').any(str::is_empty) {
        return Err("an empty scope token".to_owned());
    }
    let codes = ["invalid_request", "invalid_token", "insufficient_scope"];
    if name == "error" && !codes.contains(&value) {
        return Err(format!("not an error code of RFC 6750 §3.1: {value}"));
    }
    Ok(())
}

fn all_sets() -> impl Iterator<Item = ScopeSet> {
    (0..=ScopeSet::ALL.bits()).map(|bits| ScopeSet::from_bits(bits.into()).expect("a set"))
}

/// Returns one refusal for each denial and each lack.
fn refusals() -> Vec<Decision> {
    let lacking = [Lack::Token, Lack::MaxRole, Lack::Role]
        .map(|lack| Decision { lack: Some(lack), ..Decision::refused(Denial::InsufficientScope) });
    let others = Denial::ALL.into_iter().filter(|denial| *denial != Denial::InsufficientScope);
    others.map(Decision::refused).chain(lacking).collect()
}

fn denial(decision: Decision) -> Denial {
    decision.denial.expect("it is a refusal")
}

/// Returns one attribute of the challenge for this refusal.
fn attribute(decision: Decision, required: ScopeSet, name: &str) -> Option<&'static str> {
    let text = www_authenticate(&decision, required);
    let attributes = parse_challenge(text).expect("another test parses every challenge");
    attributes.into_iter().find(|(found, _)| *found == name).map(|(_, value)| value)
}

#[test]
fn the_parser_of_these_tests_is_strict() {
    assert!(parse_challenge(r#"Bearer realm="a", error="invalid_token", scope="x y""#).is_ok());
    for bad in [
        "",
        "Bearer",
        "Bearer ",
        r#"bearer realm="a""#,
        r#"Bearer  realm="a""#,
        r#"Bearer realm="a" "#,
        r#"Bearer realm="a","#,
        r#"Bearer realm="a",error="invalid_token""#,
        r#"Bearer realm="a", realm="a""#,
        r#"Bearer realm="a", error="invalid_scope""#,
        r#"Bearer realm="a", colour="red""#,
        r#"Bearer realm="a\"b""#,
        r#"Bearer realm="é""#,
        "Bearer realm=\"a\r\nb\"",
        "Bearer realm=a",
        r#"Bearer realm="a"#,
        r#"Bearer scope="""#,
        r#"Bearer scope="x  y""#,
        r#"Bearer scope=" x""#,
    ] {
        assert!(parse_challenge(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn every_challenge_is_valid_and_names_the_realm_first() {
    for decision in refusals() {
        for required in all_sets() {
            let text = www_authenticate(&decision, required);
            let parsed = parse_challenge(text);
            let attributes = parsed.unwrap_or_else(|wrong| panic!("{decision:?}: {wrong}: {text}"));
            assert_eq!(attributes.first(), Some(&("realm", "sophic")), "{decision:?}");
        }
    }
}

#[test]
fn a_missing_token_is_challenged_without_an_error_code() {
    let missing = Decision::refused(Denial::TokenMissing);
    assert_eq!(www_authenticate(&missing, ScopeSet::ALL), r#"Bearer realm="sophic""#);
}

#[test]
fn the_error_code_is_the_one_that_rfc_6750_has_for_the_status() {
    for decision in refusals() {
        let expected = match (denial(decision), decision.http_status()) {
            // There is no error code, because nothing is wrong with the token.
            (Denial::TokenMissing, 401) | (_, 429) => None,
            (_, 401) => Some("invalid_token"),
            (_, 400) => Some("invalid_request"),
            (Denial::InsufficientScope, 403) => Some("insufficient_scope"),
            // RFC 6750 has no fitting code: neither another scope nor another token of this kind would help.
            (_, 403) => None,
            (_, status) => panic!("{decision:?} has status {status}"),
        };
        for required in all_sets() {
            assert_eq!(attribute(decision, required, "error"), expected, "{decision:?}");
        }
    }
}

#[test]
fn a_challenge_explains_its_error_and_nothing_else() {
    for decision in refusals() {
        let error = attribute(decision, ScopeSet::ALL, "error");
        let description = attribute(decision, ScopeSet::ALL, "error_description");
        assert_eq!(description, error.map(|_| decision.explanation()), "{decision:?}");
    }
}

#[test]
fn only_insufficient_scope_names_scopes_and_they_are_the_required_ones() {
    for decision in refusals() {
        for required in all_sets() {
            let listed = attribute(decision, required, "scope");
            if denial(decision) == Denial::InsufficientScope && !required.is_empty() {
                assert_eq!(listed, Some(required.to_string().as_str()));
                let read: ScopeSet = required
                    .to_string()
                    .split(' ')
                    .map(|scope| scope.parse::<Scope>().expect("a scope"))
                    .collect();
                assert_eq!(read, required);
            } else {
                assert_eq!(listed, None, "{decision:?}");
            }
        }
    }
}
