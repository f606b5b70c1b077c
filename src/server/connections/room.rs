//! Room for connections: where there is none for one more, one of strangers goes, or else of a caller that asks nothing at
//! the moment, and of them the one that has asked nothing for longest.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::service::{Activity, Worth};

/// The connections of one port.
pub(in crate::server) struct Room {
    max: usize,
    connections: Mutex<Inside>,
    freed: Arc<Notify>,
}

#[derive(Default)]
struct Inside {
    next: u64,
    by_number: HashMap<u64, Arc<Activity>>,
}

/// One connection's place, until it is dropped.
pub(in crate::server) struct Place {
    room: Arc<Room>,
    number: u64,
    pub(in crate::server) activity: Arc<Activity>,
}

impl Room {
    /// For so many connections; 0: any number.
    pub(in crate::server) fn new(max: usize) -> Arc<Self> {
        let max = if max == 0 { usize::MAX } else { max };
        Arc::new(Self { max, connections: Mutex::default(), freed: Arc::default() })
    }

    /// A place; where all are taken by callers with requests under way, when one of them becomes free.
    pub(in crate::server) async fn enter(self: &Arc<Self>) -> Place {
        loop {
            if let Some(place) = self.try_enter() {
                return place;
            }
            // What was freed since the look above is remembered.
            self.freed.notified().await;
        }
    }

    fn try_enter(self: &Arc<Self>) -> Option<Place> {
        let mut inside = self.connections.lock();
        if inside.by_number.len() >= self.max {
            let number = inside.least_missed()?;
            inside.by_number.remove(&number)?.end();
        }
        let number = inside.next;
        inside.next += 1;
        let activity = Arc::new(Activity::new(Arc::clone(&self.freed)));
        inside.by_number.insert(number, Arc::clone(&activity));
        Some(Place { room: Arc::clone(self), number, activity })
    }
}

impl Inside {
    fn least_missed(&self) -> Option<u64> {
        let may_go = self.by_number.iter().filter_map(|(number, activity)| {
            let worth = activity.worth();
            let key: (Worth, Instant, u64) = (worth, activity.last(), *number);
            (worth < Worth::Busy).then_some(key)
        });
        may_go.min().map(|(_, _, number)| number)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.connections.lock().by_number.remove(&self.number);
        self.room.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::{Place, Room};

    fn enter(room: &std::sync::Arc<Room>) -> Option<Place> {
        room.enter().now_or_never()
    }

    #[test]
    fn who_has_asked_nothing_for_longest_goes_and_no_caller_with_requests_under_way() {
        let room = Room::new(3);
        let (first, second, third) = (enter(&room), enter(&room), enter(&room));
        let (first, second, third) =
            (first.expect("room"), second.expect("room"), third.expect("room"));
        let busy = first.activity.begin();
        busy.of_a_caller();
        third.activity.asked();
        second.activity.asked();
        let fourth = enter(&room).expect("the third goes");
        assert!(third.activity.has_ended());
        assert!(!first.activity.has_ended() && !second.activity.has_ended());
        // A stranger's goes before a caller's that is idle, whatever the stranger has under way and whenever it asked.
        second.activity.begin().of_a_caller();
        let open = fourth.activity.begin();
        let fifth = enter(&room).expect("the fourth goes, though it asked last");
        assert!(fourth.activity.has_ended() && !second.activity.has_ended());
        let fifth_busy = fifth.activity.begin();
        fifth_busy.of_a_caller();
        let sixth = enter(&room).expect("the idle caller goes");
        assert!(second.activity.has_ended());
        let sixth_busy = sixth.activity.begin();
        sixth_busy.of_a_caller();
        assert!(enter(&room).is_none(), "all are busy");
        drop(fifth_busy);
        let seventh = enter(&room).expect("the fifth goes");
        assert!(fifth.activity.has_ended() && !first.activity.has_ended());
        drop((open, busy, sixth_busy, seventh));
    }

    #[test]
    fn a_place_that_is_left_is_free_and_one_that_was_lost_is_not_given_back_twice() {
        let room = Room::new(1);
        let lost = enter(&room).expect("room");
        let other = enter(&room).expect("the first goes");
        drop(lost);
        assert_eq!(room.connections.lock().by_number.len(), 1);
        drop(other);
        assert!(room.connections.lock().by_number.is_empty());
        let unbounded = Room::new(0);
        let many: Vec<_> = (0..100).map(|_| enter(&unbounded).expect("room")).collect();
        assert!(many.iter().all(|place| !place.activity.has_ended()));
    }
}
