//! Neighbour discovery (RFC 4861): answers for our addresses, and answers to our own questions. The rest is not believed.
//!
//! Deviation: duplicate address detection (RFC 4862 section 5.4) is not done for our own addresses: they are configured, or made of the
//! hardware address, and a start would wait a second for it. Others' probes for our addresses are answered. No multicast listener
//! reports are sent (RFC 4861 section 7.2.1 by way of RFC 2710): a switch that filters groups by them must be told otherwise.

use nic::{Queue, RxFrame};
use units::Nanos;
use wire::{Addr, Mac, ethernet, ndp};

use crate::DropReason;
use crate::rx::Packet;
use crate::stack::Stack;

impl<Q: Queue> Stack<Q> {
    /// A message whose checksum is right.
    pub(crate) fn ndp_arrives(&mut self, frame: &RxFrame, packet: &Packet, now: Nanos) -> Result<(), DropReason> {
        // Sections 6.1 and 7.1: no router has let it through.
        if packet.hops != ndp::HOP_LIMIT {
            return Err(DropReason::Ndp);
        }
        match ndp::parse(&frame.head[packet.at..])? {
            ndp::Message::Solicitation { target, mac } => {
                let asker = ethernet::Header::parse(&frame.head)?.src;
                self.solicited(packet, target, mac, asker, now)
            }
            ndp::Message::Advertisement { target, mac, solicited: true, .. } if !packet.to_group => {
                let neighbours = &self.shared.neighbours;
                let taken = match mac {
                    Some(mac) => neighbours.answer(target, mac, now),
                    None => neighbours.confirm(target, now),
                };
                if taken { Ok(()) } else { Err(DropReason::Ndp) }
            }
            // Unsolicited advertisements, routers, redirects.
            _ => Err(DropReason::Ndp),
        }
    }

    /// Somebody asks who has `target` (section 7.2.3).
    fn solicited(
        &mut self,
        packet: &Packet,
        target: Addr,
        mac: Option<Mac>,
        asker: Mac,
        now: Nanos,
    ) -> Result<(), DropReason> {
        let all = &self.shared.addresses;
        if all.find(&target).is_none() || asker.is_multicast() {
            return Err(DropReason::Ndp);
        }
        let ours = Some(self.shared.config.mac);
        let probe = packet.src == Addr::UNSPECIFIED;
        // Section 7.1.1: who has no address yet asks the group, and does not say where it is.
        if probe && (mac.is_some() || packet.dst != target.solicited_node()) {
            return Err(DropReason::Ndp);
        }
        let answer = ndp::Message::Advertisement { target, mac: ours, router: false, solicited: !probe, replace: true };
        self.metrics.ndp_replies.inc();
        if probe {
            // Section 7.2.4: all are told that the address is taken.
            self.link.ndp(&answer, &target, &Addr::ALL_NODES, Mac::of_group(&Addr::ALL_NODES));
            return Ok(());
        }
        // Who asks for us will want an answer from us. What the question says of its sender is not believed: we ask back.
        let known = self.shared.neighbours.lookup(packet.src, now).mac.is_some();
        let curious = !known && all.on_link(&packet.src);
        self.link.ndp(&answer, &target, &packet.src, mac.filter(|m| !m.is_multicast()).unwrap_or(asker));
        if curious {
            self.link.ask(packet.src, None, now);
        }
        Ok(())
    }
}
