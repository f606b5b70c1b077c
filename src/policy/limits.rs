//! How long credentials may live, how many there may be, and how long a rotated one lives on: the server's policy, by
//! flags of `serve`, and a workspace's own, of which the stricter holds. Pure.

use std::fmt::Write as _;
use std::time::Duration;

use crate::model::{CredentialKind, Invalid, WorkspacePolicy};

/// The server's policy. By default it restricts nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policy {
    /// Of keys.
    pub keys: Limits,
    /// Of personal access tokens.
    pub pats: Limits,
    /// The shortest that a rotated credential lives on.
    pub overlap_min: Duration,
    /// The longest that a rotated credential lives on.
    pub overlap_max: Option<Duration>,
}

/// Limits of one kind of credential. `None` or false restricts nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// The longest that one may be made to live; one without expiry would live longer.
    pub lifetime_max: Option<Duration>,
    /// Each must be made to expire.
    pub expiry_required: bool,
    /// The most of one owner that are neither revoked nor expired.
    pub live_max: Option<u32>,
}

/// What holds for the credentials of one owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rules {
    /// Limits of their kind.
    pub limits: Limits,
    /// The shortest overlap; never above the longest.
    pub overlap_min: Duration,
    /// The longest overlap.
    pub overlap_max: Option<Duration>,
}

impl Policy {
    /// What holds for keys of a workspace that asks this of them.
    pub fn for_keys(&self, workspace: &WorkspacePolicy) -> Rules {
        let overlap_max = lower(self.overlap_max, workspace.overlap_max);
        let overlap_min = self.overlap_min.max(workspace.overlap_min.unwrap_or_default());
        Rules {
            limits: Limits {
                lifetime_max: lower(self.keys.lifetime_max, workspace.key_lifetime_max),
                expiry_required: self.keys.expiry_required || workspace.key_expiry_required,
                live_max: lower(self.keys.live_max, workspace.keys_max),
            },
            overlap_min: overlap_min.min(overlap_max.unwrap_or(Duration::MAX)),
            overlap_max,
        }
    }

    /// What holds for credentials of this kind; `workspace` is what their workspace asks of its keys, if they have one.
    pub fn for_kind(&self, kind: CredentialKind, workspace: &WorkspacePolicy) -> Rules {
        match kind {
            CredentialKind::Key => self.for_keys(workspace),
            CredentialKind::Pat => self.for_pats(),
        }
    }

    /// What holds for personal access tokens.
    pub fn for_pats(&self) -> Rules {
        let overlap_min = self.overlap_min.min(self.overlap_max.unwrap_or(Duration::MAX));
        Rules { limits: self.pats, overlap_min, overlap_max: self.overlap_max }
    }

    /// Why the server's own policy cannot be meant: what is wrong with which two of its limits.
    pub fn contradictions(&self) -> Vec<Contradiction> {
        let most = [
            ("overlap_max", self.overlap_max),
            ("key_lifetime_max", self.keys.lifetime_max),
            ("pat_lifetime_max", self.pats.lifetime_max),
        ];
        contradictions(self.overlap_min, most)
    }

