//! Limits on credentials: lifetimes, numbers, and overlaps of rotations. The server's policy is set by flags of
//! `serve`. A workspace can have its own. The stricter of the two applies. Pure.

use std::fmt::Write as _;
use std::time::Duration;

use crate::model::{CredentialKind, Invalid, WorkspacePolicy};

/// The server's policy. The default restricts nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policy {
    /// Limits for keys.
    pub keys: CredentialLimits,
    /// Limits for personal access tokens.
    pub pats: CredentialLimits,
    /// Shortest overlap of a rotation.
    pub overlap_min: Duration,
    /// Longest overlap of a rotation.
    pub overlap_max: Option<Duration>,
}

/// Limits for one kind of credential. `None` and `false` mean no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CredentialLimits {
    /// Longest lifetime of a new credential. It also requires an expiry.
    pub lifetime_max: Option<Duration>,
    /// Whether a new credential must have an expiry.
    pub expiry_required: bool,
    /// Maximum number of credentials of one owner that are neither revoked nor expired.
    pub live_max: Option<u32>,
}

/// The policy that applies to the credentials of one owner: the stricter of the server's and the workspace's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EffectivePolicy {
    /// Limits for the kind of credential.
    pub limits: CredentialLimits,
    /// Shortest overlap. It is at most the longest.
    pub overlap_min: Duration,
    /// Longest overlap.
    pub overlap_max: Option<Duration>,
}

impl Policy {
    /// Returns the policy for the keys of a workspace with this policy.
    pub fn for_keys(&self, workspace: &WorkspacePolicy) -> EffectivePolicy {
        let overlap_max = stricter(self.overlap_max, workspace.overlap_max);
        let overlap_min = self.overlap_min.max(workspace.overlap_min.unwrap_or_default());
        EffectivePolicy {
            limits: CredentialLimits {
                lifetime_max: stricter(self.keys.lifetime_max, workspace.key_lifetime_max),
                expiry_required: self.keys.expiry_required || workspace.key_expiry_required,
                live_max: stricter(self.keys.live_max, workspace.keys_max),
            },
            overlap_min: overlap_min.min(overlap_max.unwrap_or(Duration::MAX)),
            overlap_max,
        }
    }

    /// Returns the policy for credentials of this kind. `workspace` is the policy of their workspace, if they have one.
    pub fn for_kind(&self, kind: CredentialKind, workspace: &WorkspacePolicy) -> EffectivePolicy {
        match kind {
            CredentialKind::Key => self.for_keys(workspace),
            CredentialKind::Pat => self.for_pats(),
        }
    }

    /// Returns the policy for personal access tokens.
    pub fn for_pats(&self) -> EffectivePolicy {
        let overlap_min = self.overlap_min.min(self.overlap_max.unwrap_or(Duration::MAX));
        EffectivePolicy { limits: self.pats, overlap_min, overlap_max: self.overlap_max }
    }

    /// Returns the limits of the server's policy that contradict its shortest overlap.
    pub fn conflicts(&self) -> Vec<PolicyConflict> {
        let most = [
            ("overlap_max", self.overlap_max),
            ("key_lifetime_max", self.keys.lifetime_max),
            ("pat_lifetime_max", self.pats.lifetime_max),
        ];
        conflicts(self.overlap_min, most)
    }

    /// Returns the fields in which a change of a workspace's policy would exceed the server's limits or contradict
    /// another limit, each with an error. Such a limit would have no effect, and an error says so. Fields that do not
    /// change are not refused, because the server's policy may have become stricter since.
    pub fn refuse_change(
        &self,
        before: &WorkspacePolicy,
        after: &WorkspacePolicy,
    ) -> Vec<(&'static str, Invalid)> {
        let mut wrong = Vec::new();
        if let Some(most) =
            exceeded(before.key_lifetime_max, after.key_lifetime_max, self.keys.lifetime_max)
        {
            wrong.push(("key_lifetime_max", not_above(&span(most))));
        }
        if let Some(most) = exceeded(before.keys_max, after.keys_max, self.keys.live_max) {
            wrong.push(("keys_max", not_above(&most.to_string())));
        }
        if let Some(most) = exceeded(before.overlap_max, after.overlap_max, self.overlap_max) {
            wrong.push(("overlap_max", not_above(&span(most))));
        }
        let overlap_min_changes = before.overlap_min != after.overlap_min;
        if overlap_min_changes && after.overlap_min.is_some_and(|own| own < self.overlap_min) {
            let least = span(self.overlap_min);
            let text = format!("must not be below the server's limit, which is {least}");
            wrong.push(("overlap_min", Invalid::new(text)));
        }
        let most = [
            ("overlap_max", stricter(after.overlap_max, self.overlap_max)),
            ("key_lifetime_max", stricter(after.key_lifetime_max, self.keys.lifetime_max)),
        ];
        let least = after.overlap_min.unwrap_or_default().max(self.overlap_min);
        for PolicyConflict { field, most } in conflicts(least, most) {
            if overlap_min_changes {
                let text = format!("must not be above {field}, which is {}", span(most));
                wrong.push(("overlap_min", Invalid::new(text)));
            }
            let changes = match field {
                "overlap_max" => before.overlap_max != after.overlap_max,
                _ => before.key_lifetime_max != after.key_lifetime_max,
            };
            if changes {
                let text = format!("must not be below overlap_min, which is {}", span(least));
                wrong.push((field, Invalid::new(text)));
            }
        }
        wrong
    }
}

