use super::*;
use proptest::prelude::*;

pub(crate) fn any_options() -> impl Strategy<Value = Options> {
    let ts = proptest::option::of((any::<u32>(), any::<u32>()).prop_map(|(val, ecr)| Timestamps { val, ecr }));
    let sacks = proptest::collection::vec((any::<u32>(), any::<u32>()), 0..4)
        .prop_map(|v| v.into_iter().map(|(l, r)| (Seq(l), Seq(r))).collect::<SackBlocks>());
    (proptest::option::of(any::<u16>()), proptest::option::of(0u8..15), any::<bool>(), ts, sacks).prop_map(
        |(mss, wscale, sack_permitted, timestamps, sacks)| Options { mss, wscale, sack_permitted, timestamps, sacks },
    )
}

proptest! {
    #[test]
    fn emit_then_parse(options in any_options()) {
        let mut bytes = [0xee; MAX_OPTIONS];
        let len = options.emit(&mut bytes);
        prop_assert_eq!(len, options.wire_len());
        prop_assert_eq!(len % 4, 0);
        let read = Options::parse(&bytes[..len]).unwrap();
        // Blocks that found no room are left out, from the end.
        let sacks = options.sacks.iter().take(read.sacks.len()).collect();
        prop_assert_eq!(read, Options { sacks, ..options });
        if read.sacks != options.sacks {
            prop_assert!(len + 8 > MAX_OPTIONS);
        }
        prop_assert!(bytes[len..].iter().all(|&b| b == 0xee));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..=40)) {
        let _ = Options::parse(&bytes);
    }

    #[test]
    fn plausible_bytes_never_panic(list in proptest::collection::vec((0u8..12, 0u8..12, any::<[u8; 10]>()), 0..8)) {
        let mut bytes: Vec<u8> = list.iter().flat_map(|(k, l, v)| [&[*k, *l], &v[..]].concat()).collect();
        bytes.truncate(MAX_OPTIONS);
        let _ = Options::parse(&bytes);
    }
}

#[test]
fn lengths_that_cannot_be_are_malformed() {
    for bytes in [
        &[MSS][..],                              // no length
        &[MSS, 0, 5, 0xb4],                      // zero: would never advance
        &[99, 1, 0, 0],                          // one: unknown kinds need a sound length, too
        &[MSS, 5, 5, 0xb4],                      // past the end
        &[NOP, NOP, TIMESTAMPS, 10, 0, 0, 0, 0], // past the end
        &[NOP, NOP, SACK, 255],                  // far past the end
    ] {
        assert_eq!(Options::parse(bytes), Err(Malformed::Option), "{bytes:?}");
    }
}

#[test]
fn unknown_kinds_and_wrong_sizes_are_skipped() {
    let bytes = [
        99,
        4,
        1,
        2, // unknown
        MSS,
        3,
        9, // an MSS of one byte
        SACK,
        6,
        1,
        2,
        3,
        4, // half a block
        WSCALE,
        3,
        200, // too large: 14
        SACK_PERMITTED,
        3,
        0, // with a value
        MSS,
        4,
        5,
        0xb4,
        END,
        MSS,
        0, // nothing counts after the end
    ];
    let expected = Options { mss: Some(1460), wscale: Some(14), ..Options::NONE };
    assert_eq!(Options::parse(&bytes), Ok(expected));
}

#[test]
fn linux_syn_layout() {
    let options = Options {
        mss: Some(1460),
        wscale: Some(7),
        sack_permitted: true,
        timestamps: Some(Timestamps { val: 0x01020304, ecr: 0 }),
        sacks: SackBlocks::EMPTY,
    };
    let mut bytes = [0; 40];
    let len = options.emit(&mut bytes);
    let linux = [2, 4, 5, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7];
    assert_eq!(bytes[..len], linux);
}

#[test]
fn timestamps_leave_room_for_three_blocks() {
    let blocks = (0..4u32).map(|i| (Seq(i * 10), Seq(i * 10 + 5)));
    let options =
        Options { timestamps: Some(Timestamps { val: 1, ecr: 2 }), sacks: blocks.clone().collect(), ..Options::NONE };
    let mut bytes = [0; 40];
    assert_eq!((options.wire_len(), options.emit(&mut bytes)), (40, 40));
    assert_eq!(Options::parse(&bytes).unwrap().sacks, blocks.take(3).collect());
    assert_eq!(Options { timestamps: None, ..options }.wire_len(), 36);
}
