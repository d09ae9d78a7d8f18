use std::collections::BTreeSet;

use abi::Handle;
use units::Nanos;

use crate::conn::Conn;

/// Deadlines in order, at most one per connection: the connection remembers its own, so that it can be replaced.
#[derive(Default)]
pub(crate) struct Timers(BTreeSet<(Nanos, u64)>);

impl Timers {
    /// Replaces the deadline `was` of `who` by `at`. O(log n).
    pub(crate) fn replace(&mut self, who: Handle, was: Option<Nanos>, at: Option<Nanos>) {
        if let Some(was) = was {
            self.0.remove(&(was, who.to_bits()));
        }
        if let Some(at) = at {
            self.0.insert((at, who.to_bits()));
        }
    }

    /// Notes the deadline that `conn` has now.
    pub(crate) fn follow<C>(&mut self, who: Handle, conn: &mut Conn<C>) {
        if conn.filed != conn.deadline {
            self.replace(who, conn.filed, conn.deadline);
            conn.filed = conn.deadline;
        }
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Nanos> {
        self.0.first().map(|&(at, _)| at)
    }

    /// Takes out one whose deadline is not after `now`.
    pub(crate) fn expired(&mut self, now: Nanos) -> Option<Handle> {
        let &(at, who) = self.0.first()?;
        if at > now {
            return None;
        }
        self.0.pop_first();
        Some(Handle::from_bits(who))
    }
}

#[cfg(test)]
mod tests {
    use units::FlowGroupId;

    use super::*;

    #[test]
    fn a_new_deadline_replaces_the_old_and_none_fires_early() {
        let who = |slot| Handle::new(FlowGroupId(0), slot, 0);
        let mut timers = Timers::default();
        timers.replace(who(1), None, Some(Nanos(50)));
        timers.replace(who(2), None, Some(Nanos(50)));
        timers.replace(who(3), None, Some(Nanos(20)));
        timers.replace(who(1), Some(Nanos(50)), Some(Nanos(90)));
        timers.replace(who(3), Some(Nanos(20)), None);
        assert_eq!(timers.next(), Some(Nanos(50)));
        assert_eq!(timers.expired(Nanos(49)), None);
        assert_eq!((timers.expired(Nanos(50)), timers.expired(Nanos(50))), (Some(who(2)), None));
        assert_eq!((timers.expired(Nanos(95)), timers.next()), (Some(who(1)), None));
    }
}