    /// Where a change of a workspace's policy would make it laxer than this one, or contradict it or itself: the field, and
    /// what is wrong. (It would not hold anyway; but whoever asks for it should hear of it.) What is not changed is not
    /// refused: the server's own may have become stricter.
    pub fn refuse(
        &self,
        before: &WorkspacePolicy,
        after: &WorkspacePolicy,
    ) -> Vec<(&'static str, Invalid)> {
        let mut wrong = Vec::new();
        if let Some(most) =
            laxer(before.key_lifetime_max, after.key_lifetime_max, self.keys.lifetime_max)
        {
            wrong.push(("key_lifetime_max", not_above(&span(most))));
        }
        if let Some(most) = laxer(before.keys_max, after.keys_max, self.keys.live_max) {
            wrong.push(("keys_max", not_above(&most.to_string())));
        }
        if let Some(most) = laxer(before.overlap_max, after.overlap_max, self.overlap_max) {
            wrong.push(("overlap_max", not_above(&span(most))));
        }
        let least_changes = before.overlap_min != after.overlap_min;
        if least_changes && after.overlap_min.is_some_and(|own| own < self.overlap_min) {
            let least = span(self.overlap_min);
            let text = format!("must not be below the server's own, which is {least}");
            wrong.push(("overlap_min", Invalid::new(text)));
        }
        let most = [
            ("overlap_max", lower(after.overlap_max, self.overlap_max)),
            ("key_lifetime_max", lower(after.key_lifetime_max, self.keys.lifetime_max)),
        ];
        let least = after.overlap_min.unwrap_or_default().max(self.overlap_min);
        for Contradiction { field, most } in contradictions(least, most) {
            if least_changes {
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

/// A limit that the shortest overlap is above: no credential could live so long beside its successor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contradiction {
    /// Which.
    pub field: &'static str,
    /// The limit.
    pub most: Duration,
}

fn contradictions<const N: usize>(
    least: Duration,
    limits: [(&'static str, Option<Duration>); N],
) -> Vec<Contradiction> {
    let limits = limits.into_iter().filter_map(|(field, most)| Some((field, most?)));
    let below = limits.filter(|(_, most)| least > *most);
    below.map(|(field, most)| Contradiction { field, most }).collect()
}

/// The server's limit, if a workspace's own comes to be above it.
fn laxer<T: Ord + Copy>(before: Option<T>, after: Option<T>, server: Option<T>) -> Option<T> {
    server.filter(|server| before != after && after.is_some_and(|own| own > *server))
}

impl Rules {
    /// Refuses a lifetime that is too long; `None` is for ever.
    pub fn check_lifetime(&self, lifetime: Option<Duration>) -> Result<(), Invalid> {
        match (lifetime, self.limits.lifetime_max) {
            (None, Some(most)) => {
                let most = span(most);
                Err(Invalid::new(format!("is required by policy: at most {most} from now")))
            }
            (None, None) if self.limits.expiry_required => {
                Err(Invalid::new("is required by policy: nothing is made to live for ever"))
            }
            (Some(lifetime), Some(most)) if lifetime > most => {
                let most = span(most);
                Err(Invalid::new(format!("must be at most {most} from now, by policy")))
            }
            (None | Some(_), _) => Ok(()),
        }
    }

    /// The lifetime of a successor that nobody chose: as long as its predecessor's, or as long as there may be.
    pub fn inherited_lifetime(
        &self,
        lifetime: Option<Duration>,
    ) -> Result<Option<Duration>, Invalid> {
        let lifetime = lower(lifetime, self.limits.lifetime_max);
        self.check_lifetime(lifetime).map(|()| lifetime)
    }

    /// The overlap of a rotation that names none: none, or as little as there may be.
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

/// The lower of two bounds, of which each may be missing.
fn lower<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

fn not_above(most: &str) -> Invalid {
    Invalid::new(format!("must not be above the server's own, which is {most}"))
}

/// As people write it: 90d, 1d 12h, 15s.
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

    use super::{Limits, Policy, Rules, span};
    use crate::model::WorkspacePolicy;

    const HOUR: Duration = Duration::from_hours(1);
    const DAY: Duration = Duration::from_hours(24);

    fn policy() -> Policy {
        let keys = Limits { lifetime_max: Some(DAY), live_max: Some(10), ..Limits::default() };
        Policy { keys, overlap_min: HOUR, overlap_max: Some(DAY), ..Policy::default() }
    }

    #[test]
    fn of_two_policies_the_stricter_holds() {
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
        let limits =
            Limits { lifetime_max: Some(4 * HOUR), expiry_required: true, live_max: Some(1) };
        let rules = Rules { limits, overlap_min: 2 * HOUR, overlap_max: Some(3 * HOUR) };
        assert_eq!(policy().for_keys(&stricter), rules);
        let none = WorkspacePolicy::default();
        assert_eq!(policy().refuse(&none, &stricter), []);
        let refused = |before, after| {
            let refused = policy().refuse(before, after).into_iter();
            refused.map(|(field, _)| field).collect::<Vec<_>>()
        };
        let all = ["key_lifetime_max", "keys_max", "overlap_max", "overlap_min"];
        assert_eq!(refused(&none, &laxer), all);
        assert_eq!(policy().refuse(&laxer, &laxer), []);
        let one = WorkspacePolicy { keys_max: Some(21), ..laxer };
        assert_eq!(refused(&laxer, &one), ["keys_max"]);
    }

    #[test]
    fn limits_that_contradict_each_other_are_named() {
        let server = Policy { overlap_min: 2 * DAY, ..policy() };
        let fields: Vec<_> = server.contradictions().iter().map(|wrong| wrong.field).collect();
        assert_eq!(fields, ["overlap_max", "key_lifetime_max"]);
        assert_eq!(policy().contradictions(), []);
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
            let refused = policy().refuse(before, after);
            assert_eq!(refused.iter().map(|(field, _)| *field).collect::<Vec<_>>(), fields);
        }
    }

    #[test]
    fn a_longest_lifetime_asks_for_an_expiry() {
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
    fn a_required_expiry_is_not_made_up() {
        let pats = Limits { expiry_required: true, ..Limits::default() };
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
    fn spans_read_as_people_write_them() {
        assert_eq!(span(90 * DAY), "90d");
        assert_eq!(span(DAY + 12 * HOUR), "1d 12h");
        assert_eq!(span(Duration::from_secs(61)), "1m 1s");
        assert_eq!(span(Duration::ZERO), "0ms");
    }
}