/// A limit that is below the shortest overlap. No credential could stay valid beside its successor for that long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PolicyConflict {
    /// Name of the limit.
    pub field: &'static str,
    /// Its value.
    pub most: Duration,
}

fn conflicts<const N: usize>(
    least: Duration,
    limits: [(&'static str, Option<Duration>); N],
) -> Vec<PolicyConflict> {
    let limits = limits.into_iter().filter_map(|(field, most)| Some((field, most?)));
    let below = limits.filter(|(_, most)| least > *most);
    below.map(|(field, most)| PolicyConflict { field, most }).collect()
}

/// Returns the server's limit, if a change of a workspace's limit exceeds it.
fn exceeded<T: Ord + Copy>(before: Option<T>, after: Option<T>, server: Option<T>) -> Option<T> {
    server.filter(|server| before != after && after.is_some_and(|own| own > *server))
}

impl EffectivePolicy {
    /// Refuses a lifetime that is too long. `None` is a lifetime without an end.
    pub fn check_lifetime(&self, lifetime: Option<Duration>) -> Result<(), Invalid> {
        match (lifetime, self.limits.lifetime_max) {
            (None, Some(most)) => {
                let most = span(most);
                Err(Invalid::new(format!("is required by policy: at most {most} from now")))
            }
            (None, None) if self.limits.expiry_required => {
                Err(Invalid::new("is required by policy: every credential must expire"))
            }
            (Some(lifetime), Some(most)) if lifetime > most => {
                let most = span(most);
                Err(Invalid::new(format!("must be at most {most} from now, by policy")))
            }
            (None | Some(_), _) => Ok(()),
        }
    }

    /// Returns the lifetime of a successor for which the request gives none: that of its predecessor, capped by the
    /// limit.
    pub fn inherited_lifetime(
        &self,
        lifetime: Option<Duration>,
    ) -> Result<Option<Duration>, Invalid> {
        let lifetime = stricter(lifetime, self.limits.lifetime_max);
        self.check_lifetime(lifetime).map(|()| lifetime)
    }

    /// Returns the overlap of a rotation for which the request gives none: the shortest one allowed.
    pub const fn default_overlap(&self) -> Duration {
        self.overlap_min
    }

    /// Refuses an overlap that is too short or too long.
    pub fn check_overlap(&self, overlap: Duration) -> Result<(), Invalid> {
        let too_long = self.overlap_max.is_some_and(|most| overlap > most);
        if overlap >= self.overlap_min && !too_long {
            return Ok(());
        }
        let least = span(self.overlap_min);
        Err(Invalid::new(match self.overlap_max {
            Some(most) => format!("must be from {least} to {}, by policy", span(most)),
            None => format!("must be at least {least}, by policy"),
        }))
    }
}

/// Returns the lower of two optional bounds.
fn stricter<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

fn not_above(most: &str) -> Invalid {
    Invalid::new(format!("must not be above the server's limit, which is {most}"))
}

/// Formats a duration as people write it: 90d, 1d 12h, 15s.
fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [("d", 86_400, u64::MAX), ("h", 3_600, 24), ("m", 60, 60), ("s", 1, 60)];
    let mut text = String::new();
    for (unit, length, of) in units {
        let number = seconds / length % of;
        if number > 0 {
            let space = if text.is_empty() { "" } else { " " };
            // Writing to a String cannot fail.
            let _ = write!(text, "{space}{number}{unit}");
        }
    }
    if text.is_empty() { format!("{}ms", duration.subsec_millis()) } else { text }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{CredentialLimits, EffectivePolicy, Policy, span};
    use crate::model::WorkspacePolicy;

    const HOUR: Duration = Duration::from_hours(1);
    const DAY: Duration = Duration::from_hours(24);

    fn policy() -> Policy {
        let keys = CredentialLimits {
            lifetime_max: Some(DAY),
            live_max: Some(10),
            ..CredentialLimits::default()
        };
        Policy { keys, overlap_min: HOUR, overlap_max: Some(DAY), ..Policy::default() }
    }

    #[test]
    fn the_stricter_of_two_policies_applies() {
        let laxer = WorkspacePolicy {
            key_lifetime_max: Some(2 * DAY),
            keys_max: Some(20),
            overlap_min: Some(Duration::ZERO),
            overlap_max: Some(2 * DAY),
            ..WorkspacePolicy::default()
        };
        assert_eq!(policy().for_keys(&laxer), policy().for_keys(&WorkspacePolicy::default()));
        let stricter = WorkspacePolicy {
            key_lifetime_max: Some(4 * HOUR),
            key_expiry_required: true,
            keys_max: Some(1),
            overlap_min: Some(2 * HOUR),
            overlap_max: Some(3 * HOUR),
        };
        let limits = CredentialLimits {
            lifetime_max: Some(4 * HOUR),
            expiry_required: true,
            live_max: Some(1),
        };
        let rules = EffectivePolicy { limits, overlap_min: 2 * HOUR, overlap_max: Some(3 * HOUR) };
        assert_eq!(policy().for_keys(&stricter), rules);
        let none = WorkspacePolicy::default();
        assert_eq!(policy().refuse_change(&none, &stricter), []);
        let refused = |before, after| {
            let refused = policy().refuse_change(before, after).into_iter();
            refused.map(|(field, _)| field).collect::<Vec<_>>()
        };
        let all = ["key_lifetime_max", "keys_max", "overlap_max", "overlap_min"];
        assert_eq!(refused(&none, &laxer), all);
        assert_eq!(policy().refuse_change(&laxer, &laxer), []);
        let one = WorkspacePolicy { keys_max: Some(21), ..laxer };
        assert_eq!(refused(&laxer, &one), ["keys_max"]);
    }

    #[test]
    fn conflicting_limits_are_named() {
        let server = Policy { overlap_min: 2 * DAY, ..policy() };
        let fields: Vec<_> = server.conflicts().iter().map(|wrong| wrong.field).collect();
        assert_eq!(fields, ["overlap_max", "key_lifetime_max"]);
        assert_eq!(policy().conflicts(), []);
        let none = WorkspacePolicy::default();
        let short = WorkspacePolicy { key_lifetime_max: Some(HOUR / 2), ..none };
        let long = WorkspacePolicy { overlap_min: Some(3 * HOUR), ..none };
        let both = WorkspacePolicy { overlap_max: Some(2 * HOUR), ..long };
        for (before, after, fields) in [
            (&none, &short, &["key_lifetime_max"][..]),
            (&none, &both, &["overlap_min", "overlap_max"]),
            (&long, &both, &["overlap_max"]),
            (&both, &both, &[]),
        ] {
            let refused = policy().refuse_change(before, after);
            assert_eq!(refused.iter().map(|(field, _)| *field).collect::<Vec<_>>(), fields);
        }
    }

    #[test]
    fn a_maximum_lifetime_requires_an_expiry() {
        let rules = policy().for_keys(&WorkspacePolicy::default());
        assert!(rules.check_lifetime(None).is_err());
        assert!(rules.check_lifetime(Some(DAY)).is_ok());
        assert!(rules.check_lifetime(Some(DAY + Duration::from_micros(1))).is_err());
        assert_eq!(rules.inherited_lifetime(None), Ok(Some(DAY)));
        assert_eq!(rules.inherited_lifetime(Some(9 * DAY)), Ok(Some(DAY)));
        assert_eq!(rules.inherited_lifetime(Some(HOUR)), Ok(Some(HOUR)));
        assert_eq!(policy().for_pats().check_lifetime(None), Ok(()));
    }

    #[test]
    fn a_required_expiry_has_no_default() {
        let pats = CredentialLimits { expiry_required: true, ..CredentialLimits::default() };
        let rules = Policy { pats, ..Policy::default() }.for_pats();
        assert!(rules.inherited_lifetime(None).is_err());
        assert!(rules.check_lifetime(Some(9 * DAY)).is_ok());
    }

    #[test]
    fn overlaps_have_a_floor_and_a_ceiling_and_the_ceiling_wins() {
        let rules = policy().for_pats();
        assert!(rules.check_overlap(Duration::ZERO).is_err());
        assert!(rules.check_overlap(HOUR).is_ok());
        assert!(rules.check_overlap(DAY).is_ok());
        assert!(rules.check_overlap(2 * DAY).is_err());
        let short = WorkspacePolicy { overlap_max: Some(Duration::ZERO), ..Default::default() };
        assert!(policy().for_keys(&short).check_overlap(Duration::ZERO).is_ok());
        assert!(Policy::default().for_pats().check_overlap(Duration::ZERO).is_ok());
    }

    #[test]
    fn durations_are_formatted_for_people() {
        assert_eq!(span(90 * DAY), "90d");
        assert_eq!(span(DAY + 12 * HOUR), "1d 12h");
        assert_eq!(span(Duration::from_secs(61)), "1m 1s");
        assert_eq!(span(Duration::ZERO), "0ms");
    }
}
