//! Steering by a NIC's own table: RSS (ETHTOOL_GRSSH, ETHTOOL_SRXFHINDIR).
//!
//! ```text
//!   frame -> Toeplitz hash of addresses and ports -> entry (hash mod the table's length) -> queue
//!                  = flow group (hash mod 128) and, in a table of 128 n entries, one of its n entries: e with e mod 128 = group
//! ```
//!
//! The hash and its key are the NIC's; ours is the table, until we end in good order, when it gets its old contents back. After SIGKILL it stays as it is: all of its queues
//! are the kernel's as well, so nothing is lost by that. Setting an entry writes the whole table, by a system call that takes as long as the
//! driver likes: at moves of flow groups, never per frame.

use std::io;
use std::sync::{Mutex, PoisonError};

use sys::SysError;
use sys::ethtool::{self, Flow};
use units::{FLOW_GROUPS, FlowGroupId};
use wire::rss::{KEY, Toeplitz};

/// What is asked of a driver.
pub(crate) trait Driver: Send + Sync + std::fmt::Debug {
    /// Its table, its key, its hash.
    fn rss(&self) -> Result<ethtool::Rss, SysError>;
    /// Whether it hashes the ports of such flows, too.
    fn hashes_ports(&self, flow: Flow) -> Result<bool, SysError>;
    /// Replaces the table.
    fn set_table(&self, table: &[u32]) -> Result<(), SysError>;
}

/// The driver of the interface of this name, in the namespace of whoever asks.
#[derive(Debug)]
pub(crate) struct Interface(pub(crate) String);

impl Driver for Interface {
    fn rss(&self) -> Result<ethtool::Rss, SysError> {
        ethtool::rss(&self.0)
    }

    fn hashes_ports(&self, flow: Flow) -> Result<bool, SysError> {
        ethtool::hashes_ports(&self.0, flow)
    }

    fn set_table(&self, table: &[u32]) -> Result<(), SysError> {
        ethtool::set_rss_table(&self.0, table)
    }
}

/// Why a NIC's table does not steer for us.
#[derive(Debug, thiserror::Error)]
pub enum RssError {
    /// The driver has none, or does not take ours.
    #[error("the driver refuses: {0}")]
    Refused(#[from] SysError),
    /// It is too short, or of a length that flow groups do not fit.
    #[error("the NIC's table has {0} entries, and we need a power of two from {FLOW_GROUPS} on (ethtool -x)")]
    Entries(usize),
    /// Another function, or a key that is too short.
    #[error(
        "the NIC's hash is not the one that we know, Toeplitz with a key of {KEY} bytes or more (ethtool -X IFACE hfunc toeplitz)"
    )]
    Hash,
    /// TCP's ports do not count.
    #[error("the NIC's hash leaves ports out of TCP (ethtool -N IFACE rx-flow-hash tcp4 sdfn, and tcp6)")]
    Ports,
}

impl From<RssError> for io::Error {
    fn from(e: RssError) -> io::Error {
        let kind = match &e {
            RssError::Refused(e) if e.errno() != Some(libc::EOPNOTSUPP) => e.cause.kind(),
            _ => io::ErrorKind::Unsupported,
        };
        io::Error::new(kind, e)
    }
}

/// A NIC's table in our use.
#[derive(Debug)]
pub(crate) struct Rss<D: Driver> {
    driver: D,
    before: Vec<u32>,
    now: Mutex<Vec<u32>>,
}

impl<D: Driver> Rss<D> {
    /// Takes the table over: flow groups go to `queues` queues in turn. With the NIC's hash.
    pub(crate) fn take_over(driver: D, queues: u16) -> Result<(Rss<D>, Box<Toeplitz>), RssError> {
        let found = driver.rss()?;
        if !found.table.len().is_power_of_two() || found.table.len() < FLOW_GROUPS {
            return Err(RssError::Entries(found.table.len()));
        }
        let key = found.key.first_chunk().filter(|_| found.toeplitz).ok_or(RssError::Hash)?;
        // A driver that does not say does what all do. Datagrams hashed by their addresses alone are forwarded by whoever gets them.
        for flow in [Flow::TcpV4, Flow::TcpV6] {
            if let Ok(false) = driver.hashes_ports(flow) {
                return Err(RssError::Ports);
            }
        }
        let hash = Box::new(Toeplitz::new(key));
        let queue = |entry| (entry % FLOW_GROUPS) as u32 % u32::from(queues);
        let table: Vec<u32> = (0..found.table.len()).map(queue).collect();
        driver.set_table(&table)?;
        Ok((Rss { driver, before: found.table, now: Mutex::new(table) }, hash))
    }

    /// Directs a flow group to a queue.
    pub(crate) fn direct(&self, group: FlowGroupId, queue: u16) -> Result<(), RssError> {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let mut table = now.clone();
        table.iter_mut().skip(group.index()).step_by(FLOW_GROUPS).for_each(|entry| *entry = queue.into());
        if table != *now {
            self.driver.set_table(&table)?;
            *now = table;
        }
        Ok(())
    }
}

