//! Reading the audit log: by whom, in which order, and how a follower misses nothing.
//!
//! A follower reads by the numbers that events get after their commit (`store/audit.rs`). Its resume token has the
//! identity of the log, the last number that was examined, and the id of the event with that number. After a restore to
//! an older backup that number is not given yet, or given to another event. The token is then refused, because events
//! would be skipped otherwise.

use std::fmt::Write as _;

use serde_json::Value;
use uuid::Uuid;

use super::grant::READ_AUDIT;
use super::page::{self, Cursor, page_size};
use super::page_item::fitting;
use super::{Context, Page, PageRequest, Reason, Result, Service, Violations};
use crate::model::{
    AuditAction, AuditEvent, EventId, TargetKind, Timestamp, UserId, Workspace, WorkspaceName,
};
use crate::policy;
use crate::store::{AuditFilter, AuditLogHead, AuditOrder};

/// Number of events that one call numbers at most, so that the first call on an old log is not long.
const NUMBERED_PER_CALL: u32 = 1_000;

/// Number of events after a deletion among which the creation is. It is the first of them, unless a clock was set.
const PUTS_EXAMINED: u32 = 10;

/// What an invalid resume token should have been.
const RESUME_TOKEN: &str = "must be a resume_token of this store, sent back with the same filter and acting_user; \
                            empty begins with the first event";

/// A page of the audit log to read.
#[derive(Debug, Clone, Default)]
pub struct ListAuditEvents {
    /// Filter. The fields that this request sets by itself are left unset in it: those of the workspace and of the
    /// acting user.
    pub filter: AuditFilter,
    /// Events about this workspace, by slug or id.
    pub workspace: Option<WorkspaceName>,
    /// User on whose behalf the caller reads. Empty for the system itself.
    pub acting_user: String,
    /// The page to return.
    pub page: PageRequest,
    /// Whether to read in the order of commits, by resume token.
    pub follows: bool,
    /// Position of a follower. Empty for the beginning.
    pub resume_token: String,
}

/// A page of the audit log.
#[derive(Debug, Clone)]
pub struct AuditPage {
    /// The events.
    pub events: Vec<AuditEvent>,
    /// Token of the next page. Empty on the last page, and for a follower that has read everything.
    pub next_token: String,
    /// Position of a follower after this page. Empty for everybody else.
    pub resume_token: String,
}

impl ListAuditEvents {
    /// Describes the list that a token belongs to. Followers keep tokens for long, so this text must never change for
    /// a request that sets the same fields: a further field is appended, and only if it is set.
    fn binding(&self) -> String {
        let filter = &self.filter;
        let time = |time: Option<Timestamp>| time.map(|time| time.unix_micros().to_string());
        let fields = [
            ("start_time", time(filter.start_time)),
            ("end_time", time(filter.end_time)),
            ("caller", filter.caller.clone()),
            ("filter_acting_user", filter.acting_user.as_ref().map(ToString::to_string)),
            ("target_kind", filter.target_kind.clone()),
            ("target_id", filter.target_id.clone()),
            ("action", filter.action.clone()),
            ("workspace", self.workspace.as_ref().map(ToString::to_string)),
            ("acting_user", Some(self.acting_user.clone()).filter(|user| !user.is_empty())),
            ("follows", self.follows.then(String::new)),
            ("newest_first", (filter.order == AuditOrder::NewestFirst).then(String::new)),
        ];
        let mut text = "audit".to_owned();
        for (name, value) in fields {
            // The length keeps a value from looking like another field.
            if let Some(value) = value {
                let _ = write!(text, " {name}={}:{value}", value.len());
            }
        }
        text
    }
}

/// Position of a follower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Position {
    log_id: Uuid,
    number: i64,
    /// Id of the event with that number, if there was one.
    event: Option<EventId>,
}

impl Position {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let log_id = Uuid::try_parse(parts.next()?).ok()?;
        let number = parts.next()?.parse().ok()?;
        let event = match parts.next()? {
            "" => None,
            id => Some(EventId::parse(id).ok()?),
        };
        parts.next().is_none().then_some(Self { log_id, number, event })
    }

    fn text(self) -> String {
        let event = self.event.map(|id| id.to_string()).unwrap_or_default();
        format!("{}/{}/{event}", self.log_id, self.number)
    }
}

impl Service {
    /// Returns a page of the audit events that the acting user may read.
    ///
    /// # Errors
    /// Among others [`Reason::AuditLogRestored`] if the resume token is ahead of the log.
    pub async fn list_audit_events(
        &self,
        context: &Context,
        request: &ListAuditEvents,
    ) -> Result<AuditPage> {
        let acting_user = READ_AUDIT.acting_user(context, &request.acting_user)?;
        self.check_names(&request.filter).await?;
        let (filter, beginning) = self.authorised_filter(request, acting_user.as_ref()).await?;
        let mut page = if request.follows {
            self.follow_audit_log(request, &filter).await?
        } else {
            self.list_by_id(request, &filter).await?
        };
        if let Some(user) = &acting_user {
            let of_workspace = request.workspace.is_some();
            page.events.retain(|event| !is_of_earlier(event, beginning, of_workspace));
            for event in &mut page.events {
                if event.acting_user.as_ref() != Some(user) {
                    event.remote_address = None;
                }
            }
        }
        Ok(page)
    }

