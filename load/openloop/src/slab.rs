use requests::Ask;
use units::Nanos;
use wire::Seq;

/// No request.
pub(crate) const NIL: u32 = u32::MAX;

/// A request without a reply, in the list of its connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) ask: Ask,
    /// Bytes of it.
    pub(crate) len: u32,
    /// When it was meant to arrive.
    pub(crate) meant: Nanos,
    /// The number of its first byte.
    pub(crate) start: Seq,
    /// The connection's next one, or the next free place.
    pub(crate) next: u32,
}

impl Request {
    /// The number behind its last byte.
    #[inline]
    pub(crate) fn end(&self) -> Seq {
        self.start + self.len
    }
}

/// The places of all requests of a queue. What was left last is taken first, so that few are touched while few are under way.
#[derive(Debug)]
pub(crate) struct Slab {
    places: Box<[Request]>,
    free: u32,
    used: usize,
}

impl Slab {
    /// `count` places, all of them touched; `any` is some request.
    pub(crate) fn new(count: usize, any: Ask) -> Slab {
        let place = |i: usize| Request {
            ask: any,
            len: 0,
            meant: Nanos::ZERO,
            start: Seq(0),
            next: if i + 1 < count { i as u32 + 1 } else { NIL },
        };
        Slab { places: (0..count).map(place).collect(), free: 0, used: 0 }
    }

    /// Requests here.
    #[inline]
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// A place for a request, or none while all are taken.
    #[inline]
    pub(crate) fn put(&mut self, request: Request) -> Option<u32> {
        let at = self.free;
        let place = self.places.get_mut(at as usize)?;
        self.free = place.next;
        self.used += 1;
        *place = request;
        Some(at)
    }

    /// Takes a request away.
    #[inline]
    pub(crate) fn free(&mut self, at: u32) {
        self.places[at as usize].next = self.free;
        self.free = at;
        self.used -= 1;
    }
}

impl std::ops::Index<u32> for Slab {
    type Output = Request;
    #[inline]
    fn index(&self, at: u32) -> &Request {
        &self.places[at as usize]
    }
}

impl std::ops::IndexMut<u32> for Slab {
    #[inline]
    fn index_mut(&mut self, at: u32) -> &mut Request {
        &mut self.places[at as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use draw::{Purpose, ServiceTimes, stream};
    use requests::{Asker, Spin, Workload};

    #[test]
    fn places_are_bounded_and_come_back() {
        let times: ServiceTimes = "det:1us".parse().unwrap();
        let mut asker = Asker::new(&Workload::Spin(Spin::new(times)), stream(1, 0, Purpose::Requests));
        let mut slab = Slab::new(3, asker.next());
        let mut request =
            |n: u32| Request { ask: asker.next(), len: n, meant: Nanos::ZERO, start: Seq(u32::MAX), next: NIL };
        let places: Vec<u32> = (0..3).map(|n| slab.put(request(n)).unwrap()).collect();
        assert!(slab.put(request(9)).is_none() && slab.used() == 3);
        assert_eq!(places.iter().map(|at| slab[*at].len).collect::<Vec<_>>(), [0, 1, 2]);
        slab.free(places[1]);
        slab.free(places[0]);
        assert_eq!(slab.put(request(5)), Some(places[0]), "the last one left is the first one taken");
        assert_eq!((slab[places[0]].end(), slab[places[2]].len, slab.used()), (Seq(4), 2, 2));
    }
}
