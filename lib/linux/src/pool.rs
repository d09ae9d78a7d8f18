use std::collections::VecDeque;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use abi::Handle;
use sys::epoll::{Epoll, Events, Interest};
use sys::timer::TimerFd;
use sys::wait::EventFd;
use units::{FlowGroupId, Nanos};

use crate::conn::Conn;
use crate::inbox::Mail;
use crate::slab::Slab;
use crate::slot::Slot;
use crate::timers::Timers;
use crate::{Mailbox, Sharing};

/// Handles of floating connections are all of one group, so that one inbox serves them.
pub(crate) const GROUP: FlowGroupId = FlowGroupId(0);

// Tokens of what is not a connection. The top byte of a connection's is its group.
pub(crate) const LISTENER: u64 = u64::MAX;
pub(crate) const BELL: u64 = u64::MAX - 1;
pub(crate) const UDP: u64 = u64::MAX - 2;
pub(crate) const ALARM: u64 = u64::MAX - 3;
pub(crate) const END: u64 = u64::MAX - 4;

/// A connection that any thread may be given an event of.
pub(crate) struct Floater<C, M> {
    /// `None`: it has ended, and whoever still knows it has come late.
    pub(crate) conn: Slot<Option<Conn<C>>>,
    /// Messages and resumes, in order, for whoever works on it next.
    mail: Mutex<VecDeque<Mail<M>>>,
}

impl<C, M> Floater<C, M> {
    pub(crate) fn new(conn: Conn<C>) -> Floater<C, M> {
        Floater { conn: Slot::new(Some(conn)), mail: Mutex::new(VecDeque::new()) }
    }

    pub(crate) fn mail(&self) -> MutexGuard<'_, VecDeque<Mail<M>>> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All that the threads of the floating mode share: every connection, every deadline, what they wait at.
pub(crate) struct Pool<C, M> {
    conns: RwLock<Slab<Arc<Floater<C, M>>>>,
    pub(crate) alarm: Alarm,
    ready: Ready,
    pub(crate) listener: Arc<TcpListener>,
    pub(crate) udp: Option<UdpSocket>,
    pub(crate) mailbox: Mailbox<M>,
    pub(crate) stop: Arc<AtomicBool>,
}

impl<C, M> Pool<C, M> {
    /// The pool of `threads` threads, which are to end when `stop` is set and `end` is rung.
    pub(crate) fn new(
        threads: usize,
        sharing: Sharing,
        (listener, udp): (Arc<TcpListener>, Option<UdpSocket>),
        mailbox: Mailbox<M>,
        (stop, end): (Arc<AtomicBool>, &EventFd),
    ) -> io::Result<Pool<C, M>> {
        let instances = if sharing == Sharing::Exclusive { threads } else { 1 };
        let ready = Ready { epolls: (0..instances).map(|_| Epoll::new()).collect::<Result<_, _>>()? };
        let alarm = Alarm::new()?;
        ready.add_level(&*listener, LISTENER)?;
        ready.add_level(&mailbox.0[GROUP.index()].bell, BELL)?;
        ready.add_level(&alarm.fd, ALARM)?;
        if let Some(udp) = &udp {
            ready.add_level(udp, UDP)?;
        }
        // Nobody takes the ring, so that everybody gets it.
        ready.epolls.iter().try_for_each(|epoll| epoll.add(end, END, Interest::READ))?;
        let conns = RwLock::new(Slab::new(GROUP));
        Ok(Pool { conns, alarm, ready, listener, udp, mailbox, stop })
    }

    /// Waits for events of the pool; `index` is the thread's.
    pub(crate) fn wait(&self, index: usize, events: &mut Events) -> io::Result<usize> {
        self.ready.epolls[index % self.ready.epolls.len()].wait(events, None)
    }

    /// Whether an event tells that the peer has finished. If not, any event may mean that.
    pub(crate) fn tells_ends(&self) -> bool {
        !self.ready.is_exclusive()
    }

    /// A connection joins, unless there are too many.
    pub(crate) fn insert(&self, floater: &Arc<Floater<C, M>>) -> Option<Handle> {
        self.conns.write().unwrap_or_else(PoisonError::into_inner).insert(floater.clone()).ok()
    }

    pub(crate) fn get(&self, who: Handle) -> Option<Arc<Floater<C, M>>> {
        self.conns.read().unwrap_or_else(PoisonError::into_inner).get(who).cloned()
    }

