use units::Nanos;

/// What TCP does otherwise for one connection than the stack's configuration says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TcpOption {
    /// A segment that is not full goes at once; if not, it waits until all data in flight is acknowledged (Nagle's algorithm, RFC 9293
    /// section 3.7.4). On by default.
    NoDelay(bool),
    /// A segment that is not full waits for more data, until this is taken back or the connection is closed, or for a while with nothing in
    /// flight. Off by default.
    Cork(bool),
    /// How long data may stay unacknowledged before the connection is given up (RFC 9293 section 3.9.1, RFC 5482): from a millisecond to
    /// [`TcpOption::USER_TIMEOUT_MAX`]. `None`: as long as the retries take.
    UserTimeout(Option<Nanos>),
    /// What a close does about data that is not acknowledged yet. `None`: it is sent for as long as it takes. Zero: it is discarded, and the
    /// connection reset. Else it is the user timeout from the close on: at most [`TcpOption::LINGER_MAX`], in steps of 10 ms.
    Linger(Option<Nanos>),
}

impl TcpOption {
    /// The longest user timeout: a day.
    pub const USER_TIMEOUT_MAX: Nanos = Nanos::from_secs(24 * 3600);
    /// The longest that a close may take: ten minutes.
    pub const LINGER_MAX: Nanos = Nanos::from_secs(600);
    /// The shortest of both spans, but for a linger of zero.
    const LEAST: Nanos = Nanos::from_millis(1);

    /// The same within its bounds.
    pub fn bounded(self) -> TcpOption {
        match self {
            TcpOption::UserTimeout(Some(after)) => {
                TcpOption::UserTimeout(Some(after.clamp(TcpOption::LEAST, TcpOption::USER_TIMEOUT_MAX)))
            }
            TcpOption::Linger(Some(after)) if after > Nanos::ZERO => {
                TcpOption::Linger(Some(after.clamp(TcpOption::LEAST, TcpOption::LINGER_MAX)))
            }
            other => other,
        }
    }

    /// Whether it is within its bounds.
    pub fn is_sound(self) -> bool {
        self == self.bounded()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_bounds_and_a_linger_may_be_none_at_all() {
        let (ns, day) = (Nanos(1), TcpOption::USER_TIMEOUT_MAX);
        for (given, bounded) in [(ns, Nanos::from_millis(1)), (Nanos::MAX, day), (day, day)] {
            assert_eq!(TcpOption::UserTimeout(Some(given)).bounded(), TcpOption::UserTimeout(Some(bounded)));
        }
        assert!(!TcpOption::UserTimeout(Some(Nanos::ZERO)).is_sound());
        assert!(TcpOption::Linger(Some(Nanos::ZERO)).is_sound() && TcpOption::Linger(None).is_sound());
        assert_eq!(TcpOption::Linger(Some(day)).bounded(), TcpOption::Linger(Some(TcpOption::LINGER_MAX)));
    }
}
