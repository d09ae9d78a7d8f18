use units::Counter;

use crate::DropReason;

macro_rules! metrics {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// What one core has counted since start. The core writes, anybody reads.
        #[derive(Default, Debug)]
        pub struct Metrics {
            $($(#[doc = $doc])+ pub $name: Counter,)+
            drops: [Counter; DropReason::ALL.len()],
        }

        impl Metrics {
            /// Name and value of each counter but the drops.
            pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
                [$((stringify!($name), &self.$name),)+].into_iter().map(|(n, c)| (n, c.get()))
            }
        }
    };
}

metrics! {
    /// Frames taken from the own queue.
    rx_frames,
    /// Frames that another core's queue got and that core forwarded here.
    rx_forwarded_in,
    /// Frames of foreign flow groups, forwarded to their owners.
    rx_forwarded_out,
    /// Flow groups handed over to other cores.
    groups_out,
    /// Flow groups taken over from other cores.
    groups_in,
    /// Frames of groups that had just come here, which waited for the group or for older ones to come by its last core.
    deferred,
    /// Frames given to the NIC.
    tx_frames,
    /// Frames that waited because the NIC was full.
    tx_deferred,
    /// Frames lost because the NIC was full and no buffer was left to wait in, or too many waited.
    tx_lost,
    /// TCP segments received for known connections.
    tcp_segments_in,
    /// TCP payload bytes delivered in order.
    tcp_bytes_in,
    /// TCP payload bytes admitted for sending.
    tcp_bytes_out,
    /// TCP segments that came before one that belongs in front of them.
    tcp_out_of_order,
    /// TCP segments sent again.
    tcp_retransmits,
    /// Connections that peers opened.
    tcp_accepts,
    /// Connections opened here.
    tcp_connects,
    /// Connections ended, for whatever reason.
    tcp_closed,
    /// RST segments sent.
    tcp_resets_out,
    /// SYN cookies sent.
    syn_cookies_out,
    /// Connections opened from a cookie.
    syn_cookies_in,
    /// Datagrams delivered.
    udp_in,
    /// Datagrams sent.
    udp_out,
    /// ICMP echo requests answered.
    icmp_echo,
    /// ARP requests answered.
    arp_replies,
    /// Neighbour solicitations answered.
    ndp_replies,
    /// ICMP errors sent.
    icmp_errors_out,
    /// ICMP errors heard about packets that were ours.
    icmp_errors_in,
    /// Reports that made a path's MTU smaller.
    path_mtu_lowered,
    /// Datagrams put together from fragments.
    reassembled,
    /// Fragments sent.
    fragments_out,
    /// Turns that found something to do.
    turns_busy,
    /// Batches given to the application.
    batches,
    /// Connections in those batches: divided by `batches`, the mean batch size.
    batch_conns,
    /// Slips taken from other cores' shuffle queues.
    steals,
    /// Network passes done in other cores' stead.
    lends,
    /// Interrupts sent to other cores.
    interrupts_sent,
    /// Interrupts that found this core in application code.
    interrupts,
    /// Times that this core found its own network layer taken by another.
    lock_taken,
    /// Application calls of more than 10 ms, once they are over.
    non_responsive,
    /// A gauge: the instant at which the application call began that runs now, on the monotonic clock; 0 while none does.
    app_since_ns,
    /// Slips offered to all cores.
    offers,
    /// Batches that came home to be carried out there: stolen ones, and those that ended while another had the lock.
    remote_syscalls,
    /// Batched syscalls carried out.
    syscalls,
    /// Batched syscalls refused.
    syscalls_refused,
    /// Nanoseconds in turns that found something to do.
    busy_ns,
    /// Nanoseconds polling without finding anything.
    idle_ns,
    /// Nanoseconds asleep.
    sleep_ns,
}

impl Metrics {
    /// Counts a dropped frame.
    #[inline]
    pub fn drop_frame(&self, why: DropReason) {
        self.drops[why as usize].inc();
    }

    /// Counts several dropped frames.
    pub(crate) fn drop_frames(&self, why: DropReason, n: u64) {
        self.drops[why as usize].add(n);
    }

    /// How many frames were dropped for this reason.
    pub fn drops(&self, why: DropReason) -> u64 {
        self.drops[why as usize].get()
    }

    /// Frames dropped for any reason.
    pub fn drops_total(&self) -> u64 {
        self.drops.iter().map(Counter::get).sum()
    }
}
