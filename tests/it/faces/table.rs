//! The decision table for every face: one list of requests with the expected answers, and one comparison.
//!
//! A [`Face`] is an adapter: it selects the rows that it can express, and reports the answer. `rows.rs` has those of
//! the server and the command line, `client/rows.rs` those of the clients.

use sophic_auth::decision::{Decision, Denial, Lack, www_authenticate};
use sophic_auth::grpc::pb::{Role, Scope};
use sophic_auth::model;

use super::scene::Scene;

/// A request of a client, and the expected answer.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// Name of the row, which begins with its number in the table.
    pub(crate) name: &'static str,
    /// The token. Empty: none is presented.
    pub(crate) token: String,
    /// The named workspace. Empty: none.
    pub(crate) workspace: &'static str,
    /// Scopes that the endpoint needs.
    pub(crate) scopes: &'static [Scope],
    /// The client's address. Empty: unknown.
    pub(crate) client_ip: &'static str,
    /// Expected denial, if any.
    pub(crate) denial: Option<Denial>,
    /// Missing scopes, and those that the token and the role lack, if the row is about them.
    lacks: Option<[&'static [Scope]; 3]>,
    /// What the challenge of row 12 names as lacking.
    lack: Option<Lack>,
    /// Effective scopes, if the row is about them.
    granted: Option<&'static [Scope]>,
    /// Effective role and its cap, if the row is about them.
    role: Option<(&'static str, &'static str)>,
    /// User of the personal access token, if the row is about that.
    pub(crate) user: Option<&'static str>,
}

/// Address of the client of a proxy or a layer.
pub(crate) const HERE: &str = "127.0.0.1";

/// A row without optional expectations.
pub(super) fn row(
    name: &'static str,
    token: &str,
    workspace: &'static str,
    scopes: &'static [Scope],
    denial: impl Into<Option<Denial>>,
) -> Row {
    Row {
        name,
        token: token.to_owned(),
        workspace,
        scopes,
        client_ip: HERE,
        denial: denial.into(),
        lacks: None,
        lack: None,
        granted: None,
        role: None,
        user: None,
    }
}

impl Row {
    pub(super) fn from(self, client_ip: &'static str) -> Self {
        Self { client_ip, ..self }
    }

    /// Sets the missing scopes, those that the token and the role lack, and the challenge.
    fn lacks(
        self,
        missing: &'static [Scope],
        token: &'static [Scope],
        role: &'static [Scope],
        lack: impl Into<Option<Lack>>,
    ) -> Self {
        Self { lacks: Some([missing, token, role]), lack: lack.into(), ..self }
    }

    pub(super) fn granted(self, scopes: &'static [Scope]) -> Self {
        Self { granted: Some(scopes), ..self }
    }

    pub(super) fn role(
        self,
        user: &'static str,
        role: &'static str,
        capped_by: &'static str,
    ) -> Self {
        Self { user: Some(user), role: Some((role, capped_by)), ..self }
    }

    /// HTTP status of the answer to the client.
    pub(crate) fn status(&self) -> u16 {
        self.denial.map_or(200, Denial::http_status)
    }

    pub(crate) fn denial(&self) -> &'static str {
        self.denial.map_or("", Denial::as_str)
    }

    /// The names of the required scopes, joined by this separator.
    pub(crate) fn scope_names(&self, between: &str) -> String {
        names(self.scopes).join(between)
    }

    /// Whether every proxy passes on this workspace unchanged in a header.
    pub(crate) fn fits_a_header(&self) -> bool {
        let workspace = self.workspace;
        workspace.trim() == workspace && workspace.bytes().all(|byte| (b' '..0x7f).contains(&byte))
    }

    fn challenge(&self) -> String {
        let Some(denial) = self.denial else { return String::new() };
        let scopes = names(self.scopes).into_iter().map(|name| name.parse().expect("a scope"));
        let decision = Decision { lack: self.lack, ..Decision::refused(denial) };
        www_authenticate(&decision, scopes.collect::<Vec<model::Scope>>().into_iter().collect())
            .to_owned()
    }
}

pub(crate) fn names(scopes: &[Scope]) -> Vec<&'static str> {
    let name = |scope: &Scope| model::Scope::from_proto((*scope).into()).expect("a scope").as_str();
    scopes.iter().map(name).collect()
}

/// The answer of a face to a row. `None` for fields that the face does not report.
#[derive(Debug, Default)]
pub(crate) struct FaceAnswer {
    pub(crate) status: u16,
    /// Empty: allowed.
    pub(crate) denial: Option<String>,
    /// Empty: none.
    pub(crate) challenge: Option<String>,
    pub(crate) missing: Option<Vec<String>>,
    pub(crate) token_lacks: Option<Vec<String>>,
    pub(crate) role_lacks: Option<Vec<String>>,
    pub(crate) granted: Option<Vec<String>>,
    pub(crate) role: Option<(String, String)>,
}

