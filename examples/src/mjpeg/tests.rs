use proptest::prelude::*;

use super::*;

type Owned = (Vec<u8>, Ending);

/// A JPEG by structure only: header, one scan, end.
fn image(thumbnail: &[u8], entropy: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xFF, SOI];
    push(&mut bytes, 0xE1, thumbnail);
    push(&mut bytes, 0xC0, &[8, 0, 8, 0, 8, 1, 1, 0x11, 0]);
    push(&mut bytes, SOS, &[1, 1, 0, 0, 63, 0]);
    for &byte in entropy {
        bytes.push(byte);
        if byte == 0xFF {
            bytes.push(0);
        }
    }
    bytes.extend([0xFF, EOI]);
    bytes
}

fn push(bytes: &mut Vec<u8>, code: u8, payload: &[u8]) {
    bytes.extend([0xFF, code]);
    bytes.extend((payload.len() as u16 + 2).to_be_bytes());
    bytes.extend(payload);
}

fn split_in(chunks: &[&[u8]], limit: usize) -> (Vec<Owned>, u64) {
    let mut splitter = Splitter::new(limit);
    let mut records = Vec::new();
    for chunk in chunks {
        let mut rest = *chunk;
        loop {
            let (used, ending) = splitter.advance(rest);
            rest = &rest[used..];
            match ending {
                Some(ending) => records.push((splitter.record().to_vec(), ending)),
                None => break,
            }
        }
        assert!(rest.is_empty(), "advance uses all input unless a record ends");
    }
    while let Some(ending) = splitter.finish() {
        records.push((splitter.record().to_vec(), ending));
    }
    (records, splitter.skipped())
}

fn split(bytes: &[u8]) -> (Vec<Owned>, u64) {
    split_in(&[bytes], MAX_RECORD)
}

fn complete(image: &[u8]) -> Owned {
    (image.to_vec(), Ending::Complete)
}

#[test]
fn smoke() {
    let (a, b) = (image(b"", b"abc"), image(b"x", &[0xFF, 7, 0xFF]));
    assert_eq!(split(&[&a[..], &b].concat()), (vec![complete(&a), complete(&b)], 0));
    assert_eq!(split(b""), (vec![], 0));
}

#[test]
fn a_thumbnail_does_not_split() {
    let thumbnail = image(b"", b"small");
    let a = image(&thumbnail, b"large");
    assert_eq!(split(&[&a[..], &a].concat()), (vec![complete(&a), complete(&a)], 0));
}

#[test]
fn restart_markers_fill_bytes_and_scans_belong_to_the_image() {
    let mut a = image(b"", b"abc");
    a.truncate(a.len() - 2);
    a.extend([0xFF, 0xD0, 1, 2, 0xFF, 0xD1, 3, 0xFF, 0xFF]);
    push(&mut a, DHT, &[1, 2, 3]);
    a.extend([0xFF, 0xFF]);
    push(&mut a, SOS, &[1, 1, 0, 0, 63, 0]);
    a.extend([9, 0xFF, 0xFF, EOI]);
    assert_eq!(split(&[&a[..], &a].concat()), (vec![complete(&a), complete(&a)], 0));
}

#[test]
fn garbage_between_images_is_skipped() {
    let a = image(b"", b"abc");
    let garbage = [0, 0xFF, 0xFF, SOI, 0, SOI, 0xFF, 0xFF];
    let stream = [&garbage[..], &a, &garbage, &a, &garbage, &[0xFF]].concat();
    assert_eq!(split(&stream), (vec![complete(&a), complete(&a)], 25));
}

#[test]
fn an_image_cut_off_anywhere_does_not_take_the_next_one_with_it() {
    let (a, b) = (image(b"thumb", &[1, 0xFF, 2, 3]), image(b"", b"next"));
    for cut in 2..a.len() {
        let (records, _) = split(&[&a[..cut], &b, &b].concat());
        assert_eq!(records.len(), 3, "cut at {cut}: {records:?}");
        assert_ne!(records[0].1, Ending::Complete, "cut at {cut}");
        assert_eq!(records[1..], [complete(&b), complete(&b)], "cut at {cut}");
    }
}

