//! RFC 1191, 8201 and 4821: segments fitted to the path.

use super::*;

#[test]
fn what_was_too_big_is_sent_again_smaller_and_the_window_stays() {
    let cfg = plain();
    let mut tcb = established(&cfg);
    assert_eq!(tcb.send(T0, 3 * MSS), 3 * MSS);
    assert_eq!(sent(&mut tcb, T0, &cfg).len(), 3);
    let cwnd = tcb.cwnd();
    assert!(tcb.path_narrowed(T0, &cfg, 600));
    assert_eq!((tcb.mss(), tcb.cwnd(), tcb.invariants()), (600, cwnd, Ok(())));
    let again: Vec<String> = said(&mut tcb, T0, &cfg);
    assert_eq!(again, (0..5).map(|i| format!("data {}+600 again", i * 600)).collect::<Vec<_>>());
    assert!(!tcb.path_narrowed(T0, &cfg, 600) && !tcb.path_narrowed(T0, &cfg, 2000), "no report makes segments larger");
    assert!(tcb.path_narrowed(T0, &cfg, 0) && tcb.mss() == 64, "nor smaller than sense");
    assert_eq!(tcb.invariants(), Ok(()));
}

#[test]
fn options_are_part_of_the_segment() {
    let cfg = Config { timestamps: true, ..plain() };
    let mut tcb = established(&cfg);
    assert_eq!(tcb.mss(), 988);
    assert!(!tcb.path_narrowed(T0, &cfg, 1000));
    assert!(tcb.path_narrowed(T0, &cfg, 900));
    assert_eq!(tcb.mss(), 888);
}

#[test]
fn a_handshake_has_no_segments_to_fit() {
    let cfg = plain();
    let mut tcb = Tcb::connect(T0, &cfg, ISS);
    sent(&mut tcb, T0, &cfg);
    assert!(!tcb.path_narrowed(T0, &cfg, 300));
}

#[test]
fn full_segments_that_time_out_three_times_make_the_path_suspect() {
    let cfg = plain();
    let suspect_after = |bytes: u32| {
        let (mut tcb, mut records) = (established(&cfg), Records::new(1));
        assert_eq!(tcb.send(T0, bytes), bytes);
        sent(&mut tcb, T0, &cfg);
        (1..=5).find(|_| {
            let now = tcb.deadline();
            let _ = tcb.timeout(now, &cfg, &mut records);
            sent(&mut tcb, now, &cfg);
            tcb.black_hole()
        })
    };
    assert_eq!(suspect_after(MSS), Some(3));
    assert_eq!(suspect_after(MSS - 1), None, "what is small gets through everywhere");
}