    /// Refuses names of actions and of kinds that do not exist, which would find nothing and look like a clean log. Those
    /// of a newer program exist once the log has an event with them.
    async fn check_names(&self, filter: &AuditFilter) -> Result<()> {
        let mut violations = Violations::default();
        let kind = filter.target_kind.clone();
        if kind.as_deref().is_some_and(|kind| TargetKind::from_name(kind).is_none()) {
            let of_kind = AuditFilter { target_kind: kind, ..AuditFilter::default() };
            if self.store.list_audit_events(&of_kind, None, 1).await?.is_empty() {
                let known = TargetKind::ALL.map(TargetKind::as_str).join(", ");
                violations.add("target_kind", format!("must be one of {known}"));
            }
        }
        let action = filter.action.clone();
        if action.as_deref().is_some_and(|action| AuditAction::from_name(action).is_none()) {
            let of_action = AuditFilter { action, ..AuditFilter::default() };
            if self.store.list_audit_events(&of_action, None, 1).await?.is_empty() {
                let known: Vec<_> = AuditAction::ALL.iter().map(|known| known.as_str()).collect();
                violations.add("action", format!("must be one of {}", known.join(", ")));
            }
        }
        violations.finish()
    }

    /// Returns the filter of what the acting user may read of the request, and since when that is theirs.
    async fn authorised_filter(
        &self,
        request: &ListAuditEvents,
        acting_user: Option<&UserId>,
    ) -> Result<(AuditFilter, Option<Timestamp>)> {
        let mut filter = request.filter.clone();
        let mut beginning = None;
        if let Some(user) = acting_user {
            self.require_active(user).await?;
            filter.without_refusals = true;
        }
        match (&request.workspace, acting_user) {
            (Some(name), None) => filter.workspace_id = Some(self.get_workspace(name).await?.id),
            (Some(name), Some(user)) => {
                let access = policy::access_to_workspace_audit;
                let Workspace { id, generation_time, .. } =
                    self.accessible_workspace(name, Some(user), access).await?;
                let put = (AuditAction::WorkspacePut, id.as_str());
                beginning = self.recreation_time(generation_time, put).await?;
                filter.workspace_id = Some(id);
            }
            (None, Some(user)) => {
                let generation_time = self.get_user(user).await?.generation_time;
                let put = (AuditAction::UserPut, user.as_str());
                beginning = self.recreation_time(generation_time, put).await?;
                filter.pats_of = Some(user.clone());
            }
            (None, None) => {}
        }
        filter.start_time = filter.start_time.max(beginning);
        Ok((filter, beginning))
    }

    /// Returns when a workspace or user was created again after its last deletion, which raised its generation. What
    /// happened before is not that of the present owners. `None` if it was never deleted.
    async fn recreation_time(
        &self,
        generation_time: Option<Timestamp>,
        (action, id): (AuditAction, &str),
    ) -> Result<Option<Timestamp>> {
        let Some(deleted) = generation_time else { return Ok(None) };
        // The first Put after the deletion. If it was purged, so was all that was before it.
        let filter = AuditFilter {
            start_time: Some(deleted),
            target_kind: Some(action.target_kind().as_str().to_owned()),
            target_id: Some(id.to_owned()),
            action: Some(action.as_str().to_owned()),
            without_refusals: true,
            ..AuditFilter::default()
        };
        let puts = self.store.list_audit_events(&filter, None, PUTS_EXAMINED).await?;
        let put = puts.iter().find(|put| put.before.is_none());
        Ok(Some(put.map_or(deleted, |put| put.time)))
    }

    async fn list_by_id(
        &self,
        request: &ListAuditEvents,
        filter: &AuditFilter,
    ) -> Result<AuditPage> {
        let mut violations = Violations::default();
        if !request.resume_token.is_empty() {
            violations.add("resume_token", "is only for the order AUDIT_ORDER_COMMIT");
        }
        violations.finish()?;
        let cursor = Cursor::new(&request.page, request.binding())?;
        let after = cursor.after.as_deref().and_then(|id| EventId::parse(id).ok());
        let events = self.store.list_audit_events(filter, after, cursor.fetch).await?;
        let Page { items: events, next_token } = cursor.page(events, |event| event.id.to_string());
        Ok(AuditPage { events, next_token, resume_token: String::new() })
    }

