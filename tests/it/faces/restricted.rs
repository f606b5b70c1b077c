//! Rows 9 and 10 of the decision table: personal access tokens that are limited to workspaces, and workspaces that do not
//! permit every personal access token.

use sophic_auth::decision::Denial;
use sophic_auth::grpc::pb::{
    self, CreatePatRequest, PatPolicy, Role, Scope, create_pat_request::Expiration,
};

use super::scene::Scene;
use super::table::{Row, row};

use Denial::{IpNotAllowed, NotAMember, PatNotPermitted, TokenRevoked, WorkspaceNotGranted};
use Scope::{Admin, Capture, Read};

/// A workspace whose policy permits personal access tokens of at most a day.
pub(crate) const STRICT: &str = "strict";

impl Scene {
    /// Creates a personal access token of olga, who is an owner of `acme`, `globex` and `strict`.
    async fn olgas(&self, request: CreatePatRequest) -> String {
        let request = CreatePatRequest {
            user: "olga".to_owned(),
            name: "restricted".to_owned(),
            scopes: [Read, Capture, Admin].map(i32::from).to_vec(),
            ..request
        };
        let made = self.root.auth().create_pat(request).await.expect("a token is made");
        made.into_inner().token
    }

    /// Limits a token to these workspaces.
    async fn limited(&self, workspaces: &[&str]) -> String {
        let workspaces = workspaces.iter().map(|&name| name.to_owned()).collect();
        self.olgas(CreatePatRequest { workspaces, ..Default::default() }).await
    }

    async fn expiring(&self, hours: i64, workspaces: &[&str]) -> String {
        let seconds = hours * 3_600;
        self.olgas(CreatePatRequest {
            expiration: Some(Expiration::Ttl(prost_types::Duration { seconds, nanos: 0 })),
            workspaces: workspaces.iter().map(|&name| name.to_owned()).collect(),
            ..Default::default()
        })
        .await
    }

    async fn put_strict(&self) {
        self.root.put_workspace(STRICT).await;
        self.root.put_membership(STRICT, "olga", Role::Owner).await;
        let lifetime_max = Some(prost_types::Duration { seconds: 86_400, nanos: 0 });
        let pat_policy = Some(PatPolicy { lifetime_max, ..Default::default() });
        let id = format!("id-of-{STRICT}");
        let slug = STRICT.to_owned();
        self.root.put(pb::Workspace { id, slug, pat_policy, ..Default::default() }).await;
    }

    /// Rows 9 and 10, and their places among the others.
    pub(super) async fn restrictions(&self) -> Vec<Row> {
        self.put_strict().await;
        let globex = self.limited(&["globex"]).await;
        let both = self.limited(&["id-of-acme", "globex"]).await;
        let endless = self.limited(&["acme", STRICT]).await;
        let (short, long) = (self.expiring(24, &[]).await, self.expiring(25, &[]).await);
        let elsewhere = self.expiring(25, &["globex"]).await;
        let revoked = self.limited(&["globex"]).await;
        self.root.revoke_token(&revoked).await;
        let office = self
            .olgas(CreatePatRequest {
                ip_allowlist: vec!["192.0.2.0/24".to_owned()],
                workspaces: vec!["globex".to_owned()],
                ..Default::default()
            })
            .await;
        vec![
            row("9 by slug", &globex, "acme", &[Read], WorkspaceNotGranted)
                .granted(&[])
                .role("olga", "", ""),
            row("9 by id", &globex, "id-of-acme", &[Read], WorkspaceNotGranted),
            row("9 before 12", &globex, "acme", &[Read, Capture, Admin], WorkspaceNotGranted),
            row("10 it never expires", &endless, STRICT, &[Read], PatNotPermitted)
                .granted(&[])
                .role("olga", "", ""),
            row("10 it lives too long", &long, "id-of-strict", &[Admin], PatNotPermitted),
            row("9 before 10", &elsewhere, STRICT, &[Read], WorkspaceNotGranted),
            row("3 before 9", &revoked, "acme", &[Read], TokenRevoked),
            row("5 before 9", &office, "acme", &[Read], IpNotAllowed),
            row("9 from the office", &office, "acme", &[Read], WorkspaceNotGranted)
                .from("192.0.2.7"),
            // Of a workspace that she is no member of, neither says anything.
            row("8 before 9", &globex, "closed", &[Read], NotAMember),
            row("8 before 9, for an unknown one", &globex, "nowhere", &[Read], NotAMember),
            row("13 limited to both", &both, "acme", &[Admin], None)
                .granted(&[Read, Capture, Admin])
                .role("olga", "owner", "membership"),
            row("13 endless elsewhere", &endless, "acme", &[Capture], None),
            row("13 long elsewhere", &long, "acme", &[Read], None),
            row("13 short", &short, "acme", &[Read], None),
        ]
    }
}
