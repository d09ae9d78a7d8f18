use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use nic::{Faults, Nic};
use sys::netns;
use tap::{TapConfig, TapNic, TapQueue};

use crate::Bridge;

/// Frames that Linux keeps for us while we are busy.
const QUEUE_LEN: u32 = 1000;

/// One end of a link: a TAP to be made.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// In this network namespace.
    pub namespace: BorrowedFd<'a>,
    /// Its name there.
    pub name: &'a str,
    /// Its address and prefix, if it is to have one.
    pub address: Option<(IpAddr, u8)>,
}

impl End<'_> {
    /// Makes it, in a thread that enters the namespace: the caller stays where it is.
    fn open(&self) -> std::io::Result<TapQueue> {
        std::thread::scope(|scope| {
            let made = scope.spawn(|| {
                netns::enter(self.namespace).map_err(std::io::Error::other)?;
                let config = TapConfig {
                    // Neither super-frames nor promised checksums: see the crate's documentation.
                    vnet: false,
                    software_steering: true,
                    queue_len: QUEUE_LEN,
                    host_addrs: self.address.into_iter().collect(),
                    ..TapConfig::new(self.name, 1)
                };
                let mut nic = TapNic::open(&config).map_err(std::io::Error::other)?;
                Ok(nic.queues().remove(0))
            });
            made.join().unwrap_or_else(|_| Err(std::io::Error::other("the thread that opens a TAP has ended")))
        })
    }
}

/// A link with faults between two TAPs that are made for it, in whatever namespaces, and go with it. `faults[0]` is what happens
/// to frames from `a` to `b`.
///
/// # Errors
/// No privilege, no /dev/net/tun, a name that is taken.
pub fn between(
    a: &End<'_>,
    b: &End<'_>,
    faults: [Faults; 2],
    seed: u64,
) -> std::io::Result<Bridge<TapQueue, TapQueue>> {
    Bridge::new(a.open()?, b.open()?, faults, seed)
}