    async fn follow_audit_log(
        &self,
        request: &ListAuditEvents,
        filter: &AuditFilter,
    ) -> Result<AuditPage> {
        let binding = request.binding();
        let mut violations = Violations::default();
        let size = page_size(&mut violations, request.page.size);
        let asked = token_of(&mut violations, request, &binding);
        violations.finish()?;
        let head = self.store.number_audit_events(NUMBERED_PER_CALL).await?;
        let start = self.check_position(&head, asked).await?;
        let mut found =
            self.store.list_numbered_events(filter, start.number, head.last, size).await?;
        let fit = fitting(&found.events);
        if fit < found.events.len() {
            found.events.truncate(fit);
            found.examined = found.events.last().map_or(start.number, |last| last.number);
        }
        let position = if found.examined == start.number {
            start
        } else {
            let event = self.store.find_event_id(found.examined).await?;
            Position { number: found.examined, event, ..start }
        };
        let more = position.number < head.last || head.has_unnumbered;
        let resume_token = page::encode(&position.text(), &binding);
        let next_token = if more { resume_token.clone() } else { String::new() };
        let events = found.events.into_iter().map(|found| found.event).collect();
        Ok(AuditPage { events, next_token, resume_token })
    }

    /// Returns the position to continue from.
    async fn check_position(
        &self,
        head: &AuditLogHead,
        asked: Option<Position>,
    ) -> Result<Position> {
        let beginning = Position { log_id: head.log_id, number: 0, event: None };
        let Some(position) = asked else { return Ok(beginning) };
        if position.log_id != head.log_id {
            let mut violations = Violations::default();
            violations.add("resume_token", RESUME_TOKEN);
            return Err(violations.into_error());
        }
        if position.number > head.last {
            return Err(Reason::AuditLogRestored.into());
        }
        let found = self.store.find_event_id(position.number).await?;
        match (position.event, found) {
            (expected, Some(found)) if expected != Some(found) => {
                Err(Reason::AuditLogRestored.into())
            }
            // The event may have been purged.
            _ => Ok(position),
        }
    }
}

/// Returns the position that the request names. A page token is as good as a resume token, so that programs that turn
/// pages by [`AuditPage::next_token`] can follow too.
fn token_of(
    violations: &mut Violations,
    request: &ListAuditEvents,
    binding: &str,
) -> Option<Position> {
    let (resume, page) = (&request.resume_token, &request.page.token);
    let (field, token) = match (resume.is_empty(), page.is_empty()) {
        (true, true) => return None,
        (false, _) => ("resume_token", resume),
        (true, false) => ("page_token", page),
    };
    if !page.is_empty() && !resume.is_empty() && page != resume {
        violations.add("page_token", "must be empty if there is a resume_token");
    }
    let position = page::decode(token, binding).as_deref().and_then(Position::parse);
    if position.is_none() {
        violations.add(field, RESUME_TOKEN);
    }
    position
}

/// Whether the event is about something before this time, since when the workspace or the user exists again: about a key
/// or a personal access token of theirs that was created before, or about the end of all of them. That is recorded later.
/// A personal access token that acts in the workspace may be older than the workspace.
fn is_of_earlier(event: &AuditEvent, beginning: Option<Timestamp>, of_workspace: bool) -> bool {
    let Some(beginning) = beginning else { return false };
    let field = if event.target_kind == TargetKind::Credential.as_str() {
        "create_time"
    } else if event.action == AuditAction::CredentialRevokeOwned.as_str() {
        "revoke_time"
    } else {
        return false;
    };
    let begun = || {
        let view: Value =
            serde_json::from_str(event.after.as_ref().or(event.before.as_ref())?).ok()?;
        let is_guest = of_workspace && view.get("user_id").is_some();
        Timestamp::parse(view.get(field)?.as_str()?).ok().filter(|_| !is_guest)
    };
    begun().is_some_and(|begun| begun < beginning)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_that_a_resume_token_belongs_to_is_described_as_in_the_first_release() {
        let request = ListAuditEvents { follows: true, ..ListAuditEvents::default() };
        assert_eq!(request.binding(), "audit follows=0:");
        let request = ListAuditEvents {
            filter: AuditFilter {
                start_time: Timestamp::from_unix_micros(5),
                caller: Some("a action=1:b".to_owned()),
                ..AuditFilter::default()
            },
            acting_user: "ada".to_owned(),
            ..request
        };
        let expected = "audit start_time=1:5 caller=12:a action=1:b acting_user=3:ada follows=0:";
        assert_eq!(request.binding(), expected);
    }

    #[test]
    fn a_position_survives_its_text() {
        let log_id = Uuid::from_u128(7);
        for event in [None, Some(EventId(Uuid::from_u128(9)))] {
            let position = Position { log_id, number: 12, event };
            assert_eq!(Position::parse(&position.text()), Some(position));
        }
        for text in ["", "7/1/", &format!("{log_id}/x/"), &format!("{log_id}/1//")] {
            assert_eq!(Position::parse(text), None, "{text}");
        }
    }
}