#[test]
fn the_end_of_the_stream_cuts_off_anywhere() {
    let (a, b) = (image(b"", b"whole"), image(b"thumb", &[1, 0xFF, 2, 3]));
    for cut in 2..b.len() {
        let (records, _) = split(&[&a[..], &b[..cut]].concat());
        assert_eq!(records[0], complete(&a), "cut at {cut}");
        assert_eq!(records.len(), 2, "cut at {cut}");
        assert_eq!(records[1].1, Ending::Truncated, "cut at {cut}");
        assert_eq!(records[1].0[..2], b[..2], "cut at {cut}");
    }
}

#[test]
fn a_lost_middle_that_swallows_the_next_header_is_undone() {
    // Cut inside the last header before the scan, so that its length reaches
    // into the next image.
    let mut a = image(b"", b"abc");
    let scan = a.windows(2).position(|w| w == [0xFF, SOS]).unwrap();
    a.truncate(scan);
    push(&mut a, 0xE2, &[5; 300]);
    a.truncate(a.len() - 250);
    let b = image(b"", &[6; 400]);
    let (records, skipped) = split(&[&a[..], &b].concat());
    assert_eq!(records, [(a, Ending::Malformed), complete(&b)]);
    assert_eq!(skipped, 0);
}

#[test]
fn a_table_that_reaches_to_a_marker_of_the_next_image_is_cut_off() {
    let mut a = vec![0xFF, SOI];
    push(&mut a, 0xE0, b"JFIF");
    push(&mut a, DHT, &[3; 50]);
    let head = a.len();
    a.extend(&image(b"", b"abc")[2..]);
    // What the table lacks is as long as the next image up to its own table.
    let cut = head - 10;
    let (records, _) = split(&[&a[..cut], &a].concat());
    assert_eq!(records, [(a[..cut].to_vec(), Ending::Truncated), complete(&a)]);
}

#[test]
fn a_header_that_contradicts_itself_is_malformed() {
    let mut a = vec![0xFF, SOI];
    push(&mut a, SOS, &[3, 1, 0, 0, 63, 0]);
    let b = image(b"", b"abc");
    let (records, _) = split(&[&a[..], &b].concat());
    assert_eq!(records, [(a, Ending::Malformed), complete(&b)]);
}

#[test]
fn a_record_over_the_limit_is_given_up() {
    let (long, short) = (image(b"", &[1; 500]), image(b"", &[1; 50]));
    let stream = [&long[..], &short].concat();
    let (records, _) = split_in(&[&stream], 200);
    assert_eq!(records, [(long[..201].to_vec(), Ending::TooLong), complete(&short)]);
    let (records, _) = split_in(&[&long], long.len());
    assert_eq!(records, [complete(&long)]);
}

#[test]
fn records_reads_any_input() {
    let stream = [image(b"", &[1; 100_000]), image(b"", b"abc")].concat();
    let mut records = Records::new(&stream[..], MAX_RECORD);
    let mut lengths = Vec::new();
    while let Some(record) = records.next_record().unwrap() {
        assert_eq!(record.ending, Ending::Complete);
        lengths.push(record.bytes.len());
    }
    assert_eq!(lengths.iter().sum::<usize>(), stream.len());
    assert_eq!(lengths.len(), 2);
    assert_eq!(records.bytes_read(), stream.len() as u64);
    assert!(records.next_record().unwrap().is_none(), "the end stays the end");
}

