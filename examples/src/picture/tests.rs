mod mosaic;

use std::fs;
use std::path::{Path, PathBuf};

use jpeg_encoder::{ColorType as Colour, Encoder, SamplingFactor};
use proptest::prelude::*;

use super::*;
use crate::mjpeg::{MAX_RECORD, Records};

fn luma(bytes: &[u8]) -> Result<(Size, Vec<u8>), Broken> {
    luma_with(&mut Decoder::new(), bytes)
}

fn luma_with(decoder: &mut Decoder, bytes: &[u8]) -> Result<(Size, Vec<u8>), Broken> {
    let picture = decoder.open(bytes)?;
    let size = picture.size();
    assert_eq!(super::size(bytes), Ok(size), "the header alone says the same");
    let mut plane = vec![0; size.pixels()];
    picture.luma_into(&mut plane)?;
    Ok((size, plane))
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(name)
}

fn clip() -> Vec<Vec<u8>> {
    let clip = fs::read(data("bunny.mjpeg")).unwrap();
    let mut records = Records::new(&clip[..], MAX_RECORD);
    let mut frames = Vec::new();
    while let Some(record) = records.next_record().unwrap() {
        frames.push(record.bytes.to_vec());
    }
    frames
}

/// A soft pattern in which every place has another brightness and colour.
fn pattern(width: usize, height: usize) -> Vec<u8> {
    let wave = |v: usize, period: f64| (128.0 + 90.0 * (v as f64 / period).sin()) as u8;
    (0..width * height)
        .flat_map(|i| {
            let (x, y) = (i % width, i / width);
            [wave(x, 9.0), wave(y, 7.0), wave(x + y, 11.0)]
        })
        .collect()
}

fn rec_601(rgb: &[u8]) -> Vec<u8> {
    let mut plane = vec![0; rgb.len() / 3];
    weigh::rgb8::<3>(rgb, &mut plane);
    plane
}

/// Encodes the pattern; `set` changes the encoder.
fn encoded(
    width: usize,
    height: usize,
    colour: Colour,
    set: impl FnOnce(&mut Encoder<&mut Vec<u8>>),
) -> Vec<u8> {
    let rgb = pattern(width, height);
    let pixels = match colour {
        Colour::Luma => rec_601(&rgb),
        _ => rgb,
    };
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, 95);
    set(&mut encoder);
    encoder.encode(&pixels, width as u16, height as u16, colour).unwrap();
    bytes
}

/// The largest difference of two planes.
fn distance(a: &[u8], b: &[u8]) -> u8 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0)
}

fn segment(jpeg: &[u8], code: u8) -> (usize, usize) {
    let at = jpeg.windows(2).position(|w| w == [0xFF, code]).unwrap();
    (at, at + 2 + usize::from(u16::from_be_bytes([jpeg[at + 2], jpeg[at + 3]])))
}

#[test]
fn every_sampling_is_exact() {
    let value = |x: usize, y: usize| (x * 31 + y * 57) as u8;
    let check = |samplings: &[mosaic::Sampling]| {
        for (width, height) in [(64, 48), (37, 29), (16, 16), (8, 8), (5, 3), (130, 17)] {
            let bytes = mosaic::encode((width, height), samplings, value);
            let expected: Vec<u8> =
                (0..width * height).map(|i| value(i % width / 8, i / width / 8)).collect();
            let (size, plane) = luma(&bytes)
                .unwrap_or_else(|broken| panic!("{samplings:?} {width}×{height}: {broken}"));
            assert_eq!(size, Size { width, height });
            assert!(plane == expected, "{samplings:?} {width}×{height}");
        }
    };
    for luma in [(1, 1), (2, 1), (1, 2), (2, 2), (4, 1), (1, 4), (4, 2), (2, 4), (4, 4)] {
        check(&[luma]);
        check(&[luma, (1, 1), (1, 1)]);
    }
    // Some encoders say 2×2 for luma whatever the colours are.
    check(&[(2, 2), (1, 2), (1, 2)]);
    check(&[(2, 2), (2, 1), (2, 1)]);
    check(&[(2, 2), (2, 2), (2, 2)]);
}

#[test]
fn a_real_picture_in_every_coding() {
    let expected = rec_601(&pattern(75, 50));
    for colour in [Colour::Luma, Colour::Rgb] {
        for sampling in [SamplingFactor::F_1_1, SamplingFactor::F_2_1, SamplingFactor::F_2_2] {
            for (progressive, optimised, restart) in [
                (false, false, 0),
                (false, true, 0),
                (false, false, 1),
                (false, false, 3),
                (false, false, 7),
                (true, false, 0),
                (true, true, 0),
            ] {
                let bytes = encoded(75, 50, colour, |e| {
                    e.set_sampling_factor(sampling);
                    e.set_progressive(progressive);
                    e.set_optimized_huffman_tables(optimised);
                    e.set_restart_interval(restart);
                });
                let what = format!("{colour:?} {sampling:?}, {progressive} {optimised} {restart}");
                match luma(&bytes) {
                    Ok((_, plane)) => {
                        let worst = distance(&plane, &expected);
                        assert!(worst <= 2, "{what}: off by {worst}");
                    }
                    // This encoder then writes a scan for each component.
                    Err(broken) => {
                        assert!(optimised && !progressive, "{what}: {broken}");
                        assert_eq!(sampling, SamplingFactor::F_2_2, "{what}: {broken}");
                        assert_eq!(colour, Colour::Rgb, "{what}: {broken}");
                    }
                }
            }
        }
    }
}