    pub(crate) fn remove(&self, who: Handle) {
        let gone = self.conns.write().unwrap_or_else(PoisonError::into_inner).remove(who);
        // Its end, if this is the last to know it, comes after the lock's.
        drop(gone);
    }

    /// Connections in it.
    pub(crate) fn len(&self) -> usize {
        self.conns.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The connections of now.
    pub(crate) fn keys(&self) -> Vec<Handle> {
        self.conns.read().unwrap_or_else(PoisonError::into_inner).keys()
    }

    /// Has events of the connection told from now on; with `renew`, also those that have been told, if they still hold:
    /// the connection goes to the end of the queue of ready ones.
    pub(crate) fn watch(&self, who: Handle, conn: &mut Conn<C>, renew: bool) -> io::Result<()> {
        let writes = conn.connecting || conn.unsent() > 0 || renew;
        match conn.watched {
            None => {
                let what = Interest::READ.and(Interest::WRITE.when(writes));
                conn.watched = Some(what);
                self.ready.add(&conn.stream, who.to_bits(), what)
            }
            Some(was) if renew || writes && !was.has(Interest::WRITE) => {
                let what = Interest::READ.and(Interest::WRITE);
                conn.watched = Some(what);
                self.ready.renew(&conn.stream, who.to_bits(), what)
            }
            // An edge is told without being asked for anew.
            Some(_) => Ok(()),
        }
    }
}

/// The epoll instances: one that all threads wait at, or one for each thread ([`Sharing`] weighs them).
struct Ready {
    epolls: Vec<Epoll>,
}

impl Ready {
    fn is_exclusive(&self) -> bool {
        self.epolls.len() > 1
    }

    /// For what any thread may take from: told for as long as there is something to take, to no more threads than needed.
    fn add_level(&self, fd: &impl AsFd, token: u64) -> io::Result<()> {
        let what = if self.is_exclusive() { Interest::READ.exclusive() } else { Interest::READ };
        self.epolls.iter().try_for_each(|epoll| epoll.add(fd, token, what))
    }

    fn add(&self, fd: &impl AsFd, token: u64, what: Interest) -> io::Result<()> {
        match &self.epolls[..] {
            [one] => one.add(fd, token, what.and(Interest::END).edge()),
            all => all.iter().try_for_each(|epoll| epoll.add(fd, token, what.edge().exclusive())),
        }
    }

    fn renew(&self, fd: &impl AsFd, token: u64, what: Interest) -> io::Result<()> {
        match &self.epolls[..] {
            [one] => one.modify(fd, token, what.and(Interest::END).edge()),
            // What is watched exclusively cannot be modified. What happens between the two is found by the second.
            all => all.iter().try_for_each(|epoll| {
                let _ = epoll.remove(fd);
                epoll.add(fd, token, what.edge().exclusive())
            }),
        }
    }
}

/// The deadlines of all connections, and a descriptor that is readable from the earliest on.
///
/// A timeout of the waiting threads would not do: the deadline may be set by a thread that then runs a long handler, while
/// the others wait already.
pub(crate) struct Alarm {
    deadlines: Mutex<Deadlines>,
    fd: TimerFd,
}

#[derive(Default)]
struct Deadlines {
    timers: Timers,
    /// What the descriptor is set to.
    set: Option<Nanos>,
}

impl Alarm {
    fn new() -> io::Result<Alarm> {
        Ok(Alarm { deadlines: Mutex::default(), fd: TimerFd::new()? })
    }

    fn lock(&self) -> MutexGuard<'_, Deadlines> {
        self.deadlines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the deadline that `conn` has now.
    pub(crate) fn follow<C>(&self, who: Handle, conn: &mut Conn<C>) {
        if conn.filed == conn.deadline {
            return;
        }
        let mut d = self.lock();
        d.timers.follow(who, conn);
        // One that got later is noticed when the alarm goes off early; that saves a system call for each that is put off.
        if let Some(next) = d.timers.next()
            && d.set.is_none_or(|set| next < set)
        {
            self.fd.set(Some(next));
            d.set = Some(next);
        }
    }

    /// Forgets a deadline.
    pub(crate) fn forget(&self, who: Handle, filed: Option<Nanos>) {
        if filed.is_some() {
            self.lock().timers.replace(who, filed, None);
        }
    }

    /// The alarm went off: a connection whose deadline has passed by `now`. Further ones set it off again, for others.
    pub(crate) fn next(&self, now: Nanos) -> Option<Handle> {
        let mut d = self.lock();
        let who = d.timers.expired(now);
        d.set = d.timers.next();
        self.fd.set(d.set);
        who
    }
}
