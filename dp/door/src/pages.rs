use std::os::fd::AsRawFd;
use std::sync::Arc;

use dataplane::{Controller, Place, Publisher};
use netstack::Shared;
use sys::page::SharedWords;
use sys::wait::EventFd;
use units::{CoreId, Nanos};

/// Pages from one look at the threads' affinities to the next: it is asked of the kernel, who may have been told by others.
const ROUNDS: u32 = 10;

/// No window is shorter.
const SHORTEST: Nanos = Nanos(abi::PAGE_PERIOD.0 / 2);

/// What the page thread has.
pub(crate) struct Pages {
    publisher: Publisher<SharedWords>,
    shared: Arc<Shared>,
    controller: Controller,
    places: Vec<Place>,
    tids: Arc<[u32]>,
    round: u32,
}

impl Pages {
    pub(crate) fn new(
        publisher: Publisher<SharedWords>,
        shared: Arc<Shared>,
        controller: Controller,
        tids: Arc<[u32]>,
    ) -> Pages {
        let places = vec![Place::default(); shared.cores()];
        Pages { publisher, shared, controller, places, tids, round: 0 }
    }

    /// Writes the page until it is to end.
    pub(crate) fn run(&mut self, bell: &EventFd, ended: impl Fn() -> bool) {
        let mut next = sys::clock::now();
        while !ended() {
            let now = sys::clock::now();
            self.write(now);
            next = following(next, now);
            let _ = sys::wait::readable(&[bell.as_raw_fd()], next - now);
        }
    }

    fn write(&mut self, now: Nanos) {
        let look = self.round.is_multiple_of(ROUNDS);
        self.round = self.round.wrapping_add(1);
        for (i, place) in self.places.iter_mut().enumerate() {
            place.parked = self.controller.is_parked(CoreId(i as u16));
            if look && let Some(&tid) = self.tids.get(i) {
                (place.tid, place.cpu) = (Some(tid), only_cpu(tid));
            }
        }
        self.publisher.publish(now, &self.shared, &self.places);
    }
}

/// When the page is written next, if it was due at `due` and is written at `now`. Windows that were missed are not made up for, and none is shorter than half of a
/// period: it would weigh as much in the averages as a whole one.
fn following(due: Nanos, now: Nanos) -> Nanos {
    let next = due + abi::PAGE_PERIOD;
    if next - now >= SHORTEST { next } else { now + abi::PAGE_PERIOD }
}

/// The hardware thread that a thread may run on, if it is one.
pub(crate) fn only_cpu(tid: u32) -> Option<u32> {
    match sys::thread::allowed_cores_of(tid).as_deref() {
        Ok([one]) => u32::try_from(*one).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_delay_a_whole_window_follows() {
        let ms = Nanos::from_millis;
        assert_eq!(following(ms(100), ms(100)), ms(110));
        assert_eq!(following(ms(100), ms(104)), ms(110), "on time again");
        for late in [106, 109, 110, 111, 5000] {
            assert_eq!(following(ms(100), ms(late)), ms(late + 10), "{late}");
        }
    }
}