#[test]
fn missing_huffman_tables_are_the_usual_ones() {
    let bytes = encoded(40, 30, Colour::Rgb, |e| e.set_sampling_factor(SamplingFactor::F_2_1));
    let mut bare = bytes.clone();
    while bare.windows(2).any(|w| w == [0xFF, 0xC4]) {
        let (from, to) = segment(&bare, 0xC4);
        bare.drain(from..to);
    }
    assert!(bare.len() < bytes.len());
    assert_eq!(luma(&bare), luma(&bytes));
}

#[test]
fn a_jpeg_that_is_cut_off_is_always_broken() {
    let frame = clip().swap_remove(60);
    let mut decoder = Decoder::new();
    let cuts = (0..700).chain((700..frame.len()).step_by(997)).chain(frame.len() - 40..frame.len());
    for cut in cuts {
        assert!(luma_with(&mut decoder, &frame[..cut]).is_err(), "cut at {cut} of {}", frame.len());
    }
    assert!(luma_with(&mut decoder, &frame).is_ok());
}

#[test]
fn a_jpeg_whose_data_end_early_is_broken_though_its_end_marker_is_there() {
    let frame = clip().swap_remove(60);
    let mut decoder = Decoder::new();
    let entropy = segment(&frame, 0xDA).1;
    for missing in (2..100).chain((100..frame.len() - entropy - 2).step_by(991)) {
        let mut cut = frame[..frame.len() - 2 - missing].to_vec();
        if cut.ends_with(&[0xFF]) {
            cut.pop();
        }
        cut.extend([0xFF, 0xD9]);
        assert!(luma_with(&mut decoder, &cut).is_err(), "{missing} bytes missing");
    }
}

#[test]
fn a_lost_restart_interval_is_broken() {
    let bytes = encoded(80, 64, Colour::Rgb, |e| {
        e.set_sampling_factor(SamplingFactor::F_2_2);
        e.set_restart_interval(3);
    });
    let markers: Vec<_> = (0..bytes.len() - 1)
        .filter(|&i| bytes[i] == 0xFF && matches!(bytes[i + 1], 0xD0..=0xD7))
        .collect();
    assert_eq!(markers.len(), 6);
    assert!(luma(&bytes).is_ok());
    for pair in markers.windows(2) {
        let without_interval = [&bytes[..pair[0]], &bytes[pair[1]..]].concat();
        assert!(luma(&without_interval).is_err());
        let without_data = [&bytes[..pair[0] + 2], &bytes[pair[1]..]].concat();
        assert!(luma(&without_data).is_err());
        let shortened = [&bytes[..pair[1] - 2], &bytes[pair[1]..]].concat();
        assert!(luma(&shortened).is_err());
    }
    let from_the_last = [&bytes[..*markers.last().unwrap()], &[0xFF, 0xD9]].concat();
    assert!(luma(&from_the_last).is_err());
}

#[test]
fn a_jpeg_in_rgb_is_weighed() {
    // The samples are said to be red, green and blue by the ids of the components.
    let mut bytes =
        encoded(32, 24, Colour::Ycbcr, |e| e.set_sampling_factor(SamplingFactor::F_1_1));
    let (frame, _) = segment(&bytes, 0xC0);
    let (scan, _) = segment(&bytes, 0xDA);
    for (i, id) in b"RGB".iter().enumerate() {
        bytes[frame + 10 + 3 * i] = *id;
        bytes[scan + 5 + 2 * i] = *id;
    }
    let (_, plane) = luma(&bytes).unwrap();
    let worst = distance(&plane, &rec_601(&pattern(32, 24)));
    assert!(worst <= 2, "off by {worst}");
}

#[test]
fn pictures_that_nobody_can_decode_say_why() {
    let reason = |bytes: &[u8]| luma(bytes).unwrap_err().to_string();
    assert_eq!(reason(b""), "neither a JPEG nor a PNG");
    assert_eq!(reason(b"GIF89a"), "neither a JPEG nor a PNG");
    assert_eq!(reason(&[0xFF, 0xD8, 0xFF, 0xD9]), "no picture data");
    assert_eq!(reason(&[0xFF, 0xD8]), "cut off before its end");
    let mut bytes = encoded(16, 16, Colour::Rgb, |_| ());
    let (frame, _) = segment(&bytes, 0xC0);
    bytes[frame + 5..frame + 9].fill(0xFF);
    assert!(reason(&bytes).starts_with("65535×65535 pixels are more than"));
    bytes[frame + 5..frame + 7].fill(0);
    assert_eq!(reason(&bytes), "the picture has no pixels");
}