#[test]
fn an_interrupted_read_can_be_repeated() {
    struct Hesitant<'a>(&'a [u8], bool);
    impl Read for Hesitant<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let n = self.0.len().min(7).min(buffer.len());
            self.0.read(&mut buffer[..n])
        }
    }
    let a = image(b"thumb", b"entropy-coded");
    let stream = [&a[..], &a].concat();
    let mut records = Records::new(Hesitant(&stream, false), MAX_RECORD);
    let mut found = 0;
    loop {
        match records.next_record() {
            Ok(Some(record)) => {
                assert_eq!(record, Record { bytes: &a, ending: Ending::Complete });
                found += 1;
            }
            Ok(None) => break,
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::Interrupted),
        }
    }
    assert_eq!(found, 2);
}

/// Bytes in which everything that matters to the splitter is frequent.
fn telling_byte() -> impl Strategy<Value = u8> {
    prop_oneof![
        4 => Just(0xFF_u8),
        2 => Just(SOI),
        1 => Just(EOI),
        1 => Just(SOS),
        1 => Just(0xC0),
        1 => Just(0xE0),
        1 => Just(DHT),
        3 => 0..12_u8,
        1 => any::<u8>(),
    ]
}

/// Whole images, damaged images, and rubbish.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let telling = || prop::collection::vec(telling_byte(), 0..60);
    let whole = || (telling(), telling()).prop_map(|(a, b)| image(&a, &b));
    let cut =
        (whole(), any::<prop::sample::Index>()).prop_map(|(a, at)| a[..at.index(a.len())].to_vec());
    let flipped =
        (whole(), any::<prop::sample::Index>(), telling_byte()).prop_map(|(mut a, at, b)| {
            let at = at.index(a.len());
            a[at] = b;
            a
        });
    let part = prop_oneof![whole(), cut, flipped, telling()];
    prop::collection::vec(part, 0..6).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn chunks_do_not_matter(
        stream in stream(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
        limit in prop_oneof![Just(MAX_RECORD), 3..200_usize],
    ) {
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.push(0);
        cuts.push(stream.len());
        cuts.sort_unstable();
        let chunks: Vec<_> = cuts.windows(2).map(|w| &stream[w[0]..w[1]]).collect();
        let single: Vec<_> = stream.chunks(1).collect();
        let whole = split_in(&[&stream], limit);
        prop_assert_eq!(&split_in(&chunks, limit), &whole);
        prop_assert_eq!(&split_in(&single, limit), &whole);
    }

    #[test]
    fn every_byte_is_in_a_record_or_skipped(stream in stream(), limit in 3..500_usize) {
        let (records, skipped) = split_in(&[&stream], limit);
        let recorded: usize = records.iter().map(|(bytes, _)| bytes.len()).sum();
        prop_assert_eq!(recorded as u64 + skipped, stream.len() as u64);
        for (bytes, _) in &records {
            prop_assert!(bytes.starts_with(&[0xFF, SOI]));
            prop_assert!(bytes.len() <= limit + 1);
        }
    }

    #[test]
    fn random_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let (records, skipped) = split(&bytes);
        let recorded: usize = records.iter().map(|(bytes, _)| bytes.len()).sum();
        prop_assert_eq!(recorded as u64 + skipped, bytes.len() as u64);
    }

    #[test]
    fn whole_images_come_out_whole(
        images in prop::collection::vec(
            (
                // With such an end it looks cut off, two bytes into the next image.
                prop::collection::vec(any::<u8>(), 0..80)
                    .prop_filter("looks cut off", |free| !free.ends_with(&[0xFF, SOI])),
                prop::collection::vec(any::<u8>(), 0..80),
            ),
            0..6,
        ),
        garbage in prop::collection::vec(0..=0xFE_u8, 0..40),
    ) {
        let images: Vec<_> = images.iter().map(|(a, b)| image(a, b)).collect();
        let stream: Vec<_> = images.iter().flat_map(|i| [&garbage[..], i].concat()).collect();
        let (records, skipped) = split(&stream);
        let expected: Vec<_> = images.iter().map(|i| complete(i)).collect();
        prop_assert_eq!(records, expected);
        prop_assert_eq!(skipped, (garbage.len() * images.len()) as u64);
    }
}