/// A face that answers rows of the table.
pub(crate) trait Face {
    fn name(&self) -> String;

    /// Whether the face can express the row.
    fn can_ask(&self, _: &Row) -> bool {
        true
    }

    async fn ask(&self, row: &Row) -> FaceAnswer;
}

/// Runs all rows that a face can express, and asserts that it runs at least this many.
pub(crate) async fn run(face: &impl Face, rows: &[Row], at_least: usize) {
    let mut asked = 0;
    for row in rows.iter().filter(|row| face.can_ask(row)) {
        compare(&face.name(), row, &face.ask(row).await);
        asked += 1;
    }
    assert!(asked >= at_least, "{}: {asked} rows of {}", face.name(), rows.len());
}

/// One row for each denial, and one that is allowed, for slow faces that only pass the decision on. None of the rows
/// sends the client's address.
pub(crate) fn one_of_each(rows: &[Row]) -> Vec<Row> {
    let mut chosen: Vec<Row> = Vec::new();
    for row in rows.iter().filter(|row| row.client_ip == HERE && row.name != "13 from here") {
        if chosen.iter().all(|other| other.denial != row.denial) {
            chosen.push(row.clone());
        }
    }
    chosen
}

/// Asserts the expected answer of the row.
pub(crate) fn compare(face: &str, row: &Row, answered: &FaceAnswer) {
    let what = format!("{face}, {row:?}: {answered:?}");
    assert_eq!(answered.status, row.status(), "{what}");
    if let Some(denial) = &answered.denial {
        assert_eq!(denial, row.denial(), "{what}");
    }
    if let Some(challenge) = &answered.challenge {
        assert_eq!(*challenge, row.challenge(), "{what}");
        challenge_fits(row, challenge);
    }
    if let Some([missing, token, role]) = row.lacks {
        for (answered, lacks) in [
            (&answered.missing, missing),
            (&answered.token_lacks, token),
            (&answered.role_lacks, role),
        ] {
            if let Some(answered) = answered {
                assert_eq!(*answered, names(lacks), "{what}");
            }
        }
    }
    if let (Some(answered), Some(granted)) = (&answered.granted, row.granted) {
        assert_eq!(*answered, names(granted), "{what}");
    }
    if let (Some((role, cap)), Some(expected)) = (&answered.role, row.role) {
        assert_eq!((role.as_str(), cap.as_str()), expected, "{what}");
    }
}

/// RFC 6750: an invalid token is an error code in the challenge. A denial because of the request or the address is not.
fn challenge_fits(row: &Row, challenge: &str) {
    let error = match row.denial {
        None => return assert_eq!(challenge, ""),
        Some(Denial::WorkspaceRequired) => "error=\"invalid_request\"",
        Some(Denial::InsufficientScope) => "error=\"insufficient_scope\"",
        Some(denial) if denial.http_status() == 401 && denial != Denial::TokenMissing => {
            "error=\"invalid_token\""
        }
        Some(_) => return assert_eq!(challenge, "Bearer realm=\"sophic\"", "{row:?}"),
    };
    assert!(challenge.starts_with("Bearer realm=\"sophic\""), "{row:?}: {challenge}");
    assert!(challenge.contains(error), "{row:?}: {challenge}");
    if row.denial == Some(Denial::InsufficientScope) {
        let scope = format!("scope=\"{}\"", row.scope_names(" "));
        assert!(challenge.ends_with(&scope), "{row:?}: {challenge}");
    }
}

use Scope::{Admin, Capture, Read};

const ALL: [Scope; 3] = [Read, Capture, Admin];

impl Scene {
    /// Every row of the table, most in several variants.
    pub(crate) async fn rows(&self) -> Vec<Row> {
        let mut rows = self.dead().await;
        rows.extend(self.addresses().await);
        rows.extend(self.workspaces().await);
        rows.extend(self.restrictions().await);
        rows.extend(self.scopes().await);
        rows.extend(self.allowed().await);
        rows.extend(self.in_order().await);
        // The tokens exist by now.
        self.close().await;
        rows
    }