impl<D: Driver> Drop for Rss<D> {
    fn drop(&mut self) {
        // An interface that is gone takes its table along.
        let _ = self.driver.set_table(&self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use std::sync::Arc;
    use wire::Tuple;
    use wire::rss::MICROSOFT_KEY;

    /// A NIC that is not there: its registers.
    #[derive(Debug)]
    struct Fake {
        rss: ethtool::Rss,
        ports: bool,
        written: Mutex<Vec<Vec<u32>>>,
        refuses: Mutex<Option<i32>>,
    }

    impl Fake {
        fn new(entries: usize) -> Arc<Fake> {
            let key = [&MICROSOFT_KEY[..], &[7; 12]].concat();
            let rss = ethtool::Rss { table: vec![3; entries], key, toeplitz: true };
            Arc::new(Fake { rss, ports: true, written: Mutex::default(), refuses: Mutex::default() })
        }

        fn last(&self) -> Vec<u32> {
            self.written.lock().unwrap().last().unwrap().clone()
        }

        fn writes(&self) -> usize {
            self.written.lock().unwrap().len()
        }
    }

    impl Driver for Arc<Fake> {
        fn rss(&self) -> Result<ethtool::Rss, SysError> {
            Ok(self.rss.clone())
        }

        fn hashes_ports(&self, _: Flow) -> Result<bool, SysError> {
            Ok(self.ports)
        }

        fn set_table(&self, table: &[u32]) -> Result<(), SysError> {
            if let Some(errno) = *self.refuses.lock().unwrap() {
                return Err(SysError::new("ioctl(ETHTOOL_SRXFHINDIR)", io::Error::from_raw_os_error(errno)));
            }
            self.written.lock().unwrap().push(table.to_vec());
            Ok(())
        }
    }

    #[test]
    fn each_group_has_its_entries_in_tables_of_any_length() {
        for entries in [128, 256, 512] {
            let nic = Fake::new(entries);
            let (rss, hash) = Rss::take_over(nic.clone(), 3).unwrap();
            assert!((0..entries).all(|e| nic.last()[e] == (e % 128 % 3) as u32), "groups in turn");
            // What the hardware does with a frame is where our flow group says.
            for port in 0..1000 {
                let (local, remote) = (Ipv4Addr::new(198, 18, 0, 2).into(), Ipv4Addr::new(198, 18, 0, 1).into());
                let flow = Tuple { local, remote, local_port: 11211, remote_port: 1024 + port };
                let group = hash.flow_group(&flow);
                rss.direct(group, port % 3).unwrap();
                assert_eq!(nic.last()[hash.hash(&flow) as usize % entries], u32::from(port % 3));
            }
            // One group's entries, and no other's.
            let before = nic.last();
            let other = (before[5] as u16 + 1) % 3;
            rss.direct(FlowGroupId(5), other).unwrap();
            for (e, queue) in nic.last().into_iter().enumerate() {
                assert_eq!(queue, if e % 128 == 5 { other.into() } else { before[e] });
            }
            // What is so already costs nothing.
            let writes = nic.writes();
            rss.direct(FlowGroupId(5), other).unwrap();
            assert_eq!(nic.writes(), writes);
            drop(rss);
            assert_eq!(nic.last(), vec![3; entries], "as it was");
        }
    }

    #[test]
    fn a_refusal_is_typed_and_changes_nothing() {
        let nic = Fake::new(128);
        let (rss, _) = Rss::take_over(nic.clone(), 2).unwrap();
        let before = nic.last();
        for (errno, kind) in
            [(libc::EOPNOTSUPP, io::ErrorKind::Unsupported), (libc::EPERM, io::ErrorKind::PermissionDenied)]
        {
            *nic.refuses.lock().unwrap() = Some(errno);
            let refused = rss.direct(FlowGroupId(0), 1).unwrap_err();
            assert!(matches!(&refused, RssError::Refused(e) if e.errno() == Some(errno)));
            assert_eq!(io::Error::from(refused).kind(), kind);
        }
        *nic.refuses.lock().unwrap() = None;
        // The next change has nothing of the refused one.
        rss.direct(FlowGroupId(1), 0).unwrap();
        assert_eq!((nic.last()[0], nic.last()[1]), (before[0], 0));
    }

    #[test]
    fn nics_that_cannot_are_told_why() {
        let refusal = |change: &dyn Fn(&mut Fake)| {
            let mut nic = Fake::new(128);
            change(Arc::get_mut(&mut nic).unwrap());
            let refused = Rss::take_over(nic.clone(), 2).map(drop).unwrap_err();
            assert_eq!(nic.writes(), 0, "nothing was touched");
            refused
        };
        assert!(matches!(refusal(&|nic| nic.rss.table.truncate(64)), RssError::Entries(64)));
        assert!(matches!(refusal(&|nic| nic.rss.table.extend([0; 64])), RssError::Entries(192)));
        assert!(matches!(refusal(&|nic| nic.rss.toeplitz = false), RssError::Hash));
        assert!(matches!(refusal(&|nic| nic.rss.key.truncate(16)), RssError::Hash));
        assert!(matches!(refusal(&|nic| nic.ports = false), RssError::Ports));
        let veth = |nic: &mut Fake| *nic.refuses.get_mut().unwrap() = Some(libc::EOPNOTSUPP);
        assert!(matches!(refusal(&veth), RssError::Refused(_)));
    }
}