#[test]
fn what_follows_the_end_marker_is_ignored() {
    let bytes = encoded(16, 16, Colour::Rgb, |_| ());
    assert_eq!(luma(&[&bytes[..], b"trailing", &bytes].concat()), luma(&bytes));
}

/// Encodes samples as PNG.
fn png_of(colour: ::png::ColorType, depth: ::png::BitDepth, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = ::png::Encoder::new(&mut bytes, 2, 1);
    encoder.set_color(colour);
    encoder.set_depth(depth);
    if colour == ::png::ColorType::Indexed {
        encoder.set_palette(vec![255, 0, 0, 0, 255, 0, 0, 0, 255]);
    }
    encoder.write_header().unwrap().write_image_data(data).unwrap();
    bytes
}

#[test]
fn png_of_every_kind() {
    use ::png::BitDepth::{Eight, Four, One, Sixteen};
    use ::png::ColorType::{Grayscale, GrayscaleAlpha, Indexed, Rgb, Rgba};
    for (colour, depth, data, expected) in [
        (Grayscale, Eight, &[3, 200][..], [3, 200]),
        (Grayscale, One, &[0b0100_0000], [0, 255]),
        (Grayscale, Four, &[0x1F], [17, 255]),
        (Grayscale, Sixteen, &[0, 129, 0xFF, 0xFF], [1, 255]),
        (GrayscaleAlpha, Eight, &[3, 0, 200, 255], [3, 200]),
        (GrayscaleAlpha, Sixteen, &[3, 0, 9, 9, 200, 0, 9, 9], [3, 199]),
        (Rgb, Eight, &[255, 0, 0, 0, 255, 0], [76, 150]),
        (Rgb, Sixteen, &[255, 255, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255], [76, 29]),
        (Rgba, Eight, &[255, 0, 0, 0, 0, 0, 255, 9], [76, 29]),
        (Rgba, Sixteen, &[255, 255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 9, 9], [76, 29]),
        (Indexed, Eight, &[1, 2], [150, 29]),
        (Indexed, One, &[0b0100_0000], [76, 150]),
    ] {
        let bytes = png_of(colour, depth, data);
        let (size, plane) = luma(&bytes).unwrap_or_else(|e| panic!("{colour:?} {depth:?}: {e}"));
        assert_eq!(size, Size { width: 2, height: 1 });
        assert_eq!(plane, expected, "{colour:?} {depth:?}");
    }
}

#[test]
fn a_png_that_is_cut_off_is_always_broken() {
    let bytes = fs::read(data("images/cell.png")).unwrap();
    let mut decoder = Decoder::new();
    let cuts =
        (0..100).chain((100..bytes.len()).step_by(1999)).chain(bytes.len() - 20..bytes.len());
    for cut in cuts {
        assert!(luma_with(&mut decoder, &bytes[..cut]).is_err(), "cut at {cut} of {}", bytes.len());
    }
    assert!(luma_with(&mut decoder, &bytes).is_ok());
}

#[test]
fn the_bundled_pictures_decode() {
    let mut decoder = Decoder::new();
    for (name, width, height) in [
        ("astronaut.png", 512, 512),
        ("camera.png", 512, 512),
        ("cell.png", 550, 660),
        ("chelsea.png", 451, 300),
        ("coffee.png", 600, 400),
        ("hubble_deep_field.jpg", 1000, 872),
        ("retina.jpg", 1411, 1411),
        ("rocket.jpg", 640, 427),
    ] {
        let bytes = fs::read(data("images").join(name)).unwrap();
        let (size, _) = luma_with(&mut decoder, &bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(size, Size { width, height }, "{name}");
    }
}

#[test]
fn the_whole_clip_decodes() {
    let mut decoder = Decoder::new();
    let frames = clip();
    assert_eq!(frames.len(), 132);
    for (number, frame) in frames.iter().enumerate() {
        let (size, _) = luma_with(&mut decoder, frame).unwrap_or_else(|e| panic!("{number}: {e}"));
        assert_eq!(size, Size { width: 1280, height: 720 });
    }
}

proptest! {
    #[test]
    fn damaged_pictures_are_survived(
        kind in 0..6_usize,
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = match kind {
            0 => encoded(70, 40, Colour::Rgb, |e| e.set_sampling_factor(SamplingFactor::F_2_2)),
            1 => encoded(70, 40, Colour::Rgb, |e| e.set_sampling_factor(SamplingFactor::F_2_1)),
            2 => encoded(70, 40, Colour::Rgb, |e| e.set_sampling_factor(SamplingFactor::F_1_2)),
            3 => encoded(70, 40, Colour::Luma, |e| e.set_restart_interval(2)),
            4 => encoded(70, 40, Colour::Rgb, |e| e.set_progressive(true)),
            _ => png_of(::png::ColorType::Rgb, ::png::BitDepth::Eight, &[1, 2, 3, 4, 5, 6]),
        };
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        // Any result is right, as long as it is one.
        let _ = luma(&bytes);
    }

    #[test]
    fn random_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
        for start in [&b"\xFF\xD8\xFF"[..], PNG_SIGNATURE] {
            prop_assert!(luma(&[start, &bytes].concat()).is_err());
        }
    }
}