    /// Rows 1 to 4: an inactive token is denied before all other checks.
    async fn dead(&self) -> Vec<Row> {
        let key = self.key(&[Read, Capture]).await;
        let unknown = sophic_auth::token::Token::mint(
            sophic_auth::token::TokenKind::Key,
            &sophic_auth::token::OsRandom,
        );
        let unknown = unknown.expect("a token").expose().to_owned();
        let bad_check = format!("{}{}", &key[..48], if key.ends_with('0') { '1' } else { '0' });
        let mut misspelt = key.clone().into_bytes();
        misspelt[20] ^= 1;
        let misspelt = String::from_utf8(misspelt).expect("text");
        let revoked_key = self.key(&ALL).await;
        self.root.revoke_token(&revoked_key).await;
        let revoked_pat = self.revoked_pat().await;
        let (expired, disabled) = (self.expired_key().await, self.disabled_key().await);
        let of_disabled_user = self.root.create_pat("eve", &[Read], Role::Owner).await.token;
        let of_disabled_workspace = self.root.create_key("closed", &[Read]).await.token;
        let refused = |name, token: &str, denial| row(name, token, "acme", &[Read], denial);
        vec![
            refused("1 no token", "", Denial::TokenMissing),
            row("1 no token and no workspace", "", "", &[Read], Denial::TokenMissing),
            refused("2 malformed", "rubbish", Denial::TokenUnknown),
            refused("2 cut short", &key[..48], Denial::TokenUnknown),
            refused("2 a letter more", &format!("{key}0"), Denial::TokenUnknown),
            refused("2 bad check", &bad_check, Denial::TokenUnknown),
            refused("2 misspelt", &misspelt, Denial::TokenUnknown),
            refused("2 unknown", &unknown, Denial::TokenUnknown),
            row("2 a caller's", &self.caller_token, "", &[Read], Denial::TokenUnknown),
            refused("3 revoked key", &revoked_key, Denial::TokenRevoked),
            refused("3 revoked pat", &revoked_pat, Denial::TokenRevoked),
            refused("3 expired", &expired, Denial::TokenExpired),
            refused("3 disabled", &disabled, Denial::TokenDisabled),
            refused("4 user", &of_disabled_user, Denial::PrincipalDisabled),
            row("4 workspace", &of_disabled_workspace, "", &[Read], Denial::PrincipalDisabled),
            row(
                "4 workspace named",
                &of_disabled_workspace,
                "closed",
                &[Read],
                Denial::PrincipalDisabled,
            ),
        ]
    }

    /// Row 5.
    async fn addresses(&self) -> Vec<Row> {
        let here = self.pat_for(&["127.0.0.0/8"]).await;
        let elsewhere = self.pat_for(&["203.0.113.0/24"]).await;
        let key_elsewhere = self.key_for(&["10.0.0.0/8"]).await;
        let office = self.pat_for(&["192.0.2.0/24", "2001:db8::1"]).await;
        let mut rows = vec![
            row("5 elsewhere", &elsewhere, "acme", &[Read], Denial::IpNotAllowed),
            row("5 key elsewhere", &key_elsewhere, "", &[Read], Denial::IpNotAllowed),
            row("13 from here", &here, "acme", &[Read], None),
        ];
        for outside in ["", "192.0.3.1", "2001:db8::2", "::ffff:192.0.3.1"] {
            let row = row("5 outside", &office, "acme", &[Read], Denial::IpNotAllowed);
            rows.push(row.from(outside));
        }
        for inside in ["192.0.2.200", "2001:db8::1", "::ffff:192.0.2.1"] {
            rows.push(row("13 inside", &office, "acme", &[Read], None).from(inside));
        }
        rows
    }

    /// Rows 6 to 8.
    async fn workspaces(&self) -> Vec<Row> {
        let key = self.key(&[Read, Capture]).await;
        let pat = self.pat(&ALL).await;
        let mut rows = vec![row("7 none named", &pat, "", &[Read], Denial::WorkspaceRequired)];
        for foreign in
            ["globex", "id-of-globex", "nowhere", "no such", "ACME", "a/b", "acme ", "\u{0}"]
        {
            rows.push(row("6 foreign", &key, foreign, &[Read], Denial::WorkspaceMismatch));
        }
        for foreign in
            ["globex", "id-of-globex", "nowhere", "closed", "id-of-closed", "not a name", "ACME"]
        {
            rows.push(row("8 foreign", &pat, foreign, &[Read], Denial::NotAMember));
        }
        for own in ["", "acme", "id-of-acme"] {
            rows.push(row("13 key", &key, own, &[Read], None));
        }
        rows
    }

