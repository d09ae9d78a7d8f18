//! Active opens: a source port whose replies come to this core (thesis section 2.3.3; section 5 of the design).

use nic::Queue;
use units::FlowGroupId;

use crate::addresses::Ends;
use crate::stack::Stack;

/// The dynamic ports (RFC 6335 section 6, from where Linux begins too).
const FIRST: u16 = 32768;
const COUNT: u16 = 28232;
/// Ports tried: with n cores every n-th fits, so this misses only when ports run out.
const TRIES: usize = 4096;

impl<Q: Queue> Stack<Q> {
    /// Completes `ends` with a local port that is free and whose flow group this core owns.
    pub(crate) fn free_port(&mut self, mut ends: Ends) -> Option<(Ends, FlowGroupId)> {
        for _ in 0..TRIES {
            self.next_port = self.next_port.wrapping_add(1);
            ends.local_port = FIRST + self.next_port % COUNT;
            let group = self.shared.flow_group(&self.shared.addresses.tuple(&ends));
            if self.shared.owner(group) != self.core {
                continue;
            }
            let Some(g) = self.groups.get(group) else { continue };
            if g.find(g.hash(&ends), &ends).is_none() {
                return Some((ends, group));
            }
        }
        None
    }
}