    /// Rows 11 and 12.
    async fn scopes(&self) -> Vec<Row> {
        use Denial::{InsufficientScope, UserCredentialRequired};
        let capturing = self.key(&[Read, Capture]).await;
        let key = self.key(&[Read]).await;
        let pat = self.pat(&ALL).await;
        let downscoped = self.root.create_pat("ada", &[Read, Capture], Role::Viewer).await.token;
        let readers = self.root.create_pat("olga", &[Read], Role::Owner).await.token;
        let viewers = self.root.create_pat("vera", &[Read, Capture], Role::Owner).await.token;
        let bounded = self.root.create_pat("olga", &[Read, Admin], Role::Viewer).await.token;
        let lacking =
            |name, token: &str, scopes| row(name, token, "acme", scopes, InsufficientScope);
        vec![
            row("11 capture", &capturing, "acme", &[Capture], UserCredentialRequired)
                .lacks(&[Capture], &[], &[], None)
                .granted(&[Read]),
            row(
                "11 before a scope that it lacks besides",
                &capturing,
                "acme",
                &[Admin, Capture],
                UserCredentialRequired,
            ),
            lacking("12 the key lacks it", &capturing, &[Admin]).lacks(
                &[Admin],
                &[Admin],
                &[],
                Lack::Token,
            ),
            lacking("12 the key lacks one of them", &key, &[Read, Admin]).lacks(
                &[Admin],
                &[Admin],
                &[],
                Lack::Token,
            ),
            lacking("12 the token lacks it", &readers, &[Read, Capture]).lacks(
                &[Capture],
                &[Capture],
                &[],
                Lack::Token,
            ),
            lacking("12 the role lacks it", &pat, &[Admin]).lacks(
                &[Admin],
                &[],
                &[Admin],
                Lack::Role,
            ),
            lacking("12 the role of a viewer lacks it", &viewers, &[Capture]).lacks(
                &[Capture],
                &[],
                &[Capture],
                Lack::Role,
            ),
            lacking("12 both lack one", &viewers, &ALL).lacks(
                &[Capture, Admin],
                &[Admin],
                &[Capture, Admin],
                Lack::Role,
            ),
            lacking("12 the downscope", &downscoped, &[Capture]).lacks(
                &[Capture],
                &[],
                &[Capture],
                Lack::MaxRole,
            ),
            lacking("12 an owner's downscope", &bounded, &[Read, Admin]).lacks(
                &[Admin],
                &[],
                &[Admin],
                Lack::MaxRole,
            ),
        ]
    }

    /// Row 13.
    async fn allowed(&self) -> Vec<Row> {
        let key = self.key(&ALL).await;
        let mut rows =
            vec![row("13 key of all", &key, "acme", &[Read, Admin], None).granted(&[Read, Admin])];
        let pats: [(&'static str, Role, &'static str, &'static str, &'static [Scope]); 7] = [
            // user, downscope, effective role, its cap, effective scopes
            ("vera", Role::Owner, "viewer", "membership", &[Read]),
            ("ada", Role::Owner, "member", "membership", &[Read, Capture]),
            ("ada", Role::Member, "member", "membership", &[Read, Capture]),
            ("olga", Role::Owner, "owner", "membership", &ALL),
            ("olga", Role::Admin, "admin", "token", &ALL),
            ("olga", Role::Viewer, "viewer", "token", &[Read]),
            ("olga", Role::Unspecified, "owner", "membership", &ALL),
        ];
        for (user, max_role, role, capped_by, scopes) in pats {
            let pat = self.root.create_pat(user, &ALL, max_role).await.token;
            for workspace in ["acme", "id-of-acme"] {
                let allowed = |required: &'static [Scope]| {
                    let row = row("13 pat", &pat, workspace, required, None);
                    row.granted(scopes).role(user, role, capped_by)
                };
                rows.push(allowed(scopes));
                rows.extend(scopes.iter().map(|scope| allowed(std::slice::from_ref(scope))));
            }
        }
        rows
    }

    /// The first row that applies wins.
    async fn in_order(&self) -> Vec<Row> {
        let office = self.pat_for(&["192.0.2.0/24"]).await;
        let (key, revoked) = (self.key(&ALL).await, self.key(&ALL).await);
        self.root.revoke_token(&revoked).await;
        let inside = "192.0.2.1";
        vec![
            // The address comes before the workspace, and that before the scope.
            row("5 before 7", &office, "", &[Capture], Denial::IpNotAllowed).from(""),
            row("7 before 12", &office, "", &[Capture], Denial::WorkspaceRequired).from(inside),
            row("8 before 12", &office, "globex", &[Capture], Denial::NotAMember).from(inside),
            row("12 after all of them", &office, "acme", &[Capture], Denial::InsufficientScope)
                .lacks(&[Capture], &[Capture], &[], Lack::Token)
                .from(inside),
            // The mismatch comes before capture, and an inactive token before all of them.
            row("6 before 11", &key, "globex", &[Capture], Denial::WorkspaceMismatch),
            row("3 before 6 and 11", &revoked, "globex", &[Capture], Denial::TokenRevoked),
        ]
    }
}
